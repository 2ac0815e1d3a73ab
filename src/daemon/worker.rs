//! One queue and the sessions that it brings: from a packet to its verdict.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::Event;
use ftpalg::engine::packet::Packet;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::session::{Session, Tap};
use ftpalg::engine::{Decision, Engine, Verdict};
use tracing::{Level, debug, warn};

use super::about::{self, About};
use super::allowance::Allowances;
use super::clock;
use super::liveness::Progress;
use super::queues;
use super::shared::{Shared, SharedEngine, lock};
use super::vitals::SharedLatency;
use crate::netfilter::{CommitError, ConnTrack, Queue, Refused, Waiting};

/// How many packets may wait in a queue; the kernel drops what comes on top, and senders send it again. It is the
/// kernel's own default (`NFQNL_QMAX_DEFAULT`). Control connections have few packets under way: these are hundreds of
/// busy sessions at once.
const QUEUE_LENGTH: u32 = 1024;

/// Hook numbers (linux/netfilter.h).
mod hook {
    pub const PREROUTING: u8 = 0;
    pub const INPUT: u8 = 1;
    pub const OUTPUT: u8 = 3;
    pub const POSTROUTING: u8 = 4;
}

/// A thread that reads one queue.
pub struct Worker {
    queue: Queue,
    engine: SharedEngine,
    shared: Arc<Shared>,
    conntrack: ConnTrack,
    allowances: Allowances,
    packet: Vec<u8>,
    saved: Vec<u8>,
    progress: Progress,
    latency: SharedLatency,
}

/// Why a queue can't be read.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Somebody else has it.
    #[error("queue {number} is read by {reader}: stop that, or give ftpalg another number with `queue`")]
    Taken {
        /// The queue.
        number: u16,
        /// Who it is.
        reader: String,
    },
    /// The kernel refuses.
    #[error("queue {number} can't be read: {source}")]
    Refused {
        /// The queue.
        number: u16,
        /// What it says.
        source: io::Error,
    },
}

/// Whether nobody else reads these queues. They are bound later, when the state and the ruleset are there; but a daemon
/// that can't have them must not touch another's ruleset first.
pub fn are_free(mut numbers: Range<u16>) -> Result<(), QueueError> {
    let bound = queues::bound();
    numbers.try_for_each(|number| match bound.iter().find(|queue| queue.number == number) {
        Some(queue) => Err(QueueError::Taken { number, reader: queue.reader() }),
        None => Ok(()),
    })
}

impl Worker {
    /// Binds queue `number`. Nothing may be diverted to it before.
    pub fn new(number: u16, engine: SharedEngine, shared: Arc<Shared>) -> Result<Self, QueueError> {
        let fault = |source| QueueError::Refused { number, source };
        let mut queue = Queue::open().map_err(fault)?;
        queues::is_own(number, queue.inode().map_err(fault)?);
        let bound = queue.bind(number, QUEUE_LENGTH);
        bound.map_err(|source| are_free(number..number + 1).err().unwrap_or(fault(source)))?;
        let conntrack = ConnTrack::open().map_err(fault)?;
        Ok(Self {
            queue,
            engine,
            shared,
            conntrack,
            allowances: Allowances::default(),
            packet: Vec::new(),
            saved: Vec::new(),
            progress: Progress::default(),
            latency: SharedLatency::default(),
        })
    }

    /// Its count of packets.
    pub fn progress(&self) -> Progress {
        Arc::clone(&self.progress)
    }

    /// How long its verdicts take.
    pub fn latency(&self) -> SharedLatency {
        Arc::clone(&self.latency)
    }

