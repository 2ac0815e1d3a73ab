//! The answer to `status`: written while the engines are gone through, so that neither their locks nor memory are held
//! for all sessions at once.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::counters::{Counters, Tally};
use ftpalg::engine::kind::Kind;
use ftpalg::engine::pinhole::PinholeKey;
use ftpalg::engine::session::Tap;
use serde::{Serialize, Serializer};

use super::super::liveness::Progress;
use super::super::recent::{Departed, Refused};
use super::super::shared::{Shared, SharedEngine, lock};
use super::super::{clock, queues};
use super::portrait::{mode, portrait, reason};
use crate::netfilter::{ConnTrack, Fate, Inspector, Left};
use crate::status::document::{
    self, Counts, Daemon, Document, Pinhole, PinholeState, Refusal, Session, State, VERSION, Worker,
};

/// For how many sessions an engine is locked at once: its worker waits some 50 µs (measured with 10,000 sessions).
const AT_ONCE: usize = 64;

/// What a report is made from.
pub struct Reporter {
    shared: Arc<Shared>,
    /// The workers' queues, in their order, and how far each has come.
    queues: Vec<(u16, Progress)>,
    began: Duration,
    /// Sockets of their own, so that neither the workers' nor the firewall's are waited for.
    kernel: Mutex<Kernel>,
}

struct Kernel {
    nftables: Inspector,
    conntrack: ConnTrack,
}

impl Reporter {
    /// For a daemon that begins now.
    ///
    /// # Errors
    /// The kernel has no sockets for it.
    pub fn new(shared: Arc<Shared>, queues: Vec<(u16, Progress)>) -> io::Result<Self> {
        let kernel = Mutex::new(Kernel { nftables: Inspector::open()?, conntrack: ConnTrack::open()? });
        Ok(Self { shared, queues, began: clock::now(), kernel })
    }

