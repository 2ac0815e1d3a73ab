//! Firewall reloads under load: ten a second in one transaction, three a second in two.

use std::env;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Net, Plan, ServerKind, Topology};
use crate::life::{Session, finish, tapped, wait_until};

/// For how many seconds; `FTPALG_TEST_RELOADS` for longer. A peer that has been unlucky again and again still comes
/// through before its patience ends, once the reloads are over.
fn seconds() -> u64 {
    env::var("FTPALG_TEST_RELOADS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(6)
}

/// How the administrator's ruleset is loaded again.
#[derive(Debug, Clone, Copy)]
enum Reload {
    /// In one transaction, as distributions have it, ten times a second.
    AtOnce,
    /// In two, three times a second: for a moment there is no firewall at all.
    WithGap,
}

impl Reload {
    fn every(self) -> Duration {
        Duration::from_millis(match self {
            Self::AtOnce => 100,
            Self::WithGap => 333,
        })
    }

    fn once(self, net: &Net) -> Result<()> {
        match self {
            Self::AtOnce => net.router().nft(&format!("flush ruleset\n{}", net.ruleset())),
            Self::WithGap => {
                net.router().nft("flush ruleset")?;
                sleep(Duration::from_millis(50));
                net.router().nft(&net.ruleset())
            }
        }
    }
}

/// Loads the administrator's ruleset again and again while something else is done.
fn meanwhile<T>(net: &Net, reload: Reload, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reloads = scope.spawn(|| -> Result<u32> {
            let mut times = 0;
            let end = Instant::now() + Duration::from_secs(seconds());
            while Instant::now() < end && !is_over.load(Ordering::Relaxed) {
                let next = Instant::now() + reload.every();
                reload.once(net)?;
                times += 1;
                sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(times)
        });
        let done = act();
        is_over.store(true, Ordering::Relaxed);
        let times = reloads.join().map_err(|_| anyhow::anyhow!("the reloads panicked"))??;
        println!("{times} reloads");
        ensure!(times > 5, "only {times} reloads");
        done
    })
}

/// How many transfers of one net's hundreds may fail: on a busy machine a packet may fall seven times in a row into a
/// moment in which the table is away, and its client gives up.
const LOST: u32 = 2;

/// How many data connections did not come about, of all in these tallies.
fn lost(report: &str) -> Result<u32> {
    let mut lost = 0;
    for line in report.lines() {
        let counts = line.split_once(": ").context("no tally")?.1;
        let mut counts = counts.split(' ').map(str::parse::<u32>);
        let (tries, whole) = counts.next().zip(counts.next()).context("no tally")?;
        lost += tries? - whole?;
    }
    Ok(lost)
}

/// Sessions that transfer without a break, in each mode, one that only talks, one that is idle, and one that stands in
/// the middle of a line. Every data connection is begun during reloads.
fn under_load(topology: Topology, plan: Plan, reload: Reload) -> Result<()> {
    let (net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
    let mut busy = Vec::new();
    for modes in ["PORT", "EPRT", "PASV", "EPSV"] {
        busy.push((modes, Session::open(&net, &server)?));
    }
    let mut talks = Session::open(&net, &server)?;
    let mut idle = Session::open(&net, &server)?;
    let mut cut = Session::open(&net, &server)?;
    for session in [&mut talks, &mut idle, &mut cut] {
        session.fetch_in_all_modes()?;
    }
    cut.step("begin PORT 9")?;
    let mut report = String::new();
    meanwhile(&net, reload, || {
        for (modes, session) in &mut busy {
            session.begin(&format!("tally {modes} {}", seconds()))?;
        }
        talks.begin("chat 200")?;
        for (modes, session) in &busy {
            let tally = session.hear()?;
            writeln!(report, "{topology}, {modes}: {tally}")?;
        }
        talks.hear().map(drop)
    })?;
    println!("{report}");
    let lost = lost(&report)?;
    ensure!(lost <= LOST, "{lost} transfers failed:\n{report}");
    // Such a session waits for something that will not come.
    let mut is_whole = report.lines().map(|line| line.ends_with("{}"));
    busy.retain(|_| is_whole.next() == Some(true));
    ensure!(net.daemons[0].log().contains("is back"), "nothing was ever away");
    for step in ["finish", "reply", "retrieve"] {
        cut.step(step)?;
    }
    for mut session in busy.into_iter().map(|(_, session)| session).chain([talks, idle, cut]) {
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    wiretap.check(&net)?;
    // A SYN without its NAT would come from a stranger.
    net.check_ends()
}

#[test]
fn data_connections_begin_during_reloads_under_commands_that_grow() -> Result<()> {
    under_load(Topology::Masquerade, Plan::ShortInside, Reload::AtOnce)
}

#[test]
fn data_connections_begin_during_reloads_under_replies_that_shrink() -> Result<()> {
    under_load(Topology::Dnat, Plan::LongInside, Reload::AtOnce)
}

#[test]
fn data_connections_begin_during_reloads_of_a_stateful_firewall() -> Result<()> {
    under_load(Topology::Firewall, Plan::ShortInside, Reload::AtOnce)
}

#[test]
fn data_connections_begin_while_there_is_no_firewall_for_moments() -> Result<()> {
    under_load(Topology::Masquerade, Plan::ShortInside, Reload::WithGap)
}

/// Sessions that begin during reloads are looked at, all of them.
#[test]
fn no_session_is_missed_that_begins_during_reloads() -> Result<()> {
    let (net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut sessions = 0;
    let end = Instant::now() + Duration::from_secs(seconds());
    meanwhile(&net, Reload::AtOnce, || {
        while Instant::now() < end {
            let mut session = Session::open(&net, &server)?;
            session.step("fetch PORT")?;
            session.step("fetch PASV")?;
            session.quit()?;
            sessions += 1;
        }
        Ok(())
    })?;
    println!("{sessions} sessions");
    wait_until("all have ended", || Ok(net.daemons[0].log().matches("INFO ended").count() >= sessions))?;
    finish(net, wiretap)
}
