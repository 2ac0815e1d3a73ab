//! A segment of an established control connection: acknowledgments and positions are translated, new bytes are
//! read and edited, bytes that were seen before are edited as they were then.

use std::ops::Range;
use std::time::Duration;

use super::editor::Editor;
use super::edits::GROWS_TO;
use super::event::{Departure, Event, Mode};
use super::opening::Planner;
use super::options;
use super::outcome::Outcome;
use super::packet::Packet;
use super::pinhole::Change;
use super::policy::Policy;
use super::ports::Ports;
use super::position::{sequence_of, unwrap};
use super::session::{Disposition, Session, Tap};
use super::stream::{Place, Stream};

/// What all segments of a worker share.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Time since boot.
    pub now: Duration,
    /// What may open.
    pub policy: &'a Policy,
    /// What is taken.
    pub ports: &'a mut Ports,
}

/// The payload that goes on in place of a segment's own.
struct Rendered {
    /// The receiver's position of its first byte.
    position: u64,
    /// The new payload, unless it is the segment's own.
    payload: Option<Vec<u8>>,
    /// It ends before the segment's own end.
    is_cut: bool,
}

impl Session {
    /// Any segment but a SYN.
    pub fn segment(
        &mut self,
        tap: Tap,
        packet: &mut Packet<'_>,
        around: &mut Surroundings<'_>,
        outcome: &mut Outcome,
    ) -> Disposition {
        if self.to_client.is_none() {
            self.speaks(around.now);
            if self.departed.is_none() && !packet.payload().is_empty() {
                self.depart(Departure::Unseen, outcome);
            }
            return Disposition::Pass;
        }
        let Some((stream, _)) = self.streams(tap) else { return Disposition::Pass };
        let position = unwrap(packet.sequence(), stream.next);
        let found = stream.place(position, packet.payload().len() as u64);
        // A reset is judged by its place alone, and what it carries is not read (RFC 9293, section 3.10.7.4).
        let is_read = !packet.is_reset() && self.has_credible_acknowledgment(tap, packet);
        let place = if is_read { found } else { Place::Outside };
        if found != Place::Outside {
            self.speaks(around.now);
        }
        self.is_at_rest = false;
        let acknowledged = self.acknowledgment(tap, packet, place, around, outcome);
        let disposition = self.payload(tap, packet, (position, place), around, outcome);
        self.unwatch(outcome);
        if packet.is_reset() {
            self.reset(tap, position, found, around, outcome);
        }
        if let Some(why) = outcome.departure.take() {
            self.dialogue.end(around.ports, outcome);
            self.depart(why, outcome);
        }
        match disposition {
            Disposition::Pass if acknowledged => Disposition::Edited,
            disposition => disposition,
        }
    }

    /// The stream whose bytes the packet carries, and the one that it acknowledges.
    fn streams(&mut self, tap: Tap) -> Option<(&mut Stream, &mut Stream)> {
        let to_client = self.to_client.as_mut()?;
        Some(match tap {
            Tap::ToServer => (&mut self.to_server, to_client),
            Tap::ToClient => (to_client, &mut self.to_server),
        })
    }

    /// Whether the receiver would look at what a segment carries: it acknowledges, and something that can be true
    /// (RFC 9293, section 3.10.7.4; RFC 5961, section 5.2). Somebody off path would have to guess that number, too.
    fn has_credible_acknowledgment(&mut self, tap: Tap, packet: &Packet<'_>) -> bool {
        let Some((_, stream)) = self.streams(tap) else { return false };
        packet
            .acknowledgment()
            .is_some_and(|number| stream.may_be_acknowledged(unwrap(number, stream.sent())))
    }

    /// A segment that may have passed before, or follows what has: it waits, and its receiver is asked.
    fn ask(
        &mut self,
        tap: Tap,
        packet: &mut Packet<'_>,
        now: Duration,
        outcome: &mut Outcome,
    ) -> Disposition {
        self.watch(outcome);
        let Some((stream, _)) = self.streams(tap) else { return Disposition::Pass };
        if stream.asks(now) { become_question(packet, stream) } else { Disposition::Drop }
    }

    /// A segment with bytes before it missing: dropped, unless they passed unseen.
    fn adopt(
        &mut self,
        tap: Tap,
        position: u64,
        length: u64,
        around: &mut Surroundings<'_>,
        outcome: &mut Outcome,
    ) -> Option<Place> {
        let (stream, _) = self.streams(tap)?;
        if !stream.misses_nothing_before(position) {
            return None;
        }
        stream.resume_at(position);
        let place = stream.place(position, length);
        self.lost_lines(around, outcome);
        Some(place)
    }

    fn lost_lines(&mut self, around: &mut Surroundings<'_>, outcome: &mut Outcome) {
        outcome.events.push(Event::Resumed);
        self.dialogue.lost_lines(around.ports, outcome);
    }

