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

use super::Engine;
use super::control::ControlTuple;
use super::decision::Verdict;
use super::handshake::Syn;
use super::outcome::Outcome;
use super::packet::Packet;
use super::session::{HALF_CLOSED, IDLE, Tap};

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

impl Engine {
    /// A packet of a connection whose state is lost, unless it begins another.
    pub(super) fn lost(
        &mut self,
        now: Duration,
        tap: Tap,
        tuple: ControlTuple,
        packet: &mut Packet<'_>,
        outcome: &mut Outcome,
    ) -> Option<Verdict> {
        let lost = self.lost.get_mut(&tuple)?;
        if packet.is_syn() && tap == Tap::ToServer {
            lost.newer = Some(Syn::of(packet));
            return Some(Verdict::Pass);
        }
        if packet.is_syn() {
            let Some(syn) = lost.newer.filter(|syn| syn.is_answered_by(packet.acknowledgment())) else {
                return Some(Verdict::Drop);
            };
            self.lost.remove(&tuple);
            self.succeed(now, tuple, true, syn, &mut outcome.changes);
            return None;
        }
        let goes_on = lost.segment(now, tap, packet);
        Some(if goes_on { Verdict::PassEdited } else { Verdict::Drop })
    }

    /// Gives up a shifted connection whose state is lost: both its ends are reset as soon as either says something, and
    /// nothing else of it passes.
    pub fn doom(&mut self, now: Duration, tuple: ControlTuple) {
        self.remove(&tuple);
        self.lost.insert(tuple, Lost::new(now));
    }

    /// Connections that were given up and are not over, as far as is known.
    pub fn doomed(&self) -> impl Iterator<Item = ControlTuple> {
        self.lost.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::segment;
    use super::*;

    /// What goes on in place of a segment: sequence number, acknowledgment, payload, and whether it is a reset.
    type Goes = Option<(u32, u32, Vec<u8>, bool)>;

    fn send(lost: &mut Lost, tap: Tap, sequence: u32, acknowledgment: u32, payload: &[u8]) -> Goes {
        let mut bytes = segment(sequence, acknowledgment, payload);
        let mut packet = Packet::parse(&mut bytes).unwrap();
        let goes_on = lost.segment(Duration::ZERO, tap, &mut packet);
        packet.finish();
        let packet = Packet::parse(&mut bytes).unwrap();
        goes_on.then(|| {
            let number = packet.acknowledgment().unwrap();
            (packet.sequence(), number, packet.payload().to_vec(), packet.is_reset())
        })
    }

    /// The client sends from 100,000 on and expects 50,000; the server sends from 48,000 on and expects 130,000.
    #[test]
    fn each_end_is_reset_in_its_own_numbers() {
        let mut lost = Lost::new(Duration::ZERO);
        let line = b"NOOP\r\n";
        let question = send(&mut lost, Tap::ToServer, 100_000, 50_000, line);
        assert_eq!(question, Some((70_000, 20_000, vec![0], false)));
        assert_eq!(
            send(&mut lost, Tap::ToClient, 48_000, 130_000, b""),
            None,
            "its answer is no business of the client's"
        );
        let reset = send(&mut lost, Tap::ToServer, 100_000, 50_000, line);
        assert_eq!(reset, Some((130_000, 48_000, vec![], true)));
        let question = send(&mut lost, Tap::ToServer, 100_000, 50_000, line);
        assert_eq!(question, Some((129_999, 48_000, vec![0], false)));
        let mut bytes = segment(48_000, 0, b"");
        let mut packet = Packet::parse(&mut bytes).unwrap();
        packet.become_reset(48_000, 0);
        assert!(lost.segment(Duration::ZERO, Tap::ToClient, &mut packet));
        assert_eq!((packet.sequence(), packet.acknowledgment()), (50_000, Some(100_006)));
        assert!(!lost.has_expired(HALF_CLOSED) && lost.has_expired(HALF_CLOSED * 2));
    }

    #[test]
    fn nothing_that_an_end_says_reaches_the_other() {
        let mut lost = Lost::new(Duration::ZERO);
        for round in 0..100 {
            let tap = if round % 3 == 0 { Tap::ToClient } else { Tap::ToServer };
            let goes = send(&mut lost, tap, 1000 + round, 2000 + round, b"PORT 1,2,3,4,5,6\r\n");
            assert!(goes.is_none_or(|(.., payload, _)| payload.len() <= 1));
        }
        assert!(!lost.has_expired(IDLE) && lost.has_expired(IDLE * 2));
    }
}
