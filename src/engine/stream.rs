//! One direction of a control connection: what its sender has sent, what its receiver has acknowledged, and what
//! was edited in between. Positions are the sender's unless they are called the receiver's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::edits::Edits;
use super::history::History;
use super::lines::Unfinished;
use super::moment::Moment;
use super::position::{self, Translate};
use super::promise::Promise;

/// How often a segment that lies ahead comes before it is taken for the next. Whoever has lost what lies before
/// sends that again (RFC 6298, section 5.4), not the same segment: a tail loss probe (RFC 8985) once, and the
/// network may double it.
const PROOF_OF_GAP: u8 = 4;

/// How far from what is known a segment or an acknowledgment may lie, in bytes. Control connections have less under way.
/// It is not learnt from the windows that are offered: in a forged packet that is near enough, any window can stand.
const WINDOW: u64 = u16::MAX as u64;

/// How far ahead a segment may lie after the daemon was away.
const AFTER_ABSENCE: u64 = 1 << 30;

/// How long after the first packet that came by after a gap an acknowledgment proves that nothing is missing: what the
/// receiver sent before it had what passed in the gap has arrived by then.
const SETTLED: Duration = Duration::from_secs(60);

/// How long after its first segment the receiver is asked what it has. What passed before that segment has come there
/// by then, late as it may be, and acknowledgments of before have come here.
const BEFORE_ASKING: Duration = Duration::from_millis(150);

/// What is known of the time when nobody looked, in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Absence {
    /// Nothing passed unseen.
    #[default]
    Over,
    /// Nothing has come since: what comes may have passed before, or lie far ahead.
    Unknown,
    /// The first segment since came then (time since boot). What goes on from where the stream stands waits until the
    /// receiver has been asked, and has answered.
    Waiting { since: Moment },
    /// It was asked; the first segment came then.
    Asked { since: Moment },
    /// It has: what goes on from where the stream stands may pass. Until it comes, nothing else may pass unseen.
    Answered,
}

/// Where a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// All of it was seen before.
    Old,
    /// It goes on where the stream stands.
    Next,
    /// Bytes before it are missing.
    Ahead,
    /// Out of the receiver's window: nothing can be learnt from it (RFC 9293, section 3.10.7.4).
    Outside,
}

/// One direction of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Where it begins, behind the SYN.
    first: u64,
    /// The first position that was not seen yet.
    pub next: u64,
    /// The first position that the receiver has not acknowledged.
    acknowledged: u64,
    /// What was changed.
    pub edits: Edits,
    /// The line that has not come to its end.
    pub line: Unfinished,
    /// What was seen lately.
    #[serde(skip)]
    pub history: History,
    /// FIN was seen.
    pub finished: bool,
    /// Whether the daemon was away, and how far that has been cleared up.
    absence: Absence,
    /// Packets may have passed unseen. Otherwise an end that acknowledges what never came by, or sends behind what never
    /// came by, lies, to have bytes passed over that it does not want to be read.
    #[serde(skip)]
    may_lack: bool,
    /// When the first acknowledgment since then came (time since boot).
    #[serde(skip)]
    lacking_since: Option<Moment>,
    /// Where the last segment that lay ahead lies, and how often it has come in a row; twice 0 where there was none.
    ahead: (u64, u8),
}

impl Stream {
    /// A stream whose sender starts with this initial sequence number; SYN takes one.
    pub fn new(initial: u32) -> Self {
        let first = position::first(initial) + 1;
        Self { first, next: first, acknowledged: first, ..Self::default() }
    }

    /// Whether nothing has come yet.
    pub fn is_fresh(&self) -> bool {
        self.next == self.first
    }

    /// Whether one that comes from a file holds together, so that counting with its positions can't overflow.
    pub fn is_sound(&self) -> bool {
        const HIGHEST: u64 = 1 << 62;
        let positions = [self.first, self.acknowledged, self.next];
        self.first >= position::first(0)
            && positions.is_sorted()
            && self.next < HIGHEST
            && self.edits.is_sound(self.first, self.next)
            && self.line.is_sound(HIGHEST)
    }

