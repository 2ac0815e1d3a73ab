//! How the demo looks: two columns within a hundred, colours on a terminal.

use std::env;
use std::io::{self, IsTerminal, StdoutLock, Write};

use super::alg::Pinhole;
use super::dialogue::{Dial, Row};
use super::wire::Direction;

/// The width of one side's column, in characters. A 227 with this net's addresses just fits.
const COLUMN: usize = 46;

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

/// Standard output. Unlike `println!` it tells when nobody reads it any more, so that the demo can clean up.
#[derive(Debug)]
pub struct Page {
    out: StdoutLock<'static>,
    colour: bool,
}

impl Page {
    /// Colours only where somebody sees them (and see no-color.org).
    pub fn new() -> Page {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let out = io::stdout().lock();
        Page { colour: out.is_terminal() && !refused, out }
    }

    /// A line of text.
    pub fn line(&mut self, style: Style, text: &str) -> io::Result<()> {
        let text = self.paint(style, text);
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// What the two columns are.
    pub fn columns(&mut self) -> io::Result<()> {
        let [lan, wan] = ["client's side (LAN) ", "server's side (WAN) "];
        let line = format!("  {lan:─<COLUMN$}── {wan:─<COLUMN$}");
        self.line(Style::Faint, &line)
    }

    /// A row of the dialogue.
    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        match row {
            Row::Said { direction, lan, wan } => self.said(*direction, lan, wan),
            Row::LeftOut(lines) => {
                let plural = if *lines == 1 { "" } else { "s" };
                self.line(Style::Faint, &format!("  ⋯ {lines} line{plural}, the same on both sides"))
            }
            Row::Opened(pinhole) => self.line(Style::Pinhole, &opened(pinhole)),
            Row::Dialled { direction, lan, wan } => {
                let [left, right] = [lan, wan].map(|dial| dial.as_ref().map(dialled));
                let both = left.is_some() && right.is_some();
                let left = fit(&left.unwrap_or_default());
                let right = fit(&right.unwrap_or_else(|| "✗ nothing comes out here".to_owned()));
                let line = format!("  {left:<COLUMN$} {} {right}", arrow(*direction));
                self.line(if both { Style::Pinhole } else { Style::Bad }, &line)
            }
        }
    }

    fn said(&mut self, direction: Direction, lan: &str, wan: &str) -> io::Result<()> {
        let [lan, wan] = [lan, wan].map(fit);
        let changed = lan != wan;
        let [left, right] = difference(&lan, &wan);
        let padding = " ".repeat(COLUMN - lan.chars().count());
        let [lan, wan] = [self.mark(left), self.mark(right)];
        writeln!(self.out, "  {lan}{padding} {} {wan}", arrow(direction))?;
        if changed && !self.colour {
            let [left, right] = [left, right].map(Parts::underline);
            writeln!(self.out, "  {left:<COLUMN$}   {right}")?;
        }
        self.out.flush()
    }

    fn mark(&self, parts: Parts<'_>) -> String {
        format!("{}{}{}", parts.before, self.paint(Style::Changed, parts.changed), parts.after)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if !self.colour || style == Style::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", style.parameters())
    }
}

fn arrow(direction: Direction) -> char {
    match direction {
        Direction::ToServer => '→',
        Direction::ToClient => '←',
    }
}

fn opened(Pinhole { key, to, .. }: &Pinhole) -> String {
    let leads = if key.ends_with(&format!(" {to}")) { String::new() } else { format!(", leads to {to}") };
    format!("  ○ pinhole opens:  {}{leads}", key.replace("->", "→"))
}

fn dialled(Dial { source, destination, times }: &Dial) -> String {
    let repeated = if *times > 1 { format!(" ×{times}") } else { String::new() };
    format!("● {source} → {destination}{repeated}")
}

/// The text, no longer than a column.
fn fit(text: &str) -> String {
    if text.chars().count() <= COLUMN {
        return text.to_owned();
    }
    text.chars().take(COLUMN - 1).chain(['…']).collect()
}

/// A text in three: where it is the same as another's beginning and end, and what is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts<'a> {
    before: &'a str,
    changed: &'a str,
    after: &'a str,
}

impl Parts<'_> {
    fn underline(self) -> String {
        " ".repeat(self.before.chars().count()) + &"^".repeat(self.changed.chars().count())
    }
}

/// Where two texts differ, in whole numbers.
fn difference<'a>(a: &'a str, b: &'a str) -> [Parts<'a>; 2] {
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
    fn a_column_holds_the_longest_227() {
        let reply = "227 Entering Passive Mode (192,0,2,9,255,255).";
        assert_eq!(fit(reply), reply);
        assert_eq!(fit(&format!("{reply}.")).chars().count(), COLUMN);
    }
}
