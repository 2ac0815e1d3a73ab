//! The ways that packets take through a chain: in by one interface, out by another or to this host, as far as rules name any.

use std::collections::BTreeSet;
use std::fmt;
use std::iter;

use serde_json::Value;

use super::packet::{CATCH_ALL, Kind, Sets, listed};
use super::ruleset::{Chain, Rule, Ruleset};
use super::walk::{Fate, Walk};

/// Stands for the interfaces that no rule names.
const ANOTHER: &str = "";

/// So many interfaces are looked at: the ways are their square.
const MOST: usize = 48;

/// In by one interface, out by another; `None`: to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way<'a> {
    comes_in: &'a str,
    goes_out: Option<&'a str>,
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name| if name == ANOTHER { "another interface" } else { name };
        write!(f, "from {} to {}", name(self.comes_in), self.goes_out.map_or("this host", name))
    }
}

impl<'a> Way<'a> {
    /// The way back, if it leads through the same chain.
    fn back(self) -> Option<Self> {
        self.goes_out.map(|comes_in| Way { comes_in, goes_out: Some(self.comes_in) })
    }

    fn of(self, kind: Kind<'a>) -> Kind<'a> {
        Kind { comes_in: Some(self.comes_in), goes_out: self.goes_out, ..kind }
    }
}

/// The ways through a chain.
pub struct Ways<'a> {
    ruleset: &'a Ruleset,
    chain: &'a Chain,
    interfaces: BTreeSet<&'a str>,
    /// Whether these are all.
    pub are_all: bool,
}

impl<'a> Ways<'a> {
    /// Those between the interfaces that its table's rules name, and any other.
    pub fn of(ruleset: &'a Ruleset, chain: &'a Chain) -> Self {
        let beside = |other: &&Chain| {
            (&other.name.family, &other.name.table) == (&chain.name.family, &chain.name.table)
        };
        let tables = || ruleset.chains.iter().filter(beside);
        let named = |rule: &'a Rule| rule.expr.iter().flat_map(|one| named_in(one, rule, &ruleset.sets));
        let accepts = |rule: &&Rule| rule.expr.iter().any(|expression| expression.get("accept").is_some());
        let (accepting, others): (Vec<_>, Vec<_>) =
            tables().flat_map(|chain| &chain.rules).partition(accepts);
        // What others drop comes first, where there is no end of them.
        let mut interfaces = BTreeSet::from([ANOTHER]);
        let mut are_all = true;
        for name in others.into_iter().chain(accepting).flat_map(named).filter(|name| *name != "lo") {
            if interfaces.len() <= MOST {
                interfaces.insert(name);
            } else if !interfaces.contains(name) {
                are_all = false;
            }
        }
        Self { ruleset, chain, interfaces, are_all }
    }

    /// The first way on which data connections are dropped, and how, though control connections may pass it or
    /// the one back, and what belongs to a connection both.
    pub fn shut(&self, control: &[Kind<'a>], data: Kind<'a>) -> Option<(Way<'a>, Fate<'a>)> {
        let is_input = self.chain.base.as_ref().is_some_and(|base| base.hook == "input");
        let goes_out: Vec<_> =
            if is_input { vec![None] } else { self.interfaces.iter().copied().map(Some).collect() };
        let mut ways = self
            .interfaces
            .iter()
            .flat_map(|comes_in| goes_out.iter().map(move |goes_out| Way { comes_in, goes_out: *goes_out }));
        // Out by the one that it came in by goes what a bridge passes on (br_netfilter), or a router with one arm.
        ways.find_map(|way| {
            let fate = self.walk(way, data).dropping(self.chain)?;
            let may_pass = |way: Way<'a>, kind| self.walk(way, kind).may_pass(self.chain);
            let both = || iter::once(way).chain(way.back());
            let established = Kind { state: "established", mark: (data.mark.0, 0), ..data };
            let is_ftp = both().any(|way| control.iter().any(|kind| may_pass(way, *kind)))
                && both().all(|way| may_pass(way, established));
            is_ftp.then_some((way, fate))
        })
    }

    fn walk(&self, way: Way<'a>, kind: Kind<'a>) -> Walk<'a> {
        Walk { ruleset: self.ruleset, kind: way.of(kind) }
    }
}

/// The interfaces that an expression names.
fn named_in<'a>(expression: &'a Value, rule: &Rule, sets: &'a Sets) -> Vec<&'a str> {
    let compared = expression.get("match").and_then(|it| Some((it.get("left")?, it.get("right")?)));
    let looked_up = expression.get("vmap").and_then(|it| Some((it.get("key")?, it.get("data")?)));
    let Some((left, right)) = compared.or(looked_up) else { return Vec::new() };
    let places: Vec<_> =
        parts(left).iter().enumerate().filter(|(_, part)| is_interface(part)).map(|(at, _)| at).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let list = listed(right, rule, sets).unwrap_or(std::slice::from_ref(right));
    let of_element = |element: &'a Value| {
        // Of a map, the key; of an element with a time-out or a comment, its value.
        let element = element.as_array().and_then(|pair| pair.first()).unwrap_or(element);
        let element = element.get("elem").and_then(|elem| elem.get("val")).unwrap_or(element);
        places.iter().filter_map(|at| parts(element).get(*at)?.as_str()).collect::<Vec<_>>()
    };
    list.iter().flat_map(of_element).filter(|name| *name != CATCH_ALL && !name.starts_with('@')).collect()
}

/// The parts of a concatenation; what is none has one.
fn parts(value: &Value) -> &[Value] {
    value.get("concat").and_then(Value::as_array).map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn is_interface(value: &Value) -> bool {
    let key = value.get("meta").and_then(|meta| meta.get("key")).and_then(Value::as_str);
    matches!(key, Some("iif" | "oif" | "iifname" | "oifname"))
}

#[cfg(test)]
mod tests;
