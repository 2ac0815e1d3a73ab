//! What is done by the clock: sessions that have run down are let go of, and the kernel's elements of long ones kept.

use std::time::Duration;

use super::Engine;
use super::control::ControlTuple;
use super::outcome::Outcome;
use super::pinhole::{Change, PinholeKey};
use super::session::{Session, Syn};

/// How many sessions are seen to at once: packets wait meanwhile, a few microseconds for each.
const PORTION: usize = 64;

/// What the kernel is to be asked about after a look at the clock.
#[derive(Debug, Default)]
pub struct Questions {
    /// Connections that may have ended without the engine's seeing it.
    pub silent: Vec<ControlTuple>,
    /// Pinholes that may have been used.
    pub open: Vec<PinholeKey>,
}

impl Engine {
    /// Once a second or so: all that is to be done by now. The changes can be carried out at any time.
    pub fn tick(&mut self, now: Duration) -> Vec<Change> {
        self.look_through(now);
        let mut changes = Vec::new();
        while let Some(mut some) = self.next_portion(now) {
            changes.append(&mut some);
        }
        changes
    }

    /// Once a second or so: finds the sessions for which something is to be done, which [`Engine::next_portion`] does, and
    /// what is to be asked. All in one go, for of many sessions most are in no cache.
    pub fn look_through(&mut self, now: Duration) -> Questions {
        let mut questions = Questions::default();
        self.looks += 1;
        self.ports.expire(now);
        self.dismissed.age();
        self.due.clear();
        for session in self.sessions.values_mut() {
            session.rest(now);
            if session.has_expired(now) || session.is_to_be_held(now) {
                self.due.push(session.tuple);
            }
            if session.is_in_question(self.looks, now) {
                questions.silent.push(session.tuple);
            }
            questions.open.extend(session.open_pinhole(&self.ports, now).map(|pinhole| pinhole.key));
        }
        let expired = self.lost.iter().filter(|(_, lost)| lost.has_expired(now));
        self.due.extend(expired.map(|(tuple, _)| *tuple));
        self.sessions.give_back();
        questions
    }

    /// What is to be done for the next of them; `None` if there is nothing left. The changes can be carried out at any time,
    /// but before the next packet is handed in.
    pub fn next_portion(&mut self, now: Duration) -> Option<Vec<Change>> {
        if self.due.is_empty() && self.postponed.is_empty() {
            return None;
        }
        let mut changes = self.postponed_changes();
        for tuple in self.due.split_off(self.due.len().saturating_sub(PORTION)) {
            self.see_to(tuple, now, &mut changes);
        }
        if self.due.is_empty() {
            self.due = Vec::new();
        }
        Some(changes)
    }

    /// What the kernel would not take, as far as it is still wanted.
    fn postponed_changes(&mut self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.postponed);
        changes.retain(|change| match change {
            Change::Forget(tuple) | Change::Depart(tuple) => {
                self.sessions.get(tuple).is_none_or(|session| session.departed.is_some())
            }
            Change::Unshift(tuple) => self.sessions.get(tuple).is_none_or(|session| !session.is_marked()),
            Change::Track(tuple) => self.sessions.get(tuple).is_some_and(Session::is_taken),
            Change::Close(key) => !self.ports.holds(*key),
            _ => true,
        });
        changes
    }

    /// Does for a session what is due; since it was found to be, a packet of it may have come.
    fn see_to(&mut self, tuple: ControlTuple, now: Duration, changes: &mut Vec<Change>) {
        if let Some(session) = self.sessions.get_mut(&tuple) {
            if !session.has_expired(now) {
                return changes.extend(session.hold_on(now));
            }
            let Some(session) = self.take_out(tuple, changes) else { return };
            if let Some(syn) = session.successor() {
                // Whoever keeps the session's record hears by this that it is another's.
                changes.push(Change::Forget(tuple));
                return self.succeed(now, *session, syn, changes);
            }
        } else if self.lost.get(&tuple).is_some_and(|lost| lost.has_expired(now)) {
            self.lost.remove(&tuple);
        } else {
            return;
        }
        self.dismissed.insert(tuple);
        changes.push(Change::Depart(tuple));
    }

    /// Takes a session out that is over, or gives way. What it still owed and what it held is to be done.
    pub(super) fn take_out(
        &mut self,
        tuple: ControlTuple,
        changes: &mut Vec<Change>,
    ) -> Option<Box<Session>> {
        let mut session = self.remove(&tuple)?;
        self.counters.expired += u64::from(!session.has_ended());
        let mut outcome = Outcome::default();
        session.dialogue.end(self.ports.act_for(tuple), &mut outcome);
        changes.append(&mut session.owed);
        changes.append(&mut outcome.changes);
        Some(session)
    }

    /// Another connection takes the name of a session over that was taken out.
    pub(super) fn succeed(&mut self, now: Duration, former: Session, syn: Syn, changes: &mut Vec<Change>) {
        let id = self.next_id();
        self.counters.connections += 1;
        let (session, mut anew) = former.give_way(id, syn, now);
        changes.append(&mut anew);
        self.sessions.insert(session);
    }
}
