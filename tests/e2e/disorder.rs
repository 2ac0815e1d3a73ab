//! A selection of all cases over links that lose, double and delay packets: every file arrives whole, and nothing
//! is INVALID.

use anyhow::Result;
use netlab::Disorder;

use crate::harness::{Alg, Client, Mode, Net, Plan, STANDARD, ServerKind, Setup, Topology, Transfer};

/// On each link, each way.
const DISORDER: Disorder = Disorder { loss: 4, duplicates: 4, late: 20 };

fn disorderly(topology: Topology, plan: Plan) -> Result<Net> {
    Setup::new(topology).plan(plan).disorder(DISORDER).build()
}

/// The standard transfers, but for what the programs don't manage on such links by themselves.
fn files_arrive(topology: Topology, plan: Plan, sessions: &[(Client, Mode, ServerKind)]) -> Result<()> {
    let net = disorderly(topology, plan)?;
    for &(client, mode, kind) in sessions {
        let transfers: Vec<_> = STANDARD
            .into_iter()
            .filter(|transfer| client.copes_with_bad_wires(kind, mode, *transfer))
            .collect();
        net.session(client, mode, &net.serve(kind)?, &transfers)?;
    }
    net.finish()
}

#[test]
fn masquerade_in_disorder() -> Result<()> {
    files_arrive(
        Topology::Masquerade,
        Plan::ShortInside,
        &[(Client::Curl, Mode::Port, ServerKind::Proftpd), (Client::Ftplib, Mode::Pasv, ServerKind::Vsftpd)],
    )
}

/// Long packets are held back and reordered as well.
#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn masquerade_under_netem() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).netem(DISORDER).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    net.session(Client::Ftplib, Mode::Port, &server, &STANDARD)?;
    net.session(Client::Curl, Mode::Pasv, &server, &STANDARD)?;
    net.finish()
}

#[test]
fn masquerade_of_long_addresses_in_disorder() -> Result<()> {
    files_arrive(
        Topology::Masquerade,
        Plan::LongInside,
        &[(Client::Tnftp, Mode::Eprt, ServerKind::Proftpd), (Client::Lftp, Mode::Port, ServerKind::Vsftpd)],
    )
}

#[test]
fn dnat_in_disorder() -> Result<()> {
    files_arrive(
        Topology::Dnat,
        Plan::ShortInside,
        &[(Client::Curl, Mode::Pasv, ServerKind::Vsftpd), (Client::Curl, Mode::Epsv, ServerKind::Proftpd)],
    )
}

#[test]
fn dnat_to_long_addresses_in_disorder() -> Result<()> {
    files_arrive(
        Topology::Dnat,
        Plan::LongInside,
        &[(Client::Tnftp, Mode::Pasv, ServerKind::Proftpd), (Client::Ftplib, Mode::Port, ServerKind::Vsftpd)],
    )
}

#[test]
fn two_nat_routers_in_disorder() -> Result<()> {
    files_arrive(
        Topology::BothNat,
        Plan::LongInside,
        &[(Client::Curl, Mode::Port, ServerKind::Proftpd), (Client::Curl, Mode::Pasv, ServerKind::Vsftpd)],
    )
}

#[test]
fn a_stateful_firewall_in_disorder() -> Result<()> {
    files_arrive(
        Topology::Firewall6,
        Plan::ShortInside,
        &[(Client::Curl, Mode::Eprt, ServerKind::Proftpd), (Client::Ftplib, Mode::Epsv, ServerKind::Vsftpd)],
    )
}

#[test]
fn a_server_on_the_router_in_disorder() -> Result<()> {
    files_arrive(
        Topology::ServerOnRouter,
        Plan::ShortInside,
        &[(Client::Curl, Mode::Port, ServerKind::Proftpd), (Client::Tnftp, Mode::Pasv, ServerKind::Vsftpd)],
    )
}

#[test]
fn a_client_on_the_router_in_disorder() -> Result<()> {
    files_arrive(
        Topology::ClientOnRouter,
        Plan::ShortInside,
        &[(Client::Curl, Mode::Port, ServerKind::Proftpd), (Client::Lftp, Mode::Epsv, ServerKind::Vsftpd)],
    )
}

/// The first acknowledgment of everything is lost, and what is sent again though it has arrived passes the second router as
/// it passed the first time, or not at all: it takes other words for a forgery. The data connection takes a second to begin,
/// so that nothing else is said meanwhile that would tell what has arrived.
#[test]
fn acknowledgments_lost_behind_two_nat_routers() -> Result<()> {
    let net = Setup::new(Topology::BothNat).plan(Plan::LongInside).build()?;
    for (end, control) in [(net.client(), "sport 21"), (net.server(), "dport 21")] {
        end.nft(&format!(
            "table inet bad {{
                set heard {{ typeof tcp ackseq; flags dynamic; size 65535; }}
                set dialled {{ type inet_service; flags dynamic; size 1024; elements = {{ 21 }} }}
                chain in {{
                    type filter hook input priority -400;
                    tcp {control} tcp flags & (syn | fin | psh) == 0 tcp ackseq != @heard add @heard {{ tcp ackseq }} drop
                    tcp flags & (syn | ack) == syn tcp dport != @dialled add @dialled {{ tcp dport }} drop
                }}
            }}"
        ))?;
    }
    let server = net.serve(ServerKind::Vsftpd)?;
    let transfers = [Transfer::Get("small"), Transfer::Put("small")].repeat(2);
    for mode in [Mode::Pasv, Mode::Port] {
        net.session(Client::LftpPipelined, mode, &server, &transfers)?;
    }
    net.finish()
}

#[test]
fn many_edits_in_disorder() -> Result<()> {
    for (topology, plan) in [(Topology::Masquerade, Plan::ShortInside), (Topology::BothNat, Plan::LongInside)]
    {
        let net = disorderly(topology, plan)?;
        let transfers = [Transfer::Get("small"), Transfer::Put("small")].repeat(12);
        net.mixed_session(
            &[Mode::Port, Mode::Pasv, Mode::Eprt],
            &net.serve(ServerKind::Vsftpd)?,
            &transfers,
        )?;
        net.finish()?;
    }
    Ok(())
}

#[test]
fn a_client_that_does_not_wait_in_disorder() -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it takes no notice of a PORT behind other commands in a segment
    }
    files_arrive(
        Topology::Masquerade,
        Plan::LongInside,
        &[(Client::LftpPipelined, Mode::Port, ServerKind::Vsftpd)],
    )
}

#[test]
fn commands_cut_in_disorder() -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it hangs on a PORT cut in two
    }
    for plan in [Plan::ShortInside, Plan::LongInside] {
        let net = disorderly(Topology::Masquerade, plan)?;
        let server = net.serve(ServerKind::Vsftpd)?;
        net.scenario("bytewise", "PORT", &server, "nodelay")?;
        net.scenario("in_one_segment", "PORT", &server, "nodelay")?;
        net.scenario("bytewise", "EPRT", &server, "nagle")?;
        net.finish()?;
    }
    Ok(())
}

#[test]
fn replies_cut_in_disorder() -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it hangs on a 227 cut in two
    }
    for plan in [Plan::ShortInside, Plan::LongInside] {
        let net = disorderly(Topology::Dnat, plan)?;
        let transfers = [Transfer::Get("small")].repeat(8);
        for style in ["cut-nodelay", "bytes-nodelay"] {
            let server = net.serve(ServerKind::HandMade(style))?;
            net.session(Client::Curl, Mode::Pasv, &server, &transfers)?;
        }
        net.finish()?;
    }
    Ok(())
}
