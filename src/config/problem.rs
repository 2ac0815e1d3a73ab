//! What is wrong with a configuration file, where, and how to mend it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::DEFAULT_PATH;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {}", path.display(), explain(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file can be read, but not used: everything that is wrong in it, in the file's order, a line each.
    #[error("{}", list(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file's text.
    pub at: Position,
    /// The key, what stands there, what should, and the mend.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.at.line, self.at.column, self.message)
    }
}

/// A place in a text. Line and column start at 1, as editors count them; a column is a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Position {
    /// The place of byte `offset` of `text`; the text's end where the offset lies behind it.
    pub fn of(text: &str, offset: usize) -> Position {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// What a text says at `span`, short enough for an error message: the first line of it, at most 40 characters.
pub fn quote(text: &str, span: Range<usize>) -> String {
    const LONGEST: usize = 40;
    let whole = text.get(span).unwrap_or_default();
    let line = whole.lines().next().unwrap_or_default();
    let quoted: String = line.chars().take(LONGEST).collect();
    if quoted.len() < whole.len() { quoted + "…" } else { quoted }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "no such file: name an existing one with --config, or leave --config out to use {DEFAULT_PATH}"
        ),
        io::ErrorKind::PermissionDenied => {
            "no permission to read it: run as root, or let the user that runs ftpalg read it".to_owned()
        }
        io::ErrorKind::IsADirectory => "it is a directory: name the file in it with --config".to_owned(),
        _ => format!("it cannot be read ({error}): name another file with --config"),
    }
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\n")
}