    /// Where a segment of `length` bytes at `position` lies.
    pub fn place(&self, position: u64, length: u64) -> Place {
        let end = position + length;
        let reach = if self.is_unclear() { AFTER_ABSENCE } else { WINDOW };
        if position > self.next + reach || end + WINDOW < self.next {
            Place::Outside
        } else if position > self.next {
            Place::Ahead
        } else if end <= self.next {
            Place::Old
        } else {
            Place::Next
        }
    }

    /// Packets may have passed unseen: the daemon was away, or its rules were.
    pub fn was_passed_by(&mut self) {
        self.may_lack = true;
        self.lacking_since = None;
    }

    /// Whether the receiver would take a segment with this acknowledgment number of the other direction (RFC 5961,
    /// section 5.2). Bare acknowledgments may not have come by, so the newest one known can be old.
    pub fn may_be_acknowledged(&self, receivers: u64) -> bool {
        let ahead = if self.is_unclear() { AFTER_ABSENCE } else { WINDOW };
        receivers <= self.sent() + ahead && receivers + WINDOW >= self.edits.forward(self.acknowledged)
    }

    /// The receiver's position behind the last byte that went out.
    pub fn sent(&self) -> u64 {
        self.edits.forward(self.next)
    }

    /// Takes an acknowledgment of the receiver, which says that it `has` bytes up to a position (behind gaps of its own,
    /// perhaps). Returns whether it names bytes that never came by here, though they may have been sent.
    pub fn acknowledge(&mut self, receivers: u64, has: u64, now: Duration) -> bool {
        let unseen = receivers > self.sent();
        if !self.may_be_acknowledged(receivers) || unseen && !self.may_lack {
            return false;
        }
        self.settle(receivers, now);
        if !unseen {
            let position = self.edits.backward(receivers);
            self.acknowledged = self.acknowledged.max(position);
            let is_open = self.line.promise.is_some();
            self.edits.fold(self.acknowledged, is_open);
            self.history.forget_before(self.acknowledged);
        }
        // A gap may hide that what lies before it was edited.
        let is_beyond = self.may_lack && has > self.sent() && self.edits.is_untouched();
        unseen || is_beyond && self.may_be_acknowledged(has)
    }

    /// Nothing is missing any more, once the receiver has acknowledged what came by since the gap, and nothing else.
    fn settle(&mut self, receivers: u64, now: Duration) {
        if !self.may_lack {
            return;
        }
        let since = *self.lacking_since.get_or_insert(now.into());
        let is_news = self.edits.backward(receivers) > self.acknowledged;
        if receivers == self.sent() && is_news && since.elapsed(now) > SETTLED {
            self.may_lack = false;
        }
    }

    /// A segment at `position` lies ahead. Returns whether it has come so often that what lies before it must
    /// have passed unseen: while the daemon was away, or between a flush of the firewall and its repair.
    pub fn misses_nothing_before(&mut self, position: u64) -> bool {
        let (last, before) = self.ahead;
        let count = if last == position { before.saturating_add(1) } else { 1 };
        self.ahead = (position, count);
        self.may_lack && count >= PROOF_OF_GAP && self.edits.is_untouched()
    }

    /// The daemon was away, and what came meanwhile passed as it was.
    pub fn was_unattended(&mut self) {
        self.absence = Absence::Unknown;
    }

    /// Whether something may have passed unseen while the daemon was away.
    pub fn is_unclear(&self) -> bool {
        matches!(self.absence, Absence::Unknown | Absence::Waiting { .. } | Absence::Asked { .. })
    }

    /// Whether nothing may pass unseen: the receiver's answer is awaited, or what may pass since then.
    pub fn is_watched(&self) -> bool {
        matches!(self.absence, Absence::Waiting { .. } | Absence::Asked { .. } | Absence::Answered)
    }

    /// Something comes that goes on where the stream stands, or ahead of it, and may have passed before: an edit would
    /// change what its receiver has already. It waits. Returns whether the receiver is to be asked in its place.
    pub fn asks(&mut self, now: Duration) -> bool {
        let since = match self.absence {
            Absence::Waiting { since } | Absence::Asked { since } => since,
            Absence::Over | Absence::Unknown | Absence::Answered => now.into(),
        };
        let asked = since.elapsed(now) >= BEFORE_ASKING;
        self.absence = if asked { Absence::Asked { since } } else { Absence::Waiting { since } };
        asked
    }

