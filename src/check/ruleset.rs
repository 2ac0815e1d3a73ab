//! The ruleset, from the JSON in which libnftables lists it (libnftables-json(5)): what `ftpalg check` looks at in it.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::memo::Memo;
use super::packet::Truth;
use crate::config::ChainName;
use crate::netfilter::Table;

/// A base chain's place in the packet path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`, and those of other families.
    pub hook: String,
    /// Chains of lower priority come first.
    pub priority: i64,
    /// Whether its policy is to drop.
    pub drops: bool,
}

/// A chain.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Its name; of any family.
    pub name: ChainName,
    /// For base chains.
    pub base: Option<Base>,
    /// Its rules in their order.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Where it stands.
    pub chain: ChainName,
    /// By what it can be deleted.
    pub handle: u64,
    /// Its expressions.
    pub expr: Vec<Value>,
}

impl Rule {
    /// Whether it has a statement of this name, such as `accept`.
    pub fn has(&self, statement: &str) -> bool {
        self.expr.iter().any(|expression| expression.get(statement).is_some())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule with handle {} of {}", self.handle, self.chain)
    }
}

/// A `ct helper` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The family and table that it belongs to.
    pub place: (String, String),
    /// Its name there.
    pub name: String,
    /// The kernel's helper that it stands for, such as `ftp`.
    pub kind: String,
}

/// A named set's place: family, table, name.
pub type SetName = (String, String, String);

/// The ruleset that routed packets meet, without ftpalg's own part.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its `ct helper` objects.
    pub helpers: Vec<Helper>,
    /// What those named sets hold that were asked for.
    pub sets: HashMap<SetName, Vec<Value>>,
    /// The tables that only the program that has made them may change.
    pub owned: Vec<Table>,
    /// What conditions say that look into large sets.
    pub truths: Memo<Truth>,
    /// The elements of large maps that may be meant.
    pub meant: Memo<Vec<(Truth, usize)>>,
    /// Where each chain stands among them.
    places: HashMap<ChainName, usize>,
}

impl Ruleset {
    /// Reads listings.
    ///
    /// # Errors
    /// One is no JSON.
    pub fn parse(listings: &[String]) -> serde_json::Result<Self> {
        let mut ruleset = Self::default();
        let mut rules = Vec::new();
        for text in listings {
            let listing: Value = serde_json::from_str(text)?;
            for (kind, object) in objects(&listing) {
                match kind {
                    "chain" => ruleset.chains.push(chain(object)),
                    "rule" => rules.push(rule(object)),
                    "ct helper" => ruleset.helpers.push(Helper {
                        place: (string(object, "family"), string(object, "table")),
                        name: string(object, "name"),
                        kind: string(object, "type"),
                    }),
                    _ => {}
                }
            }
        }
        ruleset.places =
            ruleset.chains.iter().enumerate().map(|(at, chain)| (chain.name.clone(), at)).collect();
        for rule in rules {
            let chain = ruleset.places.get(&rule.chain).and_then(|at| ruleset.chains.get_mut(*at));
            if let Some(chain) = chain {
                chain.rules.push(rule);
            }
        }
        Ok(ruleset)
    }

    /// A chain by its name.
    pub fn chain(&self, name: &ChainName) -> Option<&Chain> {
        self.chains.get(*self.places.get(name)?)
    }

    /// The base chains.
    pub fn base_chains(&self) -> impl Iterator<Item = (&Chain, &Base)> {
        self.chains.iter().filter_map(|chain| chain.base.as_ref().map(|base| (chain, base)))
    }

    /// All rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.iter().flat_map(|chain| &chain.rules)
    }

    /// The named sets that rules compare with.
    pub fn sets_referred_to(&self) -> Vec<SetName> {
        let mut names = Vec::new();
        for rule in self.rules() {
            for name in rule.expr.iter().flat_map(references) {
                let place = (rule.chain.family.clone(), rule.chain.table.clone(), name);
                if !names.contains(&place) {
                    names.push(place);
                }
            }
        }
        names
    }
}

/// The elements in the listing of one set.
pub fn elements(text: &str) -> Vec<Value> {
    let listing: Value = serde_json::from_str(text).unwrap_or_default();
    let set = objects(&listing).find(|(kind, _)| matches!(*kind, "set" | "map"));
    let list = set.and_then(|(_, set)| set.get("elem")).and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

/// The objects of a listing, each with its kind.
pub fn objects(listing: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let list = listing.get("nftables").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|object| {
        let (kind, object) = object.as_object()?.iter().next()?;
        Some((kind.as_str(), object))
    })
}

/// A member that is a string; empty if there is none.
pub fn string(object: &Value, member: &str) -> String {
    object.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn chain(object: &Value) -> Chain {
    let base = object.get("hook").and_then(Value::as_str).map(|hook| Base {
        kind: string(object, "type"),
        hook: hook.to_owned(),
        priority: object.get("prio").and_then(Value::as_i64).unwrap_or_default(),
        drops: string(object, "policy") == "drop",
    });
    let name = ChainName {
        family: string(object, "family"),
        table: string(object, "table"),
        chain: string(object, "name"),
    };
    Chain { name, base, rules: Vec::new() }
}

fn rule(object: &Value) -> Rule {
    let chain = ChainName {
        family: string(object, "family"),
        table: string(object, "table"),
        chain: string(object, "chain"),
    };
    Rule {
        chain,
        handle: object.get("handle").and_then(Value::as_u64).unwrap_or_default(),
        expr: object.get("expr").and_then(Value::as_array).cloned().unwrap_or_default(),
    }
}

/// The names of the sets that an expression compares a value with, or looks a verdict up in.
fn references(expression: &Value) -> Vec<String> {
    let right = expression.get("match").and_then(|it| it.get("right"));
    let data = expression.get("vmap").and_then(|it| it.get("data"));
    let names = right.into_iter().chain(data).filter_map(Value::as_str);
    names.filter_map(|name| name.strip_prefix('@')).map(str::to_owned).collect()
}
