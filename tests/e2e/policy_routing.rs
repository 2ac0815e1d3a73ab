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

/// A server on a router with several uplinks, which answers by the one that the client came in by: its sockets have the
/// client's mark (`tcp_fwmark_accept`), and the routing rule knows no mask. The daemon puts its own bit on what it has edited.
#[test]
fn a_server_on_the_router_answers_by_the_way_that_its_mark_leads() -> Result<()> {
    let net = Setup::new(Topology::ServerOnRouter).build()?;
    let router = net.router();
    let (wan, client) = (&net.layout.links[0].1.b, net.layout.seen);
    router.ip("address add 10.99.0.1/32 dev lo")?;
    router.sysctl("net.ipv4.tcp_fwmark_accept", "1")?;
    router.ip(&format!("route add {client} dev {wan} table 100"))?;
    router.ip("rule add pref 200 fwmark 0x1 lookup 100")?;
    router.ip("link add other type veth peer name nowhere")?;
    router.ip("link set other up")?;
    router.ip("link set nowhere up")?;
    router.ip("route add default dev other table 101")?;
    router.ip(&format!("rule add pref 300 iif lo to {client} lookup 101"))?;
    // Forwarded to another address of the router itself, so that each 227 is edited.
    router.nft(&format!(
        "table inet uplinks {{
            chain uplink {{
                type filter hook prerouting priority mangle
                iifname \"{wan}\" meta mark set 0x1
            }}
            chain port_21 {{
                type nat hook prerouting priority -101
                ip daddr {} tcp dport 21 dnat ip to 10.99.0.1
            }}
        }}",
        net.layout.dialled
    ))?;
    let server = net.serve(ServerKind::Vsftpd)?;
    net.session(Client::Ftplib, Mode::Pasv, &server, &FEW)?;
    net.finish()
}
