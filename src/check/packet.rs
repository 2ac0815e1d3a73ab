//! Kinds of packets, and whether a rule's conditions hold for one: for all of its packets, for none, or for some.

use std::collections::HashMap;

use serde_json::Value;

use super::ruleset::{Rule, SetName};

/// Whether something holds for the packets of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// For none of them.
    No,
    /// For some, or it can't be told.
    Maybe,
    /// For all of them.
    Yes,
}

impl From<bool> for Truth {
    fn from(is_so: bool) -> Self {
        if is_so { Truth::Yes } else { Truth::No }
    }
}

impl Truth {
    fn negated(self) -> Self {
        match self {
            Truth::No => Truth::Yes,
            Truth::Maybe => Truth::Maybe,
            Truth::Yes => Truth::No,
        }
    }
}

/// A port that no rule is likely to name, as that of a client, or of a data connection.
pub const SOME_PORT: u16 = 61_001;

/// A kind of packets: TCP, between other hosts or from another host to this one. `None` stands for any.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    /// conntrack's state.
    pub state: &'a str,
    /// The port that it comes from.
    pub source: Option<u16>,
    /// The port that it goes to.
    pub destination: Option<u16>,
    /// The port that the connection's first packet went to.
    pub dialled: Option<u16>,
    /// What is known of the packet mark: the bits, and their values.
    pub mark: (u32, u32),
    /// The interface that it comes in by.
    pub comes_in: Option<&'a str>,
    /// The interface that it leaves by.
    pub goes_out: Option<&'a str>,
}

impl Kind<'_> {
    /// The first packet of a control connection to this port, with these bits of the mark not set.
    pub fn new_control(port: u16, mark: u32) -> Self {
        let (destination, dialled) = (Some(port), Some(port));
        let mark = (mark, 0);
        Kind { state: "new", source: None, destination, dialled, mark, comes_in: None, goes_out: None }
    }

    /// The first packet of a data connection, with this bit of the mark or without.
    pub fn new_data(mark: u32, is_marked: bool) -> Self {
        let mark = (mark, if is_marked { mark } else { 0 });
        Kind { destination: None, dialled: None, mark, ..Self::new_control(0, 0) }
    }

    /// The packets of control connections to this port: those to the server, those to the client.
    pub fn control_both_ways(port: u16, mark: u32) -> [Self; 2] {
        let client = Some(SOME_PORT);
        let to_server = Kind { state: "established", source: client, ..Self::new_control(port, mark) };
        [to_server, Kind { source: Some(port), destination: client, ..to_server }]
    }
}

/// The element of a set or a map that stands for whatever no other one stands for.
pub const CATCH_ALL: &str = "*";

/// What named sets hold, as far as it is known.
pub type Sets = HashMap<SetName, Vec<Value>>;

/// What a condition looks at, as far as it is known of a [`Kind`].
enum Known<'a> {
    /// Nothing.
    Unknown,
    /// Packets of another protocol.
    Foreign,
    /// A number.
    Number(u32),
    /// A word, or one of several for the same.
    Word(&'a [&'a str]),
    /// Any interface but the loopback.
    Interface,
    /// This one.
    Named(&'a str),
    /// Some bits of the mark: which, and their values.
    Bits(u32, u32),
}

/// Whether one `match` of a rule holds for packets of a kind.
pub fn holds(condition: &Value, kind: &Kind<'_>, rule: &Rule, sets: &Sets) -> Truth {
    let (Some(left), Some(right)) = (condition.get("left"), condition.get("right")) else {
        return Truth::Maybe;
    };
    let op = condition.get("op").and_then(Value::as_str).unwrap_or("==");
    if let Some(truth) = of_flags(left, op, right).filter(|_| kind.state == "new") {
        return truth;
    }
    if let Some(truth) = of_way_back(left, op, right) {
        return truth;
    }
    let truth = match (known(left, kind), op) {
        (Known::Unknown, _) if left.get("concat").is_some() => {
            listed(right, rule, sets).map_or(Truth::Maybe, |list| one_of(left, list, kind, rule, sets))
        }
        (Known::Unknown, _) => return Truth::Maybe,
        (Known::Foreign, _) => return Truth::No,
        (Known::Number(number), "<" | ">" | "<=" | ">=") => return ordered(number, op, right),
        (known, "==" | "!=" | "in") => is_one(&known, right, rule, sets),
        _ => return Truth::Maybe,
    };
    if op == "!=" { truth.negated() } else { truth }
}

