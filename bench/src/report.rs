//! docs/performance.md: the tables and plots between its two marks, all else as somebody has written it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figure::Row;

const BEGIN: &str = "<!-- figures: written by `make bench` -->";
const END: &str = "<!-- figures: end -->";

/// What was measured, as Markdown.
#[derive(Debug, Default)]
pub struct Report(String);

impl Report {
    /// A heading and what the figures below it are of.
    pub fn section(&mut self, heading: &str, about: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "\n### {heading}\n\n{about}\n\n");
    }

    /// A plot.
    pub fn plot(&mut self, title: &str, file: &str) {
        let _ = write!(self.0, "\n![{title}](performance/{file})\n\n");
    }

    /// A line of text.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}");
    }

    /// The head of [`Report::rows`].
    pub fn head(&mut self, what: &str) {
        self.line(&format!(
            "| {what} | | a second | ratio | p50 µs | p99 µs | queued packets | CPU µs a packet |"
        ));
        self.line("| --- | --- | --- | --- | --- | --- | --- | --- |");
    }

    /// A figure's rows, the ratio to the first's.
    pub fn rows(&mut self, what: &str, rows: &[Row]) {
        for (place, row) in rows.iter().enumerate() {
            let queue = if row.packets > 0.0 {
                format!("{:.1} | {:.2}", row.packets, row.cpu)
            } else {
                String::from("– | –")
            };
            self.line(&format!(
                "| {} | {} | {} | {:.2} | {} | {} | {queue} |",
                if place == 0 { what } else { "" },
                row.contender,
                whole(row.rate),
                row.ratio,
                whole(row.p50),
                whole(row.p99),
            ));
        }
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Writes it into the page.
    pub fn write(&self, page: &Path) -> Result<()> {
        let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
        let marks = text.find(BEGIN).zip(text.find(END)).filter(|(begin, end)| begin < end);
        let (begin, end) =
            marks.with_context(|| format!("{}: no lines {BEGIN} and {END}: put them in", page.display()))?;
        let before = text.get(..begin + BEGIN.len()).unwrap_or_default();
        let behind = text.get(end..).unwrap_or_default();
        fs::write(page, format!("{before}\n{}\n{behind}", self.0.trim_end()))
            .with_context(|| format!("writing {}", page.display()))
    }
}

/// A number without digits that mean nothing.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(whole(7.4), "7");
        assert_eq!(whole(999.6), "1,000");
        assert_eq!(whole(1_234_567.0), "1,234,567");
    }

    #[test]
    fn what_stands_round_the_figures_stays() {
        let page = std::env::temp_dir().join(format!("ftpalg-report-{}.md", std::process::id()));
        fs::write(&page, format!("before\n{BEGIN}\nold\n{END}\nbehind\n")).unwrap();
        let mut report = Report::default();
        report.section("Heading", "About.");
        report.write(&page).unwrap();
        let text = fs::read_to_string(&page).unwrap();
        assert_eq!(text, format!("before\n{BEGIN}\n\n### Heading\n\nAbout.\n{END}\nbehind\n"));
        fs::write(&page, "nothing").unwrap();
        assert!(report.write(&page).is_err());
        fs::remove_file(page).unwrap();
    }
}
