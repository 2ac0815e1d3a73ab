//! Whether new control connections get through the administrator's chains.

use super::finding::{Finding, Id, Mend};
use super::firewall::{Closed, Firewall};
use super::routing::is_forwarded;
use super::ruleset::{Base, Chain, Rule};
use super::walk::Fate;

/// What is found out about them, by the ports of the configuration.
pub fn look<'a>(firewall: &Firewall<'a>, closed: &[Closed<'a>]) -> Vec<Finding> {
    let mut found = accepted(firewall, closed);
    found.extend(dropped(firewall, closed));
    found
}

/// Whether new control connections get through, in the hooks where that seems to be meant: those of `accept-in`; if
/// there are none, in any.
fn accepted<'a>(firewall: &Firewall<'a>, closed: &[Closed<'a>]) -> Vec<Finding> {
    let is_covered = |(chain, _): &(&'a Chain, &'a Base)| firewall.covering(chain).is_some();
    let hooks: Vec<_> =
        firewall.ruleset.base_chains().filter(is_covered).map(|(_, base)| base.hook.as_str()).collect();
    let is_meant = |one: &&Closed<'a>| {
        let hook = one.base.hook.as_str();
        ["forward", "input"].contains(&hook) && (hooks.is_empty() || hooks.contains(&hook))
    };
    let meant: Vec<_> = closed.iter().filter(is_meant).collect();
    let nobody = |hooks: &str| {
        let what = format!("no chain of {hooks} keeps control connections away");
        vec![Finding::right(Id::Control, what)]
    };
    if meant.is_empty() {
        return nobody("the forward and input hooks");
    }
    // Nothing says which is meant.
    let is_open = hooks.is_empty() && meant.iter().all(|one| one.base.hook != "forward");
    if is_open && (is_forwarded("ipv4") || is_forwarded("ipv6")) {
        return nobody("the forward hook");
    }
    let mut found = Vec::new();
    for (at, port) in firewall.config.control_ports.iter().enumerate() {
        let control = |one: &Closed<'a>| one.control.get(at).copied();
        match blocking(&meant, &|one| control(one).is_some_and(|control| control.may_pass)) {
            blocking if blocking.is_empty() => {
                let rules = meant.iter().filter_map(|one| control(one)?.by).map(ToString::to_string);
                let rules: Vec<_> = rules.collect();
                let by = if rules.is_empty() { String::new() } else { format!(" by {}", rules.join(", ")) };
                let what = format!("new connections to port {port} are accepted{by}");
                found.push(Finding::right(Id::Control, what));
            }
            blocking => found.extend(blocking.iter().map(|one| control_not_accepted(one, *port))),
        }
    }
    found
}

/// Rules that drop control connections in chains that accept by default.
fn dropped<'a>(firewall: &Firewall<'a>, closed: &[Closed<'a>]) -> Vec<Finding> {
    let ports = &firewall.config.control_ports;
    let dropping = |chain| {
        ports.iter().filter_map(move |port| match firewall.walk(firewall.control_kind(*port)).fate(chain) {
            Fate::DroppedBy(rule) => Some(control_dropped(rule, *port)),
            _ => None,
        })
    };
    firewall.open(closed).flat_map(|(chain, _)| dropping(chain)).collect()
}

/// The chains that keep control connections away, if nothing lets them through.
fn blocking<'a, 'b>(
    meant: &[&'b Closed<'a>],
    lets_through: &dyn Fn(&Closed<'a>) -> bool,
) -> Vec<&'b Closed<'a>> {
    let mut blocking: Vec<&Closed<'a>> = Vec::new();
    let mut is_open = false;
    for hook in ["forward", "input"] {
        for families in [["inet", "ip"], ["inet", "ip6"]] {
            let sees = |one: &&&Closed<'_>| {
                one.base.hook == hook && families.contains(&one.chain.name.family.as_str())
            };
            let chains = meant.iter().filter(sees).copied();
            let (open, shut): (Vec<_>, Vec<_>) = chains.partition(|one| lets_through(one));
            is_open |= !open.is_empty() && shut.is_empty();
            // One lets it through and the next one does not: that is hardly meant, but of IPv6, which may not be in use.
            if !open.is_empty() && !shut.is_empty() && (families[1] == "ip" || is_forwarded("ipv6")) {
                blocking.extend(shut);
            }
        }
    }
    if blocking.is_empty() && !is_open {
        blocking.extend(meant);
    }
    blocking.dedup_by_key(|one| &one.chain.name);
    blocking
}

fn control_dropped(rule: &Rule, port: u16) -> Finding {
    let what = format!("{rule} drops new connections to port {port}: FTP does not get through");
    let mend = Mend::advice("take that port out of the rule, or out of control-ports");
    Finding::warning(Id::ControlNotAccepted, what, mend)
}

fn control_not_accepted(one: &Closed<'_>, port: u16) -> Finding {
    let what = format!(
        "{}, and no rule was seen that accepts new connections to port {port}: FTP does not get through",
        one.how()
    );
    let rule = format!("nft insert rule {} tcp dport {port} ct state new accept", one.chain.name);
    Finding::warning(Id::ControlNotAccepted, what, Mend::command(rule))
}
