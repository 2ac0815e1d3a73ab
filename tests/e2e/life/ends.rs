//! Sessions that have ended.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Session, wait_until};
use crate::harness::{Footprint, Net, ServerKind, Setup, Topology};

/// Long before the time of what the kernel has of them is over: sets that are full of what nobody needs have no room for the
/// next session.
#[test]
fn what_has_ended_takes_no_room() -> Result<()> {
    let net = Setup::new(Topology::Firewall).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    for _ in 0..3 {
        let mut session = Session::open(&net, &server)?;
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    let left = |net: &Net| Footprint::of(net.router(), &net.daemons[0]);
    ensure!(left(&net)?.elements_of("control_new") == 3, "not as many as there were: {}", left(&net)?);
    // conntrack has forgotten them by then, had they been reset.
    sleep(Duration::from_secs(11));
    wait_until("nothing is left", || {
        let left = left(&net)?;
        Ok(left.elements_of("control_new") == 0 && left.records == 0)
    })?;
    net.finish()
}
