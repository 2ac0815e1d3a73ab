//! Firewalls on bridges (br_netfilter), where a packet can pass the same host several times.

use anyhow::Result;

use crate::harness::{Client, Mode, Net, STANDARD, ServerKind, Setup, Topology};

/// The server's port moves to a bridge of its own, as virtual machines have it.
fn behind_another_bridge(net: &Net) -> Result<()> {
    let router = net.router();
    let (_, link) = &net.layout.links[1];
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

/// As Proxmox VE has a guest with a firewall of its own, which may dial out, on a host that masquerades. The guest's bridge
/// has a conntrack zone of its own: what connection tracking has let pass there without NAT would be given none later.
#[test]
fn a_guest_behind_a_bridge_in_its_own_zone_and_masquerade() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let router = net.router();
    let (_, link) = &net.layout.links[0];
    let guest = link.b.as_str();
    router.filter_on_bridges()?;
    router.ip(&format!("address flush dev {guest}"))?;
    router.ip("link add vmbr0 type bridge")?;
    router.ip("link add fwbr type bridge")?;
    router.ip("link add fwpr type veth peer name fwln")?;
    for (port, bridge) in [("fwpr", "vmbr0"), ("fwln", "fwbr"), (guest, "fwbr")] {
        router.ip(&format!("link set dev {port} master {bridge}"))?;
        router.ip(&format!("link set dev {port} up"))?;
    }
    router.ip("address add 10.0.0.1/24 dev vmbr0")?;
    for bridge in ["vmbr0", "fwbr"] {
        router.ip(&format!("link set dev {bridge} up"))?;
    }
    // What the host has on the other bridge it would answer for on this one, too.
    router.sysctl("net.ipv4.conf.fwbr.arp_ignore", "8")?;
    router.nft(
        "table inet zones { chain raw { type filter hook prerouting priority raw;
            iifname \"fwbr\" ct zone set 1
        }; }
        insert rule inet filter forward ip saddr 10.0.0.2 accept",
    )?;
    every_mode_works(&net)?;
    net.finish()
}
