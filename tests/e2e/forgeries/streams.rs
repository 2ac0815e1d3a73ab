//! Ends of a control connection that break TCP's own rules, so that router and peer might read different bytes.

use anyhow::Result;

use super::Arena;
use crate::harness::Topology;

#[test]
fn what_was_acknowledged_before_it_was_sent_is_read_all_the_same() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("streams", "acknowledged_ahead")?;
    arena.finish()
}

/// Runs scenarios of peers/forge/streams.py in one net.
fn scenarios(names: &[&str]) -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    for name in names {
        arena.run("streams", name)?;
    }
    arena.finish()
}

#[test]
fn other_bytes_in_the_place_of_those_read_do_not_arrive() -> Result<()> {
    scenarios(&["other_bytes", "other_bytes_from_the_server"])
}

#[test]
fn what_no_receiver_would_take_is_not_read() -> Result<()> {
    scenarios(&["no_receiver_would_take_it"])
}

#[test]
fn fragments_are_read_whole_or_not_at_all() -> Result<()> {
    scenarios(&["fragments"])
}
