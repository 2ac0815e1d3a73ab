//! Whether every worker goes on: what systemd's watchdog is told depends on it. A worker that hangs with its engine
//! locked stops housekeeping, and so the sign of life; one that hangs elsewhere shows by packets that wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::error;

use super::queues;

/// How often a worker may be found without progress, though packets wait for it. The looks are a second apart.
const PATIENCE: u32 = 3;

/// Counts the packets that a worker has taken up.
pub type Progress = Arc<AtomicU64>;

/// A worker as it was found last.
#[derive(Debug)]
struct Worker {
    queue: u16,
    progress: Progress,
    seen: u64,
    /// How often in a row it was found where it was.
    stuck: u32,
}

/// All workers.
#[derive(Debug)]
pub struct Liveness(Vec<Worker>);

impl Liveness {
    /// Of the workers that read these queues.
    pub fn new(workers: impl IntoIterator<Item = (u16, Progress)>) -> Self {
        let workers = workers.into_iter();
        Self(workers.map(|(queue, progress)| Worker { queue, progress, seen: 0, stuck: 0 }).collect())
    }

    /// Looks at all of them. Returns whether they go on, as far as they have anything to do.
    pub fn all_go_on(&mut self) -> bool {
        let queues = queues::bound();
        self.look(|number| queues.iter().any(|queue| queue.number == number && queue.waiting > 0))
    }

    fn look(&mut self, has_waiting: impl Fn(u16) -> bool) -> bool {
        let mut all = true;
        for worker in &mut self.0 {
            let count = worker.progress.load(Ordering::Relaxed);
            let stands = count == worker.seen && has_waiting(worker.queue);
            worker.seen = count;
            worker.stuck = if stands { worker.stuck.saturating_add(1) } else { 0 };
            if worker.stuck == PATIENCE {
                error!("queue {}: packets wait, and its worker does not go on", worker.queue);
            }
            all &= worker.stuck < PATIENCE;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stands_still_is_noticed_if_packets_wait_for_it() {
        let counters: Vec<Progress> = (0..2).map(|_| Progress::default()).collect();
        let mut liveness = Liveness::new((7..).zip(counters.iter().cloned()));
        assert!((0..10).all(|_| liveness.look(|_| false)), "nothing to do");
        let looks: Vec<_> = (0..4)
            .map(|_| {
                counters[1].fetch_add(1, Ordering::Relaxed);
                liveness.look(|_| true)
            })
            .collect();
        assert_eq!(looks, [true, true, false, false]);
        counters[0].fetch_add(1, Ordering::Relaxed);
        assert!(liveness.look(|_| true), "it goes on");
    }
}
