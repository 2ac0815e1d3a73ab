//! Log lines for standard error, be it a file, a terminal or the pipe of a service manager.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// What a pipe that is ready takes without waiting, in bytes (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Standard error, and how many lines it has not taken. Not made non-blocking instead, because other programs share the
/// open file: the terminal's shell for one.
#[derive(Default)]
pub struct StandardError {
    lost: AtomicU64,
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
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && put(told_of_lost(lost).as_bytes()).is_ok() {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if put(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of it, unless that would have to wait.
fn put(line: &[u8]) -> io::Result<()> {
    let mut out = io::stderr().lock();
    for part in line.chunks(PIPE_BUF) {
        let mut fds = [PollFd::new(&out, PollFlags::OUT)];
        if retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        out.write_all(part)?;
    }
    Ok(())
}

fn told_of_lost(lines: u64) -> String {
    let mut text = String::new();
    // Fails where it is a year of five digits: then without the time.
    SystemTime.format_time(&mut Writer::new(&mut text)).ok();
    text + &format!("  WARN {lines} log lines are lost, which standard error did not take\n")
}
