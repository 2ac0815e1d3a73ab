//! What outlives the daemon, and what it puts back: sessions as bytes, and the pinholes that the kernel's sets must hold.

use std::time::Duration;

use super::Engine;
use super::control::{ControlTuple, Hosts};
use super::decision::RestoreError;
use super::event::Mode;
use super::outcome::Outcome;
use super::pinhole::{Change, Pinhole, PinholeKey};
use super::ports::{Ports, Request};
use super::session::Session;
use super::shares::network_of;

/// For how long a SYN is repeated that gets no answer: with Linux's defaults for 127 s. The set `used` has the same.
const REPEATED: Duration = Duration::from_secs(150);

impl Session {
    /// Its pinhole that is open and not known to be used, with what is left of its time.
    pub(super) fn open_pinhole(&self, ports: &Ports, now: Duration) -> Option<Pinhole> {
        let (pinhole, until) = self.dialogue.unused()?;
        let is_own = ports.is_of(pinhole.key, self.tuple);
        (is_own && until > now).then(|| Pinhole { timeout: until - now, ..pinhole })
    }
}

impl Engine {
    /// For a while packets may have passed unseen, except those of shifted sessions: somebody has changed the rules.
    pub fn was_unattended(&mut self) {
        self.sessions.values_mut().for_each(|session| session.was_unattended(false));
    }

    /// A session as bytes, to be saved before the verdict; `None` once it is gone. They are written to `buffer`, over what
    /// is in it; whoever keeps that saves without an allocation.
    pub fn save<'b>(&self, tuple: &ControlTuple, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        let session = self.sessions.get(tuple)?;
        buffer.clear();
        *buffer = postcard::to_extend(session, std::mem::take(buffer)).ok()?;
        Some(buffer)
    }

    /// Takes up a saved session after the daemon was away; `held` tells of which none of the packets can have passed
    /// meanwhile. Returns its name.
    pub fn restore(
        &mut self,
        saved: &[u8],
        held: impl Fn(&ControlTuple) -> bool,
    ) -> Result<ControlTuple, RestoreError> {
        let mut session: Session = postcard::from_bytes(saved)?;
        if !session.is_sound() {
            return Err(RestoreError::Contradictory);
        }
        if session.owed.contains(&Change::Shift(session.tuple)) {
            // The kernel did not agree to it, so the line may have passed as it was.
            session.unshift(self.ports.act_for(session.tuple));
        }
        session.was_unattended(held(&session.tuple));
        Ok(self.take_up(session))
    }

    /// Goes on with a session that was another engine's. Returns its name.
    fn take_up(&mut self, session: Session) -> ControlTuple {
        let (tuple, client) =
            (session.tuple, session.view.map_or(session.tuple.client.ip(), |view| view.client));
        for (pinhole, is_open, until) in session.dialogue.pinholes() {
            // One that can't be reserved again is one that another session has: it is not this one's any more. Of two
            // that lead to the same place, the later one counts.
            let until = until.max(session.last_packet().saturating_add(pinhole.timeout));
            if self.ports.until(pinhole.key).is_some_and(|other| other > until) {
                continue;
            }
            let request = Request { client, session: tuple, to: Some(pinhole.to), until };
            if self.ports.reserve(pinhole.key, request).is_ok() && is_open {
                self.ports.act_for(tuple).open(pinhole.key, until);
            }
        }
        for key in session.promised() {
            let until = session.last_packet().saturating_add(self.policy.timeout);
            let request = Request { client, session: tuple, to: None, until };
            // Only a session whose state was damaged has promised what is taken; its line will not be kept.
            self.ports.reserve(key, request).ok();
        }
        self.number_sessions_from(session.id);
        self.remove(&tuple);
        if session.view.is_some() {
            self.shares.add(network_of(client));
        }
        self.sessions.insert(session);
        tuple
    }

    /// Gives another engine all that it knows of connections between two hosts.
    pub fn hand_over(&mut self, hosts: Hosts, to: &mut Self) {
        let theirs = self.sessions.values().filter(|session| session.tuple.hosts() == hosts).cloned();
        for session in theirs.collect::<Vec<_>>() {
            self.forget(&session.tuple);
            to.take_up(session);
        }
        for tuple in self.doomed().filter(|tuple| tuple.hosts() == hosts).collect::<Vec<_>>() {
            to.lost.extend(self.lost.remove_entry(&tuple));
        }
        let dismissed = self.dismissed.names().filter(|tuple| tuple.hosts() == hosts);
        dismissed.for_each(|tuple| to.dismissed.insert(*tuple));
    }

    /// The rules that queue packets were away for a moment, as in a firewall reload: some may have passed unseen.
    pub fn was_passed_by(&mut self) {
        self.sessions.values_mut().for_each(Session::was_passed_by);
    }

    /// Drops a restored session whose connection is no more, or is another engine's now.
    pub fn forget(&mut self, tuple: &ControlTuple) {
        self.lost.remove(tuple);
        if let Some(mut session) = self.remove(tuple) {
            session.dialogue.end(self.ports.act_for(*tuple), &mut Outcome::default());
        }
    }

    /// The keys of pinholes that may open at any moment, with what is left of their time: to put them back
    /// after a flush.
    pub fn expected_pinholes(&self, now: Duration) -> Vec<(PinholeKey, Duration)> {
        let asked = |session: &Session| {
            let is_open =
                |key| session.dialogue.pinholes().any(|(other, is_open, _)| is_open && other.key == key);
            // A server may have opened one with its SYN, and answer the command later. What a 227 has begun to offer, no
            // SYN may open.
            let asked = session
                .dialogue
                .pinholes()
                .filter(|(pinhole, ..)| session.mode_of(pinhole) == Mode::Active && !is_open(pinhole.key));
            let expected = asked.filter_map(|(pinhole, ..)| {
                Some((pinhole.key, self.ports.remaining(pinhole.key, &session.tuple, now)?))
            });
            expected.collect::<Vec<_>>()
        };
        self.sessions.values().filter(|session| session.is_taken()).flat_map(asked).collect()
    }

    /// The pinholes that are open now and not known to be used, with what is left of their time: for the same.
    pub fn open_pinholes(&self, now: Duration) -> Vec<Pinhole> {
        self.sessions.values().filter_map(|session| session.open_pinhole(&self.ports, now)).collect()
    }

    /// The pinholes that were used by a connection which may have got no answer yet, as far as is known, and for how long
    /// that may be so: to let its repeated SYN through after a flush.
    pub fn spent_pinholes(&self, now: Duration) -> impl Iterator<Item = (PinholeKey, Duration)> {
        self.sessions.values().filter_map(move |session| {
            let (key, until) = session.dialogue.spent()?;
            if !self.ports.is_of(key, session.tuple) {
                return None;
            }
            let left = until.saturating_add(REPEATED).checked_sub(now)?;
            (!left.is_zero()).then_some((key, left))
        })
    }

    /// The kernel says that a connection has come through this pinhole: it is not put back. Returns the session, to be
    /// saved. (Where the kernel owes something to the session still, it speaks of an older pinhole of the same key.)
    pub fn used(&mut self, key: PinholeKey) -> Option<ControlTuple> {
        let tuple = self.ports.session_of(key)?;
        let session = self.sessions.get_mut(&tuple).filter(|session| session.owed.is_empty())?;
        session.dialogue.used(key);
        Some(tuple)
    }
}
