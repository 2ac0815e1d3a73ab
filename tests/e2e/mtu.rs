//! Paths that take less than 1500 bytes.

use anyhow::{Context, Result};

use crate::harness::{Alg, Client, Mode, Plan, STANDARD, ServerKind, Setup, Topology};

fn files_arrive(topology: Topology, client: u16, server: u16) -> Result<()> {
    let net = Setup::new(topology).mtu(client, server).build()?;
    let program = net.serve(ServerKind::Vsftpd)?;
    if !topology.is_over_ipv6() {
        net.session(Client::Curl, Mode::Port, &program, &STANDARD)?;
        net.session(Client::Lftp, Mode::Pasv, &program, &STANDARD)?;
    }
    net.session(Client::Tnftp, Mode::Eprt, &program, &STANDARD)?;
    net.session(Client::Ftplib, Mode::Epsv, &program, &STANDARD)?;
    net.finish()
}

/// Control segments as long as the path allows, with commands in them that grow.
fn full_segments_grow(client: u16, server: u16) -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it takes no notice of a PORT behind other commands in a segment
    }
    for (topology, modes) in
        [(Topology::Masquerade, &["PORT", "EPRT"][..]), (Topology::Masquerade6, &["EPRT"])]
    {
        let net = Setup::new(topology).plan(Plan::ShortInside).mtu(client, server).build()?;
        let program = net.serve(ServerKind::Vsftpd)?;
        for mode in modes {
            net.scenario("full_segments", mode, &program, "nodelay")?;
        }
        net.finish()?;
    }
    Ok(())
}

/// Replies that are longer than that, in sessions whose lengths have changed: the router that can't forward them asks their
/// sender for smaller ones (ICMP, fragmentation needed), and quotes a sequence number.
#[test]
fn a_hop_between_that_takes_less_than_both_ends() -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it leaves the quoted number as it is
    }
    for plan in [Plan::ShortInside, Plan::LongInside] {
        let net = Setup::new(Topology::BothNat).plan(plan).build()?;
        let (ends, link) = net.layout.links.get(1).context("no link between the routers")?;
        for (end, interface) in [(ends.0, &link.a), (ends.1, &link.b)] {
            net.layout.hosts[end].mtu(interface, 1280)?;
        }
        let program = net.serve(ServerKind::Pyftpdlib)?;
        net.scenario("long_reply", "PASV", &program, "nodelay")?;
        net.finish()?;
    }
    Ok(())
}

#[test]
fn a_path_of_1280_bytes() -> Result<()> {
    files_arrive(Topology::Masquerade, 1280, 1280)?;
    files_arrive(Topology::Dnat, 1280, 1280)?;
    files_arrive(Topology::Masquerade6, 1280, 1280)?;
    full_segments_grow(1280, 1280)
}

#[test]
fn a_far_side_smaller_than_the_near_one() -> Result<()> {
    files_arrive(Topology::Masquerade, 1500, 1280)?;
    files_arrive(Topology::Dnat, 1500, 1280)?;
    files_arrive(Topology::Masquerade6, 1500, 1280)?;
    full_segments_grow(1500, 1280)
}

#[test]
fn a_near_side_smaller_than_the_far_one() -> Result<()> {
    files_arrive(Topology::Masquerade, 1280, 1500)?;
    files_arrive(Topology::Dnat, 1280, 1500)?;
    files_arrive(Topology::Masquerade6, 1280, 1500)?;
    full_segments_grow(1280, 1500)
}

#[test]
fn full_segments_grow_where_every_link_takes_1500_bytes() -> Result<()> {
    full_segments_grow(1500, 1500)
}
