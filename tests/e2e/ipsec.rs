//! Routers whose IPsec policies encrypt what they forward (RFC 4301), behind the tap.

use anyhow::{Result, ensure};
use netlab::Ipsec;

use crate::harness::{Client, FEW, Mode, Net, Plan, ServerKind, Setup, Topology};

/// Every mode; beside ESP nothing goes to the server.
fn everything_is_encrypted(net: &Net, server: &str) -> Result<()> {
    let (_, link) = &net.layout.links[1];
    let capture = net.router().capture(&link.a, "", &net.lab.dir().join("outer.pcap"))?;
    let kind = net.serve(ServerKind::Vsftpd)?;
    for mode in Mode::ALL {
        net.session(Client::Curl, mode, &kind, &FEW)?;
    }
    let captured = capture.stop()?;
    let plain = captured.packets(&format!("tcp and dst host {server}"))?;
    ensure!(plain.is_empty(), "{} packets are not encrypted, the first: {}", plain.len(), plain[0]);
    let encrypted = captured.packets("esp")?.len();
    ensure!(encrypted > 100, "only {encrypted} encrypted packets");
    Ok(())
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn a_stateful_firewall_with_a_tunnel_to_the_server() -> Result<()> {
    let net = Setup::new(Topology::Firewall).plan(Plan::LongInside).build()?;
    net.router().nft("insert rule inet filter input ip protocol esp accept")?;
    let (router, server) = ("1.2.3.1", "1.2.3.2");
    net.lab.ipsec(
        Ipsec::Tunnel,
        (net.router(), router, "192.168.100.0/24"),
        (net.server(), server, server),
    )?;
    everything_is_encrypted(&net, server)?;
    net.finish()
}

/// Only what NAT has made of a packet comes under the policy.
#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn a_router_that_masquerades_and_then_encrypts() -> Result<()> {
    // What NAT brings under a policy is lost where it is then too long for the link, and its sender is not told.
    let net = Setup::new(Topology::Masquerade).mtu(1400, 1500).build()?;
    net.router().nft("insert rule inet filter input ip protocol esp accept")?;
    let (router, server) = ("198.51.100.200", "198.51.100.201");
    net.lab.ipsec(Ipsec::Transport, (net.router(), router, router), (net.server(), server, server))?;
    everything_is_encrypted(&net, server)?;
    net.finish()
}
