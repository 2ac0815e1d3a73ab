//! The text of the table, in nft's language: nft-rules/ftpalg.nft with the configuration's numbers in front of it and
//! the elements of live sessions behind.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::time::Duration;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Pinhole, PinholeKey};

use super::element::{Element, MixedFamilies, Set};
use crate::config::{Config, WhenDown};

/// The names of the daemon's own tables.
pub const OWN_TABLES: [&str; 3] = ["ftpalg", HOLD_NAMES[0], HOLD_NAMES[1]];

/// The sets of shifted connections, by table.
pub const HOLDING: [(&str, [&str; 2]); 3] = [
    ("ftpalg", ["shifted4", "shifted6"]),
    (HOLD_NAMES[0], ["held4", "held6"]),
    (HOLD_NAMES[1], ["held4", "held6"]),
];

/// The names that the table may have which outlives a flush: two, so that a new daemon can put in its own before it
/// takes out that of the one before it.
pub const HOLD_NAMES: [&str; 2] = ["ftpalg_hold", "ftpalg_hold_2"];

const TABLE: &str = include_str!("../../nft-rules/ftpalg.nft");
/// What the configuration puts into the table's sets.
const CONTROL_PORTS: &str = "add element inet ftpalg control_ports $control_ports\n\
                             add element inet ftpalg server_ports $control_ports\n";
const GUARD: &str = include_str!("../../nft-rules/guard.nft");
const HOLD: &str = include_str!("../../nft-rules/hold.nft");

/// What the kernel is to hold from the first moment on, because sessions are alive already.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live<'a> {
    /// The control connections.
    pub sessions: &'a [ControlTuple],
    /// Those of them whose elements can't have run down by themselves.
    pub lasting: &'a [ControlTuple],
    /// Those of them that are shifted.
    pub shifted: &'a [ControlTuple],
    /// Those of these that are not over: what a daemon that ends leaves a guard for.
    pub unfinished: &'a [ControlTuple],
    /// Those that must not pass unseen, though they are not shifted.
    pub watched: &'a [ControlTuple],
    /// The open pinholes.
    pub pinholes: &'a [Pinhole],
    /// Pinholes that may open at any moment, and how long that is awaited.
    pub expected: &'a [(PinholeKey, Duration)],
    /// Pinholes that were used, and for how long their SYN may be repeated.
    pub spent: &'a [(PinholeKey, Duration)],
}

impl Live<'_> {
    /// The command that puts the ports into a set that the control connections lead to.
    fn server_ports(&self, table: &str, set: &str) -> String {
        let tuples = [self.sessions, self.shifted, self.watched].into_iter().flatten();
        let ports: BTreeSet<u16> = tuples.map(|tuple| tuple.server.port()).collect();
        if ports.is_empty() {
            return String::new();
        }
        format!("add element inet {table} {set} {{ {} }}\n", list(ports))
    }

    fn commands(&self) -> Result<String, MixedFamilies> {
        let mut additions = Additions::default();
        for tuple in self.sessions {
            additions.add(&Element::control(Set::Control, tuple)?);
        }
        for tuple in self.shifted.iter().chain(self.watched) {
            additions.add(&Element::control(Set::Shifted, tuple)?);
        }
        for pinhole in self.pinholes {
            Element::open(pinhole)?.iter().for_each(|element| additions.add(element));
        }
        for (key, timeout) in self.expected {
            additions.add(&Element::pinhole(Set::Pending, key, *timeout)?);
        }
        for (key, timeout) in self.spent {
            additions.add(&Element::pinhole(Set::Spent, key, *timeout)?);
        }
        Ok(additions.commands("ftpalg"))
    }
}

