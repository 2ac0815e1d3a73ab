//! Starts that fail: the exit code is told, and what does not mend itself is not tried again.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::machine::{configure, journal, override_service, reset, ruleset};
use super::{property, systemctl};

/// Starts the unit, which must fail with this exit code, say this, and stay as it is.
fn fails(code: &str, says: &str) -> Result<()> {
    ensure!(systemctl("start ftpalg").is_err(), "it started");
    let log = journal(&["--output", "cat"])?;
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
