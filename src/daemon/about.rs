//! Lines about one session: each bears, as fields of its own, whom it is about and why.

use std::fmt;
use std::net::IpAddr;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::{Departure, Event};
use ftpalg::engine::session::Session;
use tracing::{Level, event};

/// Whom a line is about. In the journal these are the fields `FTP_SESSION`, `FTP_CLIENT` and `FTP_SERVER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The session's number, if it has one.
    session: Option<u64>,
    /// The client's own address, as far as it is known; else that under which the server knows it.
    client: IpAddr,
    /// The server's own address.
    server: IpAddr,
}

impl About {
    /// A session.
    pub fn session(session: &Session) -> Self {
        Self { session: Some(session.id), client: session.client(), server: session.tuple.server.ip() }
    }

    /// A connection that is no session, or none any more.
    pub fn connection(tuple: &ControlTuple) -> Self {
        Self { session: None, client: tuple.client.ip(), server: tuple.server.ip() }
    }

    /// Writes a line. The `reason` is a word for machines, the field `FTP_REASON`.
    pub fn line(self, level: Level, reason: Option<&str>, text: fmt::Arguments<'_>) {
        // The level of an event is a constant to `tracing`. The session's number comes last.
        macro_rules! line {
            ($level:expr) => {
                event!(
                    $level,
                    reason = reason.map(display),
                    client = display(self.client),
                    server = display(self.server),
                    session = self.session,
                    "{text}"
                )
            };
        }
        match level {
            Level::ERROR => line!(Level::ERROR),
            Level::WARN => line!(Level::WARN),
            Level::INFO => line!(Level::INFO),
            _ => line!(Level::DEBUG),
        }
    }
}

/// How much an event matters: a warning is what keeps somebody's transfer from working although it might have.
pub fn level(event: &Event) -> Level {
    match event {
        Event::Refused { .. } | Event::Muted => Level::WARN,
        Event::Departed(Departure::NotTracked | Departure::Resequenced | Departure::TooManySessions) => {
            Level::WARN
        }
        Event::Edited(_) => Level::DEBUG,
        Event::Started(_)
        | Event::LoggedIn
        | Event::Opened(..)
        | Event::Resumed
        | Event::Departed(_)
        | Event::Ended => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use ftpalg::engine::kind::Kind;
    use ftpalg::engine::policy::{Refusal, Remedy};
    use strum::VariantArray;

    use super::*;

    /// The rows of a table in docs/logs.md whose first column is `name`.
    fn row(name: &str) -> &'static str {
        let first = format!("| `{name}` |");
        let rows: Vec<_> =
            include_str!("../../docs/logs.md").lines().filter(|line| line.starts_with(&first)).collect();
        assert_eq!(rows.len(), 1, "docs/logs.md must have one row for {name}");
        rows[0]
    }

    #[test]
    fn the_documentation_has_every_refusal_with_what_would_allow_it() {
        let sample: toml::Table = include_str!("../../systemd/ftpalg.toml").parse().unwrap();
        for refusal in Refusal::VARIANTS {
            let row = row(refusal.name());
            assert!(row.contains(&refusal.to_string()), "not \"{refusal}\" in {row}");
            match refusal.remedy() {
                Remedy::Setting(key, how) => {
                    let (table, name) = key.split_once('.').unwrap();
                    assert!(sample[table].as_table().unwrap().contains_key(name), "no such key: {key}");
                    assert!(row.contains(&format!("`{key}` {how}")), "not \"`{key}` {how}\" in {row}");
                }
                Remedy::None(why) => assert!(row.contains(why), "not \"{why}\" in {row}"),
            }
        }
    }

    #[test]
    fn the_documentation_has_every_departure() {
        for departure in Departure::VARIANTS {
            let row = row(departure.name());
            assert!(row.contains(&departure.to_string()), "not \"{departure}\" in {row}");
        }
    }

    #[test]
    fn a_warning_is_for_what_does_not_work() {
        let refused = Event::Refused {
            mode: ftpalg::engine::event::Mode::Active,
            line: String::new(),
            reason: Refusal::NoPort,
        };
        assert_eq!(level(&refused), Level::WARN);
        assert_eq!(refused.reason(), Some("no-port"));
        assert_eq!(level(&Event::Departed(Departure::Encrypted)), Level::INFO);
        assert_eq!(level(&Event::Departed(Departure::NotTracked)), Level::WARN);
        assert_eq!((level(&Event::LoggedIn), Event::LoggedIn.reason()), (Level::INFO, None));
    }
}
