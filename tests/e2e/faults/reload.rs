//! Firewall reloads, ten a second, under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::Result;
use netlab::Host;

use crate::harness::{Plan, ServerKind, Topology};
use crate::life::{Session, finish, tapped};

/// Loads a file again and again, ten times a second, while something else is done. Returns how often.
fn meanwhile<T>(router: &Host, files: &[String], act: impl FnOnce() -> Result<T>) -> Result<(T, u32)> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reloads = scope.spawn(|| -> Result<u32> {
            let mut times = 0;
            while !is_over.load(Ordering::Relaxed) {
                let next = Instant::now() + Duration::from_millis(100);
                files.iter().try_for_each(|file| router.nft(file))?;
                times += 1;
                sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(times)
        });
        let done = act();
        is_over.store(true, Ordering::Relaxed);
        let times = reloads.join().map_err(|_| anyhow::anyhow!("the reloads panicked"))?;
        Ok((done?, times?))
    })
}

fn data_connections(topology: Topology, plan: Plan) -> Result<()> {
    let (net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
    let mut sessions = Vec::new();
    for modes in ["PORT", "EPRT", "PASV", "EPSV"] {
        sessions.push((modes, Session::open(&net, &server)?));
    }
    let file = format!("flush ruleset\n{}", net.ruleset());
    let seconds = 20;
    let ((), times) = meanwhile(net.router(), &[file], || {
        for (modes, session) in &mut sessions {
            session.begin(&format!("tally {modes} {seconds}"))?;
        }
        for (modes, session) in &sessions {
            eprintln!("{topology} {plan:?} {modes}: {}", session.hear()?);
        }
        Ok(())
    })?;
    eprintln!("{times} reloads");
    for (_, session) in sessions {
        session.quit()?;
    }
    finish(net, wiretap)
}

#[test]
fn a() -> Result<()> {
    data_connections(Topology::Masquerade, Plan::ShortInside)
}
#[test]
fn b() -> Result<()> {
    data_connections(Topology::Dnat, Plan::LongInside)
}
#[test]
fn c() -> Result<()> {
    data_connections(Topology::Firewall, Plan::ShortInside)
}