    /// Whether something may have passed unseen, so that it matters what the receiver has behind gaps of its own.
    pub fn is_in_doubt(&self) -> bool {
        self.may_lack || self.was_asked()
    }

    /// Whether the receiver has been [asked](Self::asks) what it has.
    pub fn was_asked(&self) -> bool {
        matches!(self.absence, Absence::Asked { .. })
    }

    /// The receiver has everything before `has`, with gaps perhaps, and nothing behind, if this answers what it was
    /// [asked](Self::asks). Returns whether some of it passed unseen.
    pub fn answered(&mut self, has: u64) -> bool {
        if !self.was_asked() {
            return false;
        }
        let passed = has > self.next;
        if passed {
            self.resume_at(has);
        }
        self.absence = Absence::Answered;
        passed
    }

    /// The receiver's position of a byte that it certainly has.
    pub fn below_what_the_receiver_has(&self) -> u64 {
        self.edits.forward(self.acknowledged) - 1
    }

    /// How many of the bytes `position..end`, from the first, can't be said again as they were said before, because what
    /// was edited in them is forgotten: the receiver has them.
    pub fn unrepeatable(&self, position: u64, end: u64) -> u64 {
        if self.edits.can_be_undone() { 0 } else { self.acknowledged.min(end).saturating_sub(position) }
    }

    /// Whether the receiver has acknowledged a FIN at `position`.
    pub fn has_acknowledged_fin(&self, position: u64) -> bool {
        self.acknowledged > position
    }

    /// Something comes that goes on where the stream stands, and can't be hurt by having passed before.
    pub fn goes_on(&mut self) {
        self.ahead = (0, 0);
        self.absence = Absence::Over;
    }

    /// Takes all edits back. Returns the promise that a cut line was waiting with.
    pub fn undo_edits(&mut self) -> Option<Promise> {
        self.edits = Edits::default();
        self.line.promise.take().map(|promise| *promise)
    }

    /// Gives memory back that it does not need now.
    pub fn rest(&mut self) {
        self.edits.rest();
        self.line.rest();
        self.history.rest();
    }

    /// Goes on at `position`: what lies before it passed unseen.
    pub fn resume_at(&mut self, position: u64) {
        self.next = self.next.max(position);
        self.ahead = (0, 0);
        self.line.behead(self.is_unclear());
    }

    /// Whether these bytes, all or partly seen before, may pass: they say what they said before, or nobody reads
    /// them any more. A keepalive may carry one byte of garbage before the stream's end (RFC 1122, section
    /// 4.2.3.6); where bare acknowledgments pass unseen (`loose`), it can't be told whether that byte was
    /// acknowledged.
    pub fn agrees(&self, position: u64, data: &[u8], loose: bool) -> bool {
        let end = position + data.len() as u64;
        end <= self.acknowledged
            || !self.history.contradicts(position, data)
            || loose && data.len() == 1 && end == self.next
    }
}

impl Translate for Stream {
    fn left_edge(&self, edge: u32) -> u32 {
        position::sequence_of(self.edits.backward_up(position::unwrap(edge, self.sent())))
    }

