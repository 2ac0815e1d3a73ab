//! ftpalg, the daemon and its commands.

mod capture;
mod cli;
mod config;
mod daemon;
mod demo;
mod journal;
mod netfilter;
mod replay;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Cli, Command, exit};
use config::Config;
use journal::Journal;
use netfilter::{FirewallError, kernel, ruleset};

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    ExitCode::from(match command {
        Command::Run(options) => with_config(options.config.as_deref(), |config| {
            start_log();
            run(config, options.config.as_deref())
        }),
        Command::Rules(options) => with_config(options.config.as_deref(), |config| {
            match io::stdout().write_all(ruleset::text(&config).as_bytes()) {
                Ok(()) => exit::OK,
                Err(error) => complain(&error, exit::FAILURE),
            }
        }),
        Command::Replay(options) => {
            with_config(options.config.config.as_deref(), |config| replay::run(&options, &config))
        }
        Command::Demo => demo::run(),
    })
}

fn with_config(path: Option<&std::path::Path>, act: impl FnOnce(Config) -> u8) -> u8 {
    match Config::load(path) {
        Ok(config) => act(config),
        Err(error) => complain(&error, exit::BAD_CONFIGURATION),
    }
}

fn run(config: Config, path: Option<&std::path::Path>) -> u8 {
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

fn complain(what: &dyn std::fmt::Display, code: u8) -> u8 {
    // To the journal this prefix says that it is an error (sd-daemon(3)).
    let priority = if journal::is_stderr() { "<3>" } else { "" };
    for line in format!("ftpalg: {what}").lines() {
        eprintln!("{priority}{line}");
    }
    code
}

/// One line an event, to the journal where standard error leads there.
fn start_log() {
    let filter = EnvFilter::try_from_env("FTPALG_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::registry().with(filter);
    match journal::is_stderr().then(Journal::open) {
        Some(Ok(journal)) => log.with(journal).init(),
        _ => {
            let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
            log.with(lines.with_ansi(io::stderr().is_terminal())).init();
        }
    }
}