/// Elements to be added, as text, by the names of their sets. A command for all of a set, because one of its own costs
/// libnftables as much as an element.
#[derive(Default)]
struct Additions(BTreeMap<&'static CStr, String>);

impl Additions {
    fn add(&mut self, element: &Element) {
        let list = self.0.entry(element.set_name()).or_default();
        let separator = if list.is_empty() { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = write!(list, "{separator}{element}");
    }

    fn commands(&self, table: &str) -> String {
        let command = |(set, list): (&&CStr, &String)| {
            format!("add element inet {table} {} {{ {list} }}\n", set.to_string_lossy())
        };
        self.0.iter().map(command).collect()
    }
}

/// The table as a running daemon would have it, for people to read.
pub fn text(config: &Config) -> String {
    let queues = match config.workers {
        0 | 1 => config.queue.to_string(),
        workers => format!("{}-{}", config.queue, config.queue.saturating_add(workers - 1)),
    };
    let bypass = if config.when_down == WhenDown::Pass { "flags bypass " } else { "" };
    format!(
        "{}\n{TABLE}\n{CONTROL_PORTS}\n\
         # What the daemon puts into the two chains while it runs.\n\
         flush chain inet ftpalg divert\n\
         flush chain inet ftpalg divert_shifted\n\
         add rule inet ftpalg divert queue {bypass}to {queues}\n\
         add rule inet ftpalg divert_shifted queue to {queues}\n",
        definitions("define", config)
    )
}

/// How a table that is there already makes way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Its rules are replaced, its sets and counters stay: what the packet path has put into `control_new`, `spent`
    /// and `used` outlives a restart of the daemon.
    Rules,
    /// It goes, for it has sets or chains that are not those of this version.
    Table,
}

/// The transaction that puts the table in, with nothing queued yet: until the daemon listens, shifted packets are
/// dropped and the others fare as when it is down.
pub fn installation(config: &Config, replace: Replace, live: Live<'_>) -> Result<String, MixedFamilies> {
    let verb = match replace {
        Replace::Rules => "flush",
        Replace::Table => "delete",
    };
    // The context that runs this may have run it before.
    let mut text = definitions("redefine", config);
    text += "add table inet ftpalg\n";
    text += verb;
    text += " table inet ftpalg\n";
    text += TABLE;
    text += "\nflush set inet ftpalg control_ports\n";
    text += CONTROL_PORTS;
    for set in Set::RESTORED {
        let kind = if set.is_map() { "map" } else { "set" };
        for name in set.names() {
            // Writing to a String does not fail.
            let _ = writeln!(text, "flush {kind} inet ftpalg {}", name.to_string_lossy());
        }
    }
    if config.when_down == WhenDown::Drop {
        text += "add rule inet ftpalg divert drop\n";
    }
    text += &live.server_ports("ftpalg", "server_ports");
    text += &live.commands()?;
    Ok(text)
}

/// The table that outlives a flush, as its owner puts it in.
pub fn hold(config: &Config, name: &str) -> String {
    definitions("redefine", config) + &HOLD.replace(HOLD_NAMES[0], name)
}

/// Takes that table out; only its owner can.
pub fn hold_removal(name: &str) -> String {
    format!("delete table inet {name}\n")
}

/// What it is to hold from the beginning, because there was a daemon before this one.
pub fn held(live: Live<'_>, name: &str) -> String {
    let held = live.shifted.iter().chain(live.watched).map(|tuple| (Set::Held, tuple));
    let watched = live.sessions.iter().map(|tuple| (Set::Watched, tuple));
    let mut additions = Additions::default();
    for element in held.chain(watched).flat_map(|(set, tuple)| Element::control(set, tuple)) {
        additions.add(&element);
    }
    live.server_ports(name, "watched_ports") + &additions.commands(name)
}

/// The transaction that takes the table out. While shifted connections live, a table stays that lets none of their
/// packets pass.
pub fn removal(shifted: &[ControlTuple]) -> Result<String, MixedFamilies> {
    let mut text = String::from("add table inet ftpalg\ndelete table inet ftpalg\n");
    if !shifted.is_empty() {
        text += GUARD;
        text += &Live { shifted, ..Live::default() }.commands()?;
    }
    Ok(text)
}

fn definitions(verb: &str, config: &Config) -> String {
    let (ports, mark) = (list(config.control_ports.iter().copied()), config.mark);
    format!("{verb} control_ports = {{ {ports} }}\n{verb} pinhole_mark = {mark:#010x}\n")
}

fn list(ports: impl IntoIterator<Item = u16>) -> String {
    ports.into_iter().map(|port| port.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libnftables 1.1.3, Debian 13's, follows a null pointer where one transaction makes a set with elements and empties it.
    #[test]
    fn no_set_that_is_emptied_is_made_with_elements() {
        for replace in [Replace::Rules, Replace::Table] {
            let text =
                installation(&Config::default(), replace, Live::default()).unwrap().replace("\n\t\t", " ");
            let emptied = text.lines().filter_map(|line| line.strip_prefix("flush ")?.split(' ').nth(3));
            let emptied: BTreeSet<&str> = emptied.collect();
            assert!(emptied.contains("control_ports") && emptied.contains("open4"), "{emptied:?}");
            let declared = text.split("\n\t").filter_map(|part| {
                let (kind, rest) = part.split_once(' ')?;
                ["set", "map"].contains(&kind).then(|| rest.split_once(" {")).flatten()
            });
            let with_elements: BTreeSet<&str> =
                declared.filter(|(_, body)| body.contains("elements")).map(|(name, _)| name).collect();
            assert_eq!(emptied.intersection(&with_elements).count(), 0, "{with_elements:?}");
        }
    }
}
