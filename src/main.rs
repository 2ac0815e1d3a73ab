//! ftpalg, the daemon and its commands.

mod capture;
mod check;
mod cli;
mod config;
mod daemon;
mod demo;
mod log;
mod netfilter;
mod replay;
mod status;
mod terminal;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::with_config::WithConfig;
use cli::{Cli, Command, Run, StatusOptions, exit};
use config::Config;
use netfilter::{FirewallError, kernel, ruleset};
use status::View;

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    ExitCode::from(match command {
        Command::Run(Run { config, test: true }) => with_config(config.config.as_deref(), |_| exit::OK),
        Command::Run(Run { config: WithConfig { config: path }, test: false }) => {
            with_config(path.as_deref(), |config| {
                log::start();
                run(config, path.as_deref())
            })
        }
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
    log::settle();
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

fn complain(what: &dyn Display, code: u8) -> u8 {
    terminal::complain(what);
    code
}
