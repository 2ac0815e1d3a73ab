//! How the findings are shown: a line each with its mark, and its mend below; or JSON.

use std::env;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::finding::{Finding, Mark, Mend};
use crate::config::FIXED_AT_START;

/// The width of the column of topics.
const TOPIC: usize = 13;
/// The width of a line, in characters; a command is never broken.
const WIDTH: usize = 110;

/// What the terminal, or the file, can show.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    colour: bool,
    unicode: bool,
}

impl Looks {
    /// As standard output and the environment say (locale(7), no-color.org).
    pub fn of_stdout() -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| env::var(name).ok());
        let locale = locale.filter(|value| !value.is_empty()).map(|value| value.to_ascii_lowercase()).next();
        Self {
            colour: io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
            unicode: locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8")),
        }
    }

    fn sign(self, mark: Mark) -> &'static str {
        match (mark, self.unicode) {
            (Mark::Right, true) => "✓",
            (Mark::Right, false) => "+",
            (Mark::Unseen, _) => "?",
            (Mark::Warning, _) => "!",
            (Mark::Wrong, true) => "✗",
            (Mark::Wrong, false) => "x",
        }
    }

    /// The text in the colour of a mark, by the parameters of an ANSI escape sequence (ECMA-48, 8.3.117).
    fn painted(self, mark: Mark, text: &str) -> String {
        let parameters = match mark {
            Mark::Right => "32",
            Mark::Unseen => "36",
            Mark::Warning => "1;33",
            Mark::Wrong => "1;31",
        };
        if self.colour { format!("\x1b[{parameters}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes the findings for people.
pub fn write(out: &mut impl Write, looks: Looks, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        let sign = looks.painted(finding.mark, looks.sign(finding.mark));
        let indent = TOPIC + 3;
        let mut lines = wrapped(&finding.what, WIDTH - indent).into_iter();
        let first = lines.next().unwrap_or_default();
        writeln!(out, "{sign} {:<TOPIC$} {first}", finding.id.topic())?;
        for line in lines {
            writeln!(out, "{:indent$}{line}", "")?;
        }
        for line in finding.mend.iter().flat_map(mend) {
            writeln!(out, "{:indent$}{}", "", looks.painted(Mark::Unseen, &line))?;
        }
    }
    writeln!(out, "{}", summary(findings))
}

fn mend(mend: &Mend) -> Vec<String> {
    match mend {
        Mend::Command(line) => vec![format!("# {line}")],
        Mend::Setting { file, line } => {
            let is_fixed = line.split_once(" = ").is_some_and(|(key, _)| FIXED_AT_START.contains(&key));
            let how = if is_fixed { "restart" } else { "reload or restart" };
            vec![format!("in {file}, then {how}: {line}")]
        }
        Mend::Advice(text) => wrapped(text, WIDTH - TOPIC - 3),
    }
}

/// How many are not right, and what a mend by nft is not.
fn summary(findings: &[Finding]) -> String {
    let count = |mark| findings.iter().filter(|finding| finding.mark == mark).count();
    let counts = [
        (count(Mark::Wrong), "keeps ftpalg from working", "keep ftpalg from working"),
        (count(Mark::Warning), "may keep it from working", "may keep it from working"),
        (count(Mark::Unseen), "could not be looked at", "could not be looked at"),
    ];
    let counts = counts.iter().filter(|(number, ..)| *number > 0);
    let parts: Vec<_> = counts
        .map(|(number, one, many)| format!("{number} {}", if *number == 1 { one } else { many }))
        .collect();
    if parts.is_empty() {
        return "all is right".to_owned();
    }
    let is_by_nft =
        |finding: &Finding| matches!(&finding.mend, Some(Mend::Command(line)) if line.starts_with("nft "));
    let note = if findings.iter().any(is_by_nft) {
        "\nWhat `nft` changes lasts until the firewall is reloaded: change your ruleset's file as well."
    } else {
        ""
    };
    format!("{}{note}", parts.join("; "))
}

/// A text in lines of at most so many characters, where its words allow it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The whole report for machines.
#[derive(Debug, Serialize)]
struct Report<'a> {
    ftpalg: &'static str,
    exit_code: u8,
    findings: &'a [Finding],
}

/// Writes the findings for machines.
pub fn write_json(out: &mut impl Write, exit_code: u8, findings: &[Finding]) -> io::Result<()> {
    let report = Report { ftpalg: env!("CARGO_PKG_VERSION"), exit_code, findings };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Id;

    fn page(looks: Looks, findings: &[Finding]) -> String {
        let mut out = Vec::new();
        write(&mut out, looks, findings).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn findings() -> Vec<Finding> {
        vec![
            Finding::right(Id::Rights, "fine"),
            Finding::wrong(Id::ForwardingOff, "off ".repeat(30), Mend::command("nft something")),
        ]
    }

    #[test]
    fn in_plain_letters() {
        let looks = Looks { colour: false, unicode: false };
        let page = page(looks, &findings());
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "+ rights        fine");
        assert!(lines[1].starts_with("x routing       off off") && lines[1].len() <= WIDTH, "{page}");
        assert_eq!(lines[3], "                # nft something");
        assert_eq!(lines[4], "1 keeps ftpalg from working");
        assert!(page.is_ascii() && lines[5].contains("change your ruleset's file"), "{page}");
    }

    #[test]
    fn with_colours_and_signs() {
        let looks = Looks { colour: true, unicode: true };
        let page = page(looks, &findings()[..1]);
        assert_eq!(page, "\x1b[32m✓\x1b[0m rights        fine\nall is right\n");
    }
}
