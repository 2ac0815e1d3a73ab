//! How much sessions may write to the log.

use std::time::Duration;

use tracing::{Level, warn};

use super::about::About;
use super::clock;
use super::store::StoreError;

/// 200 lines a second in the long run. journald itself, where it is left as it comes, takes 10,000 in 30 seconds and then
/// leaves out everything, the lines that matter among them.
const OFTEN: Duration = Duration::from_millis(5);

/// For what all sessions have in common, so that a few lines tell it.
const NOW_AND_THEN: Duration = Duration::from_secs(2);

/// How much may be written ahead: 2,000 lines at once, or five of what is told now and then.
const AHEAD: Duration = Duration::from_secs(10);

/// How often it is told that lines were left out.
const TELL: Duration = Duration::from_secs(10);

/// One thread's lines about its sessions. Warnings have an allowance of their own: on a busy router what goes well must
/// not crowd out what does not.
#[derive(Debug)]
pub struct Allowances {
    routine: Allowance,
    trouble: Allowance,
    unsaved: Allowance,
    held_up: Allowance,
}

impl Default for Allowances {
    fn default() -> Self {
        Self {
            routine: Allowance::new(OFTEN),
            trouble: Allowance::new(OFTEN),
            unsaved: Allowance::new(NOW_AND_THEN),
            held_up: Allowance::new(NOW_AND_THEN),
        }
    }
}

impl Allowances {
    /// Has a line of this level written, unless there were too many of late. Returns whether it was.
    pub fn line(&mut self, level: Level, write: impl FnOnce()) -> bool {
        match level {
            Level::ERROR | Level::WARN => self.trouble.line("warnings about sessions", write),
            _ => self.routine.line("lines about sessions", write),
        }
    }

    /// Tells what comes of it that a session can't be saved, unless that was told too often of late: a warning, or an error
    /// where its packets wait. Returns whether it was.
    pub fn unsaved(&mut self, about: About, level: Level, what: &str, error: &StoreError) -> bool {
        let allowance = if level == Level::ERROR { &mut self.held_up } else { &mut self.unsaved };
        allowance.line("warnings about the state directory", || {
            about.line(level, Some("state-directory"), format_args!("{what}: {error}"));
        })
    }
}

/// So much may be written.
#[derive(Debug)]
struct Allowance {
    /// What a line costs.
    cost: Duration,
    /// When all that was written is paid for (time since boot).
    paid: Duration,
    left_out: u64,
    /// When that was last told.
    told: Duration,
}

impl Allowance {
    fn new(cost: Duration) -> Self {
        Self { cost, paid: Duration::ZERO, left_out: 0, told: Duration::ZERO }
    }

    fn line(&mut self, what: &str, write: impl FnOnce()) -> bool {
        let now = clock::now();
        if !self.admits(now) {
            self.left_out += 1;
            return false;
        }
        if self.left_out > 0 && now >= self.told + TELL {
            warn!("{} {what} were left out: there were too many", self.left_out);
            (self.left_out, self.told) = (0, now);
        }
        write();
        true
    }

    fn admits(&mut self, now: Duration) -> bool {
        let paid = self.paid.max(now) + self.cost;
        let is_admitted = paid <= now + AHEAD;
        if is_admitted {
            self.paid = paid;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_well_does_not_crowd_out_what_does_not() {
        let mut allowances = Allowances::default();
        let written = |allowances: &mut Allowances, level| {
            (0..10_000).filter(|_| allowances.line(level, || {})).count()
        };
        let routine = written(&mut allowances, Level::INFO);
        assert!(routine < 10_000, "{routine}");
        assert!(allowances.line(Level::WARN, || {}));
        assert!(!allowances.line(Level::INFO, || {}) || written(&mut allowances, Level::INFO) < 10_000);
        assert!(written(&mut allowances, Level::WARN) >= 1_999);
    }

    #[test]
    fn a_flood_is_cut_and_what_comes_later_is_written_again() {
        let mut allowance = Allowance::new(OFTEN);
        let mut now = Duration::from_secs(1000);
        let mut written = |seconds: u32| {
            let mut number = 0;
            for _ in 0..seconds * 10_000 {
                now += Duration::from_micros(100);
                number += u32::from(allowance.admits(now));
            }
            number
        };
        assert!((2_190..=2_210).contains(&written(1)), "all at once");
        assert!((1_990..=2_010).contains(&written(10)), "in the long run");
        now += Duration::from_secs(5);
        let afterwards = (0..5_000).filter(|_| allowance.admits(now)).count();
        assert!((990..=1_010).contains(&afterwards), "{afterwards}");
    }

    #[test]
    fn a_full_state_directory_is_told_now_and_then() {
        let mut allowance = Allowance::new(NOW_AND_THEN);
        let written = |allowance: &mut Allowance, second| {
            (0..1_000).filter(|_| allowance.admits(Duration::from_secs(second))).count()
        };
        assert_eq!(written(&mut allowance, 1000), 5);
        assert_eq!(written(&mut allowance, 1001), 0);
        assert_eq!(written(&mut allowance, 1004), 2);
    }
}
