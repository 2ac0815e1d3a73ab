//! How the demo looks: two columns within a hundred.

use std::io;

use ftpalg::engine::session::Tap;

use super::alg::Pinhole;
use super::dialogue::{Dial, Row};
use crate::terminal::{Parts, Style, Terminal, arrow, difference};

/// The width of one side's column, in characters. A 227 with this net's addresses just fits.
const COLUMN: usize = 46;

/// The demo's output.
#[derive(Debug)]
pub struct Page {
    terminal: Terminal,
}

impl Page {
    /// An empty one.
    pub fn new() -> Page {
        Page { terminal: Terminal::new() }
    }

    /// A line of text.
    pub fn line(&mut self, style: Style, text: &str) -> io::Result<()> {
        self.terminal.line(style, text)?;
        self.terminal.flush()
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

    fn said(&mut self, direction: Tap, lan: &str, wan: &str) -> io::Result<()> {
        let [lan, wan] = [lan, wan].map(fit);
        let changed = lan != wan;
        let [left, right] = difference(&lan, &wan);
        let padding = " ".repeat(COLUMN - lan.chars().count());
        let [lan, wan] = [self.terminal.mark(left), self.terminal.mark(right)];
        self.line(Style::Plain, &format!("  {lan}{padding} {} {wan}", arrow(direction)))?;
        if changed && !self.terminal.colour {
            let [left, right] = [left, right].map(Parts::underline);
            self.line(Style::Plain, &format!("  {left:<COLUMN$}   {right}"))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_holds_the_longest_227() {
        let reply = "227 Entering Passive Mode (192,0,2,9,255,255).";
        assert_eq!(fit(reply), reply);
        assert_eq!(fit(&format!("{reply}.")).chars().count(), COLUMN);
    }
}