    /// Translates the acknowledgment and learns from it. Returns whether the packet changed.
    fn acknowledgment(
        &mut self,
        tap: Tap,
        packet: &mut Packet<'_>,
        place: Place,
        around: &mut Surroundings<'_>,
        outcome: &mut Outcome,
    ) -> bool {
        let is_unshifted = !self.is_shifted;
        let inspected = self.departed.is_none();
        let (Some(number), Some((_, stream))) = (packet.acknowledgment(), self.streams(tap)) else {
            return false;
        };
        let receivers = unwrap(number, stream.sent());
        let has = match stream.is_in_doubt() {
            true => unwrap(options::sacked(packet.options(), number), receivers),
            false => receivers,
        };
        // What the receiver has without our having seen it passed while nobody looked. If edits wait for
        // their acknowledgment, they were made in what had passed already: they were in vain.
        if place != Place::Outside
            && stream.acknowledge(receivers, has, around.now)
            && stream.edits.can_be_undone()
            && inspected
        {
            if let Some(promise) = stream.undo_edits() {
                around.ports.release(promise.key);
            }
            // So did what it has behind a gap; an edit before that would move it.
            stream.resume_at(if stream.may_be_acknowledged(has) { has } else { receivers });
            self.lost_lines(around, outcome);
        }
        let is_answer = place != Place::Outside && inspected;
        if let Some((_, stream)) = self.streams(tap).filter(|(_, stream)| is_answer && stream.was_asked()) {
            if stream.answered(has) {
                self.lost_lines(around, outcome);
            }
        }
        let Some((_, stream)) = self.streams(tap).filter(|_| !is_unshifted) else { return false };
        if !stream.edits.is_untouched() {
            options::translate_sack(packet.options_mut(), number, stream);
        }
        packet.set_acknowledgment(sequence_of(stream.edits.backward(receivers)));
        true
    }

    /// Reads the payload, as far as it is new, and edits it; whether and how it goes on.
    fn payload(
        &mut self,
        tap: Tap,
        packet: &mut Packet<'_>,
        (position, mut place): (u64, Place),
        around: &mut Surroundings<'_>,
        outcome: &mut Outcome,
    ) -> Disposition {
        let loose = !self.is_shifted;
        let inspected = self.departed.is_none();
        let may_edit = self.may_edit(tap, around);
        let data = packet.payload();
        let mut taken = data.len();
        let carries_any = !data.is_empty() || packet.is_fin();
        let is_unclear = self.streams(tap).is_some_and(|(stream, _)| stream.is_unclear()) && inspected;
        if is_unclear && (place == Place::Next && may_edit || place == Place::Ahead && carries_any) {
            return self.ask(tap, packet, around.now, outcome);
        }
        if place == Place::Ahead && carries_any && inspected {
            match self.adopt(tap, position, data.len() as u64, around, outcome) {
                Some(found) => place = found,
                None => return Disposition::Drop,
            }
        }
        let Some((stream, _)) = self.streams(tap) else { return Disposition::Pass };
        match place {
            Place::Ahead | Place::Next if !inspected => {
                stream.next = stream.next.max(position + data.len() as u64);
            }
            // The receiver's idea of its window may be another: what is not read must not reach it.
            Place::Outside
                if inspected && !packet.is_reset() && position + data.len() as u64 > stream.next =>
            {
                return Disposition::Drop;
            }
            Place::Old if inspected && !stream.agrees(position, data, loose) => {
                return become_question(packet, stream);
            }
            Place::Outside if inspected && !stream.agrees(position, data, loose) => {
                return Disposition::Drop;
            }
            Place::Next => {
                let seen = usize::try_from(stream.next - position).unwrap_or(data.len()).min(data.len());
                let (old, new) = data.split_at(seen);
                if !stream.agrees(position, old, false) {
                    return become_question(packet, stream);
                }
                stream.goes_on();
                if let Some(last) = old.last().filter(|_| stream.line.may_begin()) {
                    stream.line.begins(*last == b'\n');
                }
                taken = seen + self.read(tap, new, around, outcome);
                if taken == 0 {
                    return Disposition::Drop;
                }
            }
            Place::Old | Place::Ahead | Place::Outside => {}
        }
        self.pass_on(tap, packet, (position, place), taken, around, outcome)
    }

