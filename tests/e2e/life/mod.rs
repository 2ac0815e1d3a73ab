//! The daemon's life, and that sessions outlive it.

mod away;
mod dice;
mod down;
mod ends;
mod hang;
mod kept;
mod kills;
mod logs;
mod lost;
mod restart;
mod ruleset;
mod session;
mod signals;
mod start;
mod wiretap;
mod workers;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netlab::Host;

use crate::harness::{Net, Plan, Server, ServerKind, Setup, Topology};
pub use session::Session;
pub use wiretap::Wiretap;

/// A net with ends that are listened to.
pub fn tapped(topology: Topology, plan: Plan, kind: ServerKind) -> Result<(Net, Server, Wiretap)> {
    tapped_net(Setup::new(topology).plan(plan), kind)
}

/// The same for any net.
pub fn tapped_net(setup: Setup, kind: ServerKind) -> Result<(Net, Server, Wiretap)> {
    let net = setup.build()?;
    let server = net.serve(kind)?;
    let wiretap = Wiretap::start(&net)?;
    Ok((net, server, wiretap))
}

pub fn finish(net: Net, wiretap: Wiretap) -> Result<()> {
    wiretap.check(&net)?;
    net.finish()
}

/// SIGKILL, and a new daemon after so many milliseconds.
pub fn replace(net: &mut Net, after: u64) -> Result<()> {
    let (daemon, router) = net.daemon();
    daemon.kill()?;
    sleep(Duration::from_millis(after));
    daemon.start_again(router)
}

/// A router's whole ruleset.
pub fn ruleset(router: &Host) -> Result<String> {
    Ok(router.run("nft", ["list", "ruleset"])?.success()?.stdout)
}

/// Waits until something is so.
pub fn wait_until(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(Duration::from_secs(5), what, is_so)
}

/// The same, for longer.
pub fn wait_within(limit: Duration, what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < limit, "still not: {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
