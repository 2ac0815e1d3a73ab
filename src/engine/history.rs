//! The newest bytes of a stream, kept to notice retransmissions that contradict what was already seen.

use std::ops::Range;

/// How many bytes are kept although the receiver has not been seen to acknowledge them. Bare acknowledgments of
/// connections that are not shifted pass the daemon by, so acknowledged bytes can wait here for a while; what is
/// older than this many bytes passes without comparison.
const KEPT: usize = 4096;

/// Bytes `start..start + bytes.len()` of a stream, in the sender's positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    start: u64,
    /// Almost always a line or two, so that what is behind the forgotten ones is quickly moved to the front.
    bytes: Vec<u8>,
}

impl History {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// New bytes at `position`, which follow those before them.
    pub fn record(&mut self, position: u64, data: &[u8]) {
        let skipped = data.len().saturating_sub(KEPT);
        let position = position + skipped as u64;
        if self.end() != position {
            self.bytes.clear();
        }
        if self.bytes.is_empty() {
            self.start = position;
        }
        self.bytes.extend_from_slice(data.get(skipped..).unwrap_or_default());
        self.forget_before(self.end().saturating_sub(KEPT as u64));
    }

    /// The receiver has everything before `position`.
    pub fn forget_before(&mut self, position: u64) {
        let gone =
            usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..gone);
        self.start += gone as u64;
    }

    /// Gives memory back that it does not need now.
    pub fn rest(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Whether `data` at `position` says something else than what is kept.
    pub fn contradicts(&self, position: u64, data: &[u8]) -> bool {
        let from = self.start.max(position);
        let to = self.end().min(position + data.len() as u64);
        from < to && part(&self.bytes, self.start, from..to) != part(data, position, from..to)
    }
}

/// The bytes at these positions, of some that stand at `start`.
fn part(bytes: &[u8], start: u64, positions: Range<u64>) -> Option<&[u8]> {
    let index = |at: u64| usize::try_from(at - start).ok();
    bytes.get(index(positions.start)?..index(positions.end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_can_be_contradicted() {
        let mut history = History::default();
        history.record(100, b"PORT ");
        history.record(105, b"1,2\r\n");
        assert!(!history.contradicts(98, b"xxPORT 1,2\r\nmore"));
        assert!(history.contradicts(100, b"PASV "));
        history.forget_before(105);
        assert!(!history.contradicts(100, b"PASV 1,2"));
        assert!(history.contradicts(100, b"PASV 1,3"));
        history.forget_before(1000);
        assert!(!history.contradicts(100, b"PASV 1,3"));
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut history = History::default();
        for position in (0..100_000).step_by(1000) {
            history.record(position, &[1; 1000]);
        }
        assert_eq!(history.bytes.len(), KEPT);
        assert_eq!(history.end(), 100_000);
        history.record(100_000, &[2; 60_000]);
        assert!(history.bytes.capacity() < 4 * KEPT && history.bytes == [2; KEPT]);
        assert_eq!(history.end(), 160_000);
    }

    #[test]
    fn a_gap_starts_anew() {
        let mut history = History::default();
        history.record(0, b"abc");
        history.record(10, b"xyz");
        assert!(!history.contradicts(0, b"ABC"));
        assert!(history.contradicts(10, b"abc"));
    }
}
