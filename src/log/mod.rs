//! The daemon's log: how much of it, and where to.

mod journal;
mod standard_error;

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;
use standard_error::StandardError;

pub use journal::leads_to_journal;

/// Whether standard error is a terminal whose user wants colour (`NO_COLOR`, no-color.org).
fn wants_colour() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Says how much is logged.
const LOG_LEVEL: &str = "FTPALG_LOG";

/// What `FTPALG_LOG` says; `Err` with what stands there, if that is no level. syslog's words are known as well.
fn log_level(says: Option<&OsStr>) -> Result<LevelFilter, String> {
    let Some(says) = says else { return Ok(LevelFilter::INFO) };
    match says.to_string_lossy().trim().to_lowercase().as_str() {
        "error" | "err" => Ok(LevelFilter::ERROR),
        "warn" | "warning" => Ok(LevelFilter::WARN),
        "info" | "" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        other => Err(other.to_owned()),
    }
}

/// One line an event, to the journal where standard error leads there. Neither ever waits: who reads the log must not hold
/// up packets. What is not taken is counted, and told when lines are taken again.
pub fn start() {
    let says = log_level(env::var_os(LOG_LEVEL).as_deref());
    let level = says.clone().unwrap_or(LevelFilter::INFO);
    // Of the libraries, what goes wrong.
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("ftpalg", level);
    let log = tracing_subscriber::registry().with(filter);
    match leads_to_journal().then(Journal::open) {
        Some(Ok(journal)) => log.with(journal).init(),
        _ => {
            let lines =
                tracing_subscriber::fmt::layer().with_writer(StandardError::open()).with_target(false);
            log.with(lines.with_ansi(wants_colour())).init();
        }
    }
    if let Err(says) = says {
        warn!("{LOG_LEVEL} is {says:?}: expected error, warn, info, debug or trace; info it is");
    }
}

/// To be called before the program ends: the journal finds out which unit a line came from while the process lives.
pub fn settle() {
    if leads_to_journal() {
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_in_the_environment_silences_the_log() {
        let level = |says: &str| log_level(Some(OsStr::new(says)));
        assert_eq!(log_level(None), Ok(LevelFilter::INFO));
        for (says, means) in [
            ("", LevelFilter::INFO),
            ("warning", LevelFilter::WARN),
            (" Warn ", LevelFilter::WARN),
            ("err", LevelFilter::ERROR),
            ("trace", LevelFilter::TRACE),
        ] {
            assert_eq!(level(says), Ok(means), "{says:?}");
        }
        for says in ["off", "ftpalg=debug", "0", "loud"] {
            assert_eq!(level(says), Err(says.to_owned()));
        }
    }
}
