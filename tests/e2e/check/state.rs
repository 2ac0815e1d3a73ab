//! The state directory.

use std::fs;
use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::router::{FTPALG, Router};
use super::{FORWARD, RULESET};

#[test]
fn a_state_directory_on_a_disk() -> Result<()> {
    let mut router = Router::new(RULESET, FORWARD)?;
    // The sources are on a disk wherever they are built.
    let disk = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(router.host.namespace());
    router.set(&format!("state-dir = {disk:?}"))?;
    router.start()?;
    let report = router.check();
    fs::remove_dir_all(&disk)?;
    let report = report?;
    let finding = report.find("state-dir-on-disk")?;
    ensure!(finding.mark == "warning" && report.not_right().count() == 1, "{report:#?}");
    let mend = finding.mend.as_ref().map(|mend| mend["setting"]["line"].clone());
    ensure!(mend == Some("state-dir = \"/run/ftpalg\"".into()), "{mend:?}");
    Ok(())
}

#[test]
fn a_state_directory_that_can_t_be_used() -> Result<()> {
    let mut router = Router::new(RULESET, FORWARD)?;
    let state = &router.state.clone();
    fs::write(state, "a file")?;
    let report = router.check()?;
    let finding = report.find("state-dir-unusable")?.clone();
    ensure!(finding.mark == "wrong" && finding.what.contains("no directory"), "{finding:?}");
    router.mend(&finding)?;
    fs::remove_file(state.with_extension("state.old"))?;
    router.start()?;
    router.is_all_right()?;
    // Somebody else's: the daemon, no root, could not write there.
    let nobody = ["setpriv", "--reuid=65534", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"];
    router.daemon()?.terminate(Duration::from_secs(10))?;
    fs::remove_dir_all(state)?;
    fs::create_dir(state)?;
    chown(state, Some(65534), Some(65534))?;
    let program = router.lab.dir().join("ftpalg");
    fs::copy(FTPALG, &program)?;
    let config = router.config.display().to_string();
    let program = program.display().to_string();
    let line = [&nobody[1..], &[&program, "run", "--config", &config]].concat();
    let mut daemon = router.host.spawn(&router.lab.dir().join("log"), nobody[0], line)?;
    daemon.wait_for_log("ready", Duration::from_secs(10))?;
    router.daemon = Some(daemon);
    router.is_all_right()?;
    chown(state, Some(0), Some(0))?;
    router.finds_and_mends("state-dir-unusable", "wrong")
}

/// The daemon in a mount namespace of its own, as its unit runs it, behind these commands.
fn shut_in(router: &mut Router, commands: &str) -> Result<()> {
    let config = router.config.display();
    let script = format!("{commands} && exec {FTPALG} run --config {config}");
    let log = router.lab.dir().join("log");
    let mut daemon = router.host.spawn(&log, "unshare", ["-m", "sh", "-ec", &script])?;
    daemon.wait_for_log("ready", Duration::from_secs(10))?;
    router.daemon = Some(daemon);
    Ok(())
}

#[test]
fn a_state_directory_that_fills_up() -> Result<()> {
    let mut router = Router::new(RULESET, FORWARD)?;
    let state = router.state.clone();
    fs::create_dir(&state)?;
    shut_in(&mut router, &format!("mount -t tmpfs -o size=320k none {}", state.display()))?;
    router.is_all_right()?;
    let seen = format!("/proc/{}/root{}", router.daemon()?.id(), state.display());
    for (kib, mark, code) in [(128, "warning", 3), (320, "wrong", 1)] {
        // Where there is no room for all, as much is written as there is room for.
        fs::write(format!("{seen}/filler"), vec![1; kib << 10]).ok();
        let report = router.check()?;
        let finding = report.find("state-dir-full")?;
        ensure!(finding.mark == mark && report.exit_code == code, "{report:#?}");
    }
    fs::remove_file(format!("{seen}/filler"))?;
    router.is_all_right()
}

/// The configuration names another directory, from the next start on, and the unit does not let the daemon write there.
#[test]
fn a_state_directory_that_the_unit_keeps_from_the_daemon() -> Result<()> {
    let mut router = Router::new(RULESET, FORWARD)?;
    let other = router.state.with_extension("other");
    let shown = other.display().to_string();
    fs::create_dir(&other)?;
    let result =
        shut_in(&mut router, &format!("mount --bind {shown} {shown}; mount -o remount,bind,ro {shown}"))
            .and_then(|()| router.set(&format!("state-dir = {other:?}")))
            .and_then(|()| router.check());
    let report = fs::remove_dir(&other).map_err(Into::into).and(result)?;
    let finding = report.find("state-dir-unusable")?;
    let mend = finding.mend.as_ref().and_then(|mend| mend["advice"].as_str()).unwrap_or_default();
    ensure!(mend.contains(&format!("ReadWritePaths={shown}")), "{finding:?}");
    Ok(())
}
