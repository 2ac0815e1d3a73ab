//! How much happens in a second, for as long as somebody watches.

use std::collections::VecDeque;

use crate::status::document::Document;

/// How many seconds are kept: more than a terminal is wide.
const KEPT: usize = 600;

/// Sums as a document has them.
#[derive(Debug, Clone, Copy)]
struct Sums {
    time: f64,
    pid: u32,
    packets: u64,
    sessions: u64,
    refused: u64,
}

/// Happenings a second, the newest last.
#[derive(Debug, Default)]
pub struct Rates {
    last: Option<Sums>,
    /// Packets that came by the daemon.
    pub packets: VecDeque<u64>,
    /// Control connections that began.
    pub sessions: VecDeque<u64>,
    /// Pinholes that were refused.
    pub refused: VecDeque<u64>,
}

impl Rates {
    /// The next document.
    pub fn note(&mut self, document: &Document) {
        let counters = &document.counters;
        let now = Sums {
            time: document.daemon.time,
            pid: document.daemon.pid,
            packets: counters.all_packets(),
            sessions: counters.connections,
            refused: counters.refused.values().sum(),
        };
        // A daemon that was started anew has begun to count anew.
        if let Some(last) = self.last.filter(|last| last.pid == now.pid && last.time < now.time) {
            let seconds = now.time - last.time;
            push(&mut self.packets, last.packets, now.packets, seconds);
            push(&mut self.sessions, last.sessions, now.sessions, seconds);
            push(&mut self.refused, last.refused, now.refused, seconds);
        }
        self.last = Some(now);
    }
}

fn push(rates: &mut VecDeque<u64>, before: u64, now: u64, seconds: f64) {
    if rates.len() >= KEPT {
        rates.pop_front();
    }
    rates.push_back(a_second(now.saturating_sub(before), seconds));
}

/// Rounded, but not down to nothing.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for a graph; both are positive, and what is too large saturates"
)]
fn a_second(count: u64, seconds: f64) -> u64 {
    ((count as f64 / seconds).round() as u64).max(u64::from(count > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::example;

    #[test]
    fn rates_are_differences_over_time_and_begin_anew_with_the_daemon() {
        let mut rates = Rates::default();
        let mut document = example::document();
        let mut after = |seconds: f64, packets: u64, pid: u32| {
            document.daemon.time += seconds;
            document.daemon.pid = pid;
            document.counters.packets = [("to-server".into(), [("passed".into(), packets)].into())].into();
            rates.note(&document);
        };
        after(0.0, 1000, 7);
        after(2.0, 1500, 7);
        after(1.0, 20, 8);
        after(1.0, 50, 8);
        after(10.0, 51, 8);
        assert_eq!(rates.packets, [250, 30, 1]);
        assert_eq!(rates.sessions, [0, 0, 0]);
    }
}
