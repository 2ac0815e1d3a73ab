//! Text for people: colours on a terminal, what differs between two lines, and nothing that could steer the terminal.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, StdoutLock, Write};

use ftpalg::engine::session::Tap;

use crate::log;

/// Says to the journal that a line of standard error tells an error (sd-daemon(3)).
const ERROR_PREFIX: &str = "<3>";

/// How a piece of text looks on a terminal, as an ANSI escape sequence's parameters (ECMA-48, 8.3.117).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Heading,
    Faint,
    Changed,
    Pinhole,
    Good,
    Bad,
}

impl Style {
    fn parameters(self) -> &'static str {
        match self {
            Style::Plain => "0",
            Style::Heading => "1",
            Style::Faint => "2",
            Style::Changed => "1;33",
            Style::Pinhole => "36",
            Style::Good => "1;32",
            Style::Bad => "1;31",
        }
    }
}

/// Standard output. Unlike `println!` it tells when nobody reads it any more, so that the caller can clean up.
#[derive(Debug)]
pub struct Terminal {
    out: StdoutLock<'static>,
    /// Whether there are colours.
    pub colour: bool,
}

impl Terminal {
    /// Colours only where somebody sees them (and see no-color.org).
    pub fn new() -> Terminal {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let out = io::stdout().lock();
        Terminal { colour: out.is_terminal() && !refused, out }
    }

    /// A line of text.
    pub fn line(&mut self, style: Style, text: &str) -> io::Result<()> {
        let text = self.paint(style, text);
        writeln!(self.out, "{text}")
    }

    /// What was written so far, to whoever reads it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A text with the part marked in which it differs from another.
    pub fn mark(&self, parts: Parts<'_>) -> String {
        format!("{}{}{}", parts.before, self.paint(Style::Changed, parts.changed), parts.after)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour || style == Style::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", style.parameters())
    }
}

/// Tells on standard error what went wrong. `eprintln!` would panic where nobody reads that any more.
pub fn complain(what: &dyn Display) {
    let priority = if log::leads_to_journal() { ERROR_PREFIX } else { "" };
    let mut lines = String::new();
    for line in format!("ftpalg: {what}").lines() {
        lines += &format!("{priority}{line}\n");
    }
    io::stderr().write_all(lines.as_bytes()).ok();
}

/// Whether the reader of standard output has gone away, as `head` does.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Which way something goes, between the client on the left and the server on the right.
pub fn arrow(direction: Tap) -> char {
    match direction {
        Tap::ToServer => '→',
        Tap::ToClient => '←',
    }
}

/// What a stranger wrote, without what a terminal would obey: control characters, and those that turn the direction of
/// writing or are not seen, stand there as escapes.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        let is_unseen = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || is_unseen { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

/// A text in three: where it is the same as another's beginning and end, and what is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    pub before: &'a str,
    pub changed: &'a str,
    pub after: &'a str,
}

impl Parts<'_> {
    /// Carets below what changed.
    pub fn underline(self) -> String {
        " ".repeat(self.before.chars().count()) + &"^".repeat(self.changed.chars().count())
    }
}

/// Where two texts differ, in whole numbers.
pub fn difference<'a>(a: &'a str, b: &'a str) -> [Parts<'a>; 2] {
    if a == b {
        return [a, b].map(|text| Parts { before: text, changed: "", after: "" });
    }
    let same = |(a, b): &(char, char)| a == b;
    let before: usize = a.chars().zip(b.chars()).take_while(same).map(|(c, _)| c.len_utf8()).sum();
    let before = a[..before].trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let [a_rest, b_rest] = [&a[before..], &b[before..]];
    let ends = a_rest.chars().rev().zip(b_rest.chars().rev());
    let after: usize = ends.take_while(same).map(|(c, _)| c.len_utf8()).sum();
    let after = a_rest[a_rest.len() - after..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
    [a, b].map(|text| {
        let (rest, after) = text.split_at(text.len() - after);
        let (before, changed) = rest.split_at(before);
        Parts { before, changed, after }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found_in_whole_numbers() {
        let [a, b] = difference("PORT 192,168,100,2,156,41", "PORT 203,0,113,7,156,41");
        assert_eq!((a.before, a.changed, a.after), ("PORT ", "192,168,100,2", ",156,41"));
        assert_eq!((b.before, b.changed, b.after), ("PORT ", "203,0,113,7", ",156,41"));
        let [a, b] = difference("PORT 10,0,0,2,4,15", "PORT 10,0,0,2,4,25");
        assert_eq!((a.changed, b.changed), ("15", "25"));
        let [a, b] = difference("200 fine", "200 fine");
        assert_eq!((a.changed, b.changed), ("", ""));
        let [a, b] = difference("", "PORT 1…");
        assert_eq!((a.changed, b.changed), ("", "PORT 1…"));
    }

    #[test]
    fn nothing_that_a_terminal_would_obey_is_left() {
        assert_eq!(printable(b"220 \x1b[2Jhi\x07\xff"), "220 \\u{1b}[2Jhi\\u{7}\u{fffd}");
        assert_eq!(printable("RETR \u{202e}txt.exe \u{9b}ü".as_bytes()), "RETR \\u{202e}txt.exe \\u{9b}ü");
    }
}
