//! Hosts that ask for more than there is: what they are given is bounded, and nobody else feels it.

use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};

use super::Arena;
use crate::harness::Topology;
use crate::life::{wait_until, wait_within};
use crate::status::document;

#[test]
fn a_session_that_asks_for_thousands_of_ports_has_one() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("floods", "asking_for_ports")?;
    arena.finish()
}

#[test]
fn a_client_with_a_thousand_sessions_leaves_room_for_others() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    // How long conntrack knows of a reset: 10 s, which a busy machine may need by itself.
    arena.net.router().sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", "60")?;
    arena.run("floods", "many_sessions")?;
    arena.finish()
}

#[test]
fn a_flood_of_syns_is_noticed_and_passes_by() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("floods", "syns")?;
    // The counters are looked at every ten seconds.
    std::thread::sleep(Duration::from_millis(500));
    let log = arena.net.daemons[0].log();
    ensure!(log.contains("too many SYNs wait for a server's greeting"), "the log does not tell:\n{log}");
    arena.finish()
}

#[test]
fn syns_that_only_the_server_answers_take_no_room_for_long() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("floods", "answered_syns")?;
    let sessions = || Ok::<_, Error>(document(&arena.net)?["sessions"].as_array().context("no list")?.len());
    wait_until("they begin", || Ok(sessions()? > 900))?;
    // Ten seconds of silence, and until conntrack has been asked about all of them.
    wait_within(Duration::from_secs(40), "none is kept", || Ok(sessions()? == 0))?;
    arena.finish()
}

#[test]
fn a_server_that_greets_late_is_waited_for() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("floods", "slow_greeting")?;
    arena.finish()
}
