//! Routers whose interfaces belong to a VRF (Documentation/networking/vrf.rst): prerouting sees each packet twice, under the
//! interface's name and under the master's.

use anyhow::Result;

use crate::harness::{Client, FEW, Mode, Plan, ServerKind, Setup, Topology};

/// These modes, with a router whose interfaces have all become part of a VRF.
fn works_in_a_vrf(topology: Topology, plan: Plan, modes: &[Mode]) -> Result<()> {
    let net = Setup::new(topology).plan(plan).build()?;
    let router = net.router();
    router.sysctl("net.ipv6.conf.all.keep_addr_on_down", "1")?;
    router.ip("link add blue type vrf table 10")?;
    router.ip("link set blue up")?;
    for (host, interface) in net.layout.interfaces() {
        if host.name() == router.name() {
            router.ip(&format!("link set {interface} master blue"))?;
        }
    }
    let server = net.serve(ServerKind::Vsftpd)?;
    for mode in modes {
        net.session(Client::Curl, *mode, &server, &FEW)?;
    }
    net.finish()
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn a_router_that_masquerades_in_a_vrf() -> Result<()> {
    works_in_a_vrf(Topology::Masquerade, Plan::ShortInside, &Mode::ALL)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn a_server_behind_dnat_in_a_vrf() -> Result<()> {
    works_in_a_vrf(Topology::Dnat, Plan::LongInside, &Mode::ALL)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn a_stateful_firewall_in_a_vrf() -> Result<()> {
    works_in_a_vrf(Topology::Firewall, Plan::ShortInside, &Mode::ALL)?;
    works_in_a_vrf(Topology::Firewall6, Plan::ShortInside, &Mode::EXTENDED)
}
