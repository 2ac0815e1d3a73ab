//! Firewalls on bridges (br_netfilter), where a packet can pass the same host several times.

use anyhow::Result;

use crate::harness::{Client, Mode, Net, STANDARD, ServerKind, Setup, Topology};

/// The server's port moves to a bridge of its own, as virtual machines have it.
fn behind_another_bridge(net: &Net) -> Result<()> {
    let router = net.router();
    let ((_, _), link) = &net.layout.links[1];
    router.ip("link add inner type bridge")?;
    router.ip("link add to-bridge type veth peer name to-inner")?;
    for (port, bridge) in [("to-inner", "bridge"), ("to-bridge", "inner"), (link.a.as_str(), "inner")] {
        router.ip(&format!("link set {port} master {bridge}"))?;
        router.ip(&format!("link set {port} up"))?;
    }
    router.ip("link set inner up")
}

fn every_mode_works(net: &Net) -> Result<()> {
    let server = net.serve(ServerKind::Vsftpd)?;
    Mode::ALL.into_iter().try_for_each(|mode| net.session(Client::Curl, mode, &server, &STANDARD))
}

#[test]
fn two_bridges_in_a_row() -> Result<()> {
    let net = Setup::new(Topology::Bridge).build()?;
    behind_another_bridge(&net)?;
    every_mode_works(&net)?;
    net.finish()
}
