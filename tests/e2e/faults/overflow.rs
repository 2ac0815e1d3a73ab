//! More than the daemon can read in time: packets in its queue, changes of the ruleset.

use std::io::{BufRead, BufReader, Write as _};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::Signal;

use crate::harness::{Net, Plan, ServerKind, Topology};
use crate::life::{Session, finish, tapped, wait_until};

/// What waits in the daemon's queue, and what it could not take (`seq_show` in net/netfilter/nfnetlink_queue.c).
fn queue(net: &Net) -> Result<[u64; 2]> {
    let text = net.router().run("cat", ["/proc/net/netfilter/nfnetlink_queue"])?.success()?.stdout;
    let columns = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [_, _, waiting, _, _, full, unsent, ..] = columns[..] else { anyhow::bail!("{text}") };
    Ok([waiting, full + unsent])
}

/// The daemon stands still while more packets come at once than its queue holds.
#[test]
fn sessions_outlive_a_queue_that_overflows() -> Result<()> {
    // More than 1,024 packets between them, of which each sends all without waiting for the first one's acknowledgment.
    const SESSIONS: &str = "45";
    const COMMANDS: &str = "26";
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut shifted = Session::open(&net, &server)?;
    shifted.fetch_in_all_modes()?;
    let widen = "ip route change $(ip -4 route show default) initcwnd 30";
    net.client().run("sh", ["-c", widen])?.success()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/many_sessions.py");
    let dialled = net.dialled(&server);
    let (address, port) = (dialled.ip().to_string(), dialled.port().to_string());
    let mut many = net
        .client()
        .command("/usr/bin/python3", [script, &address, &port, SESSIONS, COMMANDS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut go = many.stdin.take().context("no standard input")?;
    let mut answers = BufReader::new(many.stdout.take().context("no standard output")?).lines();
    let mut hear = |what: &str| -> Result<()> {
        let line = answers.next().context("the sessions have ended")??;
        ensure!(line == what, "{line}");
        Ok(())
    };
    hear("ok")?;
    ensure!(queue(&net)? == [0, 0], "{:?}", queue(&net)?);
    net.daemon().0.process.signal(Signal::SIGSTOP)?;
    writeln!(go)?;
    hear("sent")?;
    shifted.begin("chat 5")?;
    wait_until("the queue is full", || Ok(queue(&net)?[1] > 0))?;
    let [waiting, lost] = queue(&net)?;
    println!("{waiting} packets wait, {lost} have found no room");
    net.daemon().0.process.signal(Signal::SIGCONT)?;
    hear("ok")?;
    shifted.hear()?;
    shifted.fetch_in_all_modes()?;
    wait_until("the queue is empty", || Ok(queue(&net)?[0] == 0))?;
    drop(go);
    ensure!(many.wait()?.success(), "the sessions did not end well");
    // The daemon looks at its counters every ten seconds.
    let end = Instant::now() + Duration::from_secs(25);
    while !net.daemons[0].log().contains("packets came faster than they could be read") {
        ensure!(
            Instant::now() < end,
            "the loss is not told:
{}",
            net.daemons[0].log()
        );
        sleep(Duration::from_millis(100));
    }
    shifted.quit()?;
    finish(net, wiretap)
}

/// While the daemon stands still, the ruleset is changed more often than its socket can be told, and in the end the
/// daemon's part is gone.
#[test]
fn changes_that_were_not_told_are_found() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Dnat, Plan::LongInside, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    net.daemon().0.process.signal(Signal::SIGSTOP)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/many_changes.py");
    net.router().run("/usr/bin/python3", [script, "1000"])?.success()?;
    net.router().nft("flush ruleset")?;
    net.router().nft(&net.ruleset())?;
    session.begin("fetch PORT,PASV,EPRT,EPSV 4")?;
    session.waits()?;
    net.daemon().0.process.signal(Signal::SIGCONT)?;
    session.hear()?;
    let log = net.daemons[0].log();
    ensure!(log.contains("is back"), "{log}");
    session.quit()?;
    finish(net, wiretap)
}
