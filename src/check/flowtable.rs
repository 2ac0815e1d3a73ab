//! Flowtables: a connection that is in one passes everything else by, ftpalg as well.

use std::ptr;

use super::finding::{Finding, Id, Mend};
use super::packet::Kind;
use super::ruleset::{Rule, Ruleset};
use super::walk::Walk;
use crate::config::Config;
use crate::netfilter::{Listing, ListingError};

/// Whether a rule puts control connections into one.
pub fn look(config: &Config, ruleset: &Ruleset, listing: &mut Listing) -> Result<Vec<Finding>, ListingError> {
    let mut found = Vec::new();
    for rule in taking(config, ruleset) {
        let what = format!(
            "{rule} puts control connections into a flowtable: once they are established their packets pass ftpalg by"
        );
        let mend = match listing.rule(&rule.chain, rule.handle)? {
            Some(text) => Mend::Command(replacement(config, rule, &text)),
            None => Mend::advice("the rule is gone already; check again"),
        };
        found.push(Finding::wrong(Id::FlowtableTakesControl, what, mend));
    }
    if found.is_empty() {
        found.push(Finding::right(Id::Flowtable, "no rule puts control connections into a flowtable"));
    }
    Ok(found)
}

/// The rules that put packets of control connections, in either direction, into a flowtable.
fn taking<'a>(config: &Config, ruleset: &'a Ruleset) -> Vec<&'a Rule> {
    let adds = |rule: &Rule| rule.has("flow");
    let kinds = config.control_ports.iter().flat_map(|port| Kind::control_both_ways(*port, config.mark));
    let mut taking: Vec<&Rule> = Vec::new();
    for kind in kinds {
        for (chain, _) in ruleset.base_chains() {
            for (rule, _) in (Walk { ruleset, kind }).coming_to(chain, &adds) {
                if !taking.iter().any(|known| ptr::eq(*known, rule)) {
                    taking.push(rule);
                }
            }
        }
    }
    taking
}

/// The same rule for all other connections. Two conditions side by side that name one port each nft 1.0.6 makes into a
/// single one with another meaning; it leaves sets alone, and 0 is no port.
fn replacement(config: &Config, rule: &Rule, text: &str) -> String {
    let ports: Vec<_> = [0].iter().chain(&config.control_ports).map(u16::to_string).collect();
    let ports = ports.join(", ");
    format!(
        "nft 'replace rule {} handle {} th dport != {{ {ports} }} th sport != {{ {ports} }} {text}'",
        rule.chain, rule.handle
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DPORT: &str =
        r#"{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":21}}"#;
    const SPORT: &str = r#"{"match":{"op":"!=","left":{"payload":{"protocol":"th","field":"sport"}},"right":{"set":[20,21]}}}"#;
    const DIALLED: &str =
        r#"{"match":{"op":"!=","left":{"ct":{"key":"proto-dst","dir":"original"}},"right":21}}"#;
    const BOTH: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":{"set":["tcp","udp"]}}}"#;
    const UDP: &str = r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"udp"}}"#;
    const NEW: &str = r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}}"#;

    /// Rules as libnftables lists them.
    fn takes(conditions: &str) -> bool {
        let text = format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"filter","name":"forward","handle":1,"type":"filter","hook":"forward","prio":0,"policy":"accept"}}}},
            {{"rule":{{"family":"inet","table":"filter","chain":"forward","handle":9,
            "expr":[{conditions},{{"flow":{{"op":"add","flowtable":"@f"}}}}]}}}}]}}"#
        );
        !taking(&Config::default(), &Ruleset::parse(&[text]).unwrap()).is_empty()
    }

    #[test]
    fn either_direction_of_a_control_connection_counts() {
        for (conditions, is_taken) in [
            (BOTH.to_owned(), true),
            (DPORT.to_owned(), true),
            (SPORT.to_owned(), true),
            (format!("{DPORT},{SPORT}"), false),
            (DIALLED.to_owned(), false),
            (UDP.to_owned(), false),
            (NEW.to_owned(), false),
        ] {
            assert_eq!(takes(&conditions), is_taken, "{conditions}");
        }
    }

    #[test]
    fn the_mend_leaves_the_rest_of_the_rule_as_it_is() {
        let chain = crate::config::ChainName {
            family: "inet".to_owned(),
            table: "filter".to_owned(),
            chain: "forward".to_owned(),
        };
        let rule = Rule { chain, handle: 9, expr: Vec::new() };
        let config = Config { control_ports: vec![21, 2121], ..Config::default() };
        assert_eq!(
            replacement(&config, &rule, "ip protocol { tcp, udp } flow add @f"),
            "nft 'replace rule inet filter forward handle 9 th dport != { 0, 21, 2121 } th sport != { 0, 21, 2121 } \
             ip protocol { tcp, udp } flow add @f'"
        );
    }
}
