use super::*;
use crate::check::packet::SOME_PORT;

const ACCEPT: &str = r#"{"accept":null}"#;
const DROP: &str = r#"{"drop":null}"#;
const ESTABLISHED: &str =
    r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}}"#;
const NETWORK: &str =
    r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"192.0.2.1"}}"#;

fn meta(key: &str, op: &str, right: &str) -> String {
    format!(r#"{{"match":{{"op":"{op}","left":{{"meta":{{"key":"{key}"}}}},"right":{right}}}}}"#)
}

fn comes_in(name: &str) -> String {
    meta("iifname", "==", &format!("{name:?}"))
}

fn goes_out(name: &str) -> String {
    meta("oifname", "==", &format!("{name:?}"))
}

fn port(right: &str) -> String {
    format!(
        r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{right}}}}}"#
    )
}

fn rule(conditions: &[&str], verdict: &str) -> String {
    [conditions, &[verdict]].concat().join(",")
}

/// The first way through `forward`, of policy accept, on which data connections are dropped, and the rule's handle. The
/// first rule accepts what is established.
#[track_caller]
fn shut(rules: &[(&str, String)]) -> Option<(String, u64)> {
    shut_in(&[&[("forward", rule(&[ESTABLISHED], ACCEPT))], rules].concat())
}

#[track_caller]
fn shut_in(rules: &[(&str, String)]) -> Option<(String, u64)> {
    shut_at("forward", rules)
}

