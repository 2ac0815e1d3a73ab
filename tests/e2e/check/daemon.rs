//! The queues, the daemon that reads them, and its tables.

use std::time::Duration;

use anyhow::{Result, ensure};
use netlab::Signal;

use super::router::{Router, report_of};
use super::{FORWARD, RULESET};
use crate::harness::{ServerKind, Setup, Topology};
use crate::life::Session;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_daemon_that_does_not_run() -> Result<()> {
    Router::new(RULESET, FORWARD)?.finds_and_mends("daemon-not-running", "wrong")
}

/// Its table is still there, and packets are sent to a queue that nobody reads.
#[test]
fn a_daemon_that_was_killed() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.daemon()?.signal(Signal::SIGKILL)?;
    router.daemon()?.wait(LIMIT)?;
    let report = router.check()?;
    let finding = report.find("table-left")?.clone();
    ensure!(
        report.find("daemon-not-running")?.mend == finding.mend && finding.mark == "warning",
        "{report:#?}"
    );
    router.mend(&finding)?;
    router.is_all_right()
}

/// A shifted session waits behind the guard.
#[test]
fn a_guard_that_waits_for_the_daemon() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.step("fetch PORT")?;
    net.daemon().0.process.terminate(LIMIT)?;
    let config = net.daemons[0].config.clone();
    let report = report_of(net.router(), &[], &config)?;
    let finding = report.find("guard-waiting")?;
    ensure!(
        finding.mark == "warning" && report.find("daemon-not-running")?.mend == finding.mend,
        "{report:#?}"
    );
    let (daemon, router) = net.daemon();
    daemon.start_again(router)?;
    let report = report_of(router, &[], &config)?;
    ensure!(report.not_right().all(|finding| finding.id == "state-dir-on-disk"), "{report:#?}");
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

#[test]
fn a_daemon_that_stands_still() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.daemon()?.signal(Signal::SIGSTOP)?;
    router.finds_and_mends("daemon-stopped", "wrong")
}

#[test]
fn a_daemon_that_has_not_read_its_queue_s_number_yet() -> Result<()> {
    for line in ["queue = 2200", "workers = 2"] {
        let mut router = Router::running(RULESET, FORWARD)?;
        router.set(line)?;
        let report = router.check()?;
        let finding = report.find("daemon-restart-needed")?.clone();
        ensure!(
            report.find("table-left").is_err() && report.find("daemon-not-running").is_err(),
            "{report:#?}"
        );
        router.mend(&finding)?;
        router.is_all_right()?;
    }
    Ok(())
}

/// The mend names a queue that nobody reads; the daemon can be started then.
#[test]
fn a_queue_that_another_program_reads() -> Result<()> {
    let mut router = Router::new(RULESET, FORWARD)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/queue_holder.py");
    let mut holder =
        router.host.spawn(&router.lab.dir().join("holder.log"), "/usr/bin/python3", [script, "2121"])?;
    holder.wait_for_log("bound", LIMIT)?;
    let report = router.check()?;
    let finding = report.find("queue-taken")?.clone();
    ensure!(finding.mark == "wrong" && finding.what.contains(&format!("python3 (process {})", holder.id())));
    router.mend(&finding)?;
    router.start()?;
    router.is_all_right()
}

/// Nothing but a daemon that stands still lets it go without putting it back.
#[test]
fn a_table_that_is_not_there() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.daemon()?.signal(Signal::SIGSTOP)?;
    router.host.nft("delete table inet ftpalg")?;
    let report = router.check()?;
    ensure!(report.find("table-missing")?.mark == "wrong", "{report:#?}");
    let stopped = report.find("daemon-stopped")?.clone();
    let missing = report.find("table-missing")?.clone();
    router.mend(&stopped)?;
    router.mend(&missing)?;
    router.is_all_right()
}

/// What the daemon does not notice by itself.
#[test]
fn a_table_that_was_changed_by_hand() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.nft("delete element inet ftpalg control_ports { 21 }")?;
    router.finds_and_mends("table-changed", "wrong")?;
    router.host.nft("add table inet ftpalg { flags dormant; }")?;
    router.finds_and_mends("table-changed", "wrong")?;
    router.host.nft("add chain inet ftpalg mine; add set inet ftpalg more { type mark; }")?;
    router.finds_and_mends("table-changed", "warning")
}

/// What it does notice is back before anybody can look.
#[test]
fn a_table_that_the_daemon_puts_back() -> Result<()> {
    let router = Router::running(RULESET, FORWARD)?;
    router.host.nft("flush ruleset")?;
    router.host.nft(RULESET)?;
    router.is_all_right()
}

#[test]
fn a_configuration_that_the_daemon_has_not_read_yet() -> Result<()> {
    let ruleset = RULESET.replace("dport 21", "dport { 21, 2121 }");
    let mut router = Router::running(&ruleset, FORWARD)?;
    router.set("control-ports = [21, 2121]")?;
    router.finds_and_mends("table-changed", "wrong")
}
