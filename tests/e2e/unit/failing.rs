//! Starts that fail: the exit code is told, and what does not mend itself is not tried again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::machine::{CONFIG, PROGRAM, configure, journal, override_service, reset, ruleset, wait_until};
use super::{property, systemctl};

/// Starts the unit, which must fail with this exit code, say this, and stay as it is.
fn fails(code: &str, says: &str) -> Result<()> {
    ensure!(systemctl("start ftpalg").is_err(), "it started");
    let log = journal(&["--output", "cat", "--priority", "err"])?;
    ensure!(log.contains(says), "no \"{says}\" in:\n{log}");
    // Longer than until the next try.
    sleep(Duration::from_secs(1));
    let names = ["ActiveState", "Result", "ExecMainStatus", "NRestarts"];
    let values = names.map(property).into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(values == ["failed", "exit-code", code, "0"], "{names:?} are {values:?}");
    ensure!(!ruleset()?.contains("ftpalg"), "something was loaded");
    Ok(())
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn a_bad_configuration_and_missing_rights_are_not_tried_again() -> Result<()> {
    reset()?;
    configure(&[("queue", "\"many\"")])?;
    fails("78", "/etc/ftpalg/ftpalg.toml:11:9: queue: ")?;
    reset()?;
    override_service("CapabilityBoundingSet=\nAmbientCapabilities=")?;
    fails("77", "run as root or with CAP_NET_ADMIN")?;
    reset()?;
    systemctl("start ftpalg")?;
    systemctl("stop ftpalg").map(drop)
}

/// What is wrong in the file is told at once; a file that has gone is no wish for the defaults.
#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn a_reload_that_is_refused_fails_and_changes_nothing() -> Result<()> {
    reset()?;
    systemctl("start ftpalg")?;
    let (daemon, rules) = (property("MainPID")?, accept_rules()?);
    let is_as_before = || -> Result<()> {
        ensure!(
            property("MainPID")? == daemon && property("ActiveState")? == "active",
            "not the same daemon"
        );
        ensure!(accept_rules()? == rules, "it was {rules}:\n{}", ruleset()?);
        Ok(())
    };
    configure(&[("queue", "\"many\"")])?;
    ensure!(systemctl("reload ftpalg").is_err(), "it was taken");
    let says = "/etc/ftpalg/ftpalg.toml:11:9: queue: ";
    wait_until("it is told", || Ok(journal(&["--output", "cat", "--priority", "err"])?.contains(says)))?;
    is_as_before()?;
    fs::remove_file(CONFIG)?;
    systemctl("reload ftpalg")?;
    let says = "there is no /etc/ftpalg/ftpalg.toml any more";
    wait_until("it is told", || Ok(journal(&["--output", "cat", "--priority", "warning"])?.contains(says)))?;
    is_as_before()?;
    // The default is both chains.
    systemctl("restart ftpalg")?;
    ensure!(accept_rules()? == rules + 1, "{}", ruleset()?);
    reset()?;
    systemctl("start ftpalg")?;
    systemctl("stop ftpalg").map(drop)
}

fn accept_rules() -> Result<usize> {
    Ok(ruleset()?.matches("negotiated FTP").count())
}

/// The other one runs as root, so the unit's daemon does not see it (`ProtectProc=`). The unit tries again and again, and takes
/// over when it may.
#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_gives_way_to_another_that_was_first() -> Result<()> {
    reset()?;
    let directory = Path::new("/run/other-ftpalg");
    fs::create_dir_all(directory)?;
    let config = directory.join("ftpalg.toml");
    fs::write(&config, format!("queue = 7\naccept-in = []\nstate-dir = {:?}", directory.join("state")))?;
    let log = fs::File::create(directory.join("log"))?;
    let arguments = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    let mut other = Command::new(PROGRAM).args(arguments).stderr(log).spawn()?;
    let result = wait_until("the other one is ready", || {
        Ok(fs::read_to_string(directory.join("log"))?.contains("ready"))
    })
    .and_then(|()| {
        let mut start = Command::new("systemctl").args(["start", "ftpalg"]).spawn()?;
        let says = "another ftpalg serves this network namespace";
        let is_told =
            wait_until(
                "it gives way twice",
                || Ok(journal(&["--output", "cat"])?.matches(says).count() >= 2),
            );
        let log = fs::read_to_string(directory.join("log"))?;
        kill(Pid::from_raw(i32::try_from(other.id())?), Signal::SIGTERM)?;
        ensure!(other.wait()?.success() && !log.contains("is back"), "the other one was disturbed: {log}");
        is_told?;
        wait_until("it takes over", || Ok(property("ActiveState")? == "active"))?;
        // It has been told that the first try failed.
        start.wait()?;
        Ok(())
    });
    other.kill().ok();
    reset()?;
    ensure!(!ruleset()?.contains("ftpalg"), "something is left");
    result
}
