//! What happened of late, for `ftpalg status`: refusals, and the sessions that left inspection and so the engine.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ftpalg::engine::Engine;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::{Event, Mode};
use ftpalg::engine::policy::Refusal;
use ftpalg::engine::profile::printable;
use ftpalg::engine::session::Session;

use crate::status::document;

/// How many refusals are remembered. One session can bring about a hundred, so others' stay in sight.
const MAX_REFUSALS: usize = 256;

/// How much of a refused line is kept, in bytes: a PORT or 227 is shorter, unless somebody has stuffed it.
const LINE: usize = 128;

/// How many sessions that have left inspection are remembered, some 300 bytes each. Where all sessions are encrypted,
/// that is how many of them can be seen.
const MAX_DEPARTED: usize = 1024;

/// A pinhole that did not open.
#[derive(Debug)]
pub struct Refused {
    /// Time since boot.
    pub at: Duration,
    /// The session's number.
    pub session: u64,
    /// Its client's own address.
    pub client: IpAddr,
    /// Its server.
    pub server: SocketAddr,
    /// Its user, or nothing.
    pub user: String,
    /// Who would have listened.
    pub mode: Mode,
    /// What was asked, printable.
    pub line: String,
    /// Why not.
    pub reason: Refusal,
}

/// A session that has left inspection.
#[derive(Debug)]
pub struct Departed {
    /// Time since boot.
    pub at: Duration,
    /// Its name.
    pub tuple: ControlTuple,
    /// As it was then.
    pub session: document::Session,
}

/// Both, the oldest first.
#[derive(Debug, Default)]
pub struct Recent {
    refused: VecDeque<Arc<Refused>>,
    departed: VecDeque<Arc<Departed>>,
}

impl Recent {
    /// Takes note of what has happened in a session.
    pub fn note(&mut self, now: Duration, tuple: ControlTuple, id: u64, events: &[Event], engine: &Engine) {
        for event in events {
            let Event::Refused { mode, line, reason } = event else { continue };
            let session = engine.session(&tuple);
            let view = session.and_then(|session| session.view);
            let line = line.as_bytes();
            push(
                &mut self.refused,
                MAX_REFUSALS,
                Refused {
                    at: now,
                    session: id,
                    client: view.map_or(tuple.client.ip(), |view| view.client),
                    server: tuple.server,
                    user: session.map(|session| session.dialogue.profile().user()).unwrap_or_default(),
                    mode: *mode,
                    line: printable(line.get(..LINE).unwrap_or(line)),
                    reason: *reason,
                },
            );
        }
    }

    /// A session leaves the engine, and goes on uninspected.
    pub fn departs(&mut self, now: Duration, session: &Session) {
        let portrait = super::control::portrait(session, None, now);
        let departed = Departed { at: now, tuple: session.tuple, session: portrait };
        push(&mut self.departed, MAX_DEPARTED, departed);
    }

    /// The refusals.
    pub fn refused(&self) -> Vec<Arc<Refused>> {
        self.refused.iter().cloned().collect()
    }

    /// The sessions.
    pub fn departed(&self) -> Vec<Arc<Departed>> {
        self.departed.iter().cloned().collect()
    }

    /// These have ended.
    pub fn forget(&mut self, ended: &[Arc<Departed>]) {
        self.departed.retain(|departed| !ended.iter().any(|one| Arc::ptr_eq(one, departed)));
    }
}

fn push<T>(ring: &mut VecDeque<Arc<T>>, most: usize, item: T) {
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(Arc::new(item));
}

#[cfg(test)]
mod tests {
    use ftpalg::engine::event::Departure;
    use ftpalg::engine::handshake::Syn;
    use ftpalg::engine::options::Handshake;
    use ftpalg::engine::policy::Policy;

    use super::*;

    fn tuple(port: u16) -> ControlTuple {
        ControlTuple { server: "192.0.2.1:21".parse().unwrap(), client: ([10, 0, 0, 2], port).into() }
    }

    #[test]
    fn the_latest_refusals_are_remembered_and_lines_are_short_and_harmless() {
        let policy = Policy {
            require_login: true,
            allow_third_party: Vec::new(),
            ports: 1024..=65535,
            timeout: Duration::from_secs(60),
        };
        let (engine, mut recent) = (Engine::new(policy, 0), Recent::default());
        let refused = |line: String| Event::Refused { mode: Mode::Active, line, reason: Refusal::ThirdParty };
        for number in 0..1000 {
            let events = [Event::LoggedIn, refused(format!("PORT \x1b[2J{number}{}", "ü".repeat(500)))];
            recent.note(Duration::from_secs(number), tuple(7), number, &events, &engine);
        }
        let all = recent.refused();
        let numbers = all.iter().map(|refused| refused.session);
        assert_eq!(numbers.collect::<Vec<_>>(), (744..1000).collect::<Vec<_>>());
        let line = &all[0].line;
        assert!(line.starts_with(r"PORT \u{1b}[2J744ü") && line.len() <= 4 * LINE, "{line}");
    }

    #[test]
    fn the_latest_sessions_that_left_are_remembered_until_they_end() {
        let mut recent = Recent::default();
        for port in 0..2000 {
            let syn = Syn { initial: 1, options: Handshake::default() };
            let mut session = Session::new(port.into(), tuple(port), syn, Duration::ZERO);
            session.leave(Departure::Encrypted);
            recent.departs(Duration::from_secs(1), &session);
        }
        let all = recent.departed();
        assert_eq!((all.len(), all[0].tuple), (MAX_DEPARTED, tuple(976)));
        assert!(all[0].session.encrypted);
        recent.forget(&all[..1000]);
        assert_eq!(recent.departed().len(), 24);
        recent.forget(&all);
        assert!(recent.departed().is_empty());
    }
}
