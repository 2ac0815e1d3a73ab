//! The command line, and the exit codes.

pub mod exit;
pub mod with_config;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use with_config::WithConfig;

/// What the user asks for.
#[derive(Debug, Parser)]
#[command(
    name = "ftpalg",
    version,
    about = "Lets FTP work through NAT and firewalls, without the kernel's FTP helper",
    after_help = "Exit codes: 0 all went well, 1 it failed while running, 2 the command line is wrong, \
                  3 check has warnings, 77 rights are missing, 78 the configuration cannot be used."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground
    ///
    /// Loads its table into nftables, reads FTP control connections from its queues and opens their data
    /// ports until it gets SIGTERM or SIGINT; then it takes away everything that it loaded; connections
    /// whose text it has changed wait until it is back. SIGHUP makes it read its configuration anew. It needs
    /// CAP_NET_ADMIN.
    Run(Run),
    /// Show sessions, pinholes, refusals and counters of the running daemon
    ///
    /// Asks on the daemon's control socket, which root and the daemon's group can open. Exits with 0 when the daemon
    /// answers, with 77 where the user may not ask, and with 1 otherwise.
    Status(StatusOptions),
    /// Tell what keeps FTP from working through this host, and the command that mends it
    ///
    /// Looks at the configuration, the kernel, the live firewall and the daemon. It changes nothing. Exit codes: 0 all is
    /// right, 1 something keeps ftpalg from working, 3 something may, or could not be looked at, 77 rights are missing,
    /// 78 the configuration cannot be used.
    Check(Check),
    /// Print the nftables table as the daemon would load it
    ///
    /// Loads nothing and needs no rights.
    Rules(WithConfig),
    /// Tell what ftpalg would do in the FTP sessions of a packet capture
    ///
    /// Runs a capture through the same engine as the daemon: prints both sides' lines, what would be rewritten, which
    /// data ports would open, and what would be refused and why. It needs no rights, and touches nothing of this host.
    Replay(crate::replay::Options),
    /// Show FTP through NAT, first without ftpalg and then with it
    ///
    /// Builds a client, a router and a server in network namespaces, transfers a file in passive and in
    /// active mode, and prints what each side said. It needs root, touches nothing of this host's own network
    /// and leaves nothing behind.
    Demo,
    /// Print a script with which a shell completes ftpalg's commands and options
    #[command(hide = true)]
    Completions {
        /// The shell: bash, zsh or fish
        shell: Shell,
    },
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub config: WithConfig,
    /// Read the configuration, say what is wrong in it, and end
    #[arg(long)]
    pub test: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    #[command(flatten)]
    pub config: WithConfig,
    /// The control socket [default: the configuration's `control-socket`]
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    pub socket: Option<PathBuf>,
    /// Print everything as one JSON document (docs/status.md)
    #[arg(long)]
    pub json: bool,
    /// Show it on the whole terminal, anew every second, until `q` is pressed
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub config: WithConfig,
    /// Print one JSON object, with a stable name for each finding
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_the_default_file() {
        let help = Cli::command().find_subcommand_mut("run").unwrap().render_help().to_string();
        assert!(help.contains(crate::config::DEFAULT_PATH), "{help}");
    }

    #[test]
    fn commands_and_their_options() {
        let run = |arguments: &[&str]| match Cli::try_parse_from(arguments).unwrap().command {
            Command::Run(Run { config, test }) => (config.config, test),
            other => panic!("{other:?}"),
        };
        assert_eq!(run(&["ftpalg", "run", "--config", "/etc/x.toml"]), (Some("/etc/x.toml".into()), false));
        assert_eq!(run(&["ftpalg", "run", "--test"]), (None, true));
        let cli = Cli::try_parse_from(["ftpalg", "rules"]).unwrap();
        assert!(matches!(cli.command, Command::Rules(WithConfig { config: None })));
        let status = |arguments: &[&str]| {
            let arguments = ["ftpalg", "status"].iter().chain(arguments);
            match Cli::try_parse_from(arguments).map(|cli| cli.command) {
                Ok(Command::Status(options)) => Ok((options.json, options.watch, options.socket)),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.kind()),
            }
        };
        assert_eq!(status(&[]), Ok((false, false, None)));
        assert_eq!(status(&["--json", "--socket", "/s"]), Ok((true, false, Some("/s".into()))));
        assert_eq!(status(&["--json", "--watch"]), Err(ErrorKind::ArgumentConflict));
        assert_eq!(status(&["--config", "a", "--socket", "b"]), Err(ErrorKind::ArgumentConflict));
        let cli = Cli::try_parse_from(["ftpalg", "check", "--json"]).unwrap();
        assert!(matches!(
            cli.command,
            Command::Check(Check { config: WithConfig { config: None }, json: true })
        ));
        assert!(matches!(Cli::try_parse_from(["ftpalg", "demo"]).unwrap().command, Command::Demo));
        let refused = |arguments: &[&str]| Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(refused(&["ftpalg", "demo", "--config", "x"]).exit_code(), 2);
        assert_eq!(refused(&["ftpalg", "start"]).kind(), ErrorKind::InvalidSubcommand);
        assert_eq!(refused(&["ftpalg", "--version"]).exit_code(), 0);
    }
}
