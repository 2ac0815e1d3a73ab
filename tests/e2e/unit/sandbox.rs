//! What the daemon may do, and that it can do its work with that.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::machine::{PROGRAM, journal, ruleset, run, wait_until};
use super::{Router, property, systemctl};
use crate::harness::Plan;

/// Above this `systemd-analyze security` is not to come; docs/privileges.md says what it is made of.
const EXPOSURE: f64 = 1.1;

/// `CAP_NET_ADMIN` (linux/capability.h), as proc(5) writes it.
const CAP_NET_ADMIN: &str = "0000000000001000";

/// The daemon's `status` file of proc(5).
fn status() -> Result<HashMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/{}/status", property("MainPID")?))?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Ok(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// The id of the user that the unit names.
fn user() -> Result<String> {
    Ok(run("id", &["-u", "ftpalg"])?.trim().to_owned())
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn its_exposure_is_what_the_documentation_says() -> Result<()> {
    let text = run("systemd-analyze", &["security", "--no-pager", "ftpalg.service"])?;
    let score = text.split_once("Overall exposure level for ftpalg.service: ").context("no score")?.1;
    let score = score.split_whitespace().next().unwrap_or_default();
    ensure!(score.parse::<f64>()? <= EXPOSURE, "{text}");
    let documentation = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/privileges.md"))?;
    for line in text.lines().filter(|line| line.starts_with('✗')) {
        let name = line.split_whitespace().nth(1).context("no name")?;
        ensure!(documentation.contains(&format!("`{name}`")), "docs/privileges.md does not tell of {name}");
    }
    Ok(())
}

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn it_has_one_right_and_all_its_work_is_done_with_it() -> Result<()> {
    let router = Router::start(Plan::ShortInside)?;
    let status = status()?;
    let user = user()?;
    ensure!(
        user != "0" && status["Uid"].split_whitespace().all(|id| id == user),
        "runs as {}",
        status["Uid"]
    );
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(status[set] == CAP_NET_ADMIN, "{set} is {}", status[set]);
    }
    ensure!(status["NoNewPrivs"] == "1" && status["Seccomp"] == "2", "{status:?}");
    ensure!(status["Groups"].split_whitespace().all(|group| group != "0"), "in groups {}", status["Groups"]);
    let nice = run("ps", &["-L", "-o", "ni=", "-p", &property("MainPID")?])?;
    ensure!(nice.split_whitespace().all(|nice| nice == "-10"), "its threads go with {nice}");

    // Sessions through NAT in every mode, a configuration read anew, a ruleset put back; what a system call would
    // cost that the filter does not allow: the daemon's life (the drop-in of scripts/test-in-vm).
    ensure!(property("DropInPaths")?.contains("strict.conf"), "the filter is not strict");
    let mut session = router.shifted()?;
    session.step("store PORT up")?;
    session.step("store EPSV down")?;
    systemctl("reload ftpalg")?;
    session.fetch_in_all_modes()?;
    run("nft", &["flush", "ruleset"])?;
    wait_until("the table is back", || Ok(ruleset()?.contains("table inet ftpalg ")))?;
    systemctl("restart nftables")?;
    session.fetch_in_all_modes()?;
    let log = journal(&[])?;
    for line in ["configuration read anew", "part of the ruleset is back"] {
        ensure!(log.contains(line), "no \"{line}\" in:\n{log}");
    }
    // The kernel's list of queues is not for its user, and it knows of its own queue all the same.
    let status: serde_json::Value = serde_json::from_str(&run(PROGRAM, &["status", "--json"])?)?;
    let worker = &status["workers"][0];
    ensure!(worker["waiting"].is_u64() && worker["dropped"] == 0, "{worker}");
    // Its state is its own.
    let state = run("stat", &["--format", "%U %a", "/run/ftpalg", "/run/ftpalg/sessions-512"])?;
    ensure!(state == "ftpalg 750\nftpalg 600\n", "{state}");
    who_may_ask(&user)?;
    router.finish([session])
}

/// `ftpalg status` is for root and the group: that is what the directory and the socket allow.
fn who_may_ask(user: &str) -> Result<()> {
    let socket = run("stat", &["--format", "%U %G %a %F", "/run/ftpalg/control.sock"])?;
    ensure!(socket == "ftpalg ftpalg 660 socket\n", "{socket}");
    let table = run(PROGRAM, &["status"])?;
    ensure!(table.contains("Sessions: ") && table.contains("anonymous"), "{table}");
    let group = run("id", &["-g", "ftpalg"])?;
    ensure!(user != "65534", "the daemon is nobody");
    let nobody = ["--reuid", "65534", "--regid", "65534"];
    let member = [&nobody[..], &["--groups", group.trim(), PROGRAM, "status", "--json"]].concat();
    ensure!(
        run("setpriv", &member)?.starts_with("{\"version\":1,"),
        "a member of the group gets something else"
    );
    let stranger = [&nobody[..], &["--clear-groups", PROGRAM, "status"]].concat();
    let error = run("setpriv", &stranger).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(error.contains("status: 77") && error.contains("the group ftpalg may"), "a stranger: {error}");
    Ok(())
}

/// Nothing can be run in the daemon's place in the file system but itself, and no other's process be seen.
#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn what_it_does_not_need_is_not_there() -> Result<()> {
    super::machine::reset()?;
    systemctl("start ftpalg")?;
    let pid = property("MainPID")?;
    let inside = |command: &[&str]| {
        let enter = ["--target", &pid, "--mount", "--setuid", &user()?.to_owned()];
        run("nsenter", &[&enter[..], command].concat())
    };
    let refused = |command: &[&str], why: &str| -> Result<()> {
        let error = inside(command).err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains(why), "{command:?}: {error}");
        Ok(())
    };
    refused(&["/bin/true"], "Permission denied")?;
    inside(&["/usr/local/sbin/ftpalg", "--version"])?;
    systemctl("stop ftpalg").map(drop)
}
