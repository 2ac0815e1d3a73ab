//! What a decision asks for beside the kernel's changes: the saved state, the log; and what becomes of its packet.

use std::fmt;
use std::sync::Arc;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::Event;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::session::Session;
use ftpalg::engine::{Decision, Engine, Verdict};
use tracing::{Level, debug};

use super::about::{self, About};
use super::allowance::Allowances;
use super::clock;
use super::shared::{Failure, Shared, lock};
use crate::netfilter::Refused;

/// Does what a worker's decisions ask for.
pub struct Executor {
    shared: Arc<Shared>,
    allowances: Allowances,
    saved: Vec<u8>,
}

impl Executor {
    /// With a log and a state that all workers share.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, allowances: Allowances::default(), saved: Vec::new() }
    }

    /// The verdict on a packet for which everything has been done that it asked the kernel for.
    pub fn conclude(&mut self, engine: &mut Engine, decision: &Decision) -> Verdict {
        let Some((tuple, id)) = decision.session else { return decision.verdict };
        let about = engine.session(&tuple).map_or(About::connection(&tuple), About::session);
        if decision.changes.contains(&Change::Depart(tuple)) {
            if let Some(session) = engine.session(&tuple).filter(|session| session.departed.is_some()) {
                lock(&self.shared.recent).departs(clock::now(), session);
            }
        }
        let events = engine.committed(tuple);
        if events.iter().any(|event| matches!(event, Event::Refused { .. })) {
            lock(&self.shared.recent).note(clock::now(), tuple, id, &events, engine);
        }
        self.report(about, &events);
        if self.save(engine, &tuple, about) { decision.verdict } else { Verdict::Drop }
    }

    /// The verdict on a packet of which some of what it asked for may not have been done, one after the other in the order
    /// in which they asked.
    pub fn conclude_after(
        &mut self,
        failure: &mut Failure,
        engine: &mut Engine,
        decision: &Decision,
    ) -> Verdict {
        let undone = match failure {
            Failure::Away => decision.changes.clone(),
            Failure::Refused(refused) => refused.take_of(&decision.changes),
        };
        if undone.is_empty() {
            return self.conclude(engine, decision);
        }
        let Some((tuple, _)) = decision.session else {
            debug!("nothing is lost by it, but nftables did not take {undone:?}");
            return decision.verdict;
        };
        let about = engine.session(&tuple).map_or(About::connection(&tuple), About::session);
        match failure {
            Failure::Away => about.line(
                Level::DEBUG,
                None,
                format_args!("a packet waits until ftpalg's part of the ruleset is back"),
            ),
            Failure::Refused(Refused { error, .. }) => {
                self.tell(
                    about,
                    Level::WARN,
                    Some("nftables"),
                    format_args!("a packet waits because nftables says: {error}"),
                );
                engine.refused(tuple, undone);
            }
        }
        self.save(engine, &tuple, about);
        Verdict::Drop
    }

    /// Saves a session. Returns whether its packet may go on: without its state a shifted session would not survive the
    /// daemon, and a packet can wait.
    fn save(&mut self, engine: &Engine, tuple: &ControlTuple, about: About) -> bool {
        let Err(error) = self.shared.save(engine, tuple, &mut self.saved) else { return true };
        let needs_translation = engine.session(tuple).is_some_and(Session::needs_translation);
        let (level, what) = if needs_translation {
            (Level::ERROR, "a packet waits because its session can't be saved")
        } else {
            (Level::WARN, "a restart would lose sight of this session, which can't be saved")
        };
        let is_told = self.allowances.unsaved(about, level, what, &error);
        self.count(is_told);
        !needs_translation
    }

    /// Writes a line, unless there were too many of late.
    pub fn tell(&mut self, about: About, level: Level, reason: Option<&str>, text: fmt::Arguments<'_>) {
        let is_told = self.allowances.line(level, || about.line(level, reason, text));
        self.count(is_told);
    }

    fn count(&self, is_told: bool) {
        if !is_told {
            self.shared.vitals.lines_left_out.add();
        }
    }

    /// A session's events, one line each.
    fn report(&mut self, about: About, events: &[Event]) {
        for event in events {
            match about::level(event) {
                // Who asks for these wants all of them.
                level if level > Level::INFO => about.line(level, None, format_args!("{event}")),
                level => self.tell(about, level, event.reason(), format_args!("{event}")),
            }
        }
    }
}
