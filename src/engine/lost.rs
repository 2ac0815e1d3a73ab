//! A shifted connection whose state is lost: how far its two spaces are apart is known to nobody, so none of its bytes
//! may pass. Both ends are told, by a reset that each believes: one whose sequence number is the very one that the end
//! expects next, as its own segments say (RFC 5961, section 3).
//!
//! A daemon that makes no packets of its own works with those that come. An end that has something to say says it again
//! and again; each time, the other end gets something else in its place:
//!
//! 1. as long as it is not known what the other end expects, a byte from below its window: it answers with what it
//!    expects (RFC 9293, section 3.10.7.4);
//! 2. then a reset: now the other end knows;
//! 3. then such a byte again: where the connection is no more, it is answered with a reset, which goes to the first end.

use std::time::Duration;

use super::packet::Packet;
use super::session::{HALF_CLOSED, IDLE, Syn, Tap};

/// How far below a segment's own numbers those of a question lie, as long as it is not known what they should be: more
/// than a stream is likely to have shrunk or grown by, and less than conntrack's window.
const BELOW: u32 = 30_000;

/// An end's own view of its streams.
#[derive(Debug, Clone, Copy)]
struct View {
    /// The sequence number that it sends next.
    next: u32,
    /// The sequence number that it expects next.
    expects: u32,
}

/// A connection that has to end.
#[derive(Debug)]
pub struct Lost {
    /// A SYN of another connection of the same name, which the server has not answered yet.
    pub newer: Option<Syn>,
    to_server: Direction,
    to_client: Direction,
    last_packet: Duration,
    is_over: bool,
}

/// What is known of the end that packets of a tap go to.
#[derive(Debug, Default)]
struct Direction {
    view: Option<View>,
    /// The last that it got was a reset.
    was_reset: bool,
}

impl Lost {
    /// One of which nothing is known, found `now` (time since boot).
    pub fn new(now: Duration) -> Self {
        Self {
            newer: None,
            to_server: Direction::default(),
            to_client: Direction::default(),
            last_packet: now,
            is_over: false,
        }
    }

    /// Whether it can be forgotten: no packet comes any more.
    pub fn has_expired(&self, now: Duration) -> bool {
        let patience = if self.is_over { HALF_CLOSED } else { IDLE };
        now.saturating_sub(self.last_packet) > patience
    }

    /// A segment, which is changed to what its receiver is to have instead. Returns whether it goes on.
    pub fn segment(&mut self, now: Duration, tap: Tap, packet: &mut Packet<'_>) -> bool {
        self.last_packet = now;
        let (there, back) = match tap {
            Tap::ToServer => (&mut self.to_server, &mut self.to_client),
            Tap::ToClient => (&mut self.to_client, &mut self.to_server),
        };
        if packet.is_reset() {
            self.is_over = true;
            if let Some(view) = there.view {
                packet.become_reset(view.expects, view.next);
            }
            return true;
        }
        let Some(acknowledgment) = packet.acknowledgment() else { return false };
        let length = u32::try_from(packet.payload().len()).unwrap_or(0) + u32::from(packet.is_fin());
        back.view = Some(View { next: packet.sequence().wrapping_add(length), expects: acknowledgment });
        if length == 0 {
            return false;
        }
        match there.view {
            None => {
                let (sequence, acknowledgment) =
                    (packet.sequence().wrapping_sub(BELOW), acknowledgment.wrapping_sub(BELOW));
                packet.become_question(sequence, acknowledgment);
            }
            Some(View { next, expects }) if there.was_reset => {
                packet.become_question(expects.wrapping_sub(1), next);
                there.was_reset = false;
            }
            Some(View { next, expects }) => {
                packet.become_reset(expects, next);
                there.was_reset = true;
            }
        }
        true
    }
}
