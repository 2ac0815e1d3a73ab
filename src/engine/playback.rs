//! What a replay of a capture needs besides [`Engine::handle`]. The daemon's packets come from two ends that know what
//! was edited, and send again what was dropped; those of a capture do neither.

use super::Engine;
use super::control::ControlTuple;
use super::outcome::Outcome;
use super::position::{Translate, sequence_of, unwrap};
use super::session::{Session, Tap};
use super::stream::Stream;

impl Session {
    fn stream(&self, tap: Tap) -> Option<&Stream> {
        match tap {
            Tap::ToServer => Some(&self.to_server),
            Tap::ToClient => self.to_client.as_ref(),
        }
    }

    /// The sequence number behind the last byte of this direction that was seen and taken; `None` where the direction
    /// has not begun.
    pub fn next(&self, tap: Tap) -> Option<u32> {
        self.stream(tap).map(|stream| sequence_of(stream.next))
    }

    /// How the receiver of this direction numbers what its sender numbers so.
    pub fn receivers(&self, tap: Tap) -> Receivers<'_> {
        Receivers(self.stream(tap))
    }
}

/// From a sender's sequence numbers to those of its receiver.
#[derive(Debug, Clone, Copy)]
pub struct Receivers<'a>(Option<&'a Stream>);

impl Receivers<'_> {
    /// Of what a cumulative acknowledgment names.
    pub fn number(self, sequence: u32) -> u32 {
        self.0.map_or(sequence, |stream| sequence_of(stream.edits.forward(unwrap(sequence, stream.next))))
    }
}

impl Translate for Receivers<'_> {
    fn left_edge(&self, edge: u32) -> u32 {
        self.number(edge)
    }

    fn right_edge(&self, edge: u32) -> u32 {
        self.number(edge)
    }
}

impl Engine {
    /// What the sender of this direction sent before `sequence` is not to be had any more: inspection goes on at the next
    /// line, and no command is outstanding.
    pub fn skip(&mut self, tuple: ControlTuple, tap: Tap, sequence: u32) {
        let Some(session) = self.sessions.get_mut(&tuple) else { return };
        let stream = match tap {
            Tap::ToServer => Some(&mut session.to_server),
            Tap::ToClient => session.to_client.as_mut(),
        };
        let Some(stream) = stream else { return };
        let ports = self.ports.act_for(tuple);
        if let Some(promise) = stream.line.promise.take() {
            ports.release(promise.key);
        }
        stream.resume_at(unwrap(sequence, stream.next));
        let mut outcome = Outcome::default();
        session.dialogue.lost_lines(ports, &mut outcome);
        if let Some(why) = outcome.departure.take() {
            session.depart(why, &mut outcome);
        }
        session.owed.append(&mut outcome.changes);
        session.unreported.append(&mut outcome.events);
    }
}
