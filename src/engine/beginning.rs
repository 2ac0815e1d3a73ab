//! How connections begin: a control connection with its SYN, also one that takes another's name over, and a data connection
//! that the server opens before it has said so.

use std::time::Duration;

use super::control::ControlTuple;
use super::handshake::Syn;
use super::outcome::Outcome;
use super::packet::Packet;
use super::pinhole::Change;
use super::session::Session;
use super::{Decision, Engine, Verdict, key_of, move_behind};

impl Engine {
    /// A SYN on its way to a server: a new session, unless there is one of this name.
    pub(super) fn connection_begins(&mut self, now: Duration, tuple: ControlTuple, packet: &Packet<'_>) {
        if self.sessions.contains(&tuple) {
            return;
        }
        if self.sessions.len() >= self.most {
            self.counters.overflow += 1;
            return;
        }
        let is_dismissed = self.dismissed.contains(&tuple);
        let session = self.begin(now, tuple, Syn::of(packet));
        if is_dismissed {
            // The SYN may have passed the rules before the kernel heard that.
            let track = session.track();
            session.owed.push(track);
        }
    }

    /// A session of this name, which has none.
    pub(super) fn begin(&mut self, now: Duration, tuple: ControlTuple, syn: Syn) -> &mut Session {
        let id = self.next_id();
        self.counters.connections += 1;
        self.sessions.insert(Session::new(id, tuple, syn, now))
    }

    /// A SYN-ACK: if it answers a later SYN than the session's own, both ends have begun anew, and the session
    /// gives way to another of the same name.
    pub(super) fn connection_is_replaced(
        &mut self,
        now: Duration,
        tuple: ControlTuple,
        packet: &Packet<'_>,
        outcome: &mut Outcome,
    ) {
        let Some(session) = self.sessions.get_mut(&tuple) else { return };
        let Some(syn) = session.gives_way(packet) else { return };
        if let Some(former) = self.take_out(tuple, &mut outcome.changes) {
            self.succeed(now, tuple, former.is_marked(), syn, &mut outcome.changes);
        }
    }

    /// Another connection takes the name of one over that was taken out, and may have been marked. It is queued before the
    /// kernel stops holding back what was shifted: nothing of it passes unseen in between.
    pub(super) fn succeed(
        &mut self,
        now: Duration,
        tuple: ControlTuple,
        was_marked: bool,
        syn: Syn,
        changes: &mut Vec<Change>,
    ) {
        changes.push(self.begin(now, tuple, syn).track());
        changes.extend(was_marked.then_some(Change::Unshift(tuple)));
    }

    /// A SYN from a server to a port that a PORT or EPRT has named and no 200 has opened. Where that command is the
    /// next to be answered, the SYN is the server's consent: some servers connect first and reply afterwards
    /// (pyftpdlib). Otherwise it is dropped; the server will send it again.
    pub(super) fn data_connection_begins(&mut self, now: Duration, packet: &Packet<'_>) -> Decision {
        let key = key_of(packet);
        let Some(tuple) = self.ports.expected_by(key) else { return Decision::of(Verdict::Pass) };
        let Some(session) = self.sessions.get_mut(&tuple) else { return Decision::of(Verdict::Drop) };
        let mut outcome = Outcome::default();
        session.dialogue.consent(key, now, self.ports.act_for(tuple), &mut outcome);
        let verdict = if outcome.changes.is_empty() { Verdict::Drop } else { Verdict::Pass };
        move_behind(&mut session.owed, &mut outcome.changes);
        move_behind(&mut session.unreported, &mut outcome.events);
        let changes = session.owed.clone();
        Decision { changes, session: Some((tuple, session.id)), ..Decision::of(verdict) }
    }
}
