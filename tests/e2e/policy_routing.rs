//! Data goes where control goes, also where a mark on the control connection decides that.

use anyhow::{Result, ensure};
use netlab::Tunnel;

use crate::harness::{Alg, Client, FEW, Mode, Plan, STANDARD, ServerKind, Setup, Topology};

fn all_in_the_tunnel(plan: Plan, tunnel: Tunnel) -> Result<()> {
    let modes = [
        (Client::Tnftp, Mode::Port),
        (Client::Curl, Mode::Eprt),
        (Client::Ftplib, Mode::Pasv),
        (Client::Lftp, Mode::Epsv),
    ];
    goes_through(Setup::new(Topology::Tunnel).plan(plan).tunnel(tunnel), tunnel, &modes)
}

/// Nothing of FTP passes beside the tunnel.
fn goes_through(setup: Setup, tunnel: Tunnel, modes: &[(Client, Mode)]) -> Result<()> {
    let net = setup.build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let (_, bare) = &net.layout.links[1];
    let capture = net.router().capture(&bare.a, "", &net.lab.dir().join("bare.pcap"))?;
    // Packets on such links hold up to 64 KiB.
    let (transfers, least) = if tunnel == Tunnel::Vxlan { (&STANDARD[..], 1000) } else { (&FEW[..], 100) };
    for &(client, mode) in modes {
        net.tabled_session(client, mode, &server, transfers)?;
    }
    let captured = capture.stop()?;
    let beside = captured.packets("tcp")?;
    ensure!(beside.is_empty(), "{} packets beside the tunnel, the first: {}", beside.len(), beside[0]);
    let inside = captured.packets(match tunnel {
        Tunnel::Vxlan => "udp port 4789",
        Tunnel::Ipip => "ip proto 4",
        Tunnel::Gre => "ip proto 47",
        Tunnel::WireGuard => "udp port 51820",
        Tunnel::Xfrm | Tunnel::Vti => "esp",
    })?;
    let inside = inside.len();
    ensure!(inside > least, "only {inside} packets in the tunnel");
    net.finish()
}

#[test]
fn data_follows_a_marked_control_connection_into_the_tunnel() -> Result<()> {
    all_in_the_tunnel(Plan::ShortInside, Tunnel::Vxlan)?;
    all_in_the_tunnel(Plan::LongInside, Tunnel::Vxlan)
}

#[test]
fn data_follows_a_marked_control_connection_into_the_tunnel_over_ipv6() -> Result<()> {
    let modes = [(Client::Tnftp, Mode::Eprt), (Client::Lftp, Mode::Epsv)];
    goes_through(Setup::new(Topology::Tunnel6), Tunnel::Vxlan, &modes)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn data_follows_a_marked_control_connection_into_an_ipip_tunnel() -> Result<()> {
    all_in_the_tunnel(Plan::ShortInside, Tunnel::Ipip)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn data_follows_a_marked_control_connection_into_a_gre_tunnel() -> Result<()> {
    all_in_the_tunnel(Plan::LongInside, Tunnel::Gre)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn data_follows_a_marked_control_connection_into_wireguard() -> Result<()> {
    all_in_the_tunnel(Plan::ShortInside, Tunnel::WireGuard)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn data_follows_a_marked_control_connection_into_an_ipsec_interface() -> Result<()> {
    all_in_the_tunnel(Plan::LongInside, Tunnel::Xfrm)
}

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn data_follows_a_marked_control_connection_into_a_vti() -> Result<()> {
    all_in_the_tunnel(Plan::ShortInside, Tunnel::Vti)
}

#[test]
fn the_tunnel_needs_an_alg() -> Result<()> {
    for (topology, modes) in [(Topology::Tunnel, &Mode::ALL[..]), (Topology::Tunnel6, &Mode::EXTENDED)] {
        let net = Setup::new(topology).alg(Alg::None).build()?;
        net.transfers_nothing(modes, &net.serve(ServerKind::Vsftpd)?)?;
        net.finish()?;
    }
    Ok(())
}
