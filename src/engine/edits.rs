//! The edits made in one direction of a stream: a map from the sender's positions to the receiver's.
//!
//! An edit replaces the bytes `at..at + old` of the sender's stream by `new`. The whole of `new` goes out with the
//! first of the old bytes; the others are swallowed. So a position inside the old bytes stands for the end of
//! `new`, and a position of the receiver inside `new` for the beginning of the old bytes: the sender sends them
//! again, and the edit is made again. Edits that the receiver has acknowledged fold into one shift.

use serde::{Deserialize, Serialize};

/// How many edits may wait for their acknowledgment. A segment of 1460 bytes holds about 70 PORT commands; what
/// comes behind the limit is left for the sender to send again.
pub const MAX_IN_FLIGHT: usize = 16;

/// How large a segment may become that grows: what came as large as this, or larger, is not made larger. Every
/// path takes a payload of 512 bytes (RFC 9293, section 3.7.1; RFC 8200, section 5), and a sender's own segment
/// shows that its path takes one of that size. A single replacement is much shorter.
pub const GROWS_TO: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Edit {
    /// Sender's position of the first replaced byte.
    at: u64,
    /// How many bytes are replaced, of those seen so far; at least 1.
    old: u64,
    new: Vec<u8>,
}

impl Edit {
    fn end(&self) -> u64 {
        self.at + self.old
    }

    fn new_length(&self) -> u64 {
        self.new.len() as u64
    }

    fn growth(&self) -> i64 {
        let length = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        length(self.new_length()) - length(self.old)
    }
}

/// All edits of one direction. Invariant: in ascending order, without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    /// How much longer the stream has become through edits that are acknowledged.
    folded: i64,
    in_flight: Vec<Edit>,
    /// An edit was made, ever.
    made_any: bool,
    /// An edit was acknowledged, ever.
    folded_any: bool,
}

impl Edits {
    /// Whether they hold together, in a stream that goes from `first` to `next`.
    pub fn is_sound(&self, first: u64, next: u64) -> bool {
        let is_edit = |edit: &Edit| edit.old > 0 && !edit.new.is_empty() && edit.new.len() < GROWS_TO;
        let mut end = first;
        self.in_flight.len() <= MAX_IN_FLIGHT
            && self.folded.unsigned_abs() < first
            && self.in_flight.iter().all(|edit| {
                let follows = is_edit(edit) && end <= edit.at && edit.at < next && edit.old <= next - edit.at;
                end = edit.at.saturating_add(edit.old);
                follows
            })
    }

    /// Whether so many more edits can be made now.
    pub fn has_room_for(&self, more: usize) -> bool {
        self.in_flight.len() + more <= MAX_IN_FLIGHT
    }

    /// Whether the two spaces were the same from the beginning: whatever passed unseen passed rightly.
    pub fn is_untouched(&self) -> bool {
        !self.made_any
    }

    /// Whether nothing that was edited has been acknowledged yet.
    pub fn can_be_undone(&self) -> bool {
        !self.folded_any
    }

    /// Whether an edit still waits for its acknowledgment.
    pub fn any_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// How much longer the receiver's stream is than the sender's, in bytes.
    pub fn shift(&self) -> i64 {
        self.folded + self.in_flight.iter().map(Edit::growth).sum::<i64>()
    }

    /// Replaces `old` bytes at `at`, behind every earlier edit, by `new`; neither is empty. What is not so can
    /// only come of a damaged state file, and is left as it is.
    pub fn replace(&mut self, at: u64, old: u64, new: Vec<u8>) {
        if old == 0 || new.is_empty() || self.in_flight.last().is_some_and(|edit| edit.end() > at) {
            return;
        }
        self.in_flight.push(Edit { at, old, new });
        self.made_any = true;
    }

    /// Lets the newest edit swallow `more` bytes that follow it.
    pub fn swallow(&mut self, more: u64) {
        if let Some(edit) = self.in_flight.last_mut() {
            edit.old += more;
        }
    }

    /// The receiver's position for a position of the sender.
    pub fn forward(&self, position: u64) -> u64 {
        let mut shift = self.folded;
        for edit in &self.in_flight {
            if position <= edit.at {
                break;
            }
            if position < edit.end() {
                return edit.at.wrapping_add_signed(shift).wrapping_add(edit.new_length());
            }
            shift += edit.growth();
        }
        position.wrapping_add_signed(shift)
    }

    /// The sender's position for a position of the receiver; one inside a replacement rounds down to its
    /// beginning.
    pub fn backward(&self, position: u64) -> u64 {
        self.backward_rounded(position, |edit| edit.at)
    }

    /// The same, but one inside a replacement rounds up to its end.
    pub fn backward_up(&self, position: u64) -> u64 {
        self.backward_rounded(position, Edit::end)
    }

    fn backward_rounded(&self, position: u64, round: impl Fn(&Edit) -> u64) -> u64 {
        let mut shift = self.folded;
        for edit in &self.in_flight {
            let start = edit.at.wrapping_add_signed(shift);
            if position <= start {
                break;
            }
            if position < start.wrapping_add(edit.new_length()) {
                return round(edit);
            }
            shift += edit.growth();
        }
        position.wrapping_add_signed(-shift)
    }

