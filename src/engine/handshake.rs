//! How a session begins: its SYN, the SYN-ACK that answers it, and another SYN of the same name that may take its place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Departure;
use super::moment::Moment;
use super::options::{self, Handshake};
use super::outcome::Outcome;
use super::packet::Packet;
use super::session::{Disposition, Session, Tap};
use super::stream::Stream;
use super::tick::UNANSWERED;

/// A client's SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syn {
    /// Its sequence number.
    pub initial: u32,
    /// What its options say.
    pub options: Handshake,
}

impl Syn {
    /// What this packet says.
    pub(super) fn of(packet: &Packet<'_>) -> Self {
        Self { initial: packet.sequence(), options: options::read_handshake(packet.options()) }
    }

    /// Whether a SYN-ACK with this acknowledgment number answers it.
    pub(super) fn is_answered_by(self, acknowledgment: Option<u32>) -> bool {
        acknowledgment == Some(self.initial.wrapping_add(1))
    }
}

/// The SYN of another connection of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Newer {
    syn: Syn,
    /// Time since boot; `None` if that was in an earlier daemon's time.
    #[serde(skip)]
    came: Option<Moment>,
}

impl Session {
    /// The SYN of another connection that takes the place of this one, if this SYN-ACK answers it.
    pub fn gives_way(&self, packet: &Packet<'_>) -> Option<Syn> {
        self.newer.as_ref().map(|newer| newer.syn).filter(|syn| syn.is_answered_by(packet.acknowledgment()))
    }

    /// The SYN of another connection that takes the place of this one, now that its own time is over, unless nothing has
    /// answered that for long.
    pub(super) fn successor(&self, now: Duration) -> Option<Syn> {
        let newer = self.newer.as_ref()?;
        let is_waiting = newer.came.is_some_and(|came| came.elapsed(now) <= UNANSWERED);
        is_waiting.then_some(newer.syn)
    }

    /// A SYN to the server, or the SYN-ACK that answers it: reads its options and takes away those that can't
    /// be translated.
    pub fn handshake(
        &mut self,
        tap: Tap,
        packet: &mut Packet<'_>,
        now: Duration,
        outcome: &mut Outcome,
    ) -> Disposition {
        let options = options::read_handshake(packet.options());
        match tap {
            Tap::ToServer => {
                let syn = Syn { initial: packet.sequence(), options };
                let is_repeated = syn.initial == self.syn.initial;
                if self.to_client.is_none() || is_repeated && self.to_server.is_fresh() {
                    self.speaks(now);
                }
                if is_repeated {
                    self.syn = syn;
                } else {
                    self.newer = Some(Box::new(Newer { syn, came: Some(now.into()) }));
                }
            }
            Tap::ToClient if self.syn.is_answered_by(packet.acknowledgment()) => {
                // A server repeats it for half a minute, whether or not there is a client.
                if self.to_client.is_none() {
                    self.speaks(now);
                }
                self.answered(packet.sequence(), options, outcome);
            }
            Tap::ToClient => {}
        }
        if options.signed || self.syn.options.signed {
            return Disposition::Pass;
        }
        if options::scrub_handshake(packet.options_mut()) { Disposition::Edited } else { Disposition::Pass }
    }

    /// The server's SYN-ACK. A server that keeps no state for its answers (RFC 4987, section 3.6) may repeat it
    /// with another sequence number, as long as nothing was said.
    fn answered(&mut self, initial: u32, options: Handshake, outcome: &mut Outcome) {
        if !self.to_server.is_fresh() || self.to_client.as_ref().is_some_and(|stream| !stream.is_fresh()) {
            return;
        }
        self.to_client = Some(Stream::new(initial));
        if (self.syn.options.signed || options.signed) && self.departed.is_none() {
            self.depart(Departure::Signed, outcome);
        }
    }
}
