//! Several queues, a worker each.

use std::fs;

use anyhow::{Result, ensure};

use super::{Session, replace};
use crate::harness::{Net, ServerKind, Setup, Topology};

/// How many packets each queue has brought: the last column but one of the kernel's list.
fn packets(net: &Net) -> Result<Vec<u64>> {
    let text = net.router().run("cat", ["/proc/net/netfilter/nfnetlink_queue"])?.success()?.stdout;
    Ok(text.lines().filter_map(|line| line.split_whitespace().nth(7)?.parse().ok()).collect())
}

/// A client with several addresses, whose sessions fall to both workers.
fn spread(topology: Topology) -> Result<()> {
    let mut net = Setup::new(topology).settings("workers = 2").build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    for end in [net.client(), net.server()] {
        end.nft("flush chain inet guard input; flush chain inet guard output")?;
    }
    let (_, link) = &net.layout.links[0];
    let network = if topology == Topology::Dnat { "198.51.100" } else { "10.0.0" };
    let mut sessions = Vec::new();
    for host in 10..18 {
        let address = format!("{network}.{host}");
        net.client().ip(&format!("address add {address}/24 dev {}", link.a))?;
        sessions.push(Session::from(&net, &server, &[&address])?);
    }
    for session in &mut sessions {
        session.fetch_in_all_modes()?;
    }
    ensure!(packets(&net)?.iter().all(|number| *number > 0), "one queue does all: {:?}", packets(&net)?);
    replace(&mut net, 0)?;
    // New ones between the same addresses, first.
    let mut newer = Vec::new();
    for host in 10..14 {
        let mut session = Session::from(&net, &server, &[&format!("{network}.{host}")])?;
        session.fetch_in_all_modes()?;
        newer.push(session);
    }
    for session in &mut sessions {
        session.fetch_in_all_modes()?;
    }
    ensure!(packets(&net)?.iter().all(|number| *number > 0), "one queue does all: {:?}", packets(&net)?);
    // Another number of workers: sessions change hands.
    let config = net.daemons[0].config.clone();
    for workers in [3, 1, 2] {
        let text = fs::read_to_string(&config)?;
        let others = text.lines().filter(|line| !line.starts_with("workers")).collect::<Vec<_>>();
        fs::write(&config, format!("workers = {workers}\n{}", others.join("\n")))?;
        replace(&mut net, 0)?;
        for session in sessions.iter_mut().chain(&mut newer) {
            session.fetch_in_all_modes()?;
        }
    }
    for session in sessions.into_iter().chain(newer) {
        session.quit()?;
    }
    let log = net.daemons[0].log();
    let begun = log.lines().filter_map(|line| Some(line.split_once("INFO session from")?.1));
    let mut numbers =
        begun.filter_map(|line| line.split_once("session=")).map(|(_, id)| id).collect::<Vec<_>>();
    numbers.sort_unstable();
    let all = numbers.len();
    numbers.dedup();
    ensure!(all == 12 && numbers.len() == 12, "{all} sessions with {} numbers", numbers.len());
    net.finish()
}

#[test]
fn sessions_spread_over_workers_and_find_theirs_again() -> Result<()> {
    spread(Topology::Firewall)
}

#[test]
fn shifted_sessions_spread_over_workers_and_find_theirs_again() -> Result<()> {
    spread(Topology::Dnat)
}
