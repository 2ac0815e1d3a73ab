//! SIGTERM, SIGINT and SIGHUP.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use netlab::Signal;

use super::{Session, finish, ruleset, tapped, wait_until};
use crate::harness::{Net, Plan, ServerKind, Setup, Topology, configuration};

const LIMIT: Duration = Duration::from_secs(5);

/// Ends the daemon; it must say that it went well.
fn end(net: &mut Net, signal: Signal) -> Result<()> {
    let daemon = net.daemon().0;
    daemon.process.signal(signal)?;
    let status = daemon.process.wait(LIMIT)?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

fn ends_cleanly(signal: Signal) -> Result<()> {
    for plan in [Plan::ShortInside, Plan::LongInside] {
        let (mut net, server, wiretap) = tapped(Topology::Masquerade, plan, ServerKind::Vsftpd)?;
        let mut unshifted = Session::open(&net, &server)?;
        let mut shifted = Session::open(&net, &server)?;
        unshifted.step("fetch PASV")?;
        shifted.step("fetch PORT")?;
        end(&mut net, signal)?;
        let left = ruleset(net.router())?;
        ensure!(!left.contains("negotiated FTP") && !left.contains("open4"), "{left}");
        ensure!(left.contains("table inet ftpalg"), "no guard table:\n{left}");
        shifted.begin("say NOOP")?;
        shifted.waits()?;
        unshifted.step("say NOOP")?;
        ensure!(net.router().counter("inet ftpalg shifted_dropped")? > 0, "nothing was held up");

        let (daemon, router) = net.daemon();
        daemon.start_again(router)?;
        shifted.hear()?;
        shifted.fetch_in_all_modes()?;
        // What passed meanwhile may have ended in the middle of a line: inspection goes on at the next.
        unshifted.step("say NOOP")?;
        unshifted.fetch_in_all_modes()?;
        shifted.quit()?;
        unshifted.quit()?;
        wait_until("two sessions ended", || {
            Ok(net.daemons[0].log().matches("INFO ended client=").count() == 2)
        })?;
        end(&mut net, signal)?;
        let left = ruleset(net.router())?;
        ensure!(!left.contains("ftpalg") && !left.contains("FTP"), "{left}");
        finish(net, wiretap)?;
    }
    Ok(())
}

#[test]
fn sigterm_takes_everything_away_but_what_shifted_connections_need() -> Result<()> {
    ends_cleanly(Signal::SIGTERM)
}

#[test]
fn sigint_does_the_same() -> Result<()> {
    ends_cleanly(Signal::SIGINT)
}

/// The guard must not put the table back while the daemon takes it away.
#[test]
fn an_end_is_an_end() -> Result<()> {
    let mut net = Setup::new(Topology::Firewall).build()?;
    for _ in 0..25 {
        end(&mut net, Signal::SIGTERM)?;
        let left = ruleset(net.router())?;
        ensure!(!left.contains("ftpalg"), "{left}");
        let (daemon, router) = net.daemon();
        daemon.start_again(router)?;
    }
    Ok(())
}

/// Writes another configuration and has it read; waits until the log says so.
fn reload(net: &mut Net, settings: &str, accept_in: &[&str], says: &str) -> Result<()> {
    let text = configuration(net.router(), net.lab.dir(), settings, accept_in);
    let daemon = net.daemon().0;
    fs::write(&daemon.config, text)?;
    let before = daemon.process.log().len();
    daemon.process.signal(Signal::SIGHUP)?;
    wait_until(says, || Ok(net.daemons[0].process.log()[before..].contains(says)))
}

#[test]
fn sighup_brings_another_configuration_under_live_sessions() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let other = net.serve_on(ServerKind::Vsftpd, 8021)?;
    let mut live = Session::open(&net, &server)?;
    live.fetch_in_all_modes()?;
    net.router().nft(
        "insert rule inet filter forward tcp dport 8021 ct state new accept
        add chain inet filter data
        insert rule inet filter forward ct state new jump data",
    )?;
    let done = "configuration read anew";
    // The session is on port 21, which is none of the control ports any more.
    reload(
        &mut net,
        "control-ports = [8021]\nmark = \"0x40000000\"\n[policy]\nrequire-login = false",
        &["data", "input"],
        done,
    )?;
    let router = net.router();
    let rules = router.run("nft", ["list", "chain", "inet", "filter", "data"])?.success()?.stdout;
    ensure!(rules.contains("0x40000000"), "{rules}");
    let rules = router.run("nft", ["list", "chain", "inet", "filter", "forward"])?.success()?.stdout;
    ensure!(!rules.contains("negotiated FTP"), "{rules}");
    live.fetch_in_all_modes()?;
    let mut new = Session::open(&net, &other)?;
    new.fetch_in_all_modes()?;
    new.quit()?;

    // While a session transfers, again and again.
    live.begin("fetch PORT,PASV,EPRT,EPSV 200")?;
    for mark in 1..10 {
        let settings = format!("control-ports = [21]\nmark = \"0x{mark}00000\"");
        reload(&mut net, &settings, &["forward", "input"], done)?;
    }
    live.hear()?;
    live.quit()?;
    finish(net, wiretap)
}

#[test]
fn a_broken_file_changes_nothing() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.step("fetch PORT")?;
    let before = net.router().run("nft", ["list", "table", "inet", "filter"])?.success()?.stdout;
    let good = fs::read(&net.daemons[0].config)?;
    let says = "the configuration stays as it was";
    reload(&mut net, "control-ports = [21]\nqueue = \"many\"", &["forward"], says)?;
    let log = net.daemons[0].log();
    ensure!(log.contains("router.toml:5:9: queue: "), "file, line, column and key in:\n{log}");
    let after = net.router().run("nft", ["list", "table", "inet", "filter"])?.success()?.stdout;
    let rules = |text: &str| {
        text.lines().filter(|line| !line.contains("packets")).map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(rules(&before) == rules(&after), "{before}{after}");
    session.fetch_in_all_modes()?;

    fs::write(&net.daemons[0].config, good)?;
    reload(
        &mut net,
        "control-ports = [21]\nqueue = 7",
        &["forward", "input"],
        "from the next start on: queue",
    )?;
    session.fetch_in_all_modes()?;
    sleep(Duration::from_millis(10));
    session.quit()?;
    finish(net, wiretap)
}
