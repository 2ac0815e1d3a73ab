//! A router whose state `ftpalg check` looks at, and its administrator, who does what it says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlab::{Host, Lab, Output, Process, Signal, patient};
use serde_json::Value;

pub const FTPALG: &str = env!("CARGO_BIN_EXE_ftpalg");
const LIMIT: Duration = Duration::from_secs(10);

/// What `ftpalg check --json` says.
#[derive(Debug)]
pub struct Report {
    pub exit_code: i32,
    pub findings: Vec<Finding>,
}

/// One finding of it.
#[derive(Debug, Clone)]
pub struct Finding {
    pub id: String,
    pub mark: String,
    pub what: String,
    pub mend: Option<Value>,
}

impl Report {
    /// Reads what the program wrote and returned; they must agree.
    pub fn of(status: ExitStatus, stdout: &str) -> Result<Report> {
        let report: Value = serde_json::from_str(stdout).with_context(|| format!("{status}: {stdout}"))?;
        let text = |value: &Value, member: &str| {
            value[member].as_str().map(str::to_owned).with_context(|| format!("no {member} in {value}"))
        };
        let findings = report["findings"].as_array().context("no findings")?;
        let findings = findings.iter().map(|one| {
            Ok(Finding {
                id: text(one, "id")?,
                mark: text(one, "mark")?,
                what: text(one, "what")?,
                mend: one.get("mend").cloned(),
            })
        });
        let exit_code = status.code().context("killed")?;
        ensure!(report["exit_code"] == exit_code, "it returned {exit_code}: {report}");
        Ok(Report { exit_code, findings: findings.collect::<Result<_>>()? })
    }

    pub fn not_right(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.mark != "right")
    }

    /// A finding that is not right; each of these has a mend.
    pub fn find(&self, id: &str) -> Result<&Finding> {
        let finding = self.not_right().find(|finding| finding.id == id);
        let finding = finding.with_context(|| format!("no {id} in {:#?}", self.findings))?;
        ensure!(finding.mend.is_some(), "no mend: {finding:?}");
        Ok(finding)
    }

    pub fn is_all_right(&self) -> bool {
        self.exit_code == 0 && self.not_right().next().is_none()
    }
}

/// Looks at a host; `wrapper` runs the program.
pub fn report_of(host: &Host, wrapper: &[&str], config: &Path) -> Result<Report> {
    let output = output_of(host, wrapper, config, &["--json"])?;
    Report::of(output.status, &output.stdout)
}

fn output_of(host: &Host, wrapper: &[&str], config: &Path, options: &[&str]) -> Result<Output> {
    let config = config.to_str().context("not UTF-8")?;
    let line = [wrapper, &[FTPALG, "check", "--config", config], options].concat();
    host.run_within(LIMIT, line[0], &line[1..])
}

/// A router with a ruleset of its administrator's, and a configuration; the daemon as well, once it is started.
pub struct Router {
    pub host: Host,
    pub config: PathBuf,
    pub daemon: Option<Process>,
    pub lab: Lab,
    pub state: PathBuf,
}

