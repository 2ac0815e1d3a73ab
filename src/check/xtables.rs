//! Conditions of iptables' own (xtables): nftables' JSON has only their names, its text what they say (`xt_xlate`).

use serde_json::{Value, json};

/// What looks at connections.
pub const CONNECTION: [&str; 2] = ["conntrack", "state"];
/// What looks at ports.
pub const PORTS: &str = "multiport";

/// The name of an expression's condition, if it is one of xtables.
pub fn condition(expression: &Value) -> Option<&str> {
    let xt = expression.get("xt")?;
    (xt.get("type")? == "match").then(|| xt.get("name")?.as_str())?
}

/// Whether a rule has conditions that [`translate`] may know.
pub fn is_foreign(expr: &[Value]) -> bool {
    expr.iter().filter_map(condition).any(|name| name == PORTS || CONNECTION.contains(&name))
}

/// Puts what a rule's text says of connections and ports in the place of conditions that only have a name. What the text does
/// not say stays as it is.
pub fn translate(expr: &mut Vec<Value>, text: &str) {
    // Not what stands in quotation marks, such as a comment.
    let plain: Vec<_> = text.split('"').step_by(2).collect();
    let plain = plain.join(" ");
    let words: Vec<_> = plain.split_whitespace().collect();
    let told = |of: &dyn Fn(&[&str]) -> Option<Value>| {
        (0..words.len()).filter_map(|at| of(words.get(at..)?)).collect::<Vec<_>>()
    };
    for (is_meant, found) in [
        (&(|name: &str| CONNECTION.contains(&name)) as &dyn Fn(&str) -> bool, told(&of_connection)),
        (&|name: &str| name == PORTS, told(&of_ports)),
    ] {
        let is_it = |one: &Value| condition(one).is_some_and(is_meant);
        if let Some(at) = expr.iter().position(is_it).filter(|_| !found.is_empty()) {
            expr.retain(|one| !is_it(one));
            expr.splice(at..at, found);
        }
    }
}

/// `ct state new,related`, `ct state ! related,established`, `ct status dnat`, `ct original proto-dst 21`
fn of_connection(words: &[&str]) -> Option<Value> {
    match words {
        ["ct", key @ ("state" | "status"), "!" | "!=", list, ..] => Some(is_one_of(key, "!=", list)),
        ["ct", key @ ("state" | "status"), list, ..] => Some(is_one_of(key, "in", list)),
        ["ct", "original", "proto-dst", port, ..] => {
            let left = json!({ "ct": { "key": "proto-dst", "dir": "original" } });
            Some(json!({ "match": { "op": "==", "left": left, "right": ports(port)? } }))
        }
        _ => None,
    }
}

fn is_one_of(key: &str, op: &str, list: &str) -> Value {
    let list: Vec<_> = list.split(',').collect();
    json!({ "match": { "op": op, "left": { "ct": { "key": key } }, "right": list } })
}

/// `tcp dport { 21, 80-90 }`, `tcp sport != 21`
fn of_ports(words: &[&str]) -> Option<Value> {
    let (field, op, list) = match words {
        ["tcp", field @ ("dport" | "sport"), "!=", list @ ..] => (field, "!=", list),
        ["tcp", field @ ("dport" | "sport"), list @ ..] => (field, "==", list),
        _ => return None,
    };
    let right = match list {
        ["{", list @ ..] => {
            let list = list.iter().take_while(|word| **word != "}");
            json!({ "set": list.map(|word| ports(word.trim_end_matches(','))).collect::<Option<Vec<_>>>()? })
        }
        [port, ..] => ports(port)?,
        [] => return None,
    };
    let left = json!({ "payload": { "protocol": "tcp", "field": field } });
    Some(json!({ "match": { "op": op, "left": left, "right": right } }))
}

/// A port, or the first and the last of several.
fn ports(text: &str) -> Option<Value> {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        Some((first, last)) => Some(json!({ "range": [number(first)?, number(last)?] })),
        None => number(text).map(Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a rule with these conditions of xtables', as nft 1.0.6 writes it.
    fn translated(names: &[&str], text: &str) -> Vec<Value> {
        let of = |name: &&str| json!({ "xt": { "type": "match", "name": name } });
        let mut expr: Vec<_> = names.iter().map(of).chain([json!({ "accept": null })]).collect();
        translate(&mut expr, text);
        assert_eq!(expr.pop(), Some(json!({ "accept": null })));
        expr
    }

    fn ct(op: &str, key: &str, words: &[&str]) -> Value {
        json!({ "match": { "op": op, "left": { "ct": { "key": key } }, "right": words } })
    }

    #[test]
    fn what_iptables_says_of_connections() {
        for (text, is) in [
            (
                "ct state new,related,established counter accept",
                ct("in", "state", &["new", "related", "established"]),
            ),
            ("ct state ! related,established accept", ct("!=", "state", &["related", "established"])),
            ("ct status dnat accept", ct("in", "status", &["dnat"])),
        ] {
            assert_eq!(translated(&["conntrack"], text), [is], "{text}");
        }
        let both = [ct("in", "state", &["new"]), ct("in", "status", &["assured"])];
        assert_eq!(translated(&["conntrack"], "ct state new ct status assured accept"), both);
        let dialled = json!({ "ct": { "key": "proto-dst", "dir": "original" } });
        let dialled = json!({ "match": { "op": "==", "left": dialled, "right": 21 } });
        assert_eq!(translated(&["conntrack"], "meta l4proto tcp ct original proto-dst 21 accept"), [dialled]);
    }

    #[test]
    fn what_iptables_says_of_ports() {
        let match_of = |field: &str, op: &str, right: Value| {
            let left = json!({ "payload": { "protocol": "tcp", "field": field } });
            json!({ "match": { "op": op, "left": left, "right": right } })
        };
        let some = match_of("dport", "==", json!({ "set": [21, 80] }));
        assert_eq!(translated(&["multiport"], "meta l4proto tcp tcp dport { 21, 80 } accept"), [some]);
        let others = match_of("sport", "!=", json!({ "set": [21, { "range": [80, 90] }] }));
        assert_eq!(translated(&["multiport"], "tcp sport != { 21, 80-90 } accept"), [others]);
    }

    #[test]
    fn what_is_not_said_stays() {
        let named = |name: &str| vec![json!({ "xt": { "type": "match", "name": name } })];
        for (name, text) in [
            ("conntrack", r#"xt match "conntrack" accept"#),
            ("conntrack", r#"xt match "conntrack" comment "ct state new" accept"#),
            ("multiport", "tcp sport . tcp dport { 0-65535 . 21, 21 . 0-65535 } accept"),
            ("addrtype", "ct state new fib daddr type local accept"),
        ] {
            assert_eq!(translated(&[name], text), named(name), "{text}");
        }
    }
}
