//! What lies around the firewall: the kernel's helper, forwarding, the reverse-path filter, marks, the state directory.

use std::fs;

use anyhow::{Result, ensure};

use super::router::Router;
use super::{FORWARD, RULESET};

#[test]
fn the_kernel_s_helper_for_the_same_connections() -> Result<()> {
    let helper = |assigns: &str| {
        format!(
            "{RULESET}
            table ip helper {{
                ct helper standard {{ type \"ftp\" protocol tcp; }}
                chain prerouting {{ type filter hook prerouting priority filter; {assigns}; }}
            }}"
        )
    };
    for both in [
        "tcp dport 21 ct helper set \"standard\"",
        "ct helper set tcp dport map { 21 : \"standard\", 2121 : \"standard\" }",
    ] {
        Router::running(&helper(both), FORWARD)?.finds_and_mends("kernel-helper-assigned", "wrong")?;
    }
    // Another port's connections are its own.
    for other in
        ["tcp dport 2121 ct helper set \"standard\"", "ct helper set tcp dport map { 2121 : \"standard\" }"]
    {
        Router::running(&helper(other), FORWARD)?.is_all_right()?;
    }
    Ok(())
}

/// The old way to assign it, which nftables can't read.
#[test]
fn the_kernel_s_helper_by_an_iptables_rule() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    let rule = "-t raw -A PREROUTING -p tcp --dport 21 -j CT --helper ftp";
    router.host.run("iptables-nft", rule.split_whitespace())?.success()?;
    router.finds_and_mends("kernel-helper-possible", "warning")
}

#[test]
fn a_host_that_does_not_forward() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.forwarding(false)?;
    router.finds_and_mends("forwarding-off", "wrong")?;
    // IPv6 counts where there is any to be forwarded.
    for (name, address) in [("lan", "2001:db8:1::1/64"), ("wan", "2001:db8:2::1/64")] {
        router.host.ip(&format!("link add {name} type veth peer name {name}-end"))?;
        router.host.ip(&format!("link set {name}-end up"))?;
        router.host.ip(&format!("link set {name} up"))?;
        router.host.ip(&format!("address add {address} dev {name} nodad"))?;
    }
    router.finds_and_mends("forwarding-off", "warning")?;
    router.host.ip("address add 192.0.2.1/24 dev lan")?;
    router.host.ip("address add 198.51.100.1/24 dev wan")?;
    router.host.sysctl("net.ipv4.ip_forward", "0")?;
    router.finds_and_mends("forwarding-off", "warning")
}

/// Strict reverse-path filtering does not know of marks.
#[test]
fn a_strict_reverse_path_filter_and_routing_by_marks() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.ip("link add wan type veth peer name wan-end")?;
    router.host.sysctl("net.ipv4.conf.wan.rp_filter", "1")?;
    router.is_all_right()?;
    router.host.ip("rule add fwmark 0x1 lookup 100")?;
    router.finds_and_mends("reverse-path-strict", "warning")
}

/// The mend names a bit that none of these uses.
#[test]
fn somebody_else_who_uses_the_mark() -> Result<()> {
    for rule in [
        "meta mark set 0x00600000",
        "meta mark set meta mark | 0x00200000",
        "meta mark & 0x00ff0000 == 0x00010000 accept",
    ] {
        let mut router = Router::running(RULESET, FORWARD)?;
        router.host.nft(&format!(
            "table inet mangle {{ chain prerouting {{ type filter hook prerouting priority mangle; {rule}; }}; }}"
        ))?;
        router.finds_and_mends("mark-in-use", "warning")?;
    }
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.ip("rule add fwmark 0x00300000/0x00f00000 lookup 100")?;
    router.finds_and_mends("mark-in-use", "warning")
}

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
    let text = fs::read_to_string(&router.config)?;
    let state =
        text.lines().find_map(|line| line.strip_prefix("state-dir = ")).unwrap_or_default().trim_matches('"');
    fs::write(state, "a file")?;
    let report = router.check()?;
    let finding = report.find("state-dir-unusable")?.clone();
    ensure!(finding.mark == "wrong" && finding.what.contains("no directory"), "{finding:?}");
    router.mend(&finding)?;
    fs::remove_file(format!("{state}.old"))?;
    router.start()?;
    router.is_all_right()?;
    // Somebody else's: the daemon, no root, could not write there.
    let nobody = ["setpriv", "--reuid=65534", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"];
    router.daemon()?.terminate(std::time::Duration::from_secs(10))?;
    fs::remove_dir_all(state)?;
    fs::create_dir(state)?;
    rustix_chown(state, 65534)?;
    let program = router.lab.dir().join("ftpalg");
    fs::copy(super::router::FTPALG, &program)?;
    let config = router.config.display().to_string();
    let program = program.display().to_string();
    let line = [&nobody[1..], &[&program, "run", "--config", &config]].concat();
    let mut daemon = router.host.spawn(&router.lab.dir().join("log"), nobody[0], line)?;
    daemon.wait_for_log("ready", std::time::Duration::from_secs(10))?;
    router.daemon = Some(daemon);
    router.is_all_right()?;
    rustix_chown(state, 0)?;
    router.finds_and_mends("state-dir-unusable", "wrong")
}

fn rustix_chown(path: &str, user: u32) -> Result<()> {
    std::os::unix::fs::chown(path, Some(user), Some(user)).map_err(Into::into)
}
