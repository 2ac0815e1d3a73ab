//! The daemon's end of a scrape.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::Signal;

use super::{ADDRESS, SETTINGS, net, page, value, wait_until};
use crate::harness::{Net, ServerKind};
use crate::life::Session;

/// What listens on the router: TCP sockets, one a line.
fn listening(net: &Net) -> Result<String> {
    Ok(net.router().run("ss", ["-Hltn"])?.success()?.stdout)
}

#[test]
fn nothing_listens_unless_it_is_asked_for() -> Result<()> {
    let net = net("")?;
    ensure!(listening(&net)?.is_empty(), "{}", listening(&net)?);
    net.finish()
}

/// Connections that say nothing, say it slowly or do not read, more of them than are answered at a time.
const DAWDLERS: &str = "import socket, sys, time\n\
    sockets = [socket.create_connection(('127.0.0.1', 12121)) for _ in range(12)]\n\
    for n, s in enumerate(sockets):\n\
    \x20   s.sendall([b'', b'GET /metrics HTTP/1.1\\r\\n', b'GET /metrics HTTP/1.1\\r\\n\\r\\n'][n % 3])\n\
    print('ready', flush=True)\n\
    time.sleep(600)\n";

#[test]
fn who_dawdles_holds_up_neither_packets_nor_scrapes_for_long() -> Result<()> {
    let net = net(SETTINGS)?;
    let server = net.serve(ServerKind::Vsftpd)?;
    page(&net)?;
    let status = format!("/proc/{}/status", net.daemons[0].process.id());
    let threads = || -> Result<String> {
        let text = fs::read_to_string(&status)?;
        Ok(text.lines().find(|line| line.starts_with("Threads:")).context("no Threads:")?.to_owned())
    };
    let before = threads()?;
    let log = net.lab.dir().join("dawdlers.log");
    let mut dawdlers = net.router().spawn(&log, "/usr/bin/python3", ["-c", DAWDLERS])?;
    dawdlers.wait_for_log("ready", Duration::from_secs(10))?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    session.quit()?;
    ensure!(threads()? == before, "{} instead of {before}", threads()?);
    // They have not gone; and yet there is an answer.
    wait_until(|| Ok(page(&net).map(drop).map_err(|error| format!("{error:#}"))))?;
    dawdlers.signal(Signal::SIGKILL)?;
    ensure!(threads()? == before, "{} instead of {before}", threads()?);
    net.finish()
}

#[test]
fn an_address_that_is_taken_costs_the_metrics_alone() -> Result<()> {
    let mut net = net(SETTINGS)?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let (daemon, router) = net.daemon();
    daemon.process.terminate(Duration::from_secs(10))?;
    let log = daemon.config.with_extension("other");
    let _other =
        router.spawn(&log, "/usr/bin/python3", ["-m", "http.server", "--bind", "127.0.0.1", "12121"])?;
    router.wait_for_port(12121, Duration::from_secs(10))?;
    daemon.start_again(router)?;
    ensure!(
        daemon.process.log().contains(r#"no metrics: metrics.listen = "127.0.0.1:12121" can't be used"#),
        "{}",
        daemon.process.log()
    );
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

/// As systemd does it: by its name it is told from the sockets that the daemon has given to be kept.
#[test]
fn a_socket_that_is_passed_is_used() -> Result<()> {
    let mut net = net("")?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let (daemon, router) = net.daemon();
    daemon.process.terminate(Duration::from_secs(10))?;
    let log = daemon.config.with_extension("passed");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/pass_socket.py");
    let path = |path: &std::path::Path| path.display().to_string();
    let (program, config) = (path(&daemon.program), path(&daemon.config));
    let line = [script, "metrics", "12121", &program, "run", "--config", &config];
    let mut passed = router.spawn(&log, "/usr/bin/python3", line)?;
    passed.wait_for_log("ready", Duration::from_secs(10))?;
    ensure!(passed.log().contains(&format!("metrics on http://{ADDRESS}/metrics")), "{}", passed.log());
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    session.quit()?;
    wait_until(|| {
        let page = page(&net)?;
        Ok(if value(&page, "ftpalg_logins_total") == Some(1.0) { Ok(()) } else { Err(page) })
    })?;
    passed.terminate(Duration::from_secs(10))?;
    net.finish()
}

/// What the packets of several sessions ask nftables for while they wait together, it is asked for at once.
#[test]
fn sessions_that_wait_together_share_a_transaction() -> Result<()> {
    const SESSIONS: u8 = 8;
    let mut net = net(SETTINGS)?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut sessions = (0..SESSIONS).map(|_| Session::open(&net, &server)).collect::<Result<Vec<_>>>()?;
    let transactions = |net: &Net| -> Result<f64> {
        value(&page(net)?, "ftpalg_nftables_transactions_total").context("no transactions")
    };
    let before = transactions(&net)?;
    net.daemon().0.process.signal(Signal::SIGSTOP)?;
    for session in &mut sessions {
        session.step("begin PORT 99")?;
    }
    net.daemon().0.process.signal(Signal::SIGCONT)?;
    for session in &mut sessions {
        session.step("reply")?;
    }
    // A page is a second old at most.
    let opened = || -> Result<Option<f64>> {
        Ok(value(&page(&net)?, "ftpalg_pinholes_opened_total{mode=\"active\"}"))
    };
    wait_until(|| Ok(if opened()? == Some(SESSIONS.into()) { Ok(()) } else { Err("not open".to_owned()) }))?;
    // Each asks twice: for what its PORT needs, and with the 200.
    let asked = transactions(&net)? - before;
    ensure!(asked >= 2.0 && asked < f64::from(2 * SESSIONS), "{asked} transactions for {SESSIONS} sessions");
    for mut session in sessions {
        session.step("retrieve")?;
        session.quit()?;
    }
    net.finish()
}
