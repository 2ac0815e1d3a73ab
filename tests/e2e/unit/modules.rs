//! A kernel without one of the modules that the daemon needs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use super::machine::{PROGRAM, reset, run, systemctl, wait_until};

/// Keeps the kernel from loading a module (modprobe.d(5)).
const BARRED: &str = "/run/modprobe.d/ftpalg-test.conf";

/// Whether the kernel has a module; takes out those of netfilter that nothing uses.
fn is_loaded(module: &str) -> Result<bool> {
    let modules = fs::read_to_string("/proc/modules")?;
    let mut is_loaded = false;
    for line in modules.lines() {
        let mut columns = line.split_whitespace();
        let (name, users) = (columns.next().unwrap_or_default(), columns.nth(1).unwrap_or_default());
        is_loaded |= name == module;
        if users == "0" && ["nf", "xt_", "x_tables"].iter().any(|prefix| name.starts_with(prefix)) {
            // What another one has taken out meanwhile is no error.
            let _ = run("rmmod", &[name]);
        }
    }
    Ok(is_loaded)
}

/// Starts the daemon without a module: it must say what is missing, and end.
fn refuses_without(module: &str, says: &str) -> Result<()> {
    fs::create_dir_all("/run/modprobe.d")?;
    fs::write(BARRED, format!("install {module} /bin/false\n"))?;
    wait_until(&format!("{module} is gone"), || Ok(!is_loaded(module)?))?;
    let output = Command::new(PROGRAM).arg("run").output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{module}: {}: {errors}", output.status);
    ensure!(errors.contains(says), "{module}: no \"{says}\" in: {errors}");
    Ok(())
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn a_missing_module_is_named() -> Result<()> {
    reset()?;
    systemctl("stop nftables")?;
    let result = refuses_without("nfnetlink_queue", "modprobe nfnetlink_queue")
        .and_then(|()| refuses_without("nf_conntrack_netlink", "modprobe nf_conntrack_netlink"))
        .and_then(|()| refuses_without("nf_tables", "modprobe nf_tables"));
    fs::remove_file(BARRED)?;
    systemctl("start nftables ftpalg")?;
    systemctl("stop ftpalg")?;
    result
}
