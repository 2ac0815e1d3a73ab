//! The kernel's own FTP helper: where it gets the same connections, both would rewrite them.

use std::path::Path;

use serde_json::Value;

use super::finding::{Finding, Id, Mend};
use super::packet::{Kind, Truth, is_key};
use super::proc;
use super::ruleset::{Rule, Ruleset};
use super::walk::Walk;
use crate::config::Config;

/// Whether anything gives control connections to it.
pub fn look(config: &Config, ruleset: &Ruleset) -> Vec<Finding> {
    let mut found = Vec::new();
    let kinds = config.control_ports.iter().map(|port| Kind::new_control(*port, config.mark));
    let walks: Vec<_> = kinds.map(|kind| Walk { ruleset, kind }).collect();
    let is_met = |rule: &&Rule| walks.iter().any(|walk| walk.meets(rule) != Truth::No);
    for rule in ruleset.rules().filter(is_met).filter(|rule| walks.iter().any(|walk| assigns(rule, walk))) {
        let what = format!(
            "{rule} gives control connections to the kernel's FTP helper as well: both would rewrite addresses and \
             open ports"
        );
        found.push(Finding::wrong(Id::KernelHelperAssigned, what, Mend::deletion(rule)));
    }
    let is_there = Path::new("/sys/module/nf_conntrack_ftp").exists();
    for rule in ruleset.rules().filter(|rule| is_there && is_ct_target(rule)).filter(is_met) {
        let what = format!(
            "{rule} uses xtables' CT target, which nftables can't read: if it says `--helper ftp`, the kernel's helper \
             rewrites the same connections"
        );
        found.push(Finding::warning(Id::KernelHelperPossible, what, Mend::deletion(rule)));
    }
    if found.is_empty() {
        found.push(Finding::right(
            Id::KernelHelper,
            "no rule gives control connections to the kernel's FTP helper",
        ));
    }
    found
}

/// Kernels before 6.0 could be told to give the helper every connection to port 21, whatever the rules say.
pub fn automatic(config: &Config) -> Option<Finding> {
    const SWITCH: &str = "net.netfilter.nf_conntrack_helper";
    let is_on = proc::sysctl(SWITCH) == Some(1) && Path::new("/sys/module/nf_conntrack_ftp").exists();
    if !is_on || !config.control_ports.contains(&21) {
        return None;
    }
    let what = "the kernel gives each connection to port 21 to its own FTP helper: both would rewrite addresses and \
                open ports";
    Some(Finding::wrong(Id::KernelHelperAutomatic, what, Mend::command(format!("sysctl -w {SWITCH}=0"))))
}

/// Whether a rule assigns a helper that is FTP's to these packets, by its name or by a map.
fn assigns(rule: &Rule, walk: &Walk<'_>) -> bool {
    let is_its_table =
        |place: &(String, String)| (&place.0, &place.1) == (&rule.chain.family, &rule.chain.table);
    let is_ftp = |name: &Value| {
        let mut helpers = walk.ruleset.helpers.iter();
        helpers.any(|one| one.kind == "ftp" && is_its_table(&one.place) && name.as_str() == Some(&one.name))
    };
    let assigned = rule.expr.iter().filter_map(|expression| expression.get("ct helper"));
    assigned.into_iter().any(|value| {
        let Some(map) = value.get("map") else { return is_ftp(value) };
        let (key, data) = (map.get("key").unwrap_or(&Value::Null), map.get("data"));
        match data.and_then(|data| data.get("set")).and_then(Value::as_array) {
            Some(pairs) => pairs.iter().any(|pair| {
                let is_it = |port| is_key(key, port, &walk.kind, rule, &walk.ruleset.sets) != Truth::No;
                pair.get(0).is_some_and(is_it) && pair.get(1).is_some_and(is_ftp)
            }),
            // What a named map holds is not known.
            None => true,
        }
    })
}

fn is_ct_target(rule: &Rule) -> bool {
    let is_it = |expression: &Value| {
        let xt = expression.get("xt")?;
        Some((xt.get("type")?.as_str()?, xt.get("name")?.as_str()?) == ("target", "CT"))
    };
    rule.expr.iter().any(|expression| is_it(expression).unwrap_or(false))
}
