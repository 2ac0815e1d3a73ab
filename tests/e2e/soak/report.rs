//! What a soak did, for people: a line for everything that happened, and a file for every failure.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};

/// What was counted over all scenes.
#[derive(Debug, Default)]
pub struct Counts {
    pub sessions: AtomicU64,
    pub transfers: AtomicU64,
    pub bytes: AtomicU64,
    pub kills: AtomicU64,
    pub reloads: AtomicU64,
    pub addresses: AtomicU64,
    /// Sessions that failed while a firewall was reloaded, which is known to lose data connections.
    pub casualties: AtomicU64,
    /// Sessions that failed for no known reason.
    pub faults: AtomicU64,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Report {
    dir: PathBuf,
    events: Mutex<File>,
    begun: Instant,
    seed: u64,
    /// What was counted.
    pub counts: Counts,
}

impl Report {
    /// In a fresh `target/tmp/soak/`. `FTPALG_SOAK_SEED` repeats the dice of an earlier one.
    pub fn new() -> Result<Report> {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("soak");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        let seed = env::var("FTPALG_SOAK_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(u64::from(process::id()) * 1000);
        let events = Mutex::new(File::create(dir.join("events.log"))?);
        let report = Report { dir, events, begun: Instant::now(), seed, counts: Counts::default() };
        report.note(&format!("seed {seed}"));
        Ok(report)
    }

    /// What the dice of this soak begin with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Writes a line.
    pub fn note(&self, what: &str) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // A report that can't be written is no fault of what is tested.
        let _ = writeln!(events, "{:8.1} {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Keeps a text of its own.
    pub fn keep(&self, name: &str, text: &str) {
        let _ = fs::write(self.dir.join(name), text);
    }

    /// The last line: all numbers.
    pub fn conclude(&self) -> Result<()> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.counts;
        let summary = format!(
            "{} sessions, {} transfers, {} MiB; {} kills, {} reloads, {} changes of address; {} sessions failed \
             during a reload, {} otherwise",
            of(&counts.sessions),
            of(&counts.transfers),
            of(&counts.bytes) >> 20,
            of(&counts.kills),
            of(&counts.reloads),
            of(&counts.addresses),
            of(&counts.casualties),
            of(&counts.faults)
        );
        self.note(&summary);
        fs::write(self.dir.with_extension("txt"), format!("{summary}\n"))?;
        ensure!(of(&counts.transfers) > 0, "nothing was done");
        ensure!(of(&counts.faults) == 0, "failures, see {}: {summary}", self.dir.display());
        Ok(())
    }
}