impl Router {
    /// The daemon is not started yet.
    pub fn new(ruleset: &str, settings: &str) -> Result<Router> {
        let lab = Lab::new()?;
        let host = lab.host("router")?;
        host.forwarding(true)?;
        host.nft(ruleset)?;
        let name = lab.dir().file_name().and_then(|name| name.to_str()).context("no name")?.to_owned();
        let memory = ["/dev/shm", "/run"].iter().map(Path::new).find(|path| path.is_dir());
        let state = memory.context("no tmpfs")?.join(format!("{name}.state"));
        let config = lab.dir().join("ftpalg.toml");
        let socket = lab.dir().join("control");
        // Whoever the daemon runs as, it can make its socket there.
        fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o777))?;
        let files = format!("state-dir = {state:?}\ncontrol-socket = {socket:?}");
        fs::write(&config, format!("{settings}\n{files}\n"))?;
        Ok(Router { host, config, daemon: None, lab, state })
    }

    /// The same, with the daemon running.
    pub fn running(ruleset: &str, settings: &str) -> Result<Router> {
        let mut router = Self::new(ruleset, settings)?;
        router.start()?;
        Ok(router)
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        let line = ["run", "--config", self.config.to_str().context("not UTF-8")?];
        let mut daemon = self.host.spawn(&self.lab.dir().join("log"), FTPALG, line)?;
        daemon.wait_for_log("ready", LIMIT)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The running daemon.
    pub fn daemon(&mut self) -> Result<&mut Process> {
        self.daemon.as_mut().context("no daemon runs")
    }

    fn reload(&mut self) -> Result<()> {
        let daemon = self.daemon()?;
        let count = |daemon: &Process| daemon.log().matches("configuration read anew").count();
        let before = count(daemon);
        daemon.signal(Signal::SIGHUP)?;
        let end = Instant::now() + patient(LIMIT);
        while count(daemon) == before {
            ensure!(Instant::now() < end, "not reloaded: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Puts a line into the configuration in place of the one with its key.
    pub fn set(&self, line: &str) -> Result<()> {
        let key = line.split('=').next().context("no key")?;
        let text = fs::read_to_string(&self.config)?;
        let others = text.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
        fs::write(&self.config, format!("{line}\n{others}\n")).map_err(Into::into)
    }

    pub fn check(&self) -> Result<Report> {
        report_of(&self.host, &[], &self.config)
    }

    /// Runs it for people.
    pub fn run_check(&self, wrapper: &[&str], options: &[&str]) -> Result<Output> {
        output_of(&self.host, wrapper, &self.config, options)
    }

    /// Does what a finding says. There is no systemd here; what stands for the unit is the daemon that this has started.
    pub fn mend(&mut self, finding: &Finding) -> Result<()> {
        let mend = finding.mend.as_ref().context("no mend")?;
        if let Some(line) = mend["setting"]["line"].as_str() {
            ensure!(mend["setting"]["file"].as_str() == self.config.to_str(), "{mend}");
            self.set(line)?;
            return if self.daemon.is_some() { self.reload() } else { Ok(()) };
        }
        match mend["command"].as_str() {
            Some("systemctl start ftpalg") => self.start(),
            Some("systemctl reload ftpalg") => self.reload(),
            Some("systemctl restart ftpalg") => {
                self.daemon()?.terminate(LIMIT)?;
                self.start()
            }
            Some(command) => self.host.run("sh", ["-ec", command])?.success().map(drop),
            None => bail!("nothing to be run in {finding:?}"),
        }
    }

    /// Nothing is left to be found. What somebody changes a moment before the daemon has put back may still be seen.
    pub fn is_all_right(&self) -> Result<()> {
        let end = Instant::now() + patient(LIMIT);
        loop {
            let report = self.check()?;
            if report.is_all_right() {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{:#?}", report.not_right().collect::<Vec<_>>());
        }
    }

    /// The finding is there, with this mark and no other one besides it; and all is right once it is mended.
    pub fn finds_and_mends(&mut self, id: &str, mark: &str) -> Result<()> {
        let report = self.check()?;
        let finding = report.find(id)?.clone();
        ensure!(finding.mark == mark, "{finding:?}");
        let others: Vec<_> = report.not_right().filter(|other| other.id != id).collect();
        ensure!(others.is_empty(), "besides {id}: {others:#?}");
        ensure!(report.exit_code == if mark == "wrong" { 1 } else { 3 }, "{}", report.exit_code);
        self.mend(&finding).with_context(|| format!("{finding:?}"))?;
        self.is_all_right().with_context(|| format!("after {:?}", finding.mend))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(daemon) = &self.daemon {
            println!("--- ftpalg ---\n{}", daemon.log());
        }
        self.daemon = None;
        // It may never have been made.
        let _ = fs::remove_dir_all(&self.state);
    }
}
