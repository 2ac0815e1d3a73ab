//! What stands between client and server on a router: nothing, the kernel's helper, or ftpalg.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use netlab::{Host, Process, Signal};

/// The application-level gateway of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alg {
    /// None: shows that a case fails without one.
    None,
    /// None, and a firewall that accepts every connection: shows that the two ends understand each other.
    Open,
    /// nf_conntrack_ftp and nf_nat_ftp.
    Kernel,
    /// The daemon of this project.
    Ftpalg,
}

impl Alg {
    /// The one that this run tests: `FTPALG_TEST_ALG=kernel` puts the kernel's helper in ftpalg's place.
    pub fn under_test() -> Alg {
        match env::var("FTPALG_TEST_ALG").as_deref() {
            Ok("kernel") => Alg::Kernel,
            _ => Alg::Ftpalg,
        }
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Alg::None => "none",
            Alg::Open => "open firewall",
            Alg::Kernel => "kernel helper",
            Alg::Ftpalg => "ftpalg",
        })
    }
}

/// The daemon, running in a router's namespace. What it logged is printed in the end, which `cargo test` shows
/// where the test fails.
#[derive(Debug)]
pub struct Daemon {
    /// The running program.
    pub process: Process,
    /// Its configuration file.
    pub config: PathBuf,
    router: String,
    /// What earlier runs logged.
    earlier: String,
}

impl Daemon {
    /// Starts it with these lines in its configuration, besides those that name its chains and its files, and waits
    /// until it says that it is ready.
    pub fn start(router: &Host, dir: &Path, settings: &str, accept_in: &[&str]) -> Result<Daemon> {
        let config = dir.join(format!("{}.toml", router.name()));
        fs::write(&config, configuration(router, dir, settings, accept_in))?;
        let process = launch(router, &config)?;
        let mut daemon = Daemon { process, config, router: router.name().to_owned(), earlier: String::new() };
        daemon.process.wait_for_log("ready", Duration::from_secs(10))?;
        Ok(daemon)
    }

    /// Starts it again once it has ended, and waits until it says that it is ready.
    pub fn start_again(&mut self, router: &Host) -> Result<()> {
        self.earlier += &self.process.log();
        self.process = launch(router, &self.config)?;
        self.process.wait_for_log("ready", Duration::from_secs(10))
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(Duration::from_secs(5)).map(drop)
    }

    /// Where it keeps its sessions.
    pub fn state_dir(&self) -> PathBuf {
        self.config.with_extension("state")
    }

    /// What all runs have logged.
    pub fn log(&self) -> String {
        format!("{}{}", self.earlier, self.process.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        println!("--- ftpalg on {} ---\n{}", self.router, self.log());
    }
}

/// A configuration file for a router.
pub fn configuration(router: &Host, dir: &Path, settings: &str, accept_in: &[&str]) -> String {
    let path = |what: &str| dir.join(format!("{}.{what}", router.name()));
    let chains = accept_in.iter().map(|chain| format!("inet filter {chain}")).collect::<Vec<_>>();
    format!("accept-in = {chains:?}\nstate-dir = {:?}\n{settings}\n", path("state"))
}

fn launch(router: &Host, config: &Path) -> Result<Process> {
    let command = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    router.spawn(&config.with_extension("log"), env!("CARGO_BIN_EXE_ftpalg"), command)
}
