//! Metrics under systemd: the daemon may open no IP socket, and is passed one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::machine::{configure, journal, override_service, wait_until};
use super::{Router, property, systemctl};
use crate::harness::Plan;

const ADDRESS: &str = "127.0.0.1:12121";

/// The page, or why there is none.
fn scrape() -> Result<String> {
    let mut stream = TcpStream::connect(ADDRESS)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let page = answer.strip_prefix("HTTP/1.1 200 OK\r\n").with_context(|| answer.clone())?;
    Ok(page.to_owned())
}

fn shows(series: &str) -> Result<()> {
    wait_until(series, || Ok(scrape()?.lines().any(|line| line == series)))
}

/// The socket goes with the daemon: its unit is disabled again when this is dropped.
struct Enabled;

impl Drop for Enabled {
    fn drop(&mut self) {
        // It fails only where the test has failed before.
        let _ = systemctl("disable --now ftpalg-metrics.socket");
    }
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn metrics_come_over_a_socket_that_systemd_passes() -> Result<()> {
    let mut router = Router::start(Plan::ShortInside)?;
    ensure!(TcpStream::connect(ADDRESS).is_err(), "it is on without being asked for");
    let mut session = router.shifted()?;

    // As docs/metrics.md says; live sessions go on.
    let enabled = Enabled;
    systemctl("enable ftpalg-metrics.socket")?;
    router.restarts_are_counted_anew(|| systemctl("restart ftpalg").map(drop))?;
    session.fetch_in_all_modes()?;
    shows("ftpalg_sessions 1")?;
    shows("ftpalg_pinholes_opened_total{mode=\"active\"} 2")?;

    // Its own death does not matter to it.
    router.restarted(|| systemctl("kill -s KILL ftpalg").map(drop))?;
    session.fetch_in_all_modes()?;
    shows("ftpalg_pinholes_opened_total{mode=\"passive\"} 2")?;
    let log = journal(&["--output", "cat", "PRIORITY=4", "PRIORITY=3"])?;
    ensure!(!log.contains("what systemd has passed"), "{log}");

    // A daemon that was stopped stays so, whoever asks.
    session.quit()?;
    systemctl("stop ftpalg")?;
    wait_until("the socket goes with the daemon", || Ok(TcpStream::connect(ADDRESS).is_err()))?;
    ensure!(property("ActiveState")? == "inactive", "{}", property("ActiveState")?);
    systemctl("start ftpalg")?;
    shows("ftpalg_logins_total 0")?;

    // Where the address of the configuration is one that the unit forbids, FTP works without metrics.
    drop(enabled);
    systemctl("stop ftpalg")?;
    configure(&[("accept-in", "[\"inet filter forward\"]"), ("listen", &format!("{ADDRESS:?}"))])?;
    // The drop-in of scripts/test-in-vm would end the daemon for asking.
    override_service("SystemCallErrorNumber=EPERM")?;
    systemctl("start ftpalg")?;
    let log = journal(&["--output", "cat", "PRIORITY=3"])?;
    ensure!(log.contains("enable ftpalg-metrics.socket"), "{log}");
    let mut session = router.shifted()?;
    session.fetch_in_all_modes()?;
    router.restarts_are_counted_anew(|| systemctl("restart ftpalg").map(drop))?;
    router.finish([session])
}
