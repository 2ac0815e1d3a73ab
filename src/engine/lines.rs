//! Lines, put together from segments.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::ftp::host_port::Notation;
use super::promise::Promise;

/// How much of a line is kept. An EPRT with an IPv6 address takes 60 bytes; of longer lines (file names) only the
/// beginning matters.
const KEPT: usize = 512;

/// A line as the editor hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Its bytes, as far as they have come.
    pub bytes: &'a [u8],
    /// How many of them went out before: they can't be edited any more.
    pub sent: usize,
    /// More bytes came than are kept.
    pub overlong: bool,
    /// It is whole, and a bare LF ends it instead of CR LF.
    pub ends_bare: bool,
}

impl Line<'_> {
    /// The line for the log, without its end. A password is nobody's business.
    pub fn text(&self) -> String {
        let line = self.bytes.trim_ascii();
        let verb = line.split(|byte| !byte.is_ascii_alphabetic()).find(|word| !word.is_empty());
        match verb.unwrap_or_default() {
            _ if line.first().is_some_and(u8::is_ascii_digit) => String::from_utf8_lossy(line).into_owned(),
            verb if verb.eq_ignore_ascii_case(b"PASS") => "PASS ...".to_owned(),
            verb if verb.eq_ignore_ascii_case(b"ACCT") => "ACCT ...".to_owned(),
            _ => String::from_utf8_lossy(line).into_owned(),
        }
    }
}

/// Bytes of a line to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineEdit {
    /// Offsets in the line.
    pub range: Range<usize>,
    /// What stands there instead.
    pub text: Vec<u8>,
    /// What it is.
    pub notation: Notation,
}

/// The line that is not over yet. Lines end with LF (RFC 959, section 5.3.1, CRLF; real peers take a bare LF):
/// a bare CR ends nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Position of its first byte, in the sender's space; meaningless while it is empty.
    start: u64,
    bytes: Vec<u8>,
    overlong: bool,
    /// The last byte and the one before it, of those that are not kept, too.
    last: [u8; 2],
    /// Its beginning was not seen: it is not judged.
    headless: bool,
    /// The daemon was away, and what comes next may well be its beginning.
    may_begin: bool,
    /// What its address was replaced by before all of it had come.
    pub promise: Option<Box<Promise>>,
}

impl Unfinished {
    /// Appends a chunk that stands at `position` and holds LF at its end or nowhere.
    pub fn push(&mut self, position: u64, chunk: &[u8]) {
        if self.bytes.is_empty() && !self.overlong {
            self.start = position;
        }
        let room = KEPT - self.bytes.len().min(KEPT);
        self.bytes.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        self.overlong |= chunk.len() > room;
        self.last = match (self.last, chunk) {
            (_, [.., before, last]) => [*before, *last],
            ([_, before], [last]) => [before, *last],
            (unchanged, []) => unchanged,
        };
    }

    /// The line so far; `sent` of its bytes went out earlier.
    pub fn line(&self, sent: usize) -> Option<Line<'_>> {
        (!self.headless).then_some(Line {
            bytes: &self.bytes,
            sent,
            overlong: self.overlong,
            ends_bare: self.ends_bare(),
        })
    }

    /// Whether it ends with a bare LF so far.
    pub fn ends_bare(&self) -> bool {
        matches!(self.last, [before, b'\n'] if before != b'\r')
    }

    /// Whether one that comes from a file is within its bounds.
    pub fn is_sound(&self, highest: u64) -> bool {
        self.bytes.len() <= KEPT
            && self.start < highest
            && self.promise.as_ref().is_none_or(|promise| promise.start <= self.bytes.len())
    }

    /// How many bytes of it are kept.
    pub fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// The position of the byte at this offset.
    pub fn position(&self, offset: usize) -> u64 {
        self.start + offset as u64
    }

    /// The bytes that are kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line is over.
    pub fn clear(&mut self) {
        *self = Self { bytes: std::mem::take(&mut self.bytes), ..Self::default() };
        self.bytes.clear();
    }

    /// Gives memory back that it does not need now.
    pub fn rest(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Bytes are missing here: the rest of this line, and what stood before, is not judged; unless it `may_begin`
    /// here, and [does](Self::begins).
    pub fn behead(&mut self, may_begin: bool) {
        self.clear();
        self.headless = true;
        self.may_begin = may_begin;
    }

    /// Whether it is not known, and can be found out, if a line begins with the next byte.
    pub fn may_begin(&self) -> bool {
        self.may_begin
    }

    /// Whether a line begins with the next byte.
    pub fn begins(&mut self, begins: bool) {
        self.headless = !begins;
        self.may_begin = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_kept_up_to_the_bound() {
        let mut line = Unfinished::default();
        line.push(100, b"USER ");
        line.push(105, &[b'x'; 2000]);
        let kept = line.line(5).unwrap();
        assert_eq!((kept.bytes.len(), kept.overlong, kept.sent), (KEPT, true, 5));
        assert_eq!(line.position(5), 105);
        line.clear();
        line.push(3000, b"NOOP\r\n");
        let kept = line.line(0).unwrap();
        assert_eq!((kept.bytes, kept.overlong), (&b"NOOP\r\n"[..], false));
        assert_eq!(line.position(0), 3000);
    }

    #[test]
    fn a_bare_lf_is_told_from_a_line_s_end() {
        let ends_bare = |chunks: &[&[u8]]| {
            let mut line = Unfinished::default();
            line.push(0, b"NOOP\r\n");
            line.clear();
            chunks.iter().for_each(|chunk| line.push(7, chunk));
            line.line(0).unwrap().ends_bare
        };
        for chunks in [&[&b"550 x\n"[..]][..], &[b"550 x", b"\n"], &[b"\n"], &[&[b'x'; 600], b"\n"]] {
            assert!(ends_bare(chunks), "{chunks:?}");
        }
        for chunks in
            [&[&b"550 x\r\n"[..]][..], &[b"550 x\r", b"\n"], &[b"550 x"], &[&[b'x'; 600], b"\r", b"\n"]]
        {
            assert!(!ends_bare(chunks), "{chunks:?}");
        }
    }

    #[test]
    fn passwords_are_not_told() {
        let text = |bytes: &[u8]| Line { bytes, sent: 0, overlong: false, ends_bare: false }.text();
        assert_eq!(text(b"PORT 1,2,3,4,5,6\r\n"), "PORT 1,2,3,4,5,6");
        assert_eq!(text(b"227 Pass (1,2,3,4,5,6)\r\n"), "227 Pass (1,2,3,4,5,6)");
        for line in
            [&b"PASS s3cret\r\n"[..], b" pass s3cret", b"\xff\xf4\xff\xf2PaSs\ts3cret\n", b"ACCT s3cret"]
        {
            assert!(!text(line).contains("s3cret"), "{:?}", text(line));
        }
    }

    #[test]
    fn a_headless_line_is_not_judged() {
        let mut line = Unfinished::default();
        line.push(0, b"PO");
        line.behead(false);
        line.push(90, b"RT 1,2,3,4,5,6\r\n");
        assert!(line.line(0).is_none());
        line.clear();
        line.push(110, b"NOOP\r\n");
        assert!(line.line(0).is_some());
    }
}
