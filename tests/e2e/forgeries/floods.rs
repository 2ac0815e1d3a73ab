//! Hosts that ask for more than there is: what they are given is bounded, and nobody else feels it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Arena;
use crate::harness::Topology;
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
    let wait_until = |what: &str, is_so: fn(usize) -> bool, limit: u64| -> Result<()> {
        let end = Instant::now() + Duration::from_secs(limit);
        loop {
            let number = document(&arena.net)?["sessions"].as_array().context("no list")?.len();
            if is_so(number) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{what}: {number} are there");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait_until("they do not begin", |number| number > 900, 5)?;
    // Ten seconds of silence, and until conntrack has been asked about all of them.
    wait_until("they are still kept", |number| number == 0, 40)?;
    arena.finish()
}

#[test]
fn a_server_that_greets_late_is_waited_for() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("floods", "slow_greeting")?;
    arena.finish()
}
