//! Sessions that go on talking while there is no daemon, and ask for a data port as soon as there is one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Session, finish, replace, tapped_net};
use crate::harness::{Plan, ServerKind, Setup, Topology};

/// The first command after the daemon's return is read, rewritten and answered by a pinhole, although the session went
/// on without it: no transfer fails.
fn asks_at_once(topology: Topology, plan: Plan, modes: &[&str]) -> Result<()> {
    let (mut net, server, wiretap) = tapped_net(Setup::new(topology).plan(plan), ServerKind::Vsftpd)?;
    for mode in modes {
        let mut talks = Session::open(&net, &server)?;
        let mut silent = Session::open(&net, &server)?;
        net.daemon().0.kill()?;
        for command in ["PWD", "NOOP", "CWD pub", "CDUP"] {
            talks.step(&format!("say {command}"))?;
        }
        let (daemon, router) = net.daemon();
        daemon.start_again(router)?;
        let start = Instant::now();
        talks.step(&format!("fetch {mode}")).with_context(|| format!("{topology}: {mode}"))?;
        println!("{topology}: {mode} {:.1?} after the start", start.elapsed());
        silent.step(&format!("fetch {mode}")).with_context(|| format!("{topology}: {mode}"))?;
        for session in [&mut talks, &mut silent] {
            session.fetch_in_all_modes()?;
        }
        talks.quit()?;
        silent.quit()?;
    }
    finish(net, wiretap)
}

#[test]
fn an_active_port_is_asked_for_right_after_an_absence() -> Result<()> {
    asks_at_once(Topology::Masquerade, Plan::ShortInside, &["PORT", "EPRT"])
}

#[test]
fn a_passive_port_is_asked_for_right_after_an_absence() -> Result<()> {
    asks_at_once(Topology::Dnat, Plan::LongInside, &["PASV", "EPSV"])
}

#[test]
fn ports_without_nat_are_asked_for_right_after_an_absence() -> Result<()> {
    asks_at_once(Topology::Firewall, Plan::ShortInside, &["PORT", "PASV"])
}

/// The daemon is killed, comes back and is killed again while a session waits for its answer.
#[test]
fn a_session_that_waits_outlives_more_daemons() -> Result<()> {
    let setup = Setup::new(Topology::Masquerade).plan(Plan::LongInside);
    let (mut net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    for round in 0..4 {
        net.daemon().0.kill()?;
        session.step("say NOOP")?;
        let (daemon, router) = net.daemon();
        daemon.start_again(router)?;
        session.begin("fetch PORT")?;
        for pause in [50, 250] {
            sleep(Duration::from_millis(pause + 40 * round));
            replace(&mut net, 0)?;
        }
        session.hear()?;
        session = Session::open(&net, &server)?;
    }
    session.quit()?;
    finish(net, wiretap)
}
