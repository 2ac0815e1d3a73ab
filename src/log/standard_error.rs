//! Log lines for standard error, be it a file, a terminal or the pipe of a service manager.

use std::fs::File;
use std::io::{self, IsTerminal, StderrLock, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::retry_on_intr;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// As much as a pipe that is ready takes, in bytes: Linux calls one ready that has a page free (`pipe_poll`).
const PIPE_BUF: usize = 4096;

/// Standard error, and how many lines it has not taken. It is not made non-blocking itself, because other programs share the
/// open file: the terminal's shell for one.
pub struct StandardError {
    /// The terminal, opened once more and non-blocking: one that is ready for a byte may make a line wait.
    terminal: Option<File>,
    lost: AtomicU64,
}

impl StandardError {
    /// Finds out what it is.
    pub fn open() -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Another user's can't be opened.
        let open_again = || open("/proc/self/fd/2", flags, Mode::empty()).map(File::from).ok();
        Self { terminal: io::stderr().is_terminal().then(open_again).flatten(), lost: AtomicU64::new(0) }
    }

    /// Writes all of it, unless that would have to wait.
    fn put(&self, err: &mut StderrLock<'_>, line: &[u8]) -> io::Result<()> {
        if let Some(mut terminal) = self.terminal.as_ref() {
            return terminal.write_all(line);
        }
        for part in line.chunks(PIPE_BUF) {
            let mut fds = [PollFd::new(&*err, PollFlags::OUT)];
            if retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            err.write_all(part)?;
        }
        Ok(())
    }

    fn told_of_lost(&self, lines: u64) -> String {
        // Of the first of them, a terminal may have taken the beginning.
        let mut text = String::from(if self.terminal.is_some() { "\n" } else { "" });
        // Fails where it is a year of five digits: then without the time.
        SystemTime.format_time(&mut Writer::new(&mut text)).ok();
        text + &format!("  WARN {lines} log lines are lost, which standard error did not take\n")
    }
}

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = &'a StandardError;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// A line at a time.
impl Write for &StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Whoever holds it is the only one who counts.
        let mut err = io::stderr().lock();
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.put(&mut err, self.told_of_lost(lost).as_bytes()).is_ok() {
            self.lost.store(0, Ordering::Relaxed);
        }
        if self.put(&mut err, line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