    /// Writes the document.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let now = clock::now();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let document = Document {
            version: VERSION,
            daemon: Daemon {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_seconds: now.saturating_sub(self.began).as_secs_f64(),
                time: time.as_secs_f64(),
            },
            workers: self.workers(),
            counters: self.counters(),
            table_counters: self.table_counters(),
            refusals: lock(&self.shared.recent).refused().iter().map(|one| refusal(one, now)).collect(),
            sessions: Lazily(|| self.sessions(now)),
        };
        serde_json::to_writer(out, &document).map_err(io::Error::from)
    }

    fn workers(&self) -> Vec<Worker> {
        let bound = queues::bound();
        let workers = self.queues.iter().zip(&self.shared.engines).map(|((queue, progress), engine)| {
            let bound = bound.iter().find(|bound| bound.number == *queue);
            Worker {
                queue: *queue,
                packets: progress.load(Ordering::Relaxed),
                sessions: lock(engine).sessions().count(),
                waiting: bound.map(|bound| bound.waiting),
                dropped: bound.map(|bound| bound.dropped),
            }
        });
        workers.collect()
    }

    fn counters(&self) -> document::Counters {
        let sum: Counters = self.shared.all_engines().map(|engine| lock(engine).counters()).sum();
        let directions = [Tap::ToServer, Tap::ToClient];
        let packets = directions.map(|tap| (tap.name().to_owned(), counts(sum.packets(tap))));
        document::Counters {
            packets: packets.into(),
            connections: sum.connections,
            greeted: sum.greeted,
            logins: sum.logins,
            ended: sum.ended,
            expired: sum.expired,
            departed: counts(&sum.departed),
            resumed: sum.resumed,
            opened: counts(&sum.opened),
            refused: counts(&sum.refused),
            edits: sum.edits,
            overflow: sum.overflow,
        }
    }

    fn table_counters(&self) -> Option<Counts> {
        let counters = lock(&self.kernel).nftables.counters().ok()?;
        let named = counters.into_iter().map(|counter| (counter.name.replace('_', "-"), counter.packets));
        Some(named.collect())
    }

    /// All sessions: those in the workers' care, those whose packets have not come to this daemon yet, those that are
    /// given up, and those that left inspection and live on.
    fn sessions(&self, now: Duration) -> impl Iterator<Item = Session> {
        let queues = self.queues.iter().map(|(queue, _)| Some(*queue)).chain([None]);
        let followed = self.shared.all_engines().zip(queues).flat_map(move |(engine, queue)| {
            let (tuples, doomed) = names(engine);
            let chunks = tuples.chunks(AT_ONCE).map(<[_]>::to_vec).collect::<Vec<_>>();
            let portraits =
                chunks.into_iter().flat_map(move |some| self.portraits(engine, queue, &some, now));
            portraits.chain(doomed.into_iter().map(|tuple| Session::unknown(State::CutOff, &tuple)))
        });
        followed.chain(self.departed(now))
    }

    fn portraits(
        &self,
        engine: &SharedEngine,
        queue: Option<u16>,
        tuples: &[ControlTuple],
        now: Duration,
    ) -> Vec<Session> {
        let mut portraits: Vec<_> = {
            let engine = lock(engine);
            let sessions = tuples.iter().filter_map(|tuple| engine.session(tuple));
            sessions.map(|session| portrait(session, queue, now)).collect()
        };
        for pinhole in portraits.iter_mut().flat_map(|session| &mut session.pinholes) {
            self.ask_kernel(pinhole);
        }
        portraits
    }

    /// The packet path uses a pinhole up without a word.
    fn ask_kernel(&self, pinhole: &mut Pinhole) {
        if pinhole.state != PinholeState::Open {
            return;
        }
        let key = PinholeKey {
            source: pinhole.source,
            destination: pinhole.destination.ip(),
            port: pinhole.destination.port(),
        };
        match lock(&self.kernel).nftables.pinhole(&key) {
            Left::Open(left) => pinhole.expires_seconds = Some(left.as_secs_f64()),
            Left::Gone => (pinhole.state, pinhole.expires_seconds) = (PinholeState::Used, None),
            Left::Unknown => {}
        }
    }

    /// Those that left inspection, as long as conntrack knows them.
    fn departed(&self, now: Duration) -> Vec<Session> {
        let all = lock(&self.shared.recent).departed();
        let (mut sessions, mut ended) = (Vec::new(), Vec::new());
        for one in all {
            let Departed { at, tuple, session } = &*one;
            let is_followed_anew =
                self.shared.all_engines().any(|engine| lock(engine).session(tuple).is_some());
            if is_followed_anew || lock(&self.kernel).conntrack.fate(tuple) != Fate::Live {
                ended.push(one);
                continue;
            }
            let since = now.saturating_sub(*at).as_secs_f64();
            sessions.push(Session {
                age_seconds: session.age_seconds + since,
                idle_seconds: session.idle_seconds + since,
                ..session.clone()
            });
        }
        if !ended.is_empty() {
            lock(&self.shared.recent).forget(&ended);
        }
        sessions
    }
}

/// The names of what an engine follows, and of what it gives up.
fn names(engine: &SharedEngine) -> (Vec<ControlTuple>, Vec<ControlTuple>) {
    let engine = lock(engine);
    (engine.sessions().map(|session| session.tuple).collect(), engine.doomed().collect())
}

fn counts<K: Kind, const N: usize>(tally: &Tally<K, N>) -> Counts {
    tally.iter().map(|(kind, count)| (kind.name().to_owned(), count)).collect()
}

fn refusal(refused: &Refused, now: Duration) -> Refusal {
    Refusal {
        seconds_ago: now.saturating_sub(refused.at).as_secs_f64(),
        session: refused.session,
        client: refused.client,
        server: refused.server,
        user: Some(refused.user.clone()).filter(|user| !user.is_empty()),
        mode: mode(refused.mode),
        line: refused.line.clone(),
        reason: reason(refused.reason),
        remedy: refused.reason.remedy().to_string(),
    }
}

/// A list that is made while it is written.
struct Lazily<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Lazily<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