#[track_caller]
fn shut_at(hook: &str, rules: &[(&str, String)]) -> Option<(String, u64)> {
    let base = format!(r#""type":"filter","hook":"{hook}","prio":0,"policy":"accept""#);
    let chain = |name: &str, more: &str| {
        format!(r#"{{"chain":{{"family":"inet","table":"t","name":"{name}"{more}}}}}"#)
    };
    let mut objects = vec![chain("forward", &format!(",{base}")), chain("x", ""), chain("y", "")];
    for (handle, (chain, expr)) in rules.iter().enumerate() {
        objects.push(format!(
            r#"{{"rule":{{"family":"inet","table":"t","chain":"{chain}","handle":{handle},"expr":[{expr}]}}}}"#
        ));
    }
    let ruleset = Ruleset::parse(&[format!(r#"{{"nftables":[{}]}}"#, objects.join(","))]).unwrap();
    let control = Kind::new_control(21, 0x20_0000);
    let data = Kind { destination: Some(SOME_PORT), dialled: None, mark: (0x20_0000, 0x20_0000), ..control };
    let (way, rule) = Ways::of(&ruleset, &ruleset.chains[0]).shut(&[control], data)?;
    Some((way.to_string(), rule.handle))
}

#[test]
fn ways_on_which_new_connections_are_dropped() {
    let (wan, lan) = (comes_in("wan"), comes_in("lan"));
    let not_lan = meta("iifname", "!=", r#""lan""#);
    let (ssh, high) = (port("22"), port(r#"{"range":[1024,65535]}"#));
    let by_interface = r#"{"vmap":{"key":{"meta":{"key":"iifname"}},"data":{"set":[["lan",{"accept":null}],["wan",{"jump":{"target":"x"}}]]}}}"#;
    let from_wan = "from wan to another interface";
    for (way, rules) in [
        (from_wan, vec![("forward", rule(&[&wan], DROP))]),
        (from_wan, vec![("forward", rule(&[&meta("iif", "==", r#""wan""#)], DROP))]),
        (from_wan, vec![("forward", rule(&[&meta("iifname", "==", r#"{"set":["wan"]}"#)], DROP))]),
        (from_wan, vec![("forward", rule(&[&wan, &high], DROP))]),
        (from_wan, vec![("forward", rule(&[&lan], ACCEPT)), ("forward", rule(&[&wan], DROP))]),
        (from_wan, vec![("forward", rule(&[&wan, &ssh], ACCEPT)), ("forward", rule(&[&wan], DROP))]),
        (
            from_wan,
            vec![("x", rule(&[&ssh], ACCEPT)), ("forward", by_interface.to_owned()), ("x", DROP.to_owned())],
        ),
        ("from another interface to lan", vec![("forward", rule(&[&not_lan], DROP))]),
        ("from another interface to dmz", vec![("forward", rule(&[&goes_out("dmz")], DROP))]),
        (
            from_wan,
            vec![
                ("forward", rule(&[&lan, &goes_out("wan")], ACCEPT)),
                ("forward", rule(&[&wan, &goes_out("lan"), NETWORK], ACCEPT)),
                ("forward", rule(&[&wan], DROP)),
            ],
        ),
    ] {
        assert_eq!(shut(&rules), Some((way.to_owned(), rules.len() as u64)), "{rules:?}");
    }
}

#[test]
fn ways_on_which_some_new_connections_may_pass_or_none_is_meant_to() {
    let (wan, out) = (comes_in("wan"), goes_out("lan"));
    let marked = r#"{"match":{"op":"!=","left":{"&":[{"meta":{"key":"mark"}},2097152]},"right":0}}"#;
    for rules in [
        vec![("forward", rule(&[&wan, &port("22")], DROP))],
        vec![("forward", rule(&[&wan, NETWORK], DROP))],
        vec![("forward", rule(&[NETWORK], DROP))],
        vec![("forward", rule(&[&comes_in("lo")], DROP))],
        vec![("forward", ACCEPT.to_owned()), ("forward", rule(&[&wan], DROP))],
        vec![("forward", rule(&[&wan, NETWORK], ACCEPT)), ("forward", rule(&[&wan], DROP))],
        // Neither the one way nor the other is for FTP.
        vec![
            ("forward", rule(&[&wan, &out], DROP)),
            ("forward", rule(&[&comes_in("lan"), &goes_out("wan")], DROP)),
        ],
        // What is marked comes before.
        vec![("forward", rule(&[&wan, marked], ACCEPT)), ("forward", rule(&[&wan], DROP))],
    ] {
        assert_eq!(shut(&rules), None, "{rules:?}");
    }
    // A way that is shut to what is established as well.
    let all = [("forward", rule(&[&wan], DROP)), ("forward", rule(&[&goes_out("wan")], DROP))];
    assert_eq!(shut_in(&all), None);
}

/// As version 28 writes them: whoever comes from elsewhere may dial published ports only.
#[test]
fn dockers_rules() {
    let jump = |to: &str| format!(r#"{{"jump":{{"target":"{to}"}}}}"#);
    let (inside, outside) = (comes_in("docker0"), meta("iifname", "!=", r#""docker0""#));
    let into = goes_out("docker0");
    let to_container =
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"172.17.0.2"}}"#;
    let rules = |published: &str| {
        [
            ("forward", jump("x")),
            ("x", rule(&[&into, r#"{"xt":{"type":"match","name":"conntrack"}}"#], ACCEPT)),
            ("x", rule(&[&into], &jump("y"))),
            ("x", rule(&[&inside], ACCEPT)),
            ("y", rule(&[to_container, &outside, &into, &port(published)], ACCEPT)),
            ("y", rule(&[&outside, &into], DROP)),
        ]
    };
    for published in ["21", "80"] {
        let found = shut_in(&rules(published));
        assert_eq!(found, Some(("from another interface to docker0".to_owned(), 5)), "{published}");
    }
}

/// The chain of hook input is called `forward` here as well.
#[test]
fn ways_to_this_host() {
    let wan = comes_in("wan");
    let established = ("forward", rule(&[&wan, ESTABLISHED], ACCEPT));
    let (ftp, ssh, drop) = (rule(&[&port("21")], ACCEPT), rule(&[&port("22")], ACCEPT), rule(&[&wan], DROP));
    let at_input = |accepts: &str| {
        shut_at("input", &[established.clone(), ("forward", accepts.to_owned()), ("forward", drop.clone())])
    };
    assert_eq!(at_input(&ftp), Some(("from wan to this host".to_owned(), 2)));
    assert_eq!(at_input(&ssh), None);
}
