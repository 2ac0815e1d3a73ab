//! Connections of which the kernel was told lately that nothing is to be queued. A SYN of another one of the same name may have
//! passed the kernel's rules before, and come by here afterwards: what it has put into `control_new` is gone then.

use std::collections::HashSet;

use super::control::ControlTuple;

/// Names, each for at least as long as it takes from one look at the clock to the next. A packet waits for much less.
#[derive(Debug, Default)]
pub struct Dismissed {
    since_last_look: HashSet<ControlTuple>,
    before: HashSet<ControlTuple>,
}

impl Dismissed {
    /// The kernel is told of this one.
    pub fn insert(&mut self, tuple: ControlTuple) {
        self.since_last_look.insert(tuple);
    }

    /// Whether the kernel was told of this one.
    pub fn contains(&self, tuple: &ControlTuple) -> bool {
        self.since_last_look.contains(tuple) || self.before.contains(tuple)
    }

    /// All of them, some twice.
    pub fn names(&self) -> impl Iterator<Item = &ControlTuple> {
        self.since_last_look.iter().chain(&self.before)
    }

    /// At each look at the clock: what was old is forgotten.
    pub fn age(&mut self) {
        self.before = std::mem::take(&mut self.since_last_look);
    }
}
