//! A kernel without one of the modules that the daemon needs.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::check::Report;

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

/// Starts the daemon without a module: it must say what is missing, and end; and so must `ftpalg check`, whose mend mends
/// it once modprobe may.
fn refuses_without(module: &str, says: &str, finding: &str) -> Result<()> {
    fs::create_dir_all("/run/modprobe.d")?;
    fs::write(BARRED, format!("install {module} /bin/false\n"))?;
    wait_until(&format!("{module} is gone"), || Ok(!is_loaded(module)?))?;
    let output = Command::new(PROGRAM).arg("run").output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{module}: {}: {errors}", output.status);
    ensure!(errors.contains(says), "{module}: no \"{says}\" in: {errors}");
    let report = check()?;
    let found = report.find(finding)?;
    ensure!(found.mark == "wrong" && report.exit_code == 1, "{module}: {report:#?}");
    let command = found.mend.as_ref().and_then(|mend| mend["command"].as_str()).unwrap_or_default();
    fs::remove_file(BARRED)?;
    run("sh", &["-ec", command])?;
    let report = check()?;
    ensure!(report.find(finding).is_err(), "{module}: after {command}: {report:#?}");
    let has_kernel = report.findings.iter().any(|one| one.id == "kernel" && one.mark == "right");
    ensure!(has_kernel, "{module}: after {command}: {report:#?}");
    Ok(())
}

/// What `ftpalg check` finds.
fn check() -> Result<Report> {
    let output = Command::new(PROGRAM).args(["check", "--json"]).output()?;
    Report::of(output.status, &String::from_utf8_lossy(&output.stdout))
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn a_missing_module_is_named() -> Result<()> {
    reset()?;
    systemctl("stop nftables")?;
    let queue = ("nfnetlink_queue", "modprobe nfnetlink_queue", "kernel-queue-missing");
    let conntrack = ("nf_conntrack_netlink", "modprobe nf_conntrack_netlink", "kernel-conntrack-missing");
    let nat = ("nft_chain_nat", "the kernel did not take table inet ftpalg", "kernel-table-refused");
    let nftables = ("nf_tables", "modprobe nf_tables", "kernel-nftables-missing");
    let result = [queue, conntrack, nat, nftables]
        .into_iter()
        .try_for_each(|(module, says, finding)| refuses_without(module, says, finding));
    if Path::new(BARRED).exists() {
        fs::remove_file(BARRED)?;
    }
    systemctl("start nftables ftpalg")?;
    systemctl("stop ftpalg")?;
    result
}

/// With the daemon's table in, the kernel tracks connections; then there is suddenly room for no more than these.
#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn a_connection_tracking_table_that_is_nearly_full_is_told() -> Result<()> {
    const MOST: &str = "net.netfilter.nf_conntrack_max";
    reset()?;
    systemctl("start nftables ftpalg")?;
    let sockets = (0..20).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    for socket in &sockets {
        socket.send_to(b"anything", socket.local_addr()?)?;
    }
    let before = run("sysctl", &["-n", MOST])?;
    run("sysctl", &["-qw", &format!("{MOST}=20")])?;
    let report = check()?;
    let found = report.find("conntrack-nearly-full").cloned();
    let command =
        found.as_ref().ok().and_then(|one| one.mend.as_ref()?["command"].as_str().map(str::to_owned));
    let mended = run("sh", &["-ec", &command.unwrap_or_default()]).and_then(|_| check());
    run("sysctl", &["-qw", &format!("{MOST}={}", before.trim())])?;
    systemctl("stop ftpalg")?;
    ensure!(found?.mark == "warning", "{report:#?}");
    let mended = mended?;
    ensure!(mended.find("conntrack-nearly-full").is_err(), "{mended:#?}");
    Ok(())
}
