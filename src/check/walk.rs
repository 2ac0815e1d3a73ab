//! What a chain does with a kind of packets: what it does to all of them for certain, and whether it may accept some.

use serde_json::Value;

use super::packet::{CATCH_ALL, Kind, Sets, Truth, holds, is_key, listed, meta_key};
use super::ruleset::{Chain, Rule, Ruleset};
use super::xtables;
use crate::config::ChainName;

/// How deep chains may call each other (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// What becomes of all packets of a kind in a base chain.
#[derive(Debug, Clone, Copy)]
pub enum Fate<'a> {
    /// Accepted, or for a program to judge.
    Passes,
    /// Dropped or rejected by this rule.
    DroppedBy(&'a Rule),
    /// Dropped by the chain's policy.
    DroppedByPolicy,
}

/// A rule's last word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict<'a> {
    Accept,
    Drop,
    Jump(&'a str),
    Goto(&'a str),
    Return,
}

/// A verdict, and how many of the packets meet it.
type Met<'a> = (Truth, Verdict<'a>);

/// What is left after some rules.
enum Course<'a> {
    Ended(Fate<'a>),
    GoesOn,
}

/// Walks the ruleset with packets of a kind.
#[derive(Clone, Copy)]
pub struct Walk<'a> {
    /// Through this ruleset.
    pub ruleset: &'a Ruleset,
    /// With these packets.
    pub kind: Kind<'a>,
}

impl<'a> Walk<'a> {
    /// What becomes of packets to which no condition applies that only some of them meet.
    pub fn fate(&self, chain: &'a Chain) -> Fate<'a> {
        let policy_drops = chain.base.as_ref().is_some_and(|base| base.drops);
        match self.certain(chain, 0) {
            Course::Ended(fate) => fate,
            Course::GoesOn if policy_drops => Fate::DroppedByPolicy,
            Course::GoesOn => Fate::Passes,
        }
    }

    fn certain(&self, chain: &'a Chain, depth: usize) -> Course<'a> {
        let mut some_have_left = false;
        for rule in &chain.rules {
            let verdicts = self.verdicts(rule);
            if let Some(course) = self.course(rule, &verdicts, depth) {
                return if some_have_left { Course::GoesOn } else { course };
            }
            some_have_left |= may_leave(&verdicts);
        }
        Course::GoesOn
    }

    /// What a rule's verdicts do to all of the packets; `None`: the next rule's turn.
    fn course(&self, rule: &'a Rule, verdicts: &[Met<'a>], depth: usize) -> Option<Course<'a>> {
        for (truth, verdict) in verdicts {
            if *truth != Truth::Yes {
                continue;
            }
            match verdict {
                Verdict::Accept => return Some(Course::Ended(Fate::Passes)),
                Verdict::Drop => return Some(Course::Ended(Fate::DroppedBy(rule))),
                Verdict::Return => return Some(Course::GoesOn),
                Verdict::Jump(name) | Verdict::Goto(name) => {
                    let inner = self.target(rule, name, depth).map(|chain| self.certain(chain, depth + 1));
                    if let Some(Course::Ended(fate)) = inner {
                        return Some(Course::Ended(fate));
                    }
                    if matches!(verdict, Verdict::Goto(_)) {
                        return Some(Course::GoesOn);
                    }
                }
            }
        }
        None
    }

    /// Whether some of the packets may pass.
    pub fn may_pass(&self, chain: &'a Chain) -> bool {
        matches!(self.fate(chain), Fate::Passes) || self.accepting(chain).is_some()
    }

    /// How all of the packets are dropped, if no rule before that may accept some.
    pub fn dropping(&self, chain: &'a Chain) -> Option<Fate<'a>> {
        let fate = self.fate(chain);
        (!matches!(fate, Fate::Passes) && self.accepting(chain).is_none()).then_some(fate)
    }

    /// Whether a chain hands all of the packets on to another, before anything drops or accepts some or sets their mark.
    pub fn hands_on(&self, chain: &'a Chain, to: &ChainName) -> bool {
        for rule in &chain.rules {
            let verdicts = self.verdicts(rule);
            let leads_there = |(truth, verdict): &Met<'_>| match verdict {
                Verdict::Jump(name) | Verdict::Goto(name) => {
                    *truth == Truth::Yes
                        && *name == to.chain
                        && rule.chain.table == to.table
                        && rule.chain.family == to.family
                }
                _ => false,
            };
            if verdicts.iter().any(leads_there) {
                return true;
            }
            if self.decides(rule, &verdicts, 0) {
                return false;
            }
        }
        false
    }

