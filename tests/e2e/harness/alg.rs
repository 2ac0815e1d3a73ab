//! What stands between client and server on a router: nothing, the kernel's helper, or ftpalg.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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
    /// The program's file.
    pub program: PathBuf,
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
        let program = PathBuf::from(env!("CARGO_BIN_EXE_ftpalg"));
        let process = launch(router, &program, &config)?;
        let mut daemon =
            Daemon { process, config, program, router: router.name().to_owned(), earlier: String::new() };
        daemon.process.wait_for_log("ready", Duration::from_secs(10))?;
        Ok(daemon)
    }

    /// Starts it again once it has ended, and waits until it says that it is ready.
    pub fn start_again(&mut self, router: &Host) -> Result<()> {
        self.launch_again(router)?;
        self.process.wait_for_log("ready", Duration::from_secs(10))
    }

    /// The same, without waiting.
    pub fn launch_again(&mut self, router: &Host) -> Result<()> {
        self.earlier += &self.process.log();
        self.process = launch(router, &self.program, &self.config)?;
        Ok(())
    }

    /// Puts a line at the beginning of the configuration in place of the first one that has its key, sends SIGHUP, and
    /// waits until the log says what came of it.
    pub fn reload(&mut self, line: &str, says: &str) -> Result<()> {
        let text = fs::read_to_string(&self.config)?;
        let key = line.split('=').next().unwrap_or_default();
        let others = text.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        fs::write(&self.config, format!("{line}\n{others}\n"))?;
        let before = self.process.log().matches(says).count();
        self.process.signal(Signal::SIGHUP)?;
        let limit = Instant::now() + Duration::from_secs(10);
        while self.process.log().matches(says).count() == before {
            ensure!(Instant::now() < limit, "not {says:?} after SIGHUP:\n{}", self.process.log());
            sleep(Duration::from_millis(5));
        }
        fs::write(&self.config, text)?;
        Ok(())
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

    /// Where `ftpalg status` asks it.
    pub fn control_socket(&self) -> PathBuf {
        self.config.with_extension("control")
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
    let (state, socket) = (path("state"), path("control"));
    format!("accept-in = {chains:?}\nstate-dir = {state:?}\ncontrol-socket = {socket:?}\n{settings}\n")
}

fn launch(router: &Host, program: &Path, config: &Path) -> Result<Process> {
    let command = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    let program = program.to_str().context("not UTF-8")?;
    router.spawn(&config.with_extension("log"), program, command)
}
