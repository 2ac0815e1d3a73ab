//! Counters that should stay where they are: when one of them has gone up, the log says what that means.

use std::collections::HashMap;
use std::ops::Range;

use tracing::{debug, warn};

use super::shared::{Shared, lock};
use super::{clock, queues};

/// How many seconds lie between two looks: reading the table's counters costs a transaction's time.
const INTERVAL: u64 = 10;

/// The table's counters (nft-rules/ftpalg.nft) that tell of a bound that was reached.
const BOUNDS: [(&str, &str); 2] = [
    (
        "sessions_unseen",
        "new control connections were not looked at: too many SYNs wait for a server's greeting",
    ),
    ("used_full", "data connections may fail if their SYN is lost: too many have begun within 150 seconds"),
];

/// What the counters said at the last look.
#[derive(Debug)]
pub struct Alarms {
    /// The daemon's.
    queues: Range<u16>,
    due: u64,
    /// Whether the table's counters have been read: what they had counted before is an earlier daemon's. The others
    /// began with this one.
    is_primed: bool,
    last: HashMap<String, u64>,
}

impl Alarms {
    /// For a daemon that reads these queues.
    pub fn new(queues: Range<u16>) -> Self {
        Self { queues, due: 0, is_primed: false, last: HashMap::new() }
    }

    /// Looks at the counters, if it is time.
    pub fn look(&mut self, shared: &Shared) {
        let now = clock::now().as_secs();
        if now < self.due {
            return;
        }
        self.due = now + INTERVAL;
        let overflow = shared.all_engines().map(|engine| lock(engine).counters().overflow).sum();
        self.note("overflow", overflow, "control connections were not looked at: too many are alive");
        let queues = queues::bound();
        for number in self.queues.clone() {
            let dropped =
                queues.iter().filter(|queue| queue.number == number).map(|queue| queue.dropped).sum();
            self.note(
                &format!("queue {number}"),
                dropped,
                "packets came faster than they could be read; their senders send them again",
            );
        }
        match lock(&shared.firewall).counters() {
            Ok(counters) => {
                for (name, meaning) in BOUNDS {
                    if let Some(counter) = counters.iter().find(|counter| counter.name == name) {
                        if !self.is_primed {
                            self.last.insert(name.to_owned(), counter.packets);
                        }
                        self.note(name, counter.packets, meaning);
                    }
                }
                self.is_primed = true;
                *lock(&shared.vitals.table) = counters;
            }
            Err(error) => debug!("{error}"),
        }
    }

    fn note(&mut self, name: &str, count: u64, meaning: &str) {
        let before = self.last.insert(name.to_owned(), count).unwrap_or(0);
        if count > before {
            warn!("{} {meaning}", count - before);
        }
    }
}