/// Whether a value that a rule looks up, as `vmap` does, is this key, for packets of a kind.
pub fn is_key(looked_at: &Value, key: &Value, kind: &Kind<'_>, rule: &Rule, sets: &Sets) -> Truth {
    match known(looked_at, kind) {
        Known::Unknown => one_of(looked_at, std::slice::from_ref(key), kind, rule, sets),
        Known::Foreign => Truth::No,
        known => is_one(&known, key, rule, sets),
    }
}

fn known<'a>(expression: &Value, kind: &Kind<'a>) -> Known<'a> {
    let Some((name, inside)) = expression.as_object().and_then(|object| object.iter().next()) else {
        return Known::Unknown;
    };
    let word = |member: &str| inside.get(member).and_then(Value::as_str).unwrap_or_default();
    let interface = |name: Option<&'a str>| name.map_or(Known::Interface, Known::Named);
    let number = |port: Option<u16>| port.map_or(Known::Unknown, |port| Known::Number(port.into()));
    match (name.as_str(), word("protocol"), word("field"), word("key")) {
        ("payload", "tcp" | "th", "dport", _) => number(kind.destination),
        ("payload", "tcp" | "th", "sport", _) => number(kind.source),
        ("payload", "ip", "protocol", _) | ("payload", "ip6", "nexthdr", _) | ("meta", _, _, "l4proto") => {
            Known::Word(&["tcp", "6"])
        }
        (
            "payload",
            "udp" | "udplite" | "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah" | "comp" | "arp",
            ..,
        ) => Known::Foreign,
        ("meta", _, _, "iif" | "iifname") => interface(kind.comes_in),
        ("meta", _, _, "oif" | "oifname") => interface(kind.goes_out),
        ("meta", _, _, "mark") => Known::Bits(kind.mark.0, kind.mark.1),
        ("ct", _, _, "state") => Known::Word(match kind.state {
            "new" => &["new"],
            _ => &["established"],
        }),
        ("ct", _, _, "proto-dst") if word("dir") == "original" => number(kind.dialled),
        ("ct", _, _, "proto-src") if word("dir") == "reply" => number(kind.dialled),
        ("ct", _, _, "direction") if kind.state == "new" => Known::Word(&["original"]),
        ("meta", _, _, "pkttype") => Known::Word(&["host", "unicast"]),
        ("&", ..) => masked(inside, kind),
        _ => Known::Unknown,
    }
}

/// Whether a condition on the way back holds, as a reverse-path filter's: it does for what should pass at all. `None`: it looks
/// at something else.
fn of_way_back(left: &Value, op: &str, right: &Value) -> Option<Truth> {
    let fib = left.get("fib")?;
    let is_back =
        fib.get("result")? == "oif" && fib.get("flags")?.as_array()?.iter().any(|flag| flag == "saddr");
    let is_missing = right == false || right == "0";
    (is_back && (is_missing || right == true)).then(|| ((op == "!=") == is_missing).into())
}

/// Whether a condition on TCP's flags holds for a first packet, of which these are known: SYN alone (RFC 9293, 3.5). `None`: it
/// looks at something else.
fn of_flags(left: &Value, op: &str, right: &Value) -> Option<Truth> {
    let is_flags = |value: &Value| {
        value.get("payload").is_some_and(|it| {
            it.get("protocol").is_some_and(|it| it == "tcp")
                && it.get("field").is_some_and(|it| it == "flags")
        })
    };
    let mask = match left.get("&") {
        Some(operands) if is_flags(operands.get(0)?) => flags(operands.get(1)?)?,
        None if is_flags(left) => u8::MAX,
        _ => return None,
    };
    let (set, wanted) = (SYN & mask, flags(right)?);
    let is_so = match op {
        "in" => set & wanted != 0,
        "==" => set == wanted,
        "!=" => set != wanted,
        _ => return None,
    };
    Some(is_so.into())
}

/// SYN's bit (RFC 9293, 3.1).
const SYN: u8 = 0x02;

/// The bits of TCP's flags that a rule names: one, or several in a list or an expression.
fn flags(value: &Value) -> Option<u8> {
    if let Some(list) = value.as_array().or_else(|| value.get("|")?.as_array()) {
        return list.iter().map(flags).try_fold(0, |bits, one| Some(bits | one?));
    }
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
    let name = value.as_str();
    let bit = NAMES.iter().position(|known| Some(*known) == name).map(|at| 1 << at);
    bit.or_else(|| u8::try_from(value.as_u64()?).ok())
}

/// Bits of the mark that a rule cuts out.
fn masked<'a>(operands: &Value, kind: &Kind<'a>) -> Known<'a> {
    let (Some(left), Some(mask)) = (operands.get(0), operands.get(1).and_then(as_u32)) else {
        return Known::Unknown;
    };
    match known(left, kind) {
        // The others are known, too: they are cut away.
        Known::Bits(bits, values) => Known::Bits(bits | !mask, values & mask),
        _ => Known::Unknown,
    }
}

