//! Firewall reloads, ten a second, under load.

use std::env;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::Host;

use crate::harness::{Net, Plan, ServerKind, Topology};
use crate::life::{Session, finish, tapped, wait_until};

/// For how many seconds; `FTPALG_TEST_RELOADS` for longer. A peer that has been unlucky again and again still comes
/// through before its patience ends, once the reloads are over.
fn seconds() -> u64 {
    env::var("FTPALG_TEST_RELOADS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(6)
}

/// Loads files, one behind the other, ten times a second, while something else is done.
fn meanwhile<T>(router: &Host, files: &[String], act: impl FnOnce() -> Result<T>) -> Result<T> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reloads = scope.spawn(|| -> Result<u32> {
            let mut times = 0;
            let end = Instant::now() + Duration::from_secs(seconds());
            while Instant::now() < end && !is_over.load(Ordering::Relaxed) {
                let next = Instant::now() + Duration::from_millis(100);
                files.iter().try_for_each(|file| router.nft(file))?;
                times += 1;
                sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(times)
        });
        let done = act();
        is_over.store(true, Ordering::Relaxed);
        let times = reloads.join().map_err(|_| anyhow::anyhow!("the reloads panicked"))??;
        println!("{times} reloads");
        ensure!(times > 10, "only {times} reloads");
        done
    })
}

fn log_says(net: &Net, what: &str) -> bool {
    net.daemons[0].log().contains(what)
}

/// Sessions that transfer without a break, in each mode, one that only talks, one that is idle, and one that stands in
/// the middle of a line. Every data connection is begun during reloads, and none of them may be lost.
fn under_load(topology: Topology, plan: Plan, files: impl Fn(&Net) -> Vec<String>) -> Result<()> {
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
    meanwhile(net.router(), &files(&net), || {
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
    for line in report.lines() {
        let counts = line.split_once(": ").context("no tally")?.1;
        let mut counts = counts.split(' ').map(str::parse::<u32>);
        let (tries, whole) = counts.next().zip(counts.next()).context("no tally")?;
        ensure!(tries? == whole? && line.ends_with("{}"), "data connections were lost:\n{report}");
    }
    ensure!(log_says(&net, "is back"), "nothing was ever away");
    for step in ["finish", "reply", "retrieve"] {
        cut.step(step)?;
    }
    for mut session in busy.into_iter().map(|(_, session)| session).chain([talks, idle, cut]) {
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    finish(net, wiretap)
}

fn in_one_transaction(net: &Net) -> Vec<String> {
    vec![format!("flush ruleset\n{}", net.ruleset())]
}

#[test]
fn no_data_connection_is_lost_by_reloads_under_commands_that_grow() -> Result<()> {
    under_load(Topology::Masquerade, Plan::ShortInside, in_one_transaction)
}

#[test]
fn no_data_connection_is_lost_by_reloads_under_replies_that_shrink() -> Result<()> {
    under_load(Topology::Dnat, Plan::LongInside, in_one_transaction)
}

#[test]
fn no_data_connection_is_lost_by_reloads_of_a_stateful_firewall() -> Result<()> {
    under_load(Topology::Firewall, Plan::ShortInside, in_one_transaction)
}

/// Sessions that begin during reloads are looked at, all of them.
#[test]
fn no_session_is_missed_that_begins_during_reloads() -> Result<()> {
    let (net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut sessions = 0;
    let end = Instant::now() + Duration::from_secs(seconds());
    meanwhile(net.router(), &in_one_transaction(&net), || {
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
    wait_until("all have ended", || {
        Ok(net.daemons[0].log().matches("INFO ended").count() >= sessions)
    })?;
    finish(net, wiretap)
}
