use super::*;
use crate::check::packet::Kind;

/// Chains as libnftables 1.0.6 lists them.
fn ruleset(rules: &[(&str, &str)]) -> Ruleset {
    let mut objects = vec![
        r#"{"chain":{"family":"inet","table":"t","name":"forward","type":"filter","hook":"forward","prio":0,"policy":"drop"}}"#.to_owned(),
        r#"{"chain":{"family":"inet","table":"t","name":"open","type":"filter","hook":"forward","prio":0,"policy":"accept"}}"#.to_owned(),
        r#"{"chain":{"family":"inet","table":"t","name":"x"}}"#.to_owned(),
    ];
    for (handle, (chain, expr)) in rules.iter().enumerate() {
        objects.push(format!(
            r#"{{"rule":{{"family":"inet","table":"t","chain":"{chain}","handle":{handle},"expr":[{expr}]}}}}"#
        ));
    }
    Ruleset::parse(&[format!(r#"{{"nftables":[{}]}}"#, objects.join(","))]).unwrap()
}

const NEW: Kind<'_> = Kind {
    state: "new",
    source: None,
    destination: Some(21),
    dialled: Some(21),
    mark: (0x20_0000, 0),
    comes_in: None,
    goes_out: None,
};
const DATA: Kind<'_> = Kind { destination: None, dialled: None, mark: (0x20_0000, 0x20_0000), ..NEW };

const ACCEPT: &str = r#"{"accept":null}"#;
const DROP: &str = r#"{"drop":null}"#;
const ESTABLISHED: &str =
    r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}}"#;

fn port(op: &str, right: &str) -> String {
    format!(
        r#"{{"match":{{"op":"{op}","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{right}}}}}"#
    )
}

/// The handle of the rule that accepts.
#[track_caller]
fn accepting(rules: &[(&str, &str)], kind: Kind<'_>) -> Option<u64> {
    let ruleset = ruleset(rules);
    Walk { ruleset: &ruleset, kind }.accepting(&ruleset.chains[0]).map(|rule| rule.handle)
}

/// What becomes of the packets in the chain of policy drop.
#[track_caller]
fn fate(rules: &[(&str, &str)], kind: Kind<'_>) -> String {
    let ruleset = ruleset(rules);
    match (Walk { ruleset: &ruleset, kind }).fate(&ruleset.chains[0]) {
        Fate::Passes => "passes".to_owned(),
        Fate::DroppedBy(rule) => format!("dropped by {}", rule.handle),
        Fate::DroppedByPolicy => "dropped by policy".to_owned(),
    }
}

