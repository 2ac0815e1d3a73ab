//! Who else uses the bit of the packet mark by which ftpalg's data connections pass.

use serde_json::Value;

use super::accept_in::covering;
use super::finding::{Finding, Id, Mend};
use super::firewall::MARKED_AT;
use super::packet::{as_u32, meta_key};
use super::ruleset::{Base, Rule, Ruleset};
use crate::config::Config;
use crate::netfilter::{MarkedRoute, marked_routes};

/// Bits in the order in which another one is looked for: those in the middle are used least.
const CANDIDATES: [u32; 32] = [
    21, 22, 23, 24, 25, 26, 27, 20, 28, 29, 30, 31, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4,
    3, 2, 1, 0,
];

/// What a rule does with the packet mark.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    /// The bits that it sets, or looks at.
    bits: u32,
    /// Whether it only compares.
    compares: bool,
}

/// Whether somebody else uses it, as far as it can be told.
pub fn look(config: &Config, file: &str, ruleset: &Ruleset) -> Vec<Finding> {
    let routes = marked_routes().unwrap_or_default();
    let rules = ruleset.rules().flat_map(|rule| uses(rule).into_iter().map(move |used| (rule, used)));
    // The rule that accepts exactly these bits is ftpalg's, or stands for it.
    let rules: Vec<_> = rules.filter(|(_, used)| !(used.compares && used.bits == config.mark)).collect();
    let seen = rules.iter().map(|(_, used)| used.bits).chain(routes.iter().map(MarkedRoute::bits));
    let taken = seen.fold(0, |all, bits| all | bits);
    let users: Vec<_> = rules
        .iter()
        .filter(|(_, used)| used.bits & config.mark != 0)
        .map(|(rule, _)| rule.to_string())
        .chain(
            routes
                .iter()
                .filter(|rule| rule.bits() & config.mark != 0)
                .map(|rule| format!("the routing rule for fwmark {:#x}/{:#x}", rule.mark, rule.mask)),
        )
        .collect();
    let mut findings: Vec<_> = taken_off(config, ruleset).into_iter().collect();
    if !users.is_empty() {
        findings.push(in_use(config, file, taken, &users));
    }
    if findings.is_empty() {
        let opaque = ruleset.rules().any(sets_marks_unseen);
        let but = if opaque { " (what iptables' MARK and CONNMARK do can't be read)" } else { "" };
        let what = format!("nothing else was seen that uses the mark {:#x}{but}", config.mark);
        findings.push(Finding::right(Id::MarkBit, what));
    }
    findings
}

/// The mark's bits have other users; these bits are taken by them and others.
fn in_use(config: &Config, file: &str, taken: u32, users: &[String]) -> Finding {
    let free = CANDIDATES.into_iter().map(|bit| 1_u32 << bit).find(|bit| bit & (taken | config.mark) == 0);
    let mend = match free {
        Some(bit) => Mend::Setting { file: file.to_owned(), line: format!("mark = \"{bit:#010x}\"") },
        None => Mend::advice("leave one bit of the packet mark to ftpalg"),
    };
    let what = format!(
        "bits of the mark {:#x} are used by {} as well: ftpalg takes them off its packets, or data connections are taken for \
         its packets",
        config.mark,
        users.join(", ")
    );
    Finding::warning(Id::MarkInUse, what, mend)
}

/// Rules that set the whole mark between the chains that put the bit on and ftpalg's rule, which stands at the top of the
/// chains of `accept-in`.
fn taken_off(config: &Config, ruleset: &Ruleset) -> Option<Finding> {
    let sets_all = |rule: &&Rule| {
        rule.expr.iter().filter_map(|expression| expression.get("mangle")).any(|mangle| {
            mangle.get("key").is_some_and(is_mark)
                && !mangle.get("value").is_some_and(|value| keeps(value, config.mark))
        })
    };
    let is_between =
        |base: &Base| matches!(&*base.hook, "forward" | "input" | "output") && base.priority > MARKED_AT;
    let chains = ruleset
        .base_chains()
        .filter(|(chain, base)| is_between(base) && covering(config, ruleset, chain).is_none());
    let rules: Vec<_> =
        chains.flat_map(|(chain, _)| chain.rules.iter().filter(sets_all)).map(Rule::to_string).collect();
    if rules.is_empty() {
        return None;
    }
    let what = format!(
        "the packet's mark is set by {}, all of it: where that comes before ftpalg's rule, data connections lose the bit by \
         which they pass",
        rules.join(", ")
    );
    let mend =
        format!("let these rules keep the bit, as in: meta mark set meta mark & {:#010x} | …", config.mark);
    Some(Finding::warning(Id::MarkInUse, what, Mend::advice(mend)))
}

/// Whether these bits of the old mark are in a new one.
fn keeps(value: &Value, bits: u32) -> bool {
    let operands = |operator| value.get(operator).and_then(Value::as_array).into_iter().flatten();
    is_mark(value)
        || ["|", "^"].into_iter().flat_map(operands).any(|one| keeps(one, bits))
        || (operands("&").any(|one| keeps(one, bits))
            && operands("&").filter_map(as_u32).all(|mask| mask & bits == bits))
}

