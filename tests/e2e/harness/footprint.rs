//! What a router's daemon keeps: in the kernel's sets, in its state directory, in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use netlab::Host;

use super::alg::Daemon;
use super::elements;

/// A look at all of it.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    /// Elements by set or map, those that are empty left out.
    pub elements: BTreeMap<String, usize>,
    /// Sessions in the state directory.
    pub records: usize,
    /// Resident memory of the daemon, in KiB.
    pub memory: u64,
    /// The most that it ever was, in KiB.
    pub peak: u64,
}

impl Footprint {
    /// As it is now.
    pub fn of(router: &Host, daemon: &Daemon) -> Result<Footprint> {
        let pid = daemon.process.id();
        Ok(Footprint {
            elements: elements::count(router)?,
            records: records(&daemon.state_dir())?,
            memory: memory(pid, "VmRSS:")?,
            peak: memory(pid, "VmHWM:")?,
        })
    }

    /// How many elements a set has, IPv4 and IPv6 together.
    pub fn elements_of(&self, set: &str) -> usize {
        ["4", "6"].iter().filter_map(|family| self.elements.get(&format!("{set}{family}"))).sum()
    }

    /// Whether nothing is kept of any session, or of its pinholes.
    pub fn is_nothing(&self) -> bool {
        self.elements.is_empty() && self.records == 0
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB (at most {}), {} sessions saved", self.memory, self.peak, self.records)?;
        self.elements.iter().try_for_each(|(set, number)| write!(f, ", {set} {number}"))
    }
}

/// The slots that are in use: those that do not begin with a length of 0 (src/daemon/slots.rs).
fn records(state_dir: &Path) -> Result<usize> {
    let mut records = 0;
    for size in [512, 2048, 8192] {
        let file = state_dir.join(format!("sessions-{size}"));
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        records += bytes.chunks(size).filter(|slot| slot.iter().take(4).any(|byte| *byte != 0)).count();
    }
    Ok(records)
}

/// A line of proc(5)'s `status`, in KiB.
fn memory(pid: u32, what: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
    Ok(kib.parse()?)
}
