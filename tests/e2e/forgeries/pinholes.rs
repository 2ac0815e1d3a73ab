//! Open pinholes, and those who should not get through them.

use anyhow::Result;

use super::Arena;
use crate::harness::Topology;

#[test]
fn two_sessions_that_announce_one_port_do_not_close_each_other_s() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Firewall] {
        let arena = Arena::new(topology, "")?;
        arena.run("pinholes", "one_port_twice")?;
        arena.finish()?;
    }
    Ok(())
}

/// Runs scenarios of peers/forge/pinholes.py in one net.
fn scenarios(settings: &'static str, names: &[&str]) -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, settings)?;
    for name in names {
        arena.run("pinholes", name)?;
    }
    arena.finish()
}

#[test]
fn strays_and_what_a_filter_drops_do_not_use_a_pinhole_up() -> Result<()> {
    scenarios("", &["strays"])
}

#[test]
fn one_pinhole_is_for_one_connection_of_one_peer() -> Result<()> {
    scenarios("", &["one_connection", "racing"])
}

#[test]
fn a_pinhole_closes_with_its_session_and_with_its_time() -> Result<()> {
    scenarios("[pinhole]\ntimeout = 5", &["ended"])
}

#[test]
fn a_client_does_not_get_another_one_s_port() -> Result<()> {
    scenarios("", &["another_s_port"])
}

#[test]
fn only_the_first_packet_of_a_pinhole_bears_the_mark() -> Result<()> {
    scenarios("", &["marks"])
}
