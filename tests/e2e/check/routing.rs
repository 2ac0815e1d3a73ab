//! What lies around the firewall: the kernel's helper, forwarding, the reverse-path filter, marks, connection tracking.

use anyhow::{Context, Result};

use super::router::Router;
use super::{FORWARD, RULESET};
use crate::docker::Docker;

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

/// It need not forward, if what it passes on comes to the forward chain.
#[test]
fn a_host_that_does_nothing_but_bridge() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.forwarding(false)?;
    bridge(&router)?;
    router.is_all_right()?;
    router.host.sysctl("net.bridge.bridge-nf-call-iptables", "0")?;
    router.finds_and_mends("forwarding-off", "wrong")?;
    // A bridge has a switch of its own.
    router.host.sysctl("net.bridge.bridge-nf-call-iptables", "0")?;
    router.host.ip("link set bridge type bridge nf_call_iptables 1")?;
    router.is_all_right()?;
    // A bridge may be the LAN of a router, which must forward.
    router.host.ip("link set bridge up")?;
    router.host.ip("address add 192.168.1.1/24 dev bridge")?;
    router.host.ip("link add wan type veth peer name wan-end")?;
    router.host.ip("link set wan-end up")?;
    router.host.ip("link set wan up")?;
    router.host.ip("address add 203.0.113.7/24 dev wan")?;
    router.finds_and_mends("forwarding-off", "wrong")
}

/// A chain that Docker calls before its own is none of hook forward, but leads there.
#[test]
fn a_host_that_does_not_forward_for_containers() -> Result<()> {
    let mut router = Router::running("table inet none", r#"accept-in = ["ip filter DOCKER-USER"]"#)?;
    Docker::V20.load(&router.host)?;
    router.is_all_right()?;
    router.host.forwarding(false)?;
    router.finds_and_mends("forwarding-off", "wrong")
}

fn bridge(router: &Router) -> Result<()> {
    router.host.filter_on_bridges()?;
    router.host.ip("link add bridge type bridge")?;
    ["near", "far"].into_iter().try_for_each(|port| {
        router.host.ip(&format!("link add {port} type veth peer name {port}-end"))?;
        router.host.ip(&format!("link set {port} master bridge"))
    })
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
fn control_connections_that_are_not_tracked() -> Result<()> {
    let table = |rules: &str| {
        format!(
            "table inet quick {{
                chain accepted {{ accept; }}
                chain dns {{ notrack; }}
                chain prerouting {{ type filter hook prerouting priority raw; udp dport 53 notrack; {rules}; }}
            }}"
        )
    };
    for (rules, mark) in [
        ("tcp dport 21 notrack", "wrong"),
        ("tcp sport { 20, 21 } notrack", "wrong"),
        ("tcp sport 1-1023 notrack", "wrong"),
        ("meta l4proto tcp jump dns", "wrong"),
        ("tcp dport { 21, 80 } tcp flags syn notrack", "warning"),
        ("ip saddr 192.0.2.0/24 notrack", "warning"),
    ] {
        let mut router = Router::running(RULESET, FORWARD)?;
        router.host.nft(&table(rules))?;
        router.finds_and_mends("control-not-tracked", mark).with_context(|| rules.to_owned())?;
    }
    for rules in [
        "jump accepted; notrack",
        "tcp dport 21 accept; tcp sport 21 accept; notrack",
        "meta l4proto udp jump dns",
        "tcp dport { 80, 443 } tcp flags syn notrack",
        "tcp sport { 80, 443 } notrack",
    ] {
        let router = Router::running(RULESET, FORWARD)?;
        router.host.nft(&table(rules))?;
        router.is_all_right().with_context(|| rules.to_owned())?;
    }
    Ok(())
}
