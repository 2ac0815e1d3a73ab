//! Rules that lower the MSS in the chains of `accept-in`: the first packet of a data connection passes them by, because
//! ftpalg's rule stands above them. What the way out takes (`rt mtu`) ftpalg's table sees to; a number it can't know.

use serde_json::Value;

use super::accept_in::covering;
use super::finding::{Finding, Id, Mend};
use super::ruleset::{Chain, Rule, Ruleset};
use crate::config::{ChainName, Config};
use crate::netfilter::{Listing, ListingError};

/// The chain that the mend makes.
const CHAIN: &str = "clamp_mss";

/// Rules for forwarded packets that are passed by, where no other chain has one that is not.
pub fn look(config: &Config, ruleset: &Ruleset, listing: &mut Listing) -> Result<Vec<Finding>, ListingError> {
    let mut found = Vec::new();
    for rule in passed_by(config, ruleset) {
        let ChainName { family, table, .. } = &rule.chain;
        let what = format!(
            "{rule} lowers the MSS to a number, and ftpalg's rule above it takes data connections past that: on a way whose \
             routers do not say what they can't forward, transfers stand still"
        );
        let is_base = ruleset.chain(&rule.chain).is_some_and(|chain| chain.base.is_some());
        let mend = match listing.rule(&rule.chain, rule.handle)? {
            Some(_) if !is_base => Mend::advice(
                "have a chain of its own lower it, of hook forward and priority mangle, under the conditions that lead there",
            ),
            Some(text) => Mend::command(format!(
                "nft 'add chain {family} {table} {CHAIN} {{ type filter hook forward priority mangle; }}' && \
                 nft 'add rule {family} {table} {CHAIN} {text}'"
            )),
            None => Mend::advice("the rule is gone already; check again"),
        };
        found.push(Finding::warning(Id::MssClampPassedBy, what, mend));
    }
    Ok(found)
}

fn passed_by<'a>(config: &Config, ruleset: &'a Ruleset) -> Vec<&'a Rule> {
    let (listed, others): (Vec<_>, Vec<_>) =
        ruleset.base_chains().partition(|(chain, _)| covering(config, ruleset, chain).is_some());
    let is_of = |family: &str, other: &str| family == other || other == "inet";
    let clamps = |chain: &'a Chain| {
        let rules = reached_from(ruleset, chain).into_iter().flat_map(|chain| &chain.rules);
        rules.filter(|rule| rule.expr.iter().any(lowers_to_a_number))
    };
    let sees_them = |hook: &str| ["prerouting", "forward", "postrouting"].contains(&hook);
    let others: Vec<_> = others
        .into_iter()
        .filter(|(chain, base)| sees_them(&base.hook) && clamps(chain).next().is_some())
        .collect();
    let is_clamped_elsewhere =
        |family: &str| others.iter().any(|(chain, _)| is_of(family, &chain.name.family));
    let forwarding = listed
        .into_iter()
        .filter(|(chain, base)| base.hook == "forward" && !is_clamped_elsewhere(&chain.name.family));
    forwarding.flat_map(|(chain, _)| clamps(chain)).collect()
}

/// A chain, and those of its table into which packets come from there.
fn reached_from<'a>(ruleset: &'a Ruleset, from: &'a Chain) -> Vec<&'a Chain> {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(chain) = reached.get(at).copied() {
        for target in chain.rules.iter().flat_map(|rule| &rule.expr).flat_map(targets) {
            let name = ChainName { chain: target.to_owned(), ..from.name.clone() };
            let new = ruleset.chain(&name).filter(|new| reached.iter().all(|one| one.name != new.name));
            reached.extend(new);
        }
        at += 1;
    }
    reached
}

/// The chains that an expression can lead to, also by way of a map.
fn targets(expression: &Value) -> Vec<&str> {
    let inner: Vec<&Value> = match expression {
        Value::Object(members) => {
            let target =
                ["jump", "goto"].iter().find_map(|verdict| members.get(*verdict)?.get("target")?.as_str());
            if let Some(target) = target {
                return vec![target];
            }
            members.values().collect()
        }
        Value::Array(elements) => elements.iter().collect(),
        _ => return Vec::new(),
    };
    inner.into_iter().flat_map(targets).collect()
}

fn lowers_to_a_number(expression: &Value) -> bool {
    let Some(mangle) = expression.get("mangle") else { return false };
    let option = mangle.get("key").and_then(|key| key.get("tcp option"));
    let name = option.and_then(|option| option.get("name")).and_then(Value::as_str);
    name == Some("maxseg") && mangle.get("value").is_some_and(Value::is_number)
}