    /// Whether a rule, or one that it leads to, has a last word about some of the packets, or sets their mark.
    fn decides(&self, rule: &'a Rule, verdicts: &[Met<'a>], depth: usize) -> bool {
        let sets_mark = |expression: &Value| {
            expression.get("mangle").and_then(|it| meta_key(it.get("key")?)) == Some("mark")
        };
        let is_last = |verdict: &Verdict<'a>| match verdict {
            Verdict::Accept | Verdict::Drop => true,
            Verdict::Return => false,
            Verdict::Jump(name) | Verdict::Goto(name) => {
                self.target(rule, name, depth).is_some_and(|inner| {
                    inner.rules.iter().any(|rule| self.decides(rule, &self.verdicts(rule), depth + 1))
                })
            }
        };
        verdicts.iter().any(|(_, verdict)| is_last(verdict))
            || (self.meets(rule) != Truth::No && rule.expr.iter().any(sets_mark))
    }

    /// The rules of a sort that packets come to and whose conditions hold for them: for some, or for all.
    pub fn coming_to(&self, chain: &'a Chain, sort: &impl Fn(&Rule) -> bool) -> Vec<(&'a Rule, Truth)> {
        let mut found = Vec::new();
        self.come_to(chain, sort, Truth::Yes, 0, &mut found);
        found
    }

    fn come_to(
        &self,
        chain: &'a Chain,
        sort: &impl Fn(&Rule) -> bool,
        how_many: Truth,
        depth: usize,
        found: &mut Vec<(&'a Rule, Truth)>,
    ) {
        for rule in &chain.rules {
            let truth = self.meets(rule).min(how_many);
            if sort(rule) && truth != Truth::No {
                found.push((rule, truth));
            }
            let verdicts = self.verdicts(rule);
            for (truth, verdict) in &verdicts {
                if let Verdict::Jump(name) | Verdict::Goto(name) = verdict {
                    if let Some(inner) = self.target(rule, name, depth) {
                        self.come_to(inner, sort, how_many.min(*truth), depth + 1, found);
                    }
                }
            }
            if self.course(rule, &verdicts, depth).is_some() {
                return;
            }
        }
    }

    /// The first rule that accepts some of the packets, as far as it can be told.
    pub fn accepting(&self, chain: &'a Chain) -> Option<&'a Rule> {
        self.possible(chain, 0).ok()?
    }

    /// `Err`: nothing of it is left.
    fn possible(&self, chain: &'a Chain, depth: usize) -> Result<Option<&'a Rule>, ()> {
        let mut some_have_left = false;
        for rule in &chain.rules {
            let verdicts = self.verdicts(rule);
            for (truth, verdict) in &verdicts {
                let is_certain = *truth == Truth::Yes;
                let nothing_is_left = || if some_have_left { Ok(None) } else { Err(()) };
                match verdict {
                    Verdict::Accept => return Ok(Some(rule)),
                    Verdict::Drop if is_certain => return nothing_is_left(),
                    Verdict::Return if is_certain => return Ok(None),
                    Verdict::Drop | Verdict::Return => {}
                    Verdict::Jump(name) | Verdict::Goto(name) => {
                        let Some(inner) = self.target(rule, name, depth) else { continue };
                        match self.possible(inner, depth + 1) {
                            Ok(Some(rule)) => return Ok(Some(rule)),
                            Err(()) if is_certain => return nothing_is_left(),
                            Ok(None) if is_certain && matches!(verdict, Verdict::Goto(_)) => return Ok(None),
                            _ => {}
                        }
                    }
                }
            }
            some_have_left |= may_leave(&verdicts);
        }
        Ok(None)
    }

    /// Whether a rule's conditions, up to its end, hold for packets of the kind.
    pub fn meets(&self, rule: &Rule) -> Truth {
        let mut truth = Truth::Yes;
        for expression in &rule.expr {
            truth = truth.min(self.condition(expression, rule));
        }
        truth
    }

    fn target(&self, rule: &Rule, name: &str, depth: usize) -> Option<&'a Chain> {
        let name = ChainName { chain: name.to_owned(), ..rule.chain.clone() };
        (depth < DEEPEST).then(|| self.ruleset.chain(&name))?
    }

    /// A rule's verdicts for packets of the kind, and whether they meet all of them.
    fn verdicts(&self, rule: &'a Rule) -> Vec<Met<'a>> {
        let mut truth = Truth::Yes;
        let mut verdicts = Vec::new();
        for expression in &rule.expr {
            truth = truth.min(self.condition(expression, rule));
            if truth == Truth::No {
                return Vec::new();
            }
            if let Some(map) = expression.get("vmap") {
                let found = self.looked_up(map, rule).into_iter();
                verdicts.extend(found.map(|(is_it, verdict)| (truth.min(is_it), verdict)));
            }
            verdicts.extend(verdict(expression).map(|verdict| (truth, verdict)));
        }
        verdicts
    }

    /// The verdicts of a verdict map that may be meant: one, if that is certain.
    fn looked_up(&self, map: &'a Value, rule: &'a Rule) -> Vec<Met<'a>> {
        let key = map.get("key").unwrap_or(&Value::Null);
        let list = map.get("data").and_then(|data| listed(data, rule, self.sets())).unwrap_or_default();
        let find = || self.meant(key, list, rule);
        let meant = self.ruleset.meant.of(map, (key, list), &self.kind, find);
        meant.into_iter().filter_map(|(truth, at)| Some((truth, verdict(list.get(at)?.get(1)?)?))).collect()
    }

    /// The elements of such a map that may be meant, one for each verdict.
    fn meant(&self, key: &Value, list: &[Value], rule: &Rule) -> Vec<(Truth, usize)> {
        let mut meant = Vec::new();
        let mut verdicts = Vec::new();
        let mut rest = None;
        for (at, pair) in list.iter().enumerate() {
            let (Some(value), Some(verdict)) = (pair.get(0), pair.get(1)) else { continue };
            if value.as_str() == Some(CATCH_ALL) {
                rest = Some(at);
                continue;
            }
            match is_key(key, value, &self.kind, rule, self.sets()) {
                Truth::Yes => return vec![(Truth::Yes, at)],
                Truth::Maybe if !verdicts.contains(&verdict) => {
                    verdicts.push(verdict);
                    meant.push((Truth::Maybe, at));
                }
                Truth::Maybe | Truth::No => {}
            }
        }
        let left = if meant.is_empty() { Truth::Yes } else { Truth::Maybe };
        meant.extend(rest.map(|at| (left, at)));
        meant
    }

    fn sets(&self) -> &'a Sets {
        &self.ruleset.sets
    }

    /// How far an expression narrows down which packets the rest of its rule is for.
    fn condition(&self, expression: &Value, rule: &Rule) -> Truth {
        let Some((name, inside)) = expression.as_object().and_then(|object| object.iter().next()) else {
            return Truth::Maybe;
        };
        match name.as_str() {
            "match" => self.compared(inside, rule),
            "limit" | "quota" | "ct count" | "meter" => Truth::Maybe,
            // With a limit, or the like, for each element.
            "set" if inside.get("stmt").is_some() => Truth::Maybe,
            "xt" => self.xt(inside, rule),
            _ => Truth::Yes,
        }
    }

    fn compared(&self, condition: &Value, rule: &Rule) -> Truth {
        let find = || holds(condition, &self.kind, rule, self.sets());
        let list = condition.get("right").and_then(|right| listed(right, rule, self.sets()));
        let Some((left, list)) = condition.get("left").zip(list) else { return find() };
        self.ruleset.truths.of(condition, (left, list), &self.kind, find)
    }

    /// Conditions of xtables' that nftables has no text for can't be read. A rule of iptables' that looks at the
    /// connection's state and names no port is taken for the one that accepts what is established, which every such ruleset
    /// has.
    fn xt(&self, xt: &Value, rule: &Rule) -> Truth {
        let member = |name: &str| xt.get(name).and_then(Value::as_str).unwrap_or_default();
        let names_a_port = rule.expr.iter().any(|expression| {
            let payload = expression.get("match").and_then(|it| it.get("left")?.get("payload")?.get("field"));
            xtables::condition(expression) == Some(xtables::PORTS)
                || payload.and_then(Value::as_str) == Some("dport")
        });
        match (member("type"), member("name")) {
            ("target", _) | (_, "comment") => Truth::Yes,
            (_, name) if xtables::CONNECTION.contains(&name) && self.kind.state == "new" && !names_a_port => {
                Truth::No
            }
            _ => Truth::Maybe,
        }
    }
}

/// Whether some of the packets, but not all, go back by these to where the chain was called.
fn may_leave(verdicts: &[Met<'_>]) -> bool {
    verdicts.iter().any(|(truth, verdict)| {
        *truth == Truth::Maybe && matches!(verdict, Verdict::Return | Verdict::Goto(_))
    })
}

/// An expression's verdict, if it is one.
fn verdict(expression: &Value) -> Option<Verdict<'_>> {
    let (name, inside) = expression.as_object()?.iter().next()?;
    let target = || inside.get("target").and_then(Value::as_str);
    Some(match name.as_str() {
        // What a program judges may pass.
        "accept" | "queue" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "jump" => Verdict::Jump(target()?),
        "goto" => Verdict::Goto(target()?),
        "return" => Verdict::Return,
        "xt" => match inside.get("name").and_then(Value::as_str)? {
            "REJECT" => Verdict::Drop,
            "NFQUEUE" => Verdict::Accept,
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
