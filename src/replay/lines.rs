//! Lines of one direction, before and after what the engine does to them.

use std::collections::VecDeque;

use ftpalg::engine::ftp::command::Command;
use ftpalg::engine::position::distance;
use ftpalg::engine::session::Tap;

use crate::terminal::printable;

/// How much of a line is kept: as much as the engine reads.
const KEPT: usize = 512;

/// How many lines may wait for their counterparts.
const MOST_WAITING: usize = 64;

/// Names of commands whose arguments are nobody's business.
const SECRET: [&[u8]; 2] = [b"PASS", b"ACCT"];

/// A line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    bytes: Vec<u8>,
    /// How long it is, however much of it is kept.
    length: usize,
    /// The capture lacks its beginning.
    headless: bool,
}

impl Line {
    /// Whether it is a reply that refuses (RFC 959, section 4.2.1).
    pub fn refuses(&self) -> bool {
        !self.headless
            && matches!(self.bytes.as_slice(), [b'4' | b'5', b, c, ..] if b.is_ascii_digit() && c.is_ascii_digit())
    }

    /// The line for people, with the argument of PASS left out unless they want to see it.
    pub fn shown(&self, tap: Tap, with_passwords: bool) -> String {
        if self.headless {
            return format!("(the last {} bytes of a line whose beginning the capture lacks)", self.length);
        }
        let command = (tap == Tap::ToServer).then(|| Command::read(&self.bytes)).flatten();
        let is_secret = |command: &Command<'_>| {
            let word = command.word;
            !word.is_empty() && SECRET.iter().any(|secret| word.eq_ignore_ascii_case(secret))
        };
        if let Some(command) = command.filter(is_secret).filter(|_| !with_passwords) {
            return format!("{} ****", printable(command.word));
        }
        let more = if self.length > self.bytes.len() {
            format!("… ({} bytes)", self.length)
        } else {
            String::new()
        };
        printable(&self.bytes) + &more
    }
}

/// One view of a direction.
#[derive(Debug, Default)]
struct View {
    next: Option<u32>,
    bytes: Vec<u8>,
    length: usize,
    headless: bool,
    whole: VecDeque<Line>,
}

impl View {
    /// Takes what is new in a segment.
    fn take(&mut self, sequence: u32, payload: &[u8]) {
        let known = match self.next.map(|next| distance(sequence, next)) {
            Some(ahead) if ahead < 0 => {
                self.lack();
                0
            }
            Some(known) => usize::try_from(known).unwrap_or(usize::MAX),
            None => 0,
        };
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else { return };
        self.next = Some(sequence.wrapping_add(u32::try_from(payload.len()).unwrap_or(0)));
        for chunk in new.split_inclusive(|&byte| byte == b'\n') {
            let room = KEPT - self.bytes.len().min(KEPT);
            self.bytes.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
            self.length += chunk.len();
            if chunk.ends_with(b"\n") {
                let line = self.line();
                self.whole.push_back(line);
            }
        }
    }

    fn line(&mut self) -> Line {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut length = std::mem::take(&mut self.length);
        if length == bytes.len() {
            bytes.truncate(bytes.trim_ascii_end().len());
            length = bytes.len();
        }
        Line { bytes, length, headless: std::mem::take(&mut self.headless) }
    }

    /// Bytes are missing here.
    fn lack(&mut self) {
        self.bytes.clear();
        self.length = 0;
        self.headless = true;
        self.whole.clear();
        self.next = None;
    }
}

/// Both views of a direction.
#[derive(Debug, Default)]
pub struct Lines {
    before: View,
    after: View,
}

impl Lines {
    /// What the sender has sent.
    pub fn sent(&mut self, sequence: u32, payload: &[u8]) {
        self.before.take(sequence, payload);
    }

    /// What the receiver gets.
    pub fn received(&mut self, sequence: u32, payload: &[u8]) {
        self.after.take(sequence, payload);
    }

    /// Bytes are missing here; `begins` says that a line begins behind them, as far as is known.
    pub fn lack(&mut self, begins: bool) {
        for view in [&mut self.before, &mut self.after] {
            view.lack();
            view.headless = !begins;
        }
    }

    /// The next line that both have whole: as it was sent, and as it was received.
    pub fn next(&mut self) -> Option<[Line; 2]> {
        if self.before.whole.len().max(self.after.whole.len()) > MOST_WAITING {
            self.before.whole.clear();
            self.after.whole.clear();
        }
        if self.before.whole.is_empty() || self.after.whole.is_empty() {
            return None;
        }
        Some([self.before.whole.pop_front()?, self.after.whole.pop_front()?])
    }

    /// What was sent of a line that never came to its end.
    pub fn rest(&mut self) -> Option<Line> {
        (self.before.length > 0).then(|| self.before.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &mut Lines) -> Vec<[String; 2]> {
        std::iter::from_fn(|| lines.next())
            .map(|both| both.map(|line| line.shown(Tap::ToServer, false)))
            .collect()
    }

    #[test]
    fn lines_wait_for_their_counterparts() {
        let mut lines = Lines::default();
        lines.sent(u32::MAX - 2, b"PORT 10,0,");
        lines.received(u32::MAX - 2, b"PORT 203,0,113,7,4,1");
        lines.sent(u32::MAX - 2, b"PORT 10,0,");
        lines.sent(7, b"0,2,4,1\r\nNO");
        assert_eq!(shown(&mut lines), [[""; 2]; 0]);
        lines.received(17, b"\r\nNO");
        assert_eq!(shown(&mut lines), [["PORT 10,0,0,2,4,1", "PORT 203,0,113,7,4,1"]]);
        assert_eq!(lines.rest().unwrap().shown(Tap::ToServer, false), "NO");
    }

    #[test]
    fn passwords_are_hidden_whole_and_in_parts() {
        for text in
            ["PASS secret\r\n", "pass secret\n", "\u{fffd}PASS secret\r\n", "ACCT secret\r\n", "PASS secret"]
        {
            // Telnet's IAC IP before the command, as bytes.
            let bytes: Vec<u8> = match text.strip_prefix('\u{fffd}') {
                Some(rest) => [&[0xff, 0xf4], rest.as_bytes()].concat(),
                None => text.as_bytes().to_vec(),
            };
            let mut lines = Lines::default();
            lines.sent(1, &bytes);
            lines.received(1, &bytes);
            let line = lines.next().map(|[before, _]| before).or_else(|| lines.rest()).unwrap();
            let shown = line.shown(Tap::ToServer, false);
            assert!(shown.ends_with(" ****") && !shown.contains("secret"), "{shown}");
            assert!(line.shown(Tap::ToServer, true).contains("secret"));
        }
        let mut lines = Lines::default();
        lines.lack(false);
        lines.sent(1, b"ecret\r\nPWD\r\n");
        lines.received(1, b"ecret\r\nPWD\r\n");
        let shown = shown(&mut lines);
        assert!(!shown[0][0].contains("ecret"), "{shown:?}");
        assert_eq!(shown[1], ["PWD"; 2]);
    }

    #[test]
    fn a_long_line_takes_no_room() {
        let mut lines = Lines::default();
        for at in 0..100_u32 {
            lines.sent(at * 1000, &[b'x'; 1000]);
        }
        assert!(lines.before.bytes.len() == KEPT);
        lines.sent(100_000, b"\r\n");
        lines.received(0, &[b'x'; 1000]);
        lines.received(1000, b"\n");
        assert!(shown(&mut lines)[0][0].ends_with("… (100002 bytes)"));
    }
}