/// The bits of the packet mark that a rule sets or looks at.
fn uses(rule: &Rule) -> Vec<Use> {
    let of = |expression: &Value| -> Option<Use> {
        if let Some(mangle) = expression.get("mangle") {
            is_mark(mangle.get("key")?).then_some(())?;
            return Some(Use { bits: set_bits(mangle.get("value")?)?, compares: false });
        }
        let condition = expression.get("match")?;
        let left = condition.get("left")?;
        if let Some(operands) = left.get("&") {
            is_mark(operands.get(0)?).then_some(())?;
            return Some(Use { bits: as_u32(operands.get(1)?)?, compares: true });
        }
        is_mark(left).then_some(())?;
        Some(Use { bits: as_u32(condition.get("right")?)?, compares: true })
    };
    rule.expr.iter().filter_map(of).collect()
}

fn is_mark(expression: &Value) -> bool {
    meta_key(expression) == Some("mark")
}

/// The bits that a value brings: a number, or one combined with another value by `|` or `^`.
fn set_bits(value: &Value) -> Option<u32> {
    let operands = value.get("|").or_else(|| value.get("^")).and_then(Value::as_array);
    match operands {
        Some(operands) => Some(operands.iter().filter_map(set_bits).fold(0, |all, bits| all | bits)),
        None => as_u32(value),
    }
}

fn sets_marks_unseen(rule: &Rule) -> bool {
    let name = |expression: &Value| Some(expression.get("xt")?.get("name")?.as_str()?.to_owned());
    rule.expr.iter().filter_map(name).any(|name| name == "MARK" || name == "CONNMARK")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expression: &str) -> Vec<(u32, bool)> {
        let text = format!(
            r#"{{"nftables":[{{"chain":{{"family":"ip","table":"t","name":"c"}}}},
            {{"rule":{{"family":"ip","table":"t","chain":"c","handle":1,"expr":[{expression}]}}}}]}}"#
        );
        let ruleset = Ruleset::parse(&[text]).unwrap();
        uses(&ruleset.chains[0].rules[0]).iter().map(|used| (used.bits, used.compares)).collect()
    }

    #[test]
    fn bits_that_are_set_and_bits_that_are_looked_at() {
        const MARK: &str = r#"{"meta":{"key":"mark"}}"#;
        for (expression, expected) in [
            (format!(r#"{{"mangle":{{"key":{MARK},"value":6}}}}"#), vec![(6, false)]),
            (format!(r#"{{"mangle":{{"key":{MARK},"value":{{"|":[{MARK},4]}}}}}}"#), vec![(4, false)]),
            (format!(r#"{{"mangle":{{"key":{MARK},"value":{{"ct":{{"key":"mark"}}}}}}}}"#), vec![]),
            (r#"{"mangle":{"key":{"ct":{"key":"mark"}},"value":6}}"#.to_owned(), vec![]),
            (
                format!(r#"{{"match":{{"op":"==","left":{{"&":[{MARK},255]}},"right":1}}}}"#),
                vec![(255, true)],
            ),
            (format!(r#"{{"match":{{"op":"==","left":{MARK},"right":1}}}}"#), vec![(1, true)]),
        ] {
            assert_eq!(of(&expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_mark_that_is_set_whole_in_front_of_the_accept_rule() {
        const MARK: &str = r#"{"meta":{"key":"mark"}}"#;
        let found = |place: (&str, &str, &str), hook: &str, priority: i64, value: &str| {
            let (family, table, chain) = place;
            let text = format!(
                r#"{{"nftables":[{{"chain":{{"family":"{family}","table":"{table}","name":"{chain}","type":"filter","hook":"{hook}",
                "prio":{priority},"policy":"accept"}}}},{{"rule":{{"family":"{family}","table":"{table}","chain":"{chain}",
                "handle":7,"expr":[{{"mangle":{{"key":{MARK},"value":{value}}}}}]}}}}]}}"#
            );
            taken_off(&Config::default(), &Ruleset::parse(&[text]).unwrap()).map(|finding| finding.what)
        };
        let other = ("inet", "qos", "sort");
        let what = found(other, "forward", 0, "16").unwrap();
        assert!(what.contains("rule with handle 7 of inet qos sort"), "{what}");
        assert!(found(other, "forward", 0, r#"{"ct":{"key":"mark"}}"#).is_some());
        let keeps = format!(r#"{{"|":[{{"&":[{MARK},4294967040]}},16]}}"#);
        for (place, hook, priority, value) in [
            (other, "forward", MARKED_AT, "16"),
            (other, "prerouting", 0, "16"),
            (other, "forward", 0, keeps.as_str()),
            (("inet", "filter", "forward"), "forward", 0, "16"),
        ] {
            assert_eq!(found(place, hook, priority, value), None, "{hook} {priority} {value}");
        }
    }
}