    /// Gives verdicts until the queue is gone.
    pub fn run(mut self) -> io::Error {
        loop {
            match self.packets() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error,
            }
        }
    }

    /// The verdicts on all packets that wait. The kernel gets them together, when everything that any of the packets
    /// asks for has been done: should the daemon be killed before, all of them are sent again, and find what was saved.
    fn packets(&mut self) -> io::Result<()> {
        let received = self.queue.receive()?;
        let start = Instant::now();
        let mut verdicts = 0;
        for index in 0..received {
            match self.queue.take(index, &mut self.packet) {
                Ok(Some(waiting)) => {
                    let judged = self.judge(waiting);
                    may_go_on(judged)?;
                    verdicts += 1;
                    self.progress.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(error) => may_go_on(Err(error))?,
            }
        }
        may_go_on(self.queue.hand_over())?;
        self.latency.observe(start.elapsed(), verdicts);
        Ok(())
    }

    /// The packet in the buffer gets its verdict.
    fn judge(&mut self, waiting: Waiting) -> io::Result<()> {
        let tap = match waiting.hook {
            hook::POSTROUTING | hook::INPUT => Tap::ToServer,
            hook::PREROUTING | hook::OUTPUT => Tap::ToClient,
            _ => return self.queue.accept(waiting, None, None),
        };
        let (verdict, is_translated) =
            if waiting.is_whole { self.verdict(tap) } else { (Verdict::Drop, false) };
        let mark = self.shared.translated_mark();
        let mark = (is_translated && mark != 0).then_some(waiting.mark | mark);
        match verdict {
            Verdict::Pass => self.queue.accept(waiting, mark, None),
            Verdict::PassEdited => self.queue.accept(waiting, mark, Some(&self.packet)),
            Verdict::Drop | Verdict::LookUp(_) => self.queue.drop(waiting),
        }
    }

    /// The verdict on the packet in the buffer, once everything that it asks for has been done, and whether it
    /// is translated.
    fn verdict(&mut self, tap: Tap) -> (Verdict, bool) {
        let shared = Arc::clone(&self.shared);
        let engine = Arc::clone(&self.engine);
        let mut engine = lock(&engine);
        if shared.has_parked() {
            if let Ok(packet) = Packet::parse(&mut self.packet) {
                shared.hand_over([packet.source().ip(), packet.destination().ip()], &mut engine);
            }
        }
        let mut decision = engine.handle(clock::now(), tap, &mut self.packet);
        if let Verdict::LookUp(tuple) = decision.verdict {
            let view = self.conntrack.client_view(&tuple);
            if let Err(error) = &view {
                self.tell(
                    About::connection(&tuple),
                    Level::WARN,
                    Some("conntrack"),
                    format_args!("conntrack does not answer for {tuple}: {error}"),
                );
            }
            engine.learn(tuple, view.ok().flatten());
            decision = engine.handle(clock::now(), tap, &mut self.packet);
        }
        let verdict = self.carry_out(&shared, &mut engine, &decision);
        if verdict != decision.verdict {
            engine.held_up(tap, decision.verdict);
        }
        (verdict, decision.is_translated)
    }

    fn carry_out(&mut self, shared: &Shared, engine: &mut Engine, decision: &Decision) -> Verdict {
        let committed = if decision.changes.is_empty() {
            Ok(())
        } else {
            shared.vitals.transactions.add();
            lock(&shared.firewall).commit(&decision.changes)
        };
        let Some((tuple, _)) = decision.session else {
            if let Err(error) = committed {
                shared.vitals.transactions_failed.add();
                debug!("nothing is lost by it, but nftables says: {error}");
            }
            return decision.verdict;
        };
        let about = engine.session(&tuple).map_or(About::connection(&tuple), About::session);
        let verdict = match committed {
            Ok(()) => {
                self.conclude(shared, engine, decision, about);
                decision.verdict
            }
            // The guard is about to put the table back: that is no refusal.
            Err(Refused { error: CommitError::TableGone, .. }) if !lock(&shared.firewall).intact() => {
                about.line(
                    Level::DEBUG,
                    None,
                    format_args!("a packet waits until ftpalg's part of the ruleset is back"),
                );
                Verdict::Drop
            }
            Err(Refused { error, undone }) => {
                shared.vitals.transactions_failed.add();
                self.tell(
                    about,
                    Level::WARN,
                    Some("nftables"),
                    format_args!("a packet waits because nftables says: {error}"),
                );
                engine.refused(tuple, undone);
                Verdict::Drop
            }
        };
        if self.save(shared, engine, &tuple, about) { verdict } else { Verdict::Drop }
    }

    /// Saves a session. Returns whether its packet may go on: without its state a shifted session would not survive the
    /// daemon, and a packet can wait.
    fn save(&mut self, shared: &Shared, engine: &Engine, tuple: &ControlTuple, about: About) -> bool {
        let mut store = lock(&shared.store);
        let saved = match engine.save(tuple, &mut self.saved) {
            Some(session) => store.save(*tuple, session),
            None => store.remove(tuple),
        };
        drop(store);
        let Err(error) = saved else { return true };
        shared.vitals.unsaved.add();
        let needs_translation = engine.session(tuple).is_some_and(Session::needs_translation);
        let (level, what) = if needs_translation {
            (Level::ERROR, "a packet waits because its session can't be saved")
        } else {
            (Level::WARN, "a restart would lose sight of this session, which can't be saved")
        };
        self.tell(about, level, Some("state-directory"), format_args!("{what}: {error}"));
        !needs_translation
    }

    /// Writes a line, unless there were too many of late.
    fn tell(&mut self, about: About, level: Level, reason: Option<&str>, text: fmt::Arguments<'_>) {
        if !self.allowances.line(level, || about.line(level, reason, text)) {
            self.shared.vitals.lines_left_out.add();
        }
    }

    /// All that a packet asked for has been done: what that was is told.
    fn conclude(&mut self, shared: &Shared, engine: &mut Engine, decision: &Decision, about: About) {
        let Some((tuple, id)) = decision.session else { return };
        if decision.changes.contains(&Change::Depart(tuple)) {
            if let Some(session) = engine.session(&tuple).filter(|session| session.departed.is_some()) {
                lock(&shared.recent).departs(clock::now(), session);
            }
        }
        let events = engine.committed(tuple);
        if events.iter().any(|event| matches!(event, Event::Refused { .. })) {
            lock(&shared.recent).note(clock::now(), tuple, id, &events, engine);
        }
        self.report(about, &events);
    }

    /// A session's events, one line each.
    fn report(&mut self, about: About, events: &[Event]) {
        for event in events {
            match about::level(event) {
                // Who asks for these wants all of them.
                level if level > Level::INFO => about.line(level, None, format_args!("{event}")),
                level => self.tell(about, level, event.reason(), format_args!("{event}")),
            }
        }
    }
}

/// Whether what the kernel says of a verdict keeps the queue from going on.
fn may_go_on(result: io::Result<()>) -> io::Result<()> {
    let Err(error) = result else { return Ok(()) };
    match error.raw_os_error() {
        // The kernel answers a verdict only if it has lost the packet meanwhile: its interface went away, or the rules
        // were replaced, which empties every queue (nfqnl_recv_verdict, nfqnl_nf_hook_drop).
        Some(libc::ENOENT) => debug!("a packet was gone before its verdict"),
        // No memory for verdicts: they go with the next ones, and what their senders send again brings those.
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            warn!("packets wait because the kernel takes no verdict: {error}");
        }
        _ => return Err(error),
    }
    Ok(())
}