#[test]
fn ports_as_rules_name_them() {
    for (op, right, accepts) in [
        ("==", "21", true),
        ("==", "22", false),
        ("!=", "21", false),
        ("!=", "22", true),
        (">=", "22", false),
        ("<=", "1023", true),
        ("==", r#"{"range":[20,21]}"#, true),
        ("==", r#"{"range":[22,23]}"#, false),
        ("==", r#"{"set":[22,{"range":[990,992]}]}"#, false),
        ("==", r#"{"set":[22,{"elem":{"val":21,"timeout":5}}]}"#, true),
        ("!=", r#"{"set":[21,22]}"#, false),
        ("==", r#""@unknown""#, true),
    ] {
        let rule = format!("{},{ACCEPT}", port(op, right));
        assert_eq!(accepting(&[("forward", &rule)], NEW).is_some(), accepts, "{op} {right}");
    }
}

#[test]
fn named_sets_are_looked_into() {
    let rule = format!("{},{ACCEPT}", port("==", r#""@ports""#));
    let mut ruleset = ruleset(&[("forward", &rule)]);
    assert_eq!(ruleset.sets_referred_to(), [("inet".to_owned(), "t".to_owned(), "ports".to_owned())]);
    let place = ruleset.sets_referred_to().remove(0);
    for (elements, accepts) in [("[21]", true), ("[22, {\"range\":[30,40]}]", false), ("[]", false)] {
        ruleset.sets.insert(place.clone(), serde_json::from_str(elements).unwrap());
        let walk = Walk { ruleset: &ruleset, kind: NEW };
        assert_eq!(walk.accepting(&ruleset.chains[0]).is_some(), accepts, "{elements}");
    }
}

#[test]
fn other_protocols_states_and_the_loopback_are_no_evidence() {
    for condition in [
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":21}}"#,
        r#"{"match":{"op":"!=","left":{"payload":{"protocol":"udp","field":"dport"}},"right":53}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["icmp","ipv6-icmp"]}}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lo"}}"#,
        r#"{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},2097152]},"right":2097152}}"#,
        r#"{"xt":{"type":"match","name":"conntrack"}}"#,
        ESTABLISHED,
    ] {
        let rule = format!("{condition},{ACCEPT}");
        assert_eq!(accepting(&[("forward", &rule)], NEW), None, "{condition}");
    }
    for condition in [
        r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":{"set":["tcp","udp"]}}}"#,
        r#"{"match":{"op":"!=","left":{"meta":{"key":"iifname"}},"right":"lo"}}"#,
        r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lan"}}"#,
        r#"{"match":{"op":"in","left":{"ct":{"key":"status"}},"right":"dnat"}}"#,
        r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"limit":{"rate":5,"per":"second"}}"#,
        r#"{"xt":{"type":"match","name":"multiport"}},{"xt":{"type":"match","name":"conntrack"}}"#,
    ] {
        let rule = format!("{condition},{ACCEPT}");
        assert_eq!(accepting(&[("forward", &rule)], NEW), Some(0), "{condition}");
    }
}

#[test]
fn verdict_maps_and_concatenations() {
    let map = |key: &str, pairs: &str| format!(r#"{{"vmap":{{"key":{key},"data":{{"set":[{pairs}]}}}}}}"#);
    let by_port = r#"{"payload":{"protocol":"tcp","field":"dport"}}"#;
    let by_both = r#"{"concat":[{"meta":{"key":"iifname"}},{"payload":{"protocol":"tcp","field":"dport"}}]}"#;
    for (rule, accepts) in [
        (map(by_port, r#"[21,{"accept":null}],[{"range":[22,30]},{"drop":null}]"#), true),
        (map(by_port, r#"[21,{"drop":null}],[22,{"accept":null}]"#), false),
        (map(by_port, r#"[21,{"jump":{"target":"x"}}]"#), true),
        (map(by_both, r#"[{"concat":["lan",21]},{"accept":null}]"#), true),
        (map(by_both, r#"[{"concat":["lan",22]},{"accept":null}]"#), false),
        (map(r#"{"ct":{"key":"state"}}"#, r#"["established",{"accept":null}]"#), false),
    ] {
        assert_eq!(accepting(&[("forward", &rule), ("x", ACCEPT)], NEW).is_some(), accepts, "{rule}");
    }
    let concat = format!(
        r#"{{"match":{{"op":"==","left":{by_both},"right":{{"set":[{{"concat":["lan",22]}}]}}}}}},{ACCEPT}"#
    );
    assert_eq!(accepting(&[("forward", &concat)], NEW), None);
}

#[test]
fn what_comes_before_counts() {
    let new = format!(r#"{{"match":{{"op":"in","left":{{"ct":{{"key":"state"}}}},"right":"new"}}}},{DROP}"#);
    let take = format!("{},{ACCEPT}", port("==", "21"));
    assert_eq!(accepting(&[("forward", &new), ("forward", &take)], NEW), None);
    assert_eq!(accepting(&[("forward", &take), ("forward", &new)], NEW), Some(0));
    let jump = r#"{"jump":{"target":"x"}}"#;
    assert_eq!(accepting(&[("forward", jump), ("x", r#"{"return":null}"#), ("x", ACCEPT)], NEW), None);
    assert_eq!(accepting(&[("forward", jump), ("x", &take)], NEW), Some(1));
    // A circle, which the kernel does not take.
    assert_eq!(accepting(&[("forward", jump), ("x", jump)], NEW), None);
}

#[test]
fn what_is_certain() {
    let mark = format!(
        r#"{{"match":{{"op":"!=","left":{{"&":[{{"meta":{{"key":"mark"}}}},2097152]}},"right":0}}}},{ACCEPT}"#
    );
    let lan =
        format!(r#"{{"match":{{"op":"==","left":{{"meta":{{"key":"iifname"}}}},"right":"lan"}}}},{ACCEPT}"#);
    assert_eq!(fate(&[("forward", &lan)], DATA), "dropped by policy");
    assert_eq!(fate(&[("forward", &lan), ("forward", &mark)], DATA), "passes");
    assert_eq!(fate(&[("forward", &mark)], Kind { mark: NEW.mark, ..DATA }), "dropped by policy");
    assert_eq!(fate(&[("forward", r#"{"reject":{}}"#), ("forward", &mark)], DATA), "dropped by 0");
    let reject = r#"{"counter":null},{"xt":{"type":"target","name":"REJECT"}}"#;
    assert_eq!(fate(&[("forward", r#"{"goto":{"target":"x"}}"#), ("x", reject)], DATA), "dropped by 1");
    let ruleset = ruleset(&[("open", DROP)]);
    let walk = Walk { ruleset: &ruleset, kind: DATA };
    assert!(matches!(walk.fate(&ruleset.chains[1]), Fate::DroppedBy(_)));
}

#[test]
fn chains_that_others_hand_everything_on_to() {
    let to = |chain: &str| ChainName { family: "inet".into(), table: "t".into(), chain: chain.into() };
    let hands_on = |rules: &[(&str, &str)]| {
        let ruleset = ruleset(rules);
        Walk { ruleset: &ruleset, kind: DATA }.hands_on(&ruleset.chains[0], &to("x"))
    };
    let wan = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"wan"}}"#;
    let jump = r#"{"jump":{"target":"x"}}"#;
    let (some, drop) = (format!("{wan},{jump}"), format!("{wan},{DROP}"));
    let established = format!("{ESTABLISHED},{ACCEPT}");
    let sets_mark = r#"{"mangle":{"key":{"meta":{"key":"mark"}},"value":1}}"#;
    assert!(hands_on(&[("forward", jump), ("forward", &drop)]));
    assert!(hands_on(&[("forward", r#"{"counter":null}"#), ("forward", &established), ("forward", jump)]));
    assert!(!hands_on(&[("forward", &some)]));
    for before in [&drop, ACCEPT, DROP, sets_mark] {
        assert!(!hands_on(&[("forward", before), ("forward", jump)]), "{before}");
    }
    assert!(!hands_on(&[("open", jump), ("forward", ACCEPT)]));
}
