//! The contenders' programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Host, Process};

use crate::contender::Contender;
use crate::peer::{CROWD_PORT, LOAD_PORT};
use crate::ruleset::helper_rules;

/// The queue of whoever has one.
const QUEUE: &str = "2121";
/// What puts a program before others, as ftpalg's unit does.
const NICE: &str = "-n-10";
/// How long a program may take until it is there, or gone.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// As long as a crowd's pinholes are needed.
const PINHOLE_SECONDS: u64 = 600;

/// Where programs run, and keep their files.
pub struct Place<'a> {
    pub router: &'a Host,
    pub dir: &'a Path,
    /// ftpalg's state, in memory as on a router.
    pub state: &'a Path,
}

impl Place<'_> {
    /// Starts a contender's program, if it has one, and waits until it is at work; `ftpalg` is the daemon's.
    pub fn start(&self, contender: Contender, ftpalg: &Path) -> Result<Option<Process>> {
        match contender {
            Contender::Bare | Contender::Kernel => Ok(None),
            Contender::AcceptAll => self.accept_all().map(Some),
            Contender::Conntrackd => self.conntrackd().map(Some),
            Contender::Ftpalg => self.ftpalg(ftpalg, &[LOAD_PORT, CROWD_PORT], 1).map(Some),
            Contender::TwoWorkers => self.ftpalg(ftpalg, &[LOAD_PORT, CROWD_PORT], 2).map(Some),
            // A port that nobody uses.
            Contender::Beside => self.ftpalg(ftpalg, &[9], 1).map(Some),
        }
    }

    fn run(&self, program: &[&str], ready: &str) -> Result<Process> {
        let words = [&[NICE], program].concat();
        let mut process = self.router.spawn(&self.dir.join("log"), "nice", words)?;
        process.wait_for_log(ready, PATIENCE)?;
        Ok(process)
    }

    fn accept_all(&self) -> Result<Process> {
        let program = compile_accept_all(self.dir)?;
        let process = self.run(&[text(&program)?, QUEUE], "ready")?;
        for ports in ["--dports", "--sports"] {
            let rule = format!(
                "-t mangle -A FORWARD -p tcp -m multiport {ports} {LOAD_PORT},{CROWD_PORT} -j NFQUEUE --queue-num {QUEUE}"
            );
            self.router.run("iptables", rule.split_whitespace())?.success()?;
        }
        Ok(process)
    }

    /// As nothing but the host of the FTP helper (conntrackd.conf(5), HELPER).
    fn conntrackd(&self) -> Result<Process> {
        let config = self.dir.join("conntrackd.conf");
        let settings = format!(
            "Helper {{
                Setup yes
                Type ftp inet tcp {{
                    QueueNum {QUEUE}
                    QueueLen 10240
                    Policy ftp {{
                        ExpectMax 1
                        ExpectTimeout 300
                    }}
                }}
            }}
            General {{
                Systemd no
                HashSize 32768
                HashLimit 131072
                LogFile no
                Syslog no
                LockFile {}
                UNIX {{ Path {} }}
                NetlinkBufferSize 2097152
                NetlinkBufferSizeMaxGrowth 8388608
            }}\n",
            self.dir.join("conntrackd.lock").display(),
            self.dir.join("conntrackd.control").display()
        );
        fs::write(&config, settings)?;
        let process = self.run(&["conntrackd", "-C", text(&config)?], "initialization completed")?;
        // Now that the helper is conntrackd's: else the kernel would load its own.
        self.router.nft(&helper_rules())?;
        Ok(process)
    }

    fn ftpalg(&self, program: &Path, ports: &[u16], workers: u8) -> Result<Process> {
        let config = self.dir.join("ftpalg.toml");
        let settings = format!(
            "control-ports = {ports:?}\naccept-in = [\"inet filter forward\"]\nqueue = {QUEUE}\nworkers = {workers}\n\
             state-dir = {:?}\ncontrol-socket = {:?}\n[pinhole]\ntimeout = {PINHOLE_SECONDS}\n",
            self.state,
            self.dir.join("control"),
        );
        fs::write(&config, settings)?;
        self.run(&[text(program)?, "run", "--config", text(&config)?], "ready")
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{}: no UTF-8", path.display()))
}

/// Compiles the accept-all program.
fn compile_accept_all(dir: &Path) -> Result<PathBuf> {
    let source = dir.join("accept-all.c");
    fs::write(&source, include_str!("accept-all.c"))?;
    let program = dir.join("accept-all");
    let output = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-o"])
        .arg(&program)
        .arg(&source)
        .arg("-lnetfilter_queue")
        .output()
        .context("cannot start cc: is a compiler installed?")?;
    ensure!(
        output.status.success(),
        "the accept-all program does not compile (is libnetfilter-queue-dev installed?):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(program)
}
