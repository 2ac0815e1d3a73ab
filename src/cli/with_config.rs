//! The option that most commands share.

use std::path::PathBuf;

use clap::Args;

/// Options of the commands that read the configuration.
#[derive(Debug, Args)]
pub struct WithConfig {
    /// The configuration file [default: /etc/ftpalg/ftpalg.toml, and built-in defaults where it is missing]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
