//! The daemon's own tables: there, whole, and as this configuration asks for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::again;
use super::finding::{Finding, Id, Mend};
use super::ruleset::{elements, objects, string};
use crate::netfilter::{Listing, ListingError, Trial};

/// How many of the objects that differ are named.
const MOST_NAMED: usize = 3;

/// What differs in one table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// What should be there, and as it should be.
    wanted: Vec<String>,
    /// What should not be there, as `nft delete` names it.
    foreign: Vec<String>,
}

/// The tables while the daemon runs.
pub fn look(listing: &mut Listing, trial: &Trial) -> Result<Vec<Finding>, ListingError> {
    let is_right = |found: &Vec<Finding>| found.iter().all(|finding| finding.id == Id::Table);
    again::until(is_right, || look_once(listing, trial))
}

fn look_once(listing: &mut Listing, trial: &Trial) -> Result<Vec<Finding>, ListingError> {
    let reload = || Mend::command("systemctl reload ftpalg");
    let Some(table) = listing.own_table()? else {
        let what = "table inet ftpalg is not there: no control connection is read";
        return Ok(vec![Finding::wrong(Id::TableMissing, what, reload())]);
    };
    if table.is_dormant {
        let what = "table inet ftpalg is switched off (flags dormant): no control connection is read";
        return Ok(vec![Finding::wrong(Id::TableChanged, what, Mend::command("nft add table inet ftpalg"))]);
    }
    let mut differences = compare(&trial.table, &table.listing);
    let ports = listing.set("inet", "ftpalg", "control_ports");
    if ports.map_or(true, |ports| elements(&ports) != elements(&trial.control_ports)) {
        differences.wanted.push("the elements of set control_ports".to_owned());
    }
    if let Some(wanted) = &trial.hold {
        match listing.hold()? {
            Some(hold) if hold == *wanted => {}
            Some(_) => differences.wanted.push("table inet ftpalg_hold".to_owned()),
            None => {
                let what = "table inet ftpalg_hold is not there, which keeps a firewall reload from corrupting sessions";
                let mend = Mend::command("systemctl restart ftpalg");
                return Ok(vec![Finding::wrong(Id::TableMissing, what, mend)]);
            }
        }
    }
    Ok(tell(differences))
}

fn tell(Differences { mut wanted, foreign }: Differences) -> Vec<Finding> {
    let mut found = Vec::new();
    if !wanted.is_empty() {
        let more = wanted.len().saturating_sub(MOST_NAMED);
        wanted.truncate(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = format!(
            "ftpalg's tables are not as this configuration and this version of ftpalg load them: {}{more}. Somebody has \
             changed them, or the daemon has not read the configuration since it was changed",
            wanted.join(", ")
        );
        found.push(Finding::wrong(Id::TableChanged, what, Mend::command("systemctl reload ftpalg")));
    }
    if !foreign.is_empty() {
        let what = format!("table inet ftpalg holds what is not ftpalg's: {}", foreign.join(", "));
        let delete = |one: &String| {
            let (kind, name) = one.split_once(' ').unwrap_or((one, ""));
            format!("nft delete {kind} inet ftpalg {name}")
        };
        let mend = Mend::command(foreign.iter().map(delete).collect::<Vec<_>>().join("; "));
        found.push(Finding::warning(Id::TableChanged, what, mend));
    }
    if found.is_empty() {
        found.push(Finding::right(Id::Table, "table inet ftpalg is as the daemon loads it"));
    }
    found
}

/// What a daemon that is not there has left, if anything.
pub fn left(listing: &mut Listing) -> Result<Option<Finding>, ListingError> {
    let start = || Mend::command("systemctl start ftpalg");
    if let Some(table) = listing.own_table()? {
        let is_whole = contents(&table.listing).keys().any(|name| name == "chain divert");
        return Ok(Some(if is_whole {
            let what = "table inet ftpalg is left from a daemon that was killed: shifted connections wait, others \
                        fare as `when-down` says";
            Finding::warning(Id::TableLeft, what, start())
        } else {
            let what = "a guard holds up connections whose text was changed until ftpalg is back (`nft delete table \
                        inet ftpalg` gives them up)";
            Finding::warning(Id::GuardWaiting, what, start())
        }));
    }
    if listing.hold()?.is_none() {
        return Ok(None);
    }
    let what = "table inet ftpalg_hold is kept from a daemon that is not there any more: it holds up connections whose \
                text was changed until ftpalg is back";
    Ok(Some(Finding::warning(Id::GuardWaiting, what, start())))
}

fn compare(wanted: &str, there: &str) -> Differences {
    let (wanted, there) = (contents(wanted), contents(there));
    let differs = |name: &&String| there.get(*name) != wanted.get(*name);
    Differences {
        wanted: wanted.keys().filter(differs).cloned().collect(),
        foreign: there.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect(),
    }
}

/// A table's objects by kind and name, without what differs from one loading to the next; chains with their rules.
fn contents(listing: &str) -> BTreeMap<String, Vec<Value>> {
    let listing: Value = serde_json::from_str(listing).unwrap_or_default();
    let mut contents: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (kind, object) in objects(&listing) {
        let name = match kind {
            "metainfo" | "table" => continue,
            "rule" => format!("chain {}", string(object, "chain")),
            _ => format!("{kind} {}", string(object, "name")),
        };
        let mut object = plain(object);
        if let (Some(members), "set" | "map") = (object.as_object_mut(), kind) {
            members.remove("elem");
            // How many there are, from nftables 1.1.7 on.
            members.remove("count");
        }
        contents.entry(name).or_default().push(object);
    }
    contents
}

/// Without handles, counts and the table's name.
fn plain(object: &Value) -> Value {
    match object {
        Value::Object(members) => {
            let differing = ["handle", "packets", "bytes", "table", "index"];
            let kept = members.iter().filter(|(name, _)| !differing.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_set_holds_makes_no_difference_and_what_it_may_hold_does() {
        let listing = |size: u32, more: &str| {
            format!(
                r#"{{"nftables": [{{"set": {{"name": "used4", "handle": {size}, "size": {size}{more}}}}}]}}"#
            )
        };
        let wanted = listing(100, "");
        assert_eq!(compare(&wanted, &listing(100, r#", "count": 1"#)), Differences::default());
        assert_eq!(compare(&wanted, &listing(100, r#", "elem": ["10.0.0.1"]"#)), Differences::default());
        assert_eq!(compare(&wanted, &listing(200, "")).wanted, ["set used4"]);
    }
}
