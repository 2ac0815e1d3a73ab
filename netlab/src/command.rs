//! Programs run to their end; their errors carry the command line and what it wrote to stderr.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// Its standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Itself, if the program ended with 0.
    ///
    /// # Errors
    /// The command, its status and its output otherwise.
    pub fn success(self) -> Result<Output> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("`{}` ended with {}: {}{}", self.command, self.status, self.stderr.trim_end(), self.stdout)
    }
}

/// Runs a program of this host (not of a namespace), with nothing on its standard input. A Ctrl-C at the terminal
/// passes it by: these programs are quick, and what is half made or half removed would stay.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    finish(command, b"")
}

/// Runs `command` with `input` on its standard input, until it ends.
pub(crate) fn finish(mut command: Command, input: &[u8]) -> Result<Output> {
    let line = line_of(&command);
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`: is the program installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).with_context(|| format!("`{line}` did not read its input"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for `{line}`"))?;
    Ok(Output {
        command: line,
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The command line as a reader would type it, quotes left out.
pub(crate) fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
