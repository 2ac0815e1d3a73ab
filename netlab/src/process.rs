//! A program that runs until its value is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::line_of;
use crate::patience::patient;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    command: String,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Process> {
        let line = line_of(&command);
        let file = File::create(log).with_context(|| format!("cannot make the file {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `{line}`: is the program installed?"))?;
        Ok(Process { child, command: line, log: log.to_owned() })
    }

    /// Its process id (`ip netns exec` becomes the program; it does not stay in between).
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, standard output and standard error together.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until its log contains `text`.
    ///
    /// # Errors
    /// The program has ended, or `limit` is over; with the log.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        let limit = patient(limit);
        let end = Instant::now() + limit;
        loop {
            let ended = self.child.try_wait()?;
            if self.log().contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("`{}` ended with {status}:\n{}", self.command, self.log());
            }
            if Instant::now() > end {
                bail!("`{}` has not written \"{text}\" after {limit:?}:\n{}", self.command, self.log());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The program has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("`{}` has already ended with {status}:\n{}", self.command, self.log());
        }
        let pid = i32::try_from(self.child.id()).context("process id out of range")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal `{}`", self.command))
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It still runs after `limit`; with the log.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let limit = patient(limit);
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("`{}` still runs after {limit:?}:\n{}", self.command, self.log());
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// It has already ended, or still runs after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