    /// The first `taken` bytes of the payload go on, as they are to be read, at their place.
    fn pass_on(
        &mut self,
        tap: Tap,
        packet: &mut Packet<'_>,
        (position, place): (u64, Place),
        taken: usize,
        around: &mut Surroundings<'_>,
        outcome: &mut Outcome,
    ) -> Disposition {
        let Some((stream, _)) = self.streams(tap) else { return Disposition::Pass };
        let data = packet.payload();
        let end = position + data.len() as u64;
        // What can't be said as it was said before need not be: only its acknowledgment was lost. Other words in its place
        // would be a forgery for whoever else is on the path.
        let is_looked_at = place != Place::Outside && !packet.is_reset();
        let skipped = if is_looked_at { stream.unrepeatable(position, end) } else { 0 };
        let skipped = usize::try_from(skipped).unwrap_or(data.len());
        let is_fin_news = packet.is_fin() && taken == data.len() && !stream.has_acknowledged_fin(end);
        if skipped > 0 && skipped >= taken && !is_fin_news {
            return become_question(packet, stream);
        }
        let mut rendered = render(stream, position, data, skipped..taken);
        let is_probe = data.is_empty() && position < stream.next && !packet.is_fin() && !packet.is_reset();
        if is_probe {
            // Answered only where it lies below what its receiver expects, also when it stands for a byte that was swallowed.
            rendered.position = stream.edits.forward(position + 1) - 1;
        }
        let receivers_urgent = packet.urgent().map(|urgent| {
            let at = stream.edits.forward(position + u64::from(urgent));
            u16::try_from(at.saturating_sub(rendered.position)).unwrap_or(u16::MAX)
        });
        let ends_here = end == stream.next;
        let finishes = packet.is_fin() && !rendered.is_cut && ends_here && !stream.finished;
        if finishes && place != Place::Outside {
            stream.finished = true;
            stream.next += 1;
            if self.streams(tap).is_some_and(|(one, other)| one.finished && other.finished) {
                self.end(around.ports, outcome);
            }
        }
        rendered.put_into(packet, receivers_urgent, position)
    }

    /// Whether lines of this direction can be in need of an edit.
    fn may_edit(&self, tap: Tap, around: &mut Surroundings<'_>) -> bool {
        let Some(view) = self.view else { return false };
        let Surroundings { now, policy, ports } = around;
        let planner = Planner { now: *now, tuple: self.tuple, view, policy, ports };
        planner.rewrites(mode_of(tap))
    }

    /// New bytes: reads them, and marks the connection as shifted once one is edited. Returns how many were
    /// taken.
    fn read(&mut self, tap: Tap, new: &[u8], around: &mut Surroundings<'_>, outcome: &mut Outcome) -> usize {
        let (Some(view), Some(to_client)) = (self.view, self.to_client.as_mut()) else { return new.len() };
        let Surroundings { now, policy, ports } = around;
        let mode = mode_of(tap);
        let stream = match tap {
            Tap::ToServer => &mut self.to_server,
            Tap::ToClient => to_client,
        };
        let planner = Planner { now: *now, tuple: self.tuple, view, policy, ports };
        let mut editor = Editor { mode, stream, dialogue: &mut self.dialogue, planner, outcome };
        let taken = editor.absorb(new);
        if editor.stream.edits.any_in_flight() && !self.is_shifted {
            self.is_shifted = true;
            outcome.changes.push(Change::Shift(self.tuple));
        }
        taken
    }

    /// An RST ends the connection only in its place (RFC 5961, section 3): an off-path attacker has to guess it.
    fn reset(
        &mut self,
        tap: Tap,
        position: u64,
        place: Place,
        around: &mut Surroundings<'_>,
        outcome: &mut Outcome,
    ) {
        let in_place = self.streams(tap).is_some_and(|(stream, _)| position == stream.next);
        if in_place && place != Place::Outside {
            self.end(around.ports, outcome);
        }
    }
}

/// In place of a segment, an empty one below what its receiver has, which answers with what it has (RFC 9293, section
/// 3.10.7.4), as it answers a keepalive (RFC 1122, section 4.2.3.6).
fn become_question(packet: &mut Packet<'_>, stream: &Stream) -> Disposition {
    packet.set_sequence(sequence_of(stream.below_what_the_receiver_has()));
    packet.set_payload(&[]);
    packet.set_urgent(None);
    packet.clear_end_flags();
    Disposition::Edited
}

/// Who listens when an address stands in a line of this direction.
fn mode_of(tap: Tap) -> Mode {
    match tap {
        Tap::ToServer => Mode::Active,
        Tap::ToClient => Mode::Passive,
    }
}

/// These bytes of `data` as they go on; what lies before them is left out.
fn render(stream: &Stream, position: u64, data: &[u8], taken: Range<usize>) -> Rendered {
    let mut is_cut = taken.end < data.len();
    let from = position + taken.start as u64;
    let kept = data.get(taken).unwrap_or(data);
    if !stream.edits.any_in_flight() || kept.is_empty() {
        let payload = (kept.len() < data.len()).then(|| kept.to_vec());
        return Rendered { position: stream.edits.forward(from), payload, is_cut };
    }
    let mut payload = Vec::with_capacity(kept.len() + 64);
    let at = stream.edits.render(from, kept, &mut payload);
    let limit = data.len().max(GROWS_TO);
    if payload.len() > limit {
        payload.truncate(limit);
        is_cut = true;
    }
    Rendered { position: at, payload: (payload != data).then_some(payload), is_cut }
}

impl Rendered {
    fn put_into(self, packet: &mut Packet<'_>, urgent: Option<u16>, position: u64) -> Disposition {
        if self.payload.is_none() && self.position == position {
            return Disposition::Pass;
        }
        packet.set_sequence(sequence_of(self.position));
        if packet.urgent().is_some() {
            packet.set_urgent(urgent);
        }
        if let Some(payload) = self.payload {
            packet.set_payload(&payload);
        }
        if self.is_cut {
            packet.clear_end_flags();
        }
        Disposition::Edited
    }
}
