//! What this machine's boot was like.

use anyhow::{Context, Result, ensure};

use super::machine::{property, run, systemctl};

/// When a line of the journal's came, in seconds since boot.
fn time_of(journal: &str, what: &str) -> Result<f64> {
    let line =
        journal.lines().find(|line| line.contains(what)).with_context(|| format!("no {what}:\n{journal}"))?;
    let time = line.trim_start_matches('[').split(']').next().unwrap_or_default();
    time.trim().parse().with_context(|| line.to_owned())
}

/// scripts/test-in-vm has put a service there which needs the network as early as cloud-init's do.
#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_starts_after_the_firewall_and_before_the_network() -> Result<()> {
    let journal = run("journalctl", &["--no-pager", "--boot", "--output", "short-monotonic", "_PID=1"])?;
    let times = [
        "Finished nftables.service - ",
        "Started ftpalg.service - ",
        "Reached target network-pre.target - ",
        "Finished early-network.service - ",
        "Reached target sysinit.target - ",
    ]
    .map(|event| time_of(&journal, event));
    let times = times.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(times.is_sorted(), "{times:?}:\n{journal}");
    ensure!(!journal.contains("ordering cycle"), "{journal}");
    Ok(())
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_is_enabled_and_disabled() -> Result<()> {
    // The machine has no man(1) to find the manual pages with.
    let verdict = run("systemd-analyze", &["--man=no", "verify", "ftpalg.service"])?;
    ensure!(verdict.is_empty(), "{verdict}");
    ensure!(property("UnitFileState")? == "enabled", "not enabled");
    let wanted = "/etc/systemd/system/multi-user.target.wants/ftpalg.service";
    systemctl("disable ftpalg")?;
    ensure!(!std::fs::exists(wanted)? && property("UnitFileState")? == "disabled", "still enabled");
    systemctl("enable ftpalg")?;
    ensure!(std::fs::exists(wanted)? && property("UnitFileState")? == "enabled", "not enabled again");
    Ok(())
}
