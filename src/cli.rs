//! The command line, and the exit codes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Exit codes. clap itself exits with 2 where the command line cannot be understood.
pub mod exit {
    /// All went well; for `run`: it was asked to end.
    pub const OK: u8 = 0;
    /// Something failed while it ran.
    pub const FAILURE: u8 = 1;
    /// The rights to do it are missing (`EX_NOPERM` of sysexits(3)).
    pub const NO_PERMISSION: u8 = 77;
    /// The configuration cannot be used (`EX_CONFIG`). The unit does not start the daemon again after this one.
    pub const BAD_CONFIGURATION: u8 = 78;
}

/// What the user asks for.
#[derive(Debug, Parser)]
#[command(
    name = "ftpalg",
    version,
    about = "Lets FTP work through NAT and firewalls, without the kernel's FTP helper",
    after_help = "Exit codes: 0 all went well, 1 it failed while running, 2 the command line is wrong, \
                  77 rights are missing, 78 the configuration cannot be used."
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
    Run(WithConfig),
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
}

/// Options of the commands that read the configuration.
#[derive(Debug, Args)]
pub struct WithConfig {
    /// The configuration file [default: /etc/ftpalg/ftpalg.toml, and built-in defaults where it is missing]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
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
        let cli = Cli::try_parse_from(["ftpalg", "run", "--config", "/etc/x.toml"]).unwrap();
        assert!(
            matches!(cli.command, Command::Run(WithConfig { config: Some(path) }) if path.as_os_str() == "/etc/x.toml")
        );
        let cli = Cli::try_parse_from(["ftpalg", "rules"]).unwrap();
        assert!(matches!(cli.command, Command::Rules(WithConfig { config: None })));
        assert!(matches!(Cli::try_parse_from(["ftpalg", "demo"]).unwrap().command, Command::Demo));
        let refused = |arguments: &[&str]| Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(refused(&["ftpalg", "demo", "--config", "x"]).exit_code(), 2);
        assert_eq!(refused(&["ftpalg", "start"]).kind(), ErrorKind::InvalidSubcommand);
        assert_eq!(refused(&["ftpalg", "--version"]).exit_code(), 0);
    }
}
