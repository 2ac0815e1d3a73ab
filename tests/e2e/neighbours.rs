//! Rules of the administrator's that touch what ftpalg's own rely on: the packet's mark, the connection's, the MSS, sequence
//! numbers. Each is put in before the daemon comes, so that its chains are registered in the order of a boot.

use anyhow::{Result, ensure};

use crate::harness::{Alg, Client, Mode, Net, Plan, STANDARD, ServerKind, Setup, Topology, Transfer};
use crate::life::Session;

/// A net whose routers have these rules, and daemons that came afterwards.
fn beside(topology: Topology, rules: &str) -> Result<Net> {
    let mut net = Setup::new(topology).plan(Plan::ShortInside).alg(Alg::Ftpalg).build()?;
    for (daemon, (router, _)) in net.daemons.iter_mut().zip(&net.layout.routers) {
        let router = &net.layout.hosts[*router];
        daemon.kill()?;
        router.nft("delete table inet ftpalg")?;
        router.nft(rules)?;
        daemon.start_again(router)?;
    }
    Ok(net)
}

fn all_modes(net: &Net, transfers: &[Transfer]) -> Result<()> {
    let server = net.serve(ServerKind::Vsftpd)?;
    Mode::ALL.into_iter().try_for_each(|mode| net.session(Client::Curl, mode, &server, transfers))
}

#[test]
fn a_mark_that_is_set_whole_at_the_raw_priority() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Dnat] {
        let net = beside(
            topology,
            "table inet admin {
                chain raw { type filter hook prerouting priority raw; meta mark set 0x1; }
            }",
        )?;
        all_modes(&net, &STANDARD)?;
        net.finish()?;
    }
    Ok(())
}

/// As several uplinks have it: the way of a connection's first packet is that of all that follow.
#[test]
fn a_mark_that_is_saved_and_restored() -> Result<()> {
    let net = beside(
        Topology::Masquerade,
        "table inet admin {
            counter saved_bit { }
            chain restore { type filter hook prerouting priority mangle;
                ct mark & 0x00200000 != 0 counter name saved_bit
                meta mark set ct mark
            }
            chain save { type filter hook postrouting priority mangle; ct mark set meta mark; }
        }",
    )?;
    all_modes(&net, &STANDARD)?;
    let kept = net.router().counter("inet admin saved_bit")?;
    ensure!(kept == 0, "{kept} packets of connections that keep the bit of pinholes");
    net.finish()
}

/// Behind a way that takes less, whose routers can't say so: the accept rule takes a data connection's SYN past the
/// administrator's clamp.
#[test]
fn an_mss_that_is_clamped_below_the_accept_rule() -> Result<()> {
    let net = beside(
        Topology::BothNat,
        "insert rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu
         table inet admin {
            chain silent { type filter hook output priority 0; icmp code frag-needed drop; }
        }",
    )?;
    if let Some((ends, link)) = net.layout.links.get(1) {
        net.layout.hosts[ends.0].mtu(&link.a, 1280)?;
        net.layout.hosts[ends.1].mtu(&link.b, 1280)?;
    }
    all_modes(&net, &[Transfer::Get("large"), Transfer::Put("large")])?;
    net.finish()
}

/// conntrack translates the sequence numbers of what synproxy has answered itself, behind the tap.
#[test]
fn a_control_connection_behind_synproxy() -> Result<()> {
    let net = beside(
        Topology::Masquerade,
        "table inet admin {
            chain raw { type filter hook prerouting priority raw;
                iifname client tcp dport 21 tcp flags & (fin | syn | rst | ack) == syn notrack
            }
            chain proxy { type filter hook forward priority filter - 1;
                tcp dport 21 ct state { invalid, untracked } synproxy mss 1460 wscale 7 timestamp sack-perm
            }
        }",
    )?;
    net.router().sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
    let server = net.serve(ServerKind::Vsftpd)?;
    Session::open(&net, &server)?.quit()?;
    ensure!(net.daemons[0].log().contains("conntrack changes its sequence numbers"), "the log does not tell");
    net.finish()
}

/// Connections in zones of conntrack's, as routers with overlapping networks have them: they are found there, also after a
/// restart.
#[test]
fn control_connections_in_zones() -> Result<()> {
    let both = "iifname { client, server } ct zone set 7";
    let in_all_modes = "fetch PORT,PASV,EPRT,EPSV 4";
    for (topology, zone, fetch) in [
        (Topology::Masquerade, both, in_all_modes),
        // As where clients of several networks have the same addresses.
        (Topology::Masquerade, "iifname client ct original zone set 7", in_all_modes),
        (Topology::Masquerade, "iifname { client, server } ct reply zone set 7", in_all_modes),
        (Topology::Firewall, "iifname { client, server } ct zone set symhash mod 8 offset 8", in_all_modes),
        (Topology::Firewall6, both, "fetch EPRT,EPSV 4"),
    ] {
        let zone = format!(
            "table inet admin {{ chain zone {{ type filter hook prerouting priority raw; {zone}; }}; }}"
        );
        let mut net = beside(topology, &zone)?;
        let server = net.serve(ServerKind::Vsftpd)?;
        let mut sessions = (0..6).map(|_| Session::open(&net, &server)).collect::<Result<Vec<_>>>()?;
        sessions.iter_mut().try_for_each(|session| session.step(fetch).map(drop))?;
        let (daemon, router) = net.daemon();
        daemon.kill()?;
        daemon.start_again(router)?;
        for mut session in sessions {
            session.step("say NOOP")?;
            session.step(fetch)?;
            session.quit()?;
        }
        let log = net.daemons[0].log();
        ensure!(log.contains("6 sessions of the last run go on") && !log.contains("not-tracked"), "{log}");
        net.finish()?;
    }
    Ok(())
}
