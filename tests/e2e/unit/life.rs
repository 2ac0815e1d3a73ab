//! Whatever becomes of the daemon and of the firewall, live sessions go on.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine::{PROGRAM, override_service, ruleset, wait_until};
use super::{Router, property, systemctl};
use crate::harness::Plan;

/// Sends the daemon a signal.
fn signal(signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(property("MainPID")?.parse()?), signal)?)
}

/// Under sessions that talk and sessions that are silent.
fn firewall_reloads(plan: Plan) -> Result<()> {
    let router = Router::start(plan)?;
    let mut busy = router.shifted()?;
    let mut idle = router.shifted()?;
    for command in ["reload nftables", "restart nftables"] {
        busy.begin("chat 8")?;
        systemctl(command)?;
        busy.hear()?;
        busy.fetch_in_all_modes()?;
        idle.fetch_in_all_modes()?;
    }
    router.finish([busy, idle])
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn the_firewall_is_reloaded_and_restarted_under_commands_that_grow() -> Result<()> {
    firewall_reloads(Plan::ShortInside)
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn the_firewall_is_reloaded_and_restarted_under_commands_that_shrink() -> Result<()> {
    firewall_reloads(Plan::LongInside)
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_is_restarted_killed_and_replaced_by_another_build() -> Result<()> {
    let mut router = Router::start(Plan::ShortInside)?;
    let mut busy = router.shifted()?;
    let mut idle = router.shifted()?;
    busy.begin("chat 8")?;
    router.replaced(|| systemctl("restart ftpalg").map(drop))?;
    busy.hear()?;
    idle.fetch_in_all_modes()?;

    busy.begin("chat 8")?;
    router.restarted(|| signal(Signal::SIGKILL))?;
    busy.hear()?;
    idle.fetch_in_all_modes()?;

    // As `install` and package managers do it: another file takes the name. What stands behind the program's end is
    // not loaded.
    let mut program = fs::read(PROGRAM)?;
    program.extend(b"another build");
    fs::write(format!("{PROGRAM}.new"), &program)?;
    fs::set_permissions(format!("{PROGRAM}.new"), fs::metadata(PROGRAM)?.permissions())?;
    fs::rename(format!("{PROGRAM}.new"), PROGRAM)?;
    busy.begin("chat 8")?;
    router.restarts_are_counted_anew(|| systemctl("restart ftpalg").map(drop))?;
    busy.hear()?;
    let running = fs::metadata(format!("/proc/{}/exe", property("MainPID")?))?.len();
    ensure!(running == u64::try_from(program.len())?, "the old program runs");
    busy.fetch_in_all_modes()?;
    idle.fetch_in_all_modes()?;
    // Of all three daemons the sockets to which tables belong were given to be kept.
    ensure!(property("NFileDescriptorStore")? == "1", "{} are kept", property("NFileDescriptorStore")?);
    router.finish([busy, idle])
}

/// The table that holds up what is shifted outlives the daemon, for systemd keeps the socket that it belongs to. Nothing
/// else of ftpalg's is left then.
#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn the_firewall_is_restarted_and_reloaded_while_there_is_no_daemon() -> Result<()> {
    let mut router = Router::start(Plan::ShortInside)?;
    override_service("RestartSec=10")?;
    let mut busy = router.shifted()?;
    let mut idle = router.shifted()?;
    router.restarted(|| {
        signal(Signal::SIGKILL)?;
        wait_until("it is dead", || Ok(property("SubState")? == "auto-restart"))?;
        systemctl("restart nftables")?;
        systemctl("reload nftables")?;
        ensure!(!ruleset()?.contains("table inet ftpalg {"), "the table was not flushed");
        busy.begin("say NOOP")?;
        busy.waits()?;
        ensure!(property("SubState")? == "auto-restart", "it did not stay away for long enough");
        Ok(())
    })?;
    busy.hear()?;
    busy.fetch_in_all_modes()?;
    idle.fetch_in_all_modes()?;
    router.finish([busy, idle])
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_hangs_and_the_watchdog_ends_it() -> Result<()> {
    let mut router = Router::start(Plan::ShortInside)?;
    override_service("WatchdogSec=4")?;
    router.replaced(|| systemctl("restart ftpalg").map(drop))?;
    let mut busy = router.shifted()?;
    let mut idle = router.shifted()?;
    busy.begin("chat 8")?;
    router.restarted(|| signal(Signal::SIGSTOP))?;
    busy.hear()?;
    busy.fetch_in_all_modes()?;
    idle.fetch_in_all_modes()?;
    router.finish([busy, idle])
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_is_stopped_and_leaves_nothing_but_the_guard() -> Result<()> {
    let router = Router::start(Plan::ShortInside)?;
    let mut shifted = router.shifted()?;
    systemctl("stop ftpalg")?;
    ensure!(property("Result")? == "success", "ended with {}", property("Result")?);
    let left = ruleset()?;
    ensure!(left.contains("table inet ftpalg {"), "no guard:\n{left}");
    ensure!(!left.contains("negotiated FTP") && !left.contains("open4") && !left.contains("hold"), "{left}");
    shifted.begin("say NOOP")?;
    shifted.waits()?;
    systemctl("start ftpalg")?;
    shifted.hear()?;
    shifted.fetch_in_all_modes()?;
    router.finish([shifted])?;

    // The last session's end lingers for half a minute, so that its last packets are translated.
    wait_until("the session is forgotten", || {
        systemctl("stop ftpalg")?;
        let left = ruleset()?;
        if left.contains("ftpalg") || left.contains("FTP") {
            systemctl("start ftpalg")?;
            sleep(Duration::from_secs(5));
            return Ok(false);
        }
        Ok(true)
    })
}