    /// What goes out for the sender's bytes `data` at `position`: appends it to `out` and returns the receiver's
    /// position of its first byte. Where every byte is swallowed, that is the last byte of the replacement once
    /// more, at its own place: a true retransmission, whose answer acknowledges what was swallowed.
    pub fn render(&self, position: u64, data: &[u8], out: &mut Vec<u8>) -> u64 {
        let end = position + data.len() as u64;
        let before = out.len();
        let mut done = position;
        let mut last_new = None;
        for edit in &self.in_flight {
            if edit.end() <= done || edit.at >= end {
                continue;
            }
            out.extend_from_slice(slice(data, position, done, edit.at));
            if done <= edit.at {
                out.extend_from_slice(&edit.new);
            }
            done = edit.end().min(end);
            last_new = edit.new.last();
        }
        out.extend_from_slice(slice(data, position, done, end));
        match last_new {
            Some(&byte) if out.len() == before => {
                out.push(byte);
                self.forward(end).wrapping_sub(1)
            }
            _ => self.forward(position),
        }
    }

    /// The receiver has acknowledged everything before the sender's position `acknowledged`; `open` says that the
    /// newest edit may still grow.
    pub fn fold(&mut self, acknowledged: u64, open: bool) {
        let may_fold = self.in_flight.len() - usize::from(open && !self.in_flight.is_empty());
        let done = self.in_flight.iter().take(may_fold).take_while(|edit| edit.end() <= acknowledged).count();
        for edit in self.in_flight.drain(..done) {
            self.folded += edit.growth();
            self.folded_any = true;
        }
    }

    /// Gives memory back that they do not need now.
    pub fn rest(&mut self) {
        self.in_flight.shrink_to_fit();
    }
}

/// The bytes `from..to` of `data`, which stands at `position`.
fn slice(data: &[u8], position: u64, from: u64, to: u64) -> &[u8] {
    let index = |at: u64| usize::try_from(at.saturating_sub(position)).unwrap_or(usize::MAX);
    data.get(index(from)..index(to)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(edits: &Edits, position: u64, data: &[u8]) -> (u64, String) {
        let mut out = Vec::new();
        let at = edits.render(position, data, &mut out);
        (at, String::from_utf8(out).unwrap())
    }

    /// `PORT ` at 1000, its address of 3 bytes replaced by one of 6, `\r\n` behind it.
    fn grown() -> Edits {
        let mut edits = Edits::default();
        edits.replace(1005, 3, b"ABCDEF".to_vec());
        edits
    }

    #[test]
    fn a_whole_line_is_replaced_in_one() {
        assert_eq!(render(&grown(), 1000, b"PORT abc\r\n"), (1000, "PORT ABCDEF\r\n".into()));
    }

    #[test]
    fn a_cut_inside_the_address_sends_all_of_it_with_its_first_byte() {
        let edits = grown();
        assert_eq!(render(&edits, 1000, b"PORT a"), (1000, "PORT ABCDEF".into()));
        assert_eq!(render(&edits, 1006, b"bc\r\n"), (1011, "\r\n".into()));
        assert_eq!(render(&edits, 1006, b"b"), (1010, "F".into()));
        assert_eq!(render(&edits, 1007, b"c"), (1010, "F".into()));
        assert_eq!(render(&edits, 1008, b"\r"), (1011, "\r".into()));
    }

    #[test]
    fn positions_translate_both_ways() {
        let edits = grown();
        for (sender, receiver) in
            [(1000, 1000), (1005, 1005), (1006, 1011), (1007, 1011), (1008, 1011), (1010, 1013)]
        {
            assert_eq!(edits.forward(sender), receiver, "{sender} forward");
        }
        for (receiver, down, up) in [
            (1005, 1005, 1005),
            (1006, 1005, 1008),
            (1010, 1005, 1008),
            (1011, 1008, 1008),
            (1013, 1010, 1010),
        ] {
            assert_eq!(edits.backward(receiver), down, "{receiver} down");
            assert_eq!(edits.backward_up(receiver), up, "{receiver} up");
        }
    }

    #[test]
    fn an_edit_that_shrinks_never_acknowledges_too_much() {
        let mut edits = Edits::default();
        edits.replace(10, 6, b"x".to_vec());
        assert_eq!(edits.forward(16), 11);
        assert_eq!(edits.backward(10), 10);
        assert_eq!(edits.backward(11), 16);
        assert_eq!(edits.shift(), -5);
    }

    #[test]
    fn acknowledged_edits_fold_into_a_shift() {
        let mut edits = grown();
        edits.replace(1020, 4, b"XY".to_vec());
        assert_eq!(edits.shift(), 1);
        edits.fold(1007, false);
        assert_eq!(edits.in_flight.len(), 2);
        edits.fold(1008, false);
        assert_eq!((edits.in_flight.len(), edits.folded), (1, 3));
        edits.fold(1100, true);
        assert!(edits.any_in_flight(), "an open edit stays");
        edits.fold(1100, false);
        assert_eq!((edits.any_in_flight(), edits.shift()), (false, 1));
        assert_eq!((edits.forward(1100), edits.backward(1101)), (1101, 1100));
    }

    #[test]
    fn two_edits_in_one_segment() {
        let mut edits = Edits::default();
        edits.replace(5, 2, b"WXYZ".to_vec());
        edits.replace(10, 3, b"q".to_vec());
        assert_eq!(render(&edits, 0, b"01234ab789cdeEND"), (0, "01234WXYZ789qEND".into()));
        assert_eq!(render(&edits, 6, b"b789cd"), (9, "789q".into()));
    }
}
