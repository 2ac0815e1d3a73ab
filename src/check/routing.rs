//! Forwarding, and the reverse-path filter.

use std::collections::BTreeSet;

use super::accept_in::covering;
use super::finding::{Finding, Id, Mend};
use super::proc::{self, Bridge};
use super::ruleset::Ruleset;
use crate::config::Config;
use crate::netfilter::marked_routes;

/// Whether this host forwards, where data connections are to be forwarded.
pub fn forwarding(config: &Config, ruleset: &Ruleset) -> Vec<Finding> {
    let forward = ruleset.base_chains().filter(|(_, base)| base.hook == "forward").map(|(chain, _)| chain);
    let covered = forward.filter(|chain| covering(config, ruleset, chain).is_some());
    let families: Vec<_> = covered.map(|chain| chain.name.family.as_str()).collect();
    if families.is_empty() {
        return Vec::new();
    }
    let (v4, v6) = (is_forwarded("ipv4"), is_forwarded("ipv6"));
    if !v4 && !v6 && networks4().len() <= 1 && networks6().len() <= 1 {
        let bridges = proc::bridges();
        if !bridges.is_empty() {
            return vec![bridging(&bridges, &families)];
        }
    }
    let mend4 = || Mend::command("sysctl -w net.ipv4.ip_forward=1");
    let mend6 = || Mend::command("sysctl -w net.ipv6.conf.all.forwarding=1");
    let off = |protocol: &str| {
        format!(
            "accept-in names a forward chain, and this host does not forward {protocol}: no FTP passes it"
        )
    };
    match (v4, v6) {
        (false, false) => vec![Finding::wrong(Id::ForwardingOff, off("anything"), mend4())],
        (false, true) if networks4().len() > 1 => {
            vec![Finding::warning(Id::ForwardingOff, off("IPv4"), mend4())]
        }
        (true, false) if networks6().len() > 1 => {
            vec![Finding::warning(Id::ForwardingOff, off("IPv6"), mend6())]
        }
        _ => {
            let what = match (v4, v6) {
                (true, true) => "IPv4 and IPv6",
                (true, false) => "IPv4",
                _ => "IPv6",
            };
            vec![Finding::right(Id::Forwarding, format!("this host forwards {what}"))]
        }
    }
}

/// Whether this host forwards `ipv4` or `ipv6`, by some interface at least.
pub fn is_forwarded(version: &str) -> bool {
    proc::sysctl(&format!("net.{version}.conf.all.forwarding")) == Some(1)
        || proc::by_interface(version, "forwarding").values().any(|on| *on == 1)
}

/// Whether what bridges pass on comes to the forward chains of these families (br_netfilter), on a host that does nothing but
/// bridge.
fn bridging(bridges: &[Bridge], families: &[&str]) -> Finding {
    let comes_to = |bridge: &Bridge, family: &str| match family {
        "ip" => bridge.calls_iptables,
        "ip6" => bridge.calls_ip6tables,
        _ => bridge.calls_iptables && bridge.calls_ip6tables,
    };
    let is_filtered = |bridge: &&Bridge| families.iter().all(|family| comes_to(bridge, family));
    let filtered: Vec<_> = bridges.iter().filter(is_filtered).map(|bridge| bridge.name.as_str()).collect();
    if filtered.is_empty() {
        let names: Vec<_> = bridges.iter().map(|bridge| bridge.name.as_str()).collect();
        let what = format!(
            "accept-in names a forward chain, and nothing comes to it: this host does not forward, and what bridge {} passes \
             on goes past the chains of inet and ip tables",
            names.join(", ")
        );
        let switch = "sysctl -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1";
        let mend = match proc::sysctl("net.bridge.bridge-nf-call-iptables") {
            Some(_) => switch.to_owned(),
            None => format!("modprobe br_netfilter && {switch}"),
        };
        return Finding::wrong(Id::ForwardingOff, what, Mend::command(mend));
    }
    let what = format!("what bridge {} passes on comes to the forward chain", filtered.join(", "));
    Finding::right(Id::Forwarding, what)
}

/// The interfaces with routes in IPv4's main table: the first column of /proc/net/route.
fn networks4() -> BTreeSet<String> {
    let table = proc::net("route").unwrap_or_default();
    let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

/// The interfaces with global IPv6 addresses: of /proc/net/if_inet6, the last column where the fourth, the scope, is 0.
fn networks6() -> BTreeSet<String> {
    let table = proc::net("if_inet6").unwrap_or_default();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let global = rows.filter(|row| row.get(3) == Some(&"00"));
    global.filter_map(|row| row.last().filter(|name| **name != "lo").map(|name| (*name).to_owned())).collect()
}

/// Whether a strict reverse-path filter (RFC 3704, 2.2) refuses what policy routing by marks brings in. It asks the way
/// back without the mark, unless `src_valid_mark` is set, and that way leads out of another interface.
pub fn reverse_path() -> Finding {
    let rules = match marked_routes() {
        Ok(rules) => rules,
        Err(error) => {
            let what = format!(
                "whether routing looks at marks, which a strict reverse-path filter does not ({error})"
            );
            return Finding::unseen(Id::NotLookedAt, what, Mend::command("ip rule"));
        }
    };
    if !rules.iter().any(|rule| rule.is_v4) {
        return Finding::right(Id::ReversePath, "no routing rule looks at the packet mark");
    }
    let all = |name: &str| proc::sysctl(&format!("net.ipv4.conf.all.{name}")).unwrap_or(0);
    let marks_count = proc::by_interface("ipv4", "src_valid_mark");
    // The kernel takes the larger of both filters, and either switch (IN_DEV_MAXCONF, IN_DEV_ORCONF).
    let counts = |interface: &String| all("src_valid_mark") == 1 || marks_count.get(interface) == Some(&1);
    let filters = proc::by_interface("ipv4", "rp_filter");
    let strict = filters.iter().filter(|(name, mode)| all("rp_filter").max(**mode) == 1 && !counts(name));
    let strict: Vec<_> = strict.map(|(name, _)| name.as_str()).collect();
    if strict.is_empty() {
        let what =
            "routing rules look at the packet mark, and no strict reverse-path filter stands in their way";
        return Finding::right(Id::ReversePath, what);
    }
    let what = format!(
        "routing rules look at the packet mark, and the reverse-path filter is strict without looking at it on {}: what \
         comes in by a way that a mark decides is dropped",
        strict.join(", ")
    );
    let mend = Mend::command("sysctl -w net.ipv4.conf.all.src_valid_mark=1");
    Finding::warning(Id::ReversePathStrict, what, mend)
}
