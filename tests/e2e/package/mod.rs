//! The Debian package, on a machine that systemd has booted and that has never had ftpalg: installed, upgraded under a
//! session, there again after a reboot, purged. That machine is the router. scripts/test-in-vm makes it, boots it
//! twice and runs the first test of this file before the reboot, the second one behind it.

mod system;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use crate::harness::{Client, Mode, Plan, Transfer};
use crate::unit::machine::{Router, property, ruleset, run, systemctl, wait_until};
use system::{dpkg, installed_version, nft_tables, package};

const PROGRAM: &str = "/usr/sbin/ftpalg";
const CONFIG: &str = "/etc/ftpalg/ftpalg.toml";
/// What the example ruleset for routers wants in place of the default.
const ACCEPT_IN: &str = "accept-in = [\"inet filter forward\"]";

/// What is installed is there for everybody who looks for it, and nothing has been started.
fn is_installed_and_asleep(said: &str) -> Result<()> {
    ensure!(said.contains("systemctl enable --now ftpalg"), "dpkg does not say what to do next: {said}");
    let states = ["LoadState", "UnitFileState", "ActiveState"].map(property);
    let states = states.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(states == ["loaded", "disabled", "inactive"], "{states:?}");
    ensure!(nft_tables()?.is_empty(), "something was loaded: {}", ruleset()?);
    run("id", &["ftpalg"])?;
    run(PROGRAM, &["rules"])?;
    for file in [
        "/usr/share/man/man8/ftpalg.8.gz",
        "/usr/share/man/man5/ftpalg.toml.5.gz",
        "/usr/share/bash-completion/completions/ftpalg",
        "/usr/share/zsh/vendor-completions/_ftpalg",
        "/usr/share/fish/vendor_completions.d/ftpalg.fish",
        "/usr/share/doc/ftpalg/README.md",
        "/usr/share/doc/ftpalg/copyright",
        "/usr/share/doc/ftpalg/changelog.gz",
        "/usr/share/doc/ftpalg/changelog.Debian.gz",
        "/usr/share/doc/ftpalg/monitoring/grafana-ftpalg.json",
        "/usr/share/doc/ftpalg/nft-rules/examples/router.nft",
    ] {
        ensure!(Path::new(file).is_file(), "{file} is not there");
    }
    let conffiles = run("dpkg-query", &["--show", "--showformat=${Conffiles}", "ftpalg"])?;
    ensure!(conffiles.trim().starts_with(&format!("{CONFIG} ")), "conffiles: {conffiles}");
    Ok(())
}

/// What an administrator sets, as the example says.
fn configure() -> Result<()> {
    let shipped = fs::read_to_string(CONFIG)?;
    let line = shipped.lines().find(|line| line.starts_with("accept-in =")).context("no accept-in")?;
    fs::write(CONFIG, shipped.replace(line, ACCEPT_IN))?;
    Ok(())
}

/// The commands that an administrator asks find the daemon, and nothing that keeps it from its work.
fn finds_nothing_wrong() -> Result<()> {
    run(PROGRAM, &["status"])?;
    let check = Command::new(PROGRAM).arg("check").output()?;
    // 3: there are warnings.
    let code = check.status.code();
    ensure!(
        matches!(code, Some(0 | 3)),
        "check: {}\n{}",
        check.status,
        String::from_utf8_lossy(&check.stdout)
    );
    Ok(())
}

/// curl, each way, in every mode.
fn files_pass(router: &Router) -> Result<()> {
    for mode in Mode::ALL {
        router.net.session(
            Client::Curl,
            mode,
            &router.server,
            &[Transfer::Get("small"), Transfer::Put("small")],
        )?;
    }
    Ok(())
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_is_installed_and_upgraded_under_a_session() -> Result<()> {
    let said = dpkg(&["--install", &package(1)?])?;
    is_installed_and_asleep(&said)?;
    configure()?;
    systemctl("enable nftables ftpalg")?;

    let mut router = Router::at_work(Plan::ShortInside)?;
    let status = systemctl("status ftpalg")?;
    for words in
        ["FTP application-level gateway", "active (running)", "Status: \"control ports 21", "man:ftpalg(8)"]
    {
        ensure!(status.contains(words), "no \"{words}\" in:\n{status}");
    }
    files_pass(&router)?;
    finds_nothing_wrong()?;

    let mut busy = router.shifted()?;
    let mut idle = router.shifted()?;
    busy.begin("chat 8")?;
    systemctl("reload nftables")?;
    busy.hear()?;
    idle.fetch_in_all_modes()?;

    let first = installed_version()?;
    let before = fs::metadata(format!("/proc/{}/exe", property("MainPID")?))?;
    let newer = package(2)?;
    router.restarts_are_counted_anew(|| {
        thread::scope(|scope| {
            let upgrade = scope.spawn(|| dpkg(&["--install", &newer]));
            while !upgrade.is_finished() {
                busy.step("chat 8")?;
            }
            upgrade.join().map_err(|_| anyhow!("the upgrade panicked"))?.map(drop)
        })
    })?;
    busy.step("chat 8")?;
    let second = installed_version()?;
    run("dpkg", &["--compare-versions", &first, "lt", &second])?;
    let running = fs::metadata(format!("/proc/{}/exe", property("MainPID")?))?;
    let installed = fs::metadata(PROGRAM)?;
    ensure!(system::same_file(&running, &installed), "another program runs than the one that is installed");
    ensure!(!system::same_file(&running, &before), "the old program runs");
    ensure!(fs::read_to_string(CONFIG)?.contains(ACCEPT_IN), "the configuration was replaced");
    busy.fetch_in_all_modes()?;
    idle.fetch_in_all_modes()?;
    files_pass(&router)?;
    router.finish([busy, idle])
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_is_there_after_a_reboot_and_is_purged() -> Result<()> {
    wait_until("it is started at boot", || Ok(property("ActiveState")? == "active"))?;
    ensure!(fs::read_to_string(CONFIG)?.contains(ACCEPT_IN), "the configuration is not what it was");
    // The links to which the ruleset belongs come only now.
    let router = Router::at_work(Plan::ShortInside)?;
    files_pass(&router)?;
    let session = router.shifted()?;
    router.finish([session])?;

    // The last sessions' ends still linger, so that there is a guard to be taken away.
    let files = run("dpkg", &["--listfiles", "ftpalg"])?;
    dpkg(&["--purge", "ftpalg"])?;
    for path in files.lines().map(Path::new) {
        let is_gone = fs::symlink_metadata(path).is_err();
        let is_shared = path.is_dir() && !path.ends_with("ftpalg");
        ensure!(is_gone || is_shared, "{} is left", path.display());
    }
    for path in ["/etc/ftpalg", "/run/ftpalg", "/usr/share/doc/ftpalg"] {
        ensure!(!Path::new(path).exists(), "{path} is left");
    }
    let links = run("find", &["/etc/systemd", "/var/lib/systemd", "-name", "ftpalg*"])?;
    ensure!(links.is_empty(), "left: {links}");
    ensure!(property("LoadState")? == "not-found", "systemd knows it still: {}", property("LoadState")?);
    ensure!(installed_version().is_err(), "dpkg knows it still");
    wait_until("the kept table is gone", || Ok(nft_tables()?.is_empty()))?;
    let left = ruleset()?;
    ensure!(!left.contains("ftpalg") && left.contains("table inet filter"), "left:\n{left}");
    // docs/package.md says why.
    run("id", &["ftpalg"]).map(drop)
}
