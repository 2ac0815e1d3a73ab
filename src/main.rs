//! ftpalg, the daemon and its commands.

mod capture;
mod check;
mod cli;
mod config;
mod daemon;
mod demo;
mod journal;
mod netfilter;
mod replay;
mod status;
mod terminal;

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Cli, Command, StatusOptions, exit};
use config::Config;
use journal::Journal;
use netfilter::{FirewallError, kernel, ruleset};
use status::View;

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    ExitCode::from(match command {
        Command::Run(options) => with_config(options.config.as_deref(), |config| {
            start_log();
            run(config, options.config.as_deref())
        }),
        Command::Check(options) => check::run(options.config.config.as_deref(), options.json),
        Command::Rules(options) => {
            with_config(options.config.as_deref(), |config| print(ruleset::text(&config).as_bytes()))
        }
        Command::Status(options) => match &options.socket {
            Some(socket) => show_status(socket, &options),
            None => with_config(options.config.config.as_deref(), |config| {
                show_status(&config.control_socket, &options)
            }),
        },
        Command::Replay(options) => {
            with_config(options.config.config.as_deref(), |config| replay::run(&options, &config))
        }
        Command::Demo => demo::run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ftpalg", &mut script);
            print(&script)
        }
    })
}

fn with_config(path: Option<&Path>, act: impl FnOnce(Config) -> u8) -> u8 {
    match Config::load(path) {
        Ok(config) => act(config),
        Err(error) => complain(&error, exit::BAD_CONFIGURATION),
    }
}

fn print(text: &[u8]) -> u8 {
    match io::stdout().write_all(text) {
        Ok(()) => exit::OK,
        Err(error) => complain(&error, exit::FAILURE),
    }
}

fn run(config: Config, path: Option<&Path>) -> u8 {
    let missing = kernel::missing();
    for one in &missing {
        complain(one, exit::FAILURE);
    }
    if missing.iter().any(|one| matches!(one, kernel::Missing::Capability)) {
        return exit::NO_PERMISSION;
    }
    if !missing.is_empty() {
        return exit::FAILURE;
    }
    let ended = daemon::run(config, path);
    journal::settle();
    match ended {
        Ok(()) => exit::OK,
        Err(error) => {
            let lacks_rights = matches!(error.downcast_ref(), Some(FirewallError::Permission));
            complain(
                &format_args!("{error:#}"),
                if lacks_rights { exit::NO_PERMISSION } else { exit::FAILURE },
            )
        }
    }
}

fn show_status(socket: &Path, options: &StatusOptions) -> u8 {
    let view = match (options.json, options.watch) {
        (true, _) => View::Json,
        (_, true) => View::Watch,
        _ => View::Table,
    };
    match status::run(socket, view) {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&error, if error.lacks_rights() { exit::NO_PERMISSION } else { exit::FAILURE })
        }
    }
}

fn complain(what: &dyn std::fmt::Display, code: u8) -> u8 {
    // To the journal this prefix says that it is an error (sd-daemon(3)).
    let priority = if journal::is_stderr() { "<3>" } else { "" };
    for line in format!("ftpalg: {what}").lines() {
        eprintln!("{priority}{line}");
    }
    code
}

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

/// One line an event, to the journal where standard error leads there.
fn start_log() {
    let says = log_level(env::var_os(LOG_LEVEL).as_deref());
    let level = says.clone().unwrap_or(LevelFilter::INFO);
    // Of the libraries, what goes wrong.
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("ftpalg", level);
    let log = tracing_subscriber::registry().with(filter);
    match journal::is_stderr().then(Journal::open) {
        Some(Ok(journal)) => log.with(journal).init(),
        _ => {
            let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
            log.with(lines.with_ansi(wants_colour())).init();
        }
    }
    if let Err(says) = says {
        warn!("{LOG_LEVEL} is {says:?}: expected error, warn, info, debug or trace; info it is");
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
