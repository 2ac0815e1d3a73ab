//! A daemon that hangs: all of it, or one worker.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::{Process, Signal};

use super::{Session, finish, tapped, tapped_net};
use crate::harness::{Net, Plan, Server, ServerKind, Setup, Topology};

/// Sessions that need translation: busy, idle, in the middle of a line.
fn sessions(net: &Net, server: &Server) -> Result<[Session; 3]> {
    let open = || -> Result<Session> {
        let mut session = Session::open(net, server)?;
        session.step("fetch PORT,PASV 2")?;
        Ok(session)
    };
    let [mut busy, idle, mut cut] = [open()?, open()?, open()?];
    busy.begin("fetch PORT,PASV,EPRT,EPSV 40")?;
    cut.step("begin PORT 9")?;
    Ok([busy, idle, cut])
}

fn go_on([mut busy, mut idle, mut cut]: [Session; 3]) -> Result<()> {
    busy.hear()?;
    cut.step("finish")?;
    cut.step("reply")?;
    cut.step("retrieve")?;
    for session in [&mut busy, &mut idle, &mut cut] {
        session.fetch_in_all_modes()?;
    }
    for session in [busy, idle, cut] {
        session.quit()?;
    }
    Ok(())
}

/// SIGSTOP: packets wait in the queue, and go on with SIGCONT, or with the next daemon after SIGKILL.
#[test]
fn stopped_as_a_whole() -> Result<()> {
    for (topology, plan) in [(Topology::Masquerade, Plan::ShortInside), (Topology::Dnat, Plan::LongInside)] {
        let (mut net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
        for is_killed in [false, true] {
            let sessions = sessions(&net, &server)?;
            sleep(Duration::from_millis(30));
            net.daemon().0.process.signal(Signal::SIGSTOP)?;
            sleep(Duration::from_millis(1500));
            if is_killed {
                super::replace(&mut net, 0)?;
            } else {
                net.daemon().0.process.signal(Signal::SIGCONT)?;
            }
            go_on(sessions)?;
        }
        finish(net, wiretap)?;
    }
    Ok(())
}

/// One of two workers stands still, the rest of the process runs: systemd's watchdog hears nothing any more as soon as
/// packets wait for it. After what the watchdog does then (SIGKILL, and a new start) the sessions go on.
#[test]
fn stopped_in_one_thread() -> Result<()> {
    let setup = Setup::new(Topology::Masquerade).settings("workers = 2");
    let (mut net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
    let path = net.lab.dir().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    let config = net.daemons[0].config.clone();
    net.daemon().0.kill()?;
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let line = [&notify, env!("CARGO_BIN_EXE_ftpalg"), "run", "--config", config.to_str().context("UTF-8")?];
    let mut daemon = net.router().spawn(&net.lab.dir().join("watched.log"), "env", line)?;
    daemon.wait_for_log("ready", Duration::from_secs(5))?;

    let mut sessions = sessions(&net, &server)?;
    sessions[0].hear()?;
    ensure!(signs_of_life(&socket, 3)? >= 2, "the watchdog hears nothing from the beginning");
    let stoppers = [0, 1].map(|number| stop(&net, &daemon, number));
    let [first, second] = stoppers;
    let stopped = (first?, second?);
    ensure!(signs_of_life(&socket, 6)? >= 3, "idle workers were taken for ones that hang");
    sessions[0].begin("fetch PORT,PASV,EPRT,EPSV 40")?;
    daemon.wait_for_log("its worker does not go on", Duration::from_secs(30))?;
    ensure!(signs_of_life(&socket, 4)? == 0, "the watchdog goes on hearing");
    ensure!(fs::read_dir(format!("/proc/{}/task", daemon.id()))?.count() > 3, "the process is not there");

    daemon.signal(Signal::SIGKILL)?;
    // A thread that is traced has not ended before its tracer knows.
    drop(stopped);
    daemon.wait(Duration::from_secs(10))?;
    let (daemon, router) = net.daemon();
    daemon.start_again(router)?;
    go_on(sessions)?;
    finish(net, wiretap)
}

/// Stops a worker's thread.
pub(super) fn stop(net: &Net, daemon: &Process, number: u8) -> Result<Process> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/thread_stopper.py");
    let (pid, name) = (daemon.id().to_string(), format!("queue-{number}"));
    let log = net.lab.dir().join(format!("{name}.stopper"));
    let mut stopper = net.router().spawn(&log, "/usr/bin/python3", [script, &pid, &name])?;
    stopper.wait_for_log("stopped", Duration::from_secs(5))?;
    Ok(stopper)
}

/// How often the watchdog is told something within so many seconds.
fn signs_of_life(socket: &UnixDatagram, seconds: u64) -> Result<usize> {
    socket.set_nonblocking(true)?;
    let (mut buffer, mut signs) = ([0; 512], 0);
    while socket.recv(&mut buffer).is_ok() {}
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        match socket.recv(&mut buffer) {
            Ok(length) => signs += usize::from(buffer[..length].starts_with(b"WATCHDOG=1")),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
    Ok(signs)
}
