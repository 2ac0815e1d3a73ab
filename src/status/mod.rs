//! `ftpalg status`: asks the daemon how it is, and shows it.

mod ask;
mod columns;
pub mod document;
#[cfg(test)]
mod example;
mod table;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use rustix::termios::tcgetwinsize;

use ask::AskError;

/// How the answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// A table, once.
    Table,
    /// The document as the daemon sent it, once.
    Json,
    /// The whole terminal, until somebody has seen enough.
    Watch,
}

/// Why nothing could be shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Nobody to show it to.
    #[error("--watch needs a terminal; without one, ask now and then with --json")]
    NoTerminal,
    /// The terminal or the pipe does not take it.
    #[error("what the daemon said could not be written: {0}")]
    Write(#[from] io::Error),
}

impl StatusError {
    /// Whether this user may not.
    pub fn lacks_rights(&self) -> bool {
        matches!(self, Self::Ask(AskError::Permission { .. }))
    }
}

/// Asks on this socket and shows what is answered.
pub fn run(socket: &Path, view: View) -> Result<(), StatusError> {
    let shown = match view {
        View::Json => io::stdout().write_all(ask::ask(socket)?.as_bytes()),
        View::Table => {
            let page = table::page(&ask::ask_and_read(socket)?, width());
            io::stdout().write_all(page.as_bytes())
        }
        View::Watch if !io::stdout().is_terminal() || !io::stdin().is_terminal() => {
            return Err(StatusError::NoTerminal);
        }
        View::Watch => return watch::run(socket),
    };
    match shown {
        // Whoever reads it has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(StatusError::Write),
    }
}

/// How wide a line may be: the terminal's width, and without one, whatever it takes.
fn width() -> usize {
    const UNBOUNDED: usize = 10_000;
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0);
    size.map_or(UNBOUNDED, |size| size.ws_col.into())
}
