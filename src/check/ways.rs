//! The ways that packets take past a hook: in by one interface, out by another, as far as rules name any.

use std::collections::BTreeSet;
use std::fmt;
use std::iter;

use serde_json::Value;

use super::packet::{CATCH_ALL, Kind, Sets, is_interface, listed, parts, value_of};
use super::ruleset::{Chain, Rule, Ruleset};
use super::walk::{Fate, Walk};

/// Stands for the interfaces that no rule names.
const ANOTHER: &str = "";

/// So many interfaces are looked at: the ways are their square.
const MOST: usize = 32;

/// In by one interface, out by another; `None` where that does not count: from this host or to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way<'a> {
    pub comes_in: Option<&'a str>,
    pub goes_out: Option<&'a str>,
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name| if name == ANOTHER { "another interface" } else { name };
        let [from, to] = [self.comes_in, self.goes_out].map(|end| end.map_or("this host", name));
        write!(f, "from {from} to {to}")
    }
}

impl Way<'_> {
    /// The way back, if it leads past the same hook.
    fn back(self) -> Option<Self> {
        let Way { comes_in, goes_out } = self;
        comes_in.zip(goes_out).map(|_| Way { comes_in: goes_out, goes_out: comes_in })
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
        let rules = ruleset.chains.iter().filter(beside).flat_map(|chain| &chain.rules);
        let named = |rule: &'a Rule| rule.expr.iter().flat_map(|one| named_in(one, rule, &ruleset.sets));
        let (accepting, others): (Vec<_>, Vec<_>) = rules.partition(|rule| rule.has("accept"));
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

    /// All of them. Out by the interface that it came in by goes what a bridge passes on (br_netfilter), or a router with one
    /// arm.
    pub fn all(&self) -> Vec<Way<'a>> {
        let hook = self.chain.base.as_ref().map_or("", |base| base.hook.as_str());
        let ends = || self.interfaces.iter().copied().map(Some);
        match hook {
            "prerouting" | "input" => ends().map(|comes_in| Way { comes_in, goes_out: None }).collect(),
            "output" | "postrouting" => ends().map(|goes_out| Way { comes_in: None, goes_out }).collect(),
            _ => ends().flat_map(|comes_in| ends().map(move |goes_out| Way { comes_in, goes_out })).collect(),
        }
    }

    /// Whether control connections may take a way, or the one back.
    pub fn is_for(&self, control: &[Kind<'a>], way: Way<'a>) -> bool {
        let may_pass = |way, kind| self.walk(way, kind).may_pass(self.chain);
        there_and_back(way).any(|way| control.iter().any(|kind| may_pass(way, *kind)))
    }

    /// Whether packets of a kind may take a way and the one back.
    pub fn lets_both(&self, way: Way<'a>, kind: Kind<'a>) -> bool {
        there_and_back(way).all(|way| self.walk(way, kind).may_pass(self.chain))
    }

    /// What becomes of packets of a kind on a way.
    pub fn fate(&self, way: Way<'a>, kind: Kind<'a>) -> Fate<'a> {
        self.walk(way, kind).fate(self.chain)
    }

    /// The first way on which data connections are dropped, and how, though control connections may pass it or
    /// the one back, and what belongs to a connection both.
    pub fn shut(&self, control: &[Kind<'a>], data: Kind<'a>) -> Option<(Way<'a>, Fate<'a>)> {
        let established = Kind { state: "established", mark: (data.mark.0, 0), ..data };
        self.all().into_iter().find_map(|way| {
            let fate = self.walk(way, data).dropping(self.chain)?;
            let is_ftp = self.is_for(control, way) && self.lets_both(way, established);
            is_ftp.then_some((way, fate))
        })
    }

    fn walk(&self, Way { comes_in, goes_out }: Way<'a>, kind: Kind<'a>) -> Walk<'a> {
        Walk { ruleset: self.ruleset, kind: Kind { comes_in, goes_out, ..kind } }
    }
}

fn there_and_back(way: Way<'_>) -> impl Iterator<Item = Way<'_>> {
    iter::once(way).chain(way.back())
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
        // Of a map, the key.
        let element = value_of(element.as_array().and_then(|pair| pair.first()).unwrap_or(element));
        places.iter().filter_map(|at| parts(element).get(*at)?.as_str()).collect::<Vec<_>>()
    };
    list.iter().flat_map(of_element).filter(|name| *name != CATCH_ALL && !name.starts_with('@')).collect()
}

#[cfg(test)]
mod tests;
