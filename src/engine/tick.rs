//! What is done by the clock: sessions that have run down are let go of, and the kernel's elements of long ones kept.

use std::time::Duration;

use super::Engine;
use super::control::ControlTuple;
use super::outcome::Outcome;
use super::pinhole::{Change, PinholeKey};
use super::session::{HALF_CLOSED, IDLE, Session, Tracked};

/// How long a connection that is over is still translated: for the last acknowledgments and their
/// retransmissions.
const LINGER: Duration = Duration::from_secs(30);

/// The same for one that needs no translation. Longer than conntrack remembers a connection that was reset
/// (`nf_conntrack_tcp_timeout_close`, ten seconds): within that time a SYN from the same port is no new connection's for it,
/// and the kernel's rules do not hear of one.
const CLOSED: Duration = Duration::from_secs(12);

/// How often the kernel's elements of a connection are set anew; they live for five days.
const HOLD: Duration = Duration::from_secs(24 * 3600);

/// When a connection goes from `control_new`, where it is for a minute from the client's last word on, to `control`. Most
/// are over by then, and never cost a transaction of their own.
const SETTLED: Duration = Duration::from_secs(15);

/// The same for one whose server has not greeted yet: while it makes up its mind (asks the DNS, or an ident server), neither
/// end says anything that would set the minute anew.
const UNSETTLED: Duration = Duration::from_secs(30);

/// Until when after its beginning a connection that has come about is in `control_new` in any case: a minute there, but for the
/// time that passes between the daemon's look at its clock and the kernel's at its own.
const SURELY_NEW: Duration = Duration::from_secs(50);

/// How long it may take until the server answers the SYN, which each repetition of the SYN starts anew, and until the client
/// answers that. Short, because anybody can send SYNs to nowhere, and with forged sources. The set `control_new` has the same.
pub(super) const UNANSWERED: Duration = Duration::from_secs(10);

/// How long it may take until the server greets.
const UNGREETED: Duration = Duration::from_secs(120);

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

impl Session {
    /// Whether the session can be forgotten.
    pub fn has_expired(&self, now: Duration) -> bool {
        let is_half_closed =
            self.to_server.finished || self.to_client.as_ref().is_some_and(|stream| stream.finished);
        let patience = match (self.is_over, self.dialogue.is_greeted()) {
            (true, _) if self.is_shifted => LINGER,
            (true, _) => CLOSED,
            (false, true) if is_half_closed => HALF_CLOSED,
            (false, true) => IDLE,
            (false, false) if self.has_come_about() => UNGREETED,
            (false, false) => UNANSWERED,
        };
        self.last_packet.elapsed(now) > patience
    }

    /// Whether both ends have spoken, as far as TCP's handshake goes.
    fn has_come_about(&self) -> bool {
        self.dialogue.is_greeted() || self.to_client.is_some() && !self.is_half_open
    }

    /// Whether [`Session::hold_on`] has something to say.
    pub fn is_to_be_held(&self, now: Duration) -> bool {
        let patience = match self.tracked {
            Tracked::New if self.dialogue.is_greeted() => SETTLED,
            Tracked::New => UNSETTLED,
            Tracked::Lasting | Tracked::Refused => HOLD,
        };
        self.has_come_about() && !self.is_over && self.held_since.elapsed(now) > patience
    }

    /// Whether the kernel has an element of the connection, unless somebody has taken it out: that of one which has not come
    /// about, is over or is silent runs down by itself.
    pub fn is_surely_held(&self, now: Duration) -> bool {
        let is_there = match self.tracked {
            Tracked::New => self.held_since.elapsed(now) < SURELY_NEW,
            Tracked::Lasting => !self.owed.contains(&Change::Track(self.tuple)),
            Tracked::Refused => false,
        };
        self.is_taken() && self.dialogue.is_greeted() && !self.is_over && is_there
    }

    /// What keeps the kernel's elements of a connection that outlives them, if it is time.
    pub fn hold_on(&mut self, now: Duration) -> impl Iterator<Item = Change> + use<> {
        let is_due = self.is_to_be_held(now);
        let was_tracked = self.tracked != Tracked::New;
        if is_due {
            self.held_since = now.into();
        }
        let track = is_due.then(|| self.track());
        let shift = (is_due && was_tracked && self.is_shifted).then_some(Change::Shift(self.tuple));
        track.into_iter().chain(shift)
    }

    /// What nftables refused for a connection that was not greeted yet is worth another try.
    pub(super) fn asks_again(&mut self) {
        if self.tracked == Tracked::Refused {
            self.tracked = Tracked::New;
        }
    }

    /// It goes to `control`.
    pub(super) fn track(&mut self) -> Change {
        self.tracked = Tracked::Lasting;
        Change::Track(self.tuple)
    }
}

impl Engine {
    /// Once a second or so: all that is to be done by now. The changes can be carried out at any time, but before the next
    /// packet is handed in.
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
            Change::Depart(tuple) => {
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
            if let Some(syn) = session.successor(now) {
                return self.succeed(now, tuple, session.is_marked(), syn, changes);
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
}
