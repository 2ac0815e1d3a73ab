//! What really passed: SYNs counted by port, where they come to a router, where its filter has let them through, and
//! where they arrive.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlab::Host;

/// Packets by TCP port.
pub type Syns = BTreeMap<u16, u64>;

/// Sets of ftpalg's table without which nothing is open.
const OPEN: [&str; 4] = ["open", "mark", "dnat", "snat"];

/// Counts what arrives at an end.
pub fn watch_end(host: &Host) -> Result<()> {
    host.nft(&format!("table inet witness {{ {} {} }}", set("arrived"), chain("input", 300, "arrived")))
}

/// Counts what comes to a router, and what its filter lets through: to another host or to itself.
pub fn watch_router(host: &Host) -> Result<()> {
    let sets = set("arrived") + &set("passed");
    let chains = [
        chain("prerouting", -350, "arrived"),
        chain("forward", 100, "passed"),
        // Behind the filter, but before the chain in which ftpalg takes control connections.
        chain("input", 100, "passed"),
    ];
    host.nft(&format!("table inet witness {{ {sets} {} }}", chains.concat()))
}

fn set(name: &str) -> String {
    format!("set {name} {{ type inet_service; size 65535; flags dynamic; }}\n")
}

fn chain(hook: &str, priority: i32, set: &str) -> String {
    format!(
        "chain {hook} {{ type filter hook {hook} priority {priority};
            tcp flags & (syn | ack) == syn add @{set} {{ tcp dport counter }}
        }}\n"
    )
}

/// The counts of a witness.
pub fn syns(host: &Host, name: &str) -> Result<Syns> {
    let text = host.run("nft", ["-n", "list", "set", "inet", "witness", name])?.success()?.stdout;
    let Some((_, elements)) = text.split_once("elements = {") else { return Ok(Syns::new()) };
    let elements = elements.split('}').next().unwrap_or_default();
    let read = |element: &str| {
        let words = element.split_whitespace().collect::<Vec<_>>();
        let packets = words.iter().position(|word| *word == "packets")?;
        Some((words.first()?.parse().ok()?, words.get(packets + 1)?.parse().ok()?))
    };
    elements
        .split(',')
        .map(|element| read(element).with_context(|| format!("{element:?} in {text}")))
        .collect()
}

/// The sets and maps of ftpalg's table, and what they hold.
#[derive(Debug)]
pub struct Table {
    sets: BTreeMap<String, String>,
}

impl Table {
    /// As it is now.
    pub fn of(router: &Host) -> Result<Table> {
        let text = router.run("nft", ["-n", "list", "table", "inet", "ftpalg"])?.success()?.stdout;
        let mut sets = BTreeMap::new();
        let mut name = None;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("set" | "map"), Some(set)) => name = Some(set.to_owned()),
                (Some("chain"), _) => name = None,
                _ => {}
            }
            if let Some(name) = &name {
                let content: &mut String = sets.entry(name.clone()).or_default();
                content.push_str(line);
                content.push('\n');
            }
        }
        Ok(Table { sets })
    }

    /// Which of the sets hold a pinhole of this port. Pinholes are keyed by source, destination and port, and `dnat`
    /// holds another port as well.
    pub fn holds(&self, port: u16) -> Vec<&str> {
        self.holding(port).filter(|name| OPEN.iter().any(|open| name.starts_with(open))).collect()
    }

    /// Whether a pinhole of this port is open, and no connection has come through it.
    pub fn is_open(&self, port: u16) -> bool {
        let stands_in = |set: &str| self.holding(port).any(|name| name.starts_with(set));
        stands_in("open") && !stands_in("spent")
    }

    /// Whether a SYN to this port would be held back.
    pub fn is_pending(&self, port: u16) -> bool {
        self.holding(port).any(|name| name.starts_with("pending"))
    }

    fn holding(&self, port: u16) -> impl Iterator<Item = &str> {
        let key = format!(" . {port}");
        let holds = move |content: &str| {
            content.match_indices(&key).any(|(at, _)| {
                !content[at + key.len()..].starts_with(|next: char| next.is_ascii_digit() || next == '.')
            })
        };
        self.sets.iter().filter(move |(_, content)| holds(content)).map(|(name, _)| name.as_str())
    }
}
