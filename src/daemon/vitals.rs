//! What the daemon counts beside its engines. Numbers that any thread may add to and read, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::netfilter::Counter;

/// A count. Only whoever reads it to show it cares about its value, so it orders nothing.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts since the daemon's start.
#[derive(Debug, Default)]
pub struct Vitals {
    /// Transactions that nftables was asked for, for sessions.
    pub transactions: Count,
    /// Those that it refused; not those that came while its table was away, which is put back.
    pub transactions_failed: Count,
    /// How often what somebody else had changed in the ruleset was put back.
    pub repairs: Count,
    /// How often a session could not be saved.
    pub unsaved: Count,
    /// Lines that the log was spared.
    pub lines_left_out: Count,
    /// The table's own counters, as they were last read.
    pub table: Mutex<Vec<Counter>>,
}

/// The upper bounds of a latency's buckets, in nanoseconds: from what a packet takes that nobody has to think about,
/// to what a user of FTP would notice.
pub const BOUNDS: [u64; 13] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
];

/// How long one worker's verdicts took: from when it has a packet until the kernel has its verdict.
#[derive(Debug, Default)]
pub struct Latency {
    /// One for each of [`BOUNDS`], and one for what took longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// A worker's.
pub type SharedLatency = Arc<Latency>;

impl Latency {
    /// So many verdicts took so long, each of them.
    pub fn observe(&self, took: Duration, verdicts: u64) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(verdicts, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds.saturating_mul(verdicts), Ordering::Relaxed);
    }

    /// Adds what it has seen to a sum over workers.
    pub fn add_to(&self, sum: &mut Latencies) {
        sum.buckets.iter_mut().zip(&self.buckets).for_each(|(sum, one)| *sum += one.load(Ordering::Relaxed));
        sum.nanoseconds += self.nanoseconds.load(Ordering::Relaxed);
    }
}

/// The latencies of all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    /// How many verdicts fell into each bucket, and into none.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All of them together.
    pub nanoseconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_falls_into_the_first_bucket_that_holds_it() {
        let latency = Latency::default();
        for nanoseconds in [0, 5_000, 5_001, 250_000_000, 250_000_001] {
            latency.observe(Duration::from_nanos(nanoseconds), 1);
        }
        latency.observe(Duration::MAX, 1);
        latency.observe(Duration::from_nanos(50_000_001), 0);
        let mut sum = Latencies::default();
        latency.add_to(&mut sum);
        let mut expected = [0; BOUNDS.len() + 1];
        (expected[0], expected[1], expected[BOUNDS.len() - 1], expected[BOUNDS.len()]) = (2, 1, 1, 2);
        assert_eq!(sum.buckets, expected);
        latency.add_to(&mut sum);
        assert_eq!(sum.buckets.iter().sum::<u64>(), 12);
        assert!(BOUNDS.is_sorted());
    }
}
