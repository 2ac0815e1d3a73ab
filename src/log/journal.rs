//! Log lines for systemd's journal, by its own protocol (systemd's documentation, "Native Journal Protocol"): with
//! their priority, and with what they say of a session as a field of its own.

use std::fmt::{self, Debug, Write as _};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Whether standard error leads into the journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)).
pub fn leads_to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr().as_fd())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// The journal, and how many lines it has not taken.
pub struct Journal {
    socket: UnixDatagram,
    lost: AtomicU64,
}

impl Journal {
    /// Makes the socket.
    pub fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, lost: AtomicU64::new(0) })
    }

    fn send(&self, level: Level, text: &Text) {
        let entry = entry(level, text);
        if self.socket.send_to(&entry, SOCKET).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.send(*event.metadata().level(), &text);
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && self.socket.send_to(&entry(Level::WARN, &Text::of_lost(lost)), SOCKET).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

/// What an event says.
#[derive(Default)]
struct Text {
    message: String,
    /// Names and values.
    fields: Vec<(&'static str, String)>,
}

impl Text {
    fn of_lost(lines: u64) -> Self {
        Self {
            message: format!("{lines} log lines are lost, which the journal did not take"),
            fields: vec![],
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Cannot fail: it is a string that is written to.
            let _: fmt::Result = write!(self.message, "{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }
}

/// A datagram for the journal. The fields stand in the message as well, as they do on a terminal.
fn entry(level: Level, text: &Text) -> Vec<u8> {
    // RFC 5424, 6.2.1.
    let priority = match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    };
    let mut message = text.message.clone();
    for (name, value) in &text.fields {
        let _: fmt::Result = write!(message, " {name}={value}");
    }
    let mut entry = Vec::new();
    add(&mut entry, "PRIORITY", priority);
    add(&mut entry, "SYSLOG_IDENTIFIER", "ftpalg");
    add(&mut entry, "MESSAGE", &message);
    for (name, value) in &text.fields {
        add(&mut entry, &format!("FTP_{}", name.to_uppercase()), value);
    }
    entry
}

/// A field in the form that takes any value: its length goes before it.
fn add(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_row_of_fields_with_their_lengths() {
        let text = Text { message: "two\nlines".into(), fields: vec![("session", "7".into())] };
        let expected: &[u8] = b"PRIORITY\n\x01\0\0\0\0\0\0\x004\n\
            SYSLOG_IDENTIFIER\n\x06\0\0\0\0\0\0\0ftpalg\n\
            MESSAGE\n\x13\0\0\0\0\0\0\0two\nlines session=7\n\
            FTP_SESSION\n\x01\0\0\0\0\0\0\x007\n";
        assert_eq!(
            entry(Level::WARN, &text),
            expected,
            "{:?}",
            String::from_utf8_lossy(&entry(Level::WARN, &text))
        );
    }
}
