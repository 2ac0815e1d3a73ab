//! The table that no flush takes away outlives the daemon, where somebody keeps the socket that it belongs to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Session, Wiretap, finish, ruleset};
use crate::harness::{Net, Plan, ServerKind, Setup, Topology};

/// A service manager (peers/service_manager.py) in place of the harness.
struct Manager {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    log: std::path::PathBuf,
}

impl Manager {
    fn new(net: &Net) -> Result<Manager> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/service_manager.py");
        let log = net.lab.dir().join("managed.log");
        let path = |path: &std::path::Path| path.display().to_string();
        let (notify, config) = (path(&net.lab.dir().join("manager")), path(&net.daemons[0].config));
        let line = [script, &notify, &path(&log), env!("CARGO_BIN_EXE_ftpalg"), "run", "--config", &config];
        let mut command = net.router().command("/usr/bin/python3", line);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Manager { child, orders, answers, log })
    }

    /// Returns the names of what is kept.
    fn order(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let kept = answer.trim().strip_prefix("ok").map(|names| names.trim().to_owned());
        kept.with_context(|| format!("{order}: {answer}{}", self.log()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        println!("--- ftpalg under its manager ---\n{}", self.log());
        // Both fail only where it has ended already; what it has started goes with the namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many packets the tables have held up that no flush takes away.
fn held_up(net: &Net) -> u64 {
    let names = ["ftpalg_hold", "ftpalg_hold_2"];
    let counters =
        names.iter().flat_map(|name| ["unseen", "held_up"].map(|what| format!("inet {name} {what}")));
    counters.filter_map(|counter| net.router().counter(&counter).ok()).sum()
}

/// The firewall is flushed, and loaded again, while the daemon is dead and sessions talk.
fn flushed(topology: Topology, plan: Plan) -> Result<()> {
    let mut net = Setup::new(topology).plan(plan).build()?;
    net.daemon().0.kill()?;
    let mut manager = Manager::new(&net)?;
    manager.order("start")?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let wiretap = Wiretap::start(&net)?;
    let mut talks = Session::open(&net, &server)?;
    let mut idle = Session::open(&net, &server)?;
    let mut cut = Session::open(&net, &server)?;
    for session in [&mut talks, &mut idle, &mut cut] {
        session.fetch_in_all_modes()?;
    }
    for round in 0..4 {
        talks.begin("chat 300")?;
        cut.step("begin PORT 9")?;
        sleep(Duration::from_millis(20 * round));
        let kept = manager.order("kill")?;
        ensure!(kept == format!("table-{}", round + 1), "{kept:?} is kept");
        let hold = ["ftpalg_hold", "ftpalg_hold_2"][usize::try_from(round)? % 2];
        for _ in 0..3 {
            // In one transaction: without any rule there is no NAT, and the router itself resets what it forwarded.
            net.router().nft(&format!("flush ruleset\n{}", net.ruleset()))?;
            sleep(Duration::from_millis(150));
        }
        let tables = net.router().run("nft", ["list", "tables"])?.success()?.stdout;
        ensure!(!tables.contains("inet ftpalg\n") && tables.contains(hold), "{tables}");
        talks.waits()?;
        ensure!(held_up(&net) > 0, "nothing was held up:\n{}", ruleset(net.router())?);
        manager.order("start")?;
        talks.hear()?;
        cut.step("finish")?;
        cut.step("reply")?;
        cut.step("retrieve")?;
        for session in [&mut talks, &mut idle, &mut cut] {
            session.fetch_in_all_modes()?;
        }
    }
    // A restart in order: the table stays for the next one.
    manager.order("stop")?;
    net.router().nft(&format!("flush ruleset\n{}", net.ruleset()))?;
    idle.begin("say NOOP")?;
    idle.waits()?;
    ensure!(ruleset(net.router())?.contains("table inet ftpalg_hold {"), "it went with the daemon");
    manager.order("start")?;
    idle.hear()?;
    for session in [talks, idle, cut] {
        session.quit()?;
    }
    finish(net, wiretap)
}

#[test]
fn a_flush_without_daemon_under_commands_that_grow() -> Result<()> {
    flushed(Topology::Masquerade, Plan::ShortInside)
}

#[test]
fn a_flush_without_daemon_under_replies_that_shrink() -> Result<()> {
    flushed(Topology::Dnat, Plan::LongInside)
}

/// More of them than a service manager keeps sockets.
#[test]
fn a_kill_after_many_restarts_in_order() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    net.daemon().0.kill()?;
    let mut manager = Manager::new(&net)?;
    for number in 1..=6 {
        let kept = manager.order("start")?;
        ensure!(kept == format!("table-{number}"), "{kept:?} is kept");
        manager.order("stop")?;
    }
    manager.order("start")?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let wiretap = Wiretap::start(&net)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    manager.order("kill")?;
    net.router().nft(&format!("flush ruleset\n{}", net.ruleset()))?;
    session.begin("say NOOP")?;
    session.waits()?;
    ensure!(held_up(&net) > 0, "nothing was held up:\n{}", ruleset(net.router())?);
    manager.order("start")?;
    session.hear()?;
    session.fetch_in_all_modes()?;
    session.quit()?;
    finish(net, wiretap)
}
