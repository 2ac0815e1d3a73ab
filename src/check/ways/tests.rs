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

/// What stands for the handle where the policy drops.
const POLICY: u64 = u64::MAX;

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
    shut_of(&ruleset(hook, "accept", rules))
}

/// Chains `forward`, `x` and `y` as libnftables 1.0.6 lists them.
fn ruleset(hook: &str, policy: &str, rules: &[(&str, String)]) -> Ruleset {
    let base = format!(r#","type":"filter","hook":"{hook}","prio":0,"policy":"{policy}""#);
    let chain = |name: &str, more: &str| {
        format!(r#"{{"chain":{{"family":"inet","table":"t","name":"{name}"{more}}}}}"#)
    };
    let mut objects = vec![chain("forward", &base), chain("x", ""), chain("y", "")];
    for (handle, (chain, expr)) in rules.iter().enumerate() {
        objects.push(format!(
            r#"{{"rule":{{"family":"inet","table":"t","chain":"{chain}","handle":{handle},"expr":[{expr}]}}}}"#
        ));
    }
    Ruleset::parse(&[format!(r#"{{"nftables":[{}]}}"#, objects.join(","))]).unwrap()
}

fn shut_of(ruleset: &Ruleset) -> Option<(String, u64)> {
    let control = Kind::new_control(21, 0x20_0000);
    let data = Kind { destination: Some(SOME_PORT), ..Kind::new_data(0x20_0000, true) };
    let (way, fate) = Ways::of(ruleset, &ruleset.chains[0]).shut(&[control], data)?;
    let handle = match fate {
        Fate::DroppedBy(rule) => rule.handle,
        _ => POLICY,
    };
    Some((way.to_string(), handle))
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

#[test]
fn interfaces_as_rules_name_them() {
    let by_map = |pairs: &str| {
        format!(r#"{{"vmap":{{"key":{{"meta":{{"key":"iifname"}}}},"data":{{"set":[{pairs}]}}}}}}"#)
    };
    let by_both = r#"{"match":{"op":"==","left":{"concat":[{"meta":{"key":"iifname"}},{"meta":{"key":"oifname"}}]},"right":{"set":[{"concat":["wan","lan"]}]}}}"#;
    let from_wan = "from wan to another interface";
    for (way, rules) in [
        ("from ppp* to another interface", vec![("forward", rule(&[&comes_in("ppp*")], DROP))]),
        ("from wan to lan", vec![("forward", rule(&[by_both], DROP))]),
        // One that is in the map is not what stands for the rest of it.
        (
            "from another interface to lan",
            vec![
                ("x", r#"{"return":null}"#.to_owned()),
                ("forward", by_map(r#"["lan",{"jump":{"target":"x"}}],["*",{"drop":null}]"#)),
            ],
        ),
        (
            from_wan,
            vec![
                ("x", r#"{"return":null}"#.to_owned()),
                (
                    "forward",
                    by_map(
                        r#"["lan",{"accept":null}],["wan",{"jump":{"target":"x"}}],["*",{"accept":null}]"#,
                    ),
                ),
                ("forward", rule(&[&comes_in("wan")], DROP)),
            ],
        ),
        // As a bridge passes it on.
        (
            "from br0 to br0",
            vec![
                ("forward", rule(&[&comes_in("br0"), &goes_out("br0"), &port("21")], ACCEPT)),
                ("forward", rule(&[&comes_in("br0"), &goes_out("br0")], DROP)),
            ],
        ),
    ] {
        assert_eq!(shut(&rules), Some((way.to_owned(), rules.len() as u64)), "{rules:?}");
    }
}

#[test]
fn interfaces_in_a_named_set() {
    let rules = [
        ("forward", rule(&[ESTABLISHED], ACCEPT)),
        ("forward", rule(&[&meta("iifname", "==", r#""@far""#)], DROP)),
    ];
    let mut ruleset = ruleset("forward", "accept", &rules);
    assert_eq!(shut_of(&ruleset), None);
    let place = ruleset.sets_referred_to().remove(0);
    ruleset
        .sets
        .insert(place, serde_json::from_str(r#"["wan",{"elem":{"val":"dsl","timeout":5}}]"#).unwrap());
    assert_eq!(shut_of(&ruleset), Some(("from dsl to another interface".to_owned(), 1)));
}

#[test]
fn a_way_that_the_policy_drops() {
    let rules = [
        ("forward", rule(&[ESTABLISHED], ACCEPT)),
        ("forward", rule(&[&comes_in("wan")], r#"{"return":null}"#)),
        ("forward", ACCEPT.to_owned()),
    ];
    let found = shut_of(&ruleset("forward", "drop", &rules));
    assert_eq!(found, Some(("from wan to another interface".to_owned(), POLICY)));
}

#[test]
fn more_interfaces_than_are_looked_at() {
    let accepts = |number: usize| ("forward", rule(&[&comes_in(&format!("br{number:03}"))], ACCEPT));
    let many = |number: usize| {
        let mut rules = vec![("forward", rule(&[ESTABLISHED], ACCEPT))];
        rules.extend((0..number).flat_map(|one| [accepts(one), accepts(one)]));
        rules.push(("forward", rule(&[&comes_in("wan")], DROP)));
        ruleset("forward", "accept", &rules)
    };
    for (number, are_all) in [(MOST - 1, true), (MOST, false), (10 * MOST, false)] {
        let ruleset = many(number);
        assert_eq!(Ways::of(&ruleset, &ruleset.chains[0]).are_all, are_all, "{number}");
        // What drops is looked at first.
        assert!(shut_of(&ruleset).is_some_and(|(way, _)| way.starts_with("from wan")), "{number}");
    }
}