    fn right_edge(&self, edge: u32) -> u32 {
        position::sequence_of(self.edits.backward(position::unwrap(edge, self.sent())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn stream() -> Stream {
        let mut stream = Stream::new(999);
        stream.next += 100;
        stream
    }

    #[test]
    fn segments_are_told_apart_by_their_place() {
        let stream = stream();
        let next = stream.next;
        assert_eq!(stream.place(next, 10), Place::Next);
        assert_eq!(stream.place(next - 10, 11), Place::Next);
        assert_eq!(stream.place(next - 10, 10), Place::Old);
        assert_eq!(stream.place(next, 0), Place::Old);
        assert_eq!(stream.place(next + 1, 1), Place::Ahead);
        assert_eq!(stream.place(next + 70_000, 1), Place::Outside);
        assert_eq!(stream.place(next - 70_000, 1), Place::Outside);
    }

    #[test]
    fn acknowledgments_of_what_was_not_seen_are_noticed() {
        let mut stream = stream();
        let next = stream.next;
        assert!(!stream.acknowledge(next, next, NOW));
        assert_eq!(stream.acknowledged, next);
        assert!(!stream.acknowledge(next + 1000, next + 1000, NOW), "nothing can be missing: a lie");
        stream.was_passed_by();
        assert!(stream.acknowledge(next + 1000, next + 1000, NOW));
        assert_eq!(stream.acknowledged, next, "nothing is learnt from it yet");
        assert!(!stream.acknowledge(next + 1_000_000, next + 1_000_000, NOW), "too far off to be true");
    }

    #[test]
    fn what_the_receiver_has_behind_a_gap_was_not_seen_either() {
        let mut stream = stream();
        let (first, next) = (stream.first, stream.next);
        assert!(!stream.acknowledge(first, next + 10, NOW), "nothing can be missing: a lie");
        stream.was_passed_by();
        assert!(!stream.acknowledge(first, next, NOW));
        assert!(!stream.acknowledge(first, next + 70_000, NOW), "too far off to be true");
        assert!(stream.acknowledge(first, next + 10, NOW));
        stream.edits.replace(next - 10, 5, b"longer than that".to_vec());
        assert!(!stream.acknowledge(first, next + 20, NOW), "it may be the end of what was edited");
    }

    #[test]
    fn after_a_gap_an_acknowledgment_of_news_proves_that_nothing_is_missing() {
        let mut stream = stream();
        stream.was_passed_by();
        assert!(!stream.acknowledge(stream.next, stream.next, NOW), "it may be older than what passed");
        assert!(stream.acknowledge(stream.next + 1, stream.next + 1, NOW + SETTLED));
        assert!(!stream.acknowledge(stream.next, stream.next, NOW + SETTLED * 2), "no news");
        assert!(stream.acknowledge(stream.next + 1, stream.next + 1, NOW + SETTLED * 2));
        stream.next += 10;
        assert!(!stream.acknowledge(stream.next, stream.next, NOW + SETTLED * 2));
        assert!(!stream.acknowledge(stream.next + 1, stream.next + 1, NOW + SETTLED * 2));
    }

    #[test]
    fn an_acknowledgment_must_be_near_what_was_sent() {
        let stream = stream();
        assert!(stream.may_be_acknowledged(stream.next) && stream.may_be_acknowledged(stream.first));
        assert!(stream.may_be_acknowledged(stream.next + 60_000));
        assert!(!stream.may_be_acknowledged(stream.next + 70_000));
        assert!(!stream.may_be_acknowledged(stream.first - 70_000));
    }

    #[test]
    fn a_gap_is_proven_by_the_segment_behind_it_that_comes_again_and_again() {
        let mut stream = stream();
        let next = stream.next;
        assert!((0..10).all(|_| !stream.misses_nothing_before(next + 20)), "nothing can be missing: a lie");
        stream.was_passed_by();
        for round in 1..=PROOF_OF_GAP {
            for position in [next + 10, next + 20, next + 30] {
                assert!(!stream.misses_nothing_before(position), "a flight that lost its head, {round}");
            }
        }
        let proofs: Vec<_> = (0..PROOF_OF_GAP).map(|_| stream.misses_nothing_before(next + 20)).collect();
        assert_eq!(proofs, [false, false, false, true]);
    }

    #[test]
    fn a_keepalive_with_garbage_passes() {
        let mut stream = stream();
        let next = stream.next;
        stream.history.record(next - 3, b"x\r\n");
        assert!(stream.agrees(next - 3, b"x\r\n", false));
        assert!(!stream.agrees(next - 1, b"\0", false));
        assert!(stream.agrees(next - 1, b"\0", true));
        assert!(!stream.agrees(next - 2, b"\0", true));
        stream.acknowledge(next, next, NOW);
        assert!(stream.agrees(next - 1, b"\0", false));
    }
}
