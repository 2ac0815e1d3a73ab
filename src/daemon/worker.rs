//! One queue and the sessions that it brings: from a packet to its verdict.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ftpalg::engine::control::{ControlTuple, Hosts};
use ftpalg::engine::event::Departure;
use ftpalg::engine::packet::Packet;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Decision, Engine, Verdict};
use tracing::{Level, debug, warn};

use super::about::About;
use super::clock;
use super::executor::Executor;
use super::liveness::Progress;
use super::queues;
use super::shared::{Shared, SharedEngine, lock};
use super::vitals::SharedLatency;
use crate::netfilter::{ConnTrack, Found, Queue, Waiting};

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
    executor: Executor,
    packet: Vec<u8>,
    /// Packets that wait for what they ask the kernel for, in their order.
    asking: Vec<Judged>,
    /// Room for packets like those.
    spare: Vec<Vec<u8>>,
    progress: Progress,
    latency: SharedLatency,
}

/// A packet of which the engine has said what becomes of it.
struct Judged {
    waiting: Waiting,
    tap: Tap,
    bytes: Vec<u8>,
    decision: Decision,
}

impl Judged {
    fn is_of(&self, session: Option<ControlTuple>) -> bool {
        self.decision.session.is_some_and(|(tuple, _)| Some(tuple) == session)
    }
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
            executor: Executor::new(Arc::clone(&shared)),
            shared,
            conntrack,
            packet: Vec::new(),
            asking: Vec::new(),
            spare: Vec::new(),
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
        let engine = Arc::clone(&self.engine);
        let mut engine = lock(&engine);
        let mut verdicts = 0;
        for index in 0..received {
            match self.queue.take(index, &mut self.packet) {
                Ok(Some(waiting)) => {
                    let judged = self.judge(&mut engine, waiting);
                    may_go_on(judged)?;
                    verdicts += 1;
                    self.progress.fetch_add(1, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(error) => may_go_on(Err(error))?,
            }
        }
        let settled = self.settle(&mut engine);
        drop(engine);
        may_go_on(settled)?;
        may_go_on(self.queue.hand_over())?;
        self.latency.observe(start.elapsed(), verdicts);
        Ok(())
    }

    /// The packet in the buffer gets its verdict, or waits for what it asks the kernel for.
    fn judge(&mut self, engine: &mut Engine, waiting: Waiting) -> io::Result<()> {
        let tap = match waiting.hook {
            hook::POSTROUTING | hook::INPUT => Tap::ToServer,
            hook::PREROUTING | hook::OUTPUT => Tap::ToClient,
            _ => return self.queue.accept(waiting, None, None),
        };
        if !waiting.is_whole {
            return self.queue.drop(waiting);
        }
        let settled = self.settle_before(engine, tap);
        let decision = self.decide(engine, tap);
        let bytes = std::mem::replace(&mut self.packet, self.spare.pop().unwrap_or_default());
        let packet = Judged { waiting, tap, bytes, decision };
        if !packet.decision.changes.is_empty() {
            self.asking.push(packet);
            return settled;
        }
        let verdict = self.executor.conclude(engine, &packet.decision);
        let answered = self.answer(engine, &packet, verdict);
        self.spare.push(packet.bytes);
        settled.and(answered)
    }

    /// What a session has asked for is done before its next packet, which is in the buffer, asks for more.
    fn settle_before(&mut self, engine: &mut Engine, tap: Tap) -> io::Result<()> {
        if self.asking.is_empty() {
            return Ok(());
        }
        let session = engine.concerned_by(tap, &mut self.packet);
        if self.asking.iter().any(|other| other.is_of(session)) { self.settle(engine) } else { Ok(()) }
    }

    /// What the engine says of the packet in the buffer.
    fn decide(&mut self, engine: &mut Engine, tap: Tap) -> Decision {
        if !self.shared.parking.is_empty() {
            if let Ok(packet) = Packet::parse(&mut self.packet) {
                let hosts = Hosts::of(packet.source().ip(), packet.destination().ip());
                self.shared.parking.hand_over(hosts, engine);
            }
        }
        let decision = engine.handle(clock::now(), tap, &mut self.packet);
        let Verdict::LookUp(tuple) = decision.verdict else { return decision };
        let found = self.conntrack.find(&tuple);
        if let Err(error) = &found {
            self.executor.tell(
                About::connection(&tuple),
                Level::WARN,
                Some("conntrack"),
                format_args!("conntrack does not answer for {tuple}: {error}"),
            );
        }
        let view = match found {
            Ok(Found::Entry(entry)) if entry.is_resequenced => Err(Departure::Resequenced),
            Ok(Found::Entry(entry)) => Ok(entry.view),
            Ok(Found::Nowhere) | Err(_) => Err(Departure::NotTracked),
            // Its sender sends it again.
            Ok(Found::NotSearched) => return decision,
        };
        engine.learn(tuple, view);
        engine.handle(clock::now(), tap, &mut self.packet)
    }

    /// Does what packets ask the kernel for, together, and gives their verdicts.
    fn settle(&mut self, engine: &mut Engine) -> io::Result<()> {
        if self.asking.is_empty() {
            return Ok(());
        }
        let changes: Vec<_> =
            self.asking.iter().flat_map(|packet| &packet.decision.changes).copied().collect();
        // From a Shift on the kernel holds back what bears no mark, and before an Unshift what bears one: packets that were judged
        // before go on as they were.
        if changes.iter().any(|change| matches!(change, Change::Shift(_) | Change::Unshift(_))) {
            may_go_on(self.queue.hand_over())?;
        }
        let mut failure = self.shared.commit(&changes).err();
        let mut asking = std::mem::take(&mut self.asking);
        let mut result = Ok(());
        for packet in asking.drain(..) {
            let verdict = match &mut failure {
                Some(failure) => self.executor.conclude_after(failure, engine, &packet.decision),
                None => self.executor.conclude(engine, &packet.decision),
            };
            result = result.and(self.answer(engine, &packet, verdict));
            self.spare.push(packet.bytes);
        }
        self.asking = asking;
        result
    }

    /// Gives a packet its verdict.
    fn answer(&mut self, engine: &mut Engine, packet: &Judged, verdict: Verdict) -> io::Result<()> {
        let Judged { waiting, tap, bytes, decision } = packet;
        if verdict != decision.verdict {
            engine.held_up(*tap, decision.verdict);
        }
        let (waiting, mark) = (*waiting, self.shared.translated_mark());
        let mark = (decision.is_translated && mark != 0).then_some(waiting.mark | mark);
        match verdict {
            Verdict::Pass => self.queue.accept(waiting, mark, None),
            Verdict::PassEdited => self.queue.accept(waiting, mark, Some(bytes)),
            Verdict::Drop | Verdict::LookUp(_) => self.queue.drop(waiting),
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
