//! ftpalg, the daemon and its commands.

mod cli;
mod config;
mod daemon;
mod demo;
mod netfilter;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command, exit};
use config::Config;
use netfilter::{FirewallError, kernel, ruleset};

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    ExitCode::from(match command {
        Command::Run(options) => with_config(options.config.as_deref(), |config| {
            log_to_stderr();
            run(config, options.config.as_deref())
        }),
        Command::Rules(options) => with_config(options.config.as_deref(), |config| {
            match io::stdout().write_all(ruleset::text(&config).as_bytes()) {
                Ok(()) => exit::OK,
                Err(error) => complain(&error, exit::FAILURE),
            }
        }),
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
    match daemon::run(config, path) {
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
    eprintln!("ftpalg: {what}");
    code
}

/// One line an event; journald adds the time itself.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("FTPALG_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    if std::env::var_os("JOURNAL_STREAM").is_some() { lines.without_time().init() } else { lines.init() }
}
