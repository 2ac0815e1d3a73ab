//! What may have happened to connections without the engine's seeing it. What a queue that overflows loses comes again, but a
//! reset does not; and the client's answer to a SYN-ACK is not queued. conntrack, which has seen both, is asked about those of
//! which nothing comes any more.

use std::time::Duration;

use super::Engine;
use super::control::ControlTuple;
use super::outcome::Outcome;
use super::session::Session;
use super::stream::Stream;
use super::tick::UNANSWERED;

/// How long nothing has come of a connection that is asked about. What was lost on the way comes again before, as a rule.
const SILENT: Duration = Duration::from_secs(2);

/// Into how many parts the connections are divided, one of which is asked about at each look at the clock. conntrack forgets
/// a connection that was reset after ten seconds (`nf_conntrack_tcp_timeout_close`); none is missed as long as a look comes
/// within a second and a half of the one before.
const PARTS: u64 = 5;

/// How long nothing has come of a connection that gives memory back.
const RESTING: Duration = Duration::from_secs(4);

impl Session {
    /// One that was not answered does not last anyway.
    fn is_silent(&self, now: Duration) -> bool {
        !self.is_over && self.to_client.is_some() && self.last_packet.elapsed(now) >= SILENT
    }

    /// Whether it is to be asked about at this look at the clock.
    pub(super) fn is_in_question(&self, look: u64, now: Duration) -> bool {
        self.id % PARTS == look % PARTS && self.is_silent(now)
    }

    /// Gives back what memory it will need again with its next packet alone, once it is silent.
    pub(super) fn rest(&mut self, now: Duration) {
        if self.is_at_rest || self.is_over || self.last_packet.elapsed(now) < RESTING {
            return;
        }
        self.is_at_rest = true;
        self.to_server.rest();
        self.to_client.iter_mut().for_each(Stream::rest);
        self.dialogue.rest();
    }
}

impl Engine {
    /// conntrack says that one end has reset a silent connection, or both have closed it: as if that had come by here. What
    /// comes of it all the same is treated as behind any end. Returns the session, unless it speaks again; what is to be
    /// changed comes with [`Engine::next_portion`].
    pub fn has_ended(&mut self, tuple: &ControlTuple, now: Duration) -> Option<&Session> {
        let session = self.sessions.get_mut(tuple).filter(|session| session.is_silent(now))?;
        let mut outcome = Outcome::default();
        session.end(self.ports.act_for(*tuple), &mut outcome);
        self.postponed.append(&mut outcome.changes);
        self.counters.ended += 1;
        Some(session)
    }

    /// conntrack says that the client has not answered the server. The kernel's rules let go of such a connection after ten
    /// seconds: its SYN may have been forged (RFC 4987), and must not take the room of others for longer here.
    pub fn is_half_open(&mut self, tuple: &ControlTuple, now: Duration) {
        if let Some(session) = self.sessions.get_mut(tuple) {
            session.is_half_open = session.last_packet.elapsed(now) > UNANSWERED;
        }
    }
}
