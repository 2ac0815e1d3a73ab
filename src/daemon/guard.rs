//! Watches over the ruleset: what somebody else removed is put back at once.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::shared::{Shared, lock};
use crate::netfilter::{Firewall, FirewallError, Foreign, MissingRule, Watch};

/// How long to wait before the next try where the ruleset can't be put back, or does not stay.
const RETRY: Duration = Duration::from_millis(200);

/// How many times in a [`SPELL`] the ruleset is put back at once. A firewall reload needs one or two.
const AT_ONCE: u32 = 20;
const SPELL: Duration = Duration::from_secs(2);

/// How many tries may fail in a row before that is told: a reload in several transactions takes away what has just been
/// put back.
const TRIES: u32 = 5;

/// How often it is told.
const TELL: Duration = Duration::from_secs(10);

/// How often the ruleset is looked at where nothing was told of it: what changes while the tables are loaded is not.
const LOOK: Duration = Duration::from_secs(5);

/// How long the sets are left alone between two looks into them, which packets wait for: some programs change something of
/// their own all the time.
const PAUSE: Duration = Duration::from_millis(500);

/// Watches over the ruleset, and over how often it has been put back.
pub struct Guard {
    shared: Arc<Shared>,
    watch: Watch,
    spell: Instant,
    repairs: u32,
    /// When it was last told that the ruleset can't be put back, if that is so.
    told: Option<Instant>,
    /// Who has changed something since the sets were last looked into.
    foreign: Option<Foreign>,
    looked: Instant,
}

impl Guard {
    /// Begins when it [runs](Guard::run).
    pub fn new(shared: Arc<Shared>, watch: Watch) -> Self {
        let now = Instant::now();
        Self { shared, watch, spell: now, repairs: 0, told: None, foreign: None, looked: now }
    }

    /// Runs for as long as the daemon.
    pub fn run(mut self) -> ! {
        loop {
            let patience =
                if self.foreign.is_some() { PAUSE.saturating_sub(self.looked.elapsed()) } else { LOOK };
            match self.watch.wait(Some(patience)) {
                Ok(Some(foreign)) => self.foreign = Some(foreign),
                Ok(None) => {}
                Err(error) => {
                    warn!("changes of the ruleset can't be watched: {error}");
                    thread::sleep(RETRY);
                    continue;
                }
            }
            self.look();
        }
    }

    /// Puts back what is missing. Rules are looked at whenever somebody has changed something; that a set was flushed leaves
    /// no trace but in the set.
    fn look(&mut self) {
        let is_intact = lock(&self.shared.firewall).intact();
        let is_time = self.foreign.is_some() && self.looked.elapsed() >= PAUSE;
        if is_intact && !is_time {
            return;
        }
        let foreign = self.foreign.take().unwrap_or(Foreign::Untold);
        let was_flushed = is_intact && !self.shared.holds_some() && lock(&self.shared.firewall).intact();
        self.looked = Instant::now();
        // What has changed since the sets were looked at is told by itself.
        if !is_intact || was_flushed {
            self.restore(&foreign, was_flushed);
        }
    }

    fn restore(&mut self, foreign: &Foreign, mut was_flushed: bool) {
        let mut failures = 0;
        while was_flushed || !lock(&self.shared.firewall).intact() {
            let may_have_missed = was_flushed || lock(&self.shared.firewall).may_have_missed();
            match self.shared.with_all_unless_ended(Firewall::repair) {
                None => return,
                Some(Ok(missing)) => {
                    (was_flushed, failures) = (false, 0);
                    self.told = None;
                    self.shared.vitals.repairs.add();
                    for engine in self.shared.all_engines() {
                        if may_have_missed {
                            lock(engine).was_unattended();
                        } else {
                            lock(engine).was_passed_by();
                        }
                    }
                    let who = match foreign {
                        // A program names itself as it likes.
                        Foreign::By(program, pid) => format!("{} (process {pid})", program.escape_debug()),
                        Foreign::Untold => "somebody".to_owned(),
                    };
                    info!("ftpalg's part of the ruleset is back, which was changed by {who}");
                    tell_missing(&missing);
                    if self.is_hasty() {
                        thread::sleep(RETRY);
                    }
                }
                Some(Err(error)) => {
                    debug!("the ruleset changed while it was put back: {error}");
                    failures += 1;
                    if failures >= TRIES {
                        self.complain(&error);
                        thread::sleep(RETRY);
                    }
                }
            }
        }
    }

    /// Tells that the ruleset can't be put back, unless that was just told.
    fn complain(&mut self, error: &FirewallError) {
        if self.told.is_none_or(|told| told.elapsed() > TELL) {
            error!("ftpalg's part of the ruleset can't be put back: {error}");
            self.told = Some(Instant::now());
        }
    }

    /// Whether somebody takes away again and again what is put back.
    fn is_hasty(&mut self) -> bool {
        if self.spell.elapsed() > SPELL {
            self.spell = Instant::now();
            self.repairs = 0;
        }
        self.repairs += 1;
        self.repairs > AT_ONCE
    }
}

/// Tells of `accept-in` entries whose chains have no rule.
pub fn tell_missing(missing: &[MissingRule]) {
    for rule in missing {
        warn!("{rule}");
    }
}
