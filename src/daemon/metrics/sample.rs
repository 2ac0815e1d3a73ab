//! What is so at one moment. Locks are held one at a time, and no longer than it takes to copy numbers.

use std::fs;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ftpalg::engine::Counters;
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

use super::super::clock;
use super::super::queues::{self, Bound};
use super::super::shared::{Shared, lock};
use super::super::vitals::{Latencies, SharedLatency};
use crate::netfilter::Counter;

/// All that is shown.
#[derive(Debug, Default)]
pub struct Sample {
    /// Of all engines together.
    pub counters: Counters,
    /// Control connections that are followed.
    pub sessions: usize,
    /// Of those, the ones whose packets are translated.
    pub shifted: usize,
    /// Pinholes that wait for their connection. That one was used is known after a second.
    pub pinholes: usize,
    /// The daemon's.
    pub queues: Vec<Bound>,
    /// Of all workers together.
    pub latencies: Latencies,
    /// See [`super::super::vitals::Vitals`].
    pub transactions: u64,
    pub transactions_failed: u64,
    pub repairs: u64,
    pub unsaved: u64,
    pub lines_left_out: u64,
    pub table: Vec<Counter>,
    pub process: Process,
}

/// What the kernel says of this process.
#[derive(Debug, Default, Clone, Copy)]
pub struct Process {
    /// Since it was started.
    pub cpu: Duration,
    /// Bytes.
    pub resident_memory: Option<u64>,
    /// Since 1970. The clock may be set meanwhile; this is asked for once, so that it changes with the process alone.
    pub started: Option<Duration>,
}

impl Sample {
    /// Takes one.
    pub fn take(shared: &Shared, queues: Range<u16>, latencies: &[SharedLatency], process: Process) -> Self {
        let vitals = &shared.vitals;
        let mut sample = Self {
            queues: queues::bound().into_iter().filter(|queue| queues.contains(&queue.number)).collect(),
            transactions: vitals.transactions.get(),
            transactions_failed: vitals.transactions_failed.get(),
            repairs: vitals.repairs.get(),
            unsaved: vitals.unsaved.get(),
            lines_left_out: vitals.lines_left_out.get(),
            table: lock(&vitals.table).clone(),
            process,
            ..Self::default()
        };
        latencies.iter().for_each(|latency| latency.add_to(&mut sample.latencies));
        let now = clock::now();
        for engine in shared.all_engines() {
            let engine = lock(engine);
            sample.counters += engine.counters();
            for session in engine.sessions() {
                sample.sessions += 1;
                sample.shifted += usize::from(session.needs_translation());
                let waits = session.dialogue.unused().is_some_and(|(_, until)| until > now);
                sample.pinholes += usize::from(waits);
            }
        }
        sample
    }
}

impl Process {
    /// This one.
    pub fn own() -> Self {
        Self { started: started(), ..Self::default() }.now()
    }

    /// The same, with what has changed.
    pub fn now(self) -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let cpu = Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0));
        Self { cpu, resident_memory: resident_memory(), ..self }
    }
}

/// The second number of /proc/self/statm, in pages.
fn resident_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

/// Field 22 of /proc/self/stat, in clock ticks since boot; the name, field 2, may hold anything.
fn started() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: u64 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let since_boot = Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1));
    let age = clock::now().checked_sub(since_boot)?;
    SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_as_it_is() {
        let process = Process::own();
        assert!(process.resident_memory.unwrap() > 1 << 20, "{process:?}");
        assert!(process.cpu < Duration::from_secs(3600), "{process:?}");
        let age = SystemTime::now().duration_since(UNIX_EPOCH + process.started.unwrap()).unwrap();
        assert!(age < Duration::from_secs(3600), "{process:?}");
    }
}