pub fn as_u32(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn ordered(number: u32, op: &str, right: &Value) -> Truth {
    let Some(right) = as_u32(right) else { return Truth::Maybe };
    Truth::from(match op {
        "<" => number < right,
        ">" => number > right,
        "<=" => number <= right,
        _ => number >= right,
    })
}

/// Whether what is known is among what a rule names: a value, a range, a list, a set.
fn is_one(known: &Known<'_>, right: &Value, rule: &Rule, sets: &Sets) -> Truth {
    if let Some(list) = listed(right, rule, sets) {
        return any(list, |one| is_one(known, one, rule, sets));
    }
    if right.as_str().is_some_and(|name| name.starts_with('@')) {
        return Truth::Maybe;
    }
    let right = value_of(right);
    if right.as_str() == Some(CATCH_ALL) {
        return Truth::Yes;
    }
    match known {
        Known::Number(number) => is_number(*number, right),
        Known::Word(words) => {
            let text = right.as_str().map_or_else(|| right.to_string(), str::to_owned);
            words.contains(&text.as_str()).into()
        }
        Known::Interface if right.as_str() == Some("lo") => Truth::No,
        Known::Named(name) => right.as_str().map_or(Truth::Maybe, |right| is_named(name, right).into()),
        Known::Bits(bits, values) => match as_u32(right) {
            Some(number) if *bits == u32::MAX => (number == *values).into(),
            Some(number) if number & bits != *values & bits => Truth::No,
            _ => Truth::Maybe,
        },
        Known::Interface | Known::Unknown => Truth::Maybe,
        Known::Foreign => Truth::No,
    }
}

/// Whether a rule's name of an interface, or the beginning of one, is that of this interface.
fn is_named(name: &str, right: &str) -> bool {
    right.strip_suffix('*').map_or(name == right, |beginning| name.starts_with(beginning))
}

fn is_number(number: u32, right: &Value) -> Truth {
    if let Some(range) = right.get("range") {
        let bounds = range.get(0).and_then(as_u32).zip(range.get(1).and_then(as_u32));
        return bounds.map_or(Truth::Maybe, |(low, high)| (low..=high).contains(&number).into());
    }
    as_u32(right).map_or(Truth::Maybe, |right| (number == right).into())
}

fn any(list: &[Value], is_so: impl FnMut(&Value) -> Truth) -> Truth {
    list.iter().map(is_so).max().unwrap_or(Truth::No)
}

/// The same for a concatenation, part by part.
fn one_of(left: &Value, list: &[Value], kind: &Kind<'_>, rule: &Rule, sets: &Sets) -> Truth {
    let Some(parts) = left.get("concat").and_then(Value::as_array) else { return Truth::Maybe };
    any(list, |element| {
        let element = value_of(element);
        if element.as_str() == Some(CATCH_ALL) {
            return Truth::Yes;
        }
        let values = element.get("concat").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let all = parts.iter().zip(values).map(|(part, value)| match known(part, kind) {
            Known::Unknown => Truth::Maybe,
            Known::Foreign => Truth::No,
            known => is_one(&known, value, rule, sets),
        });
        if values.is_empty() { Truth::Maybe } else { all.min().unwrap_or(Truth::Maybe) }
    })
}

/// The parts of a concatenation; what is none has one.
pub fn parts(value: &Value) -> &[Value] {
    value.get("concat").and_then(Value::as_array).map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// Whether a rule looks at an interface's name or number there.
pub fn is_interface(value: &Value) -> bool {
    matches!(meta_key(value), Some("iif" | "oif" | "iifname" | "oifname"))
}

/// What a rule looks at or sets beside the packet itself, such as `mark`; `None`: something else.
pub fn meta_key(value: &Value) -> Option<&str> {
    value.get("meta")?.get("key")?.as_str()
}

/// An element without its time-out, its comment and the like.
pub fn value_of(element: &Value) -> &Value {
    element.get("elem").and_then(|elem| elem.get("val")).unwrap_or(element)
}

/// The elements of a set or map that a rule holds or names; `None`: it is none, or is not known.
pub fn listed<'a>(value: &'a Value, rule: &Rule, sets: &'a Sets) -> Option<&'a [Value]> {
    if let Some(name) = value.as_str().and_then(|name| name.strip_prefix('@')) {
        let place = (rule.chain.family.clone(), rule.chain.table.clone(), name.to_owned());
        return sets.get(&place).map(Vec::as_slice);
    }
    value.get("set").unwrap_or(value).as_array().map(Vec::as_slice)
}
