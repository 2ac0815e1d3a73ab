//! The engine: one packet in, one decision out. No clock, no socket and no global state in here.
//!
//! A packet's way: [`Engine::handle`] finds its session; [`packet`] checks it; [`segment`] places it in its
//! [`stream`]; the [`editor`] puts its new bytes together to [`lines`]; the [`dialogue`] reads them with [`ftp`],
//! asks the [`policy`], plans an [`opening`] and keeps what it has [`opened`]; the [`edits`] are made; the decision names
//! the pinholes. [`Engine::committed`] or [`Engine::refused`] hears what became of it.

mod beginning;
pub mod checksum;
pub mod control;
pub mod counters;
pub mod decision;
pub mod dialogue;
mod dismissed;
pub mod editor;
pub mod edits;
pub mod event;
pub mod ftp;
pub mod handshake;
pub mod history;
pub mod kind;
pub mod lines;
pub mod lost;
pub mod moment;
pub mod opened;
pub mod opening;
pub mod options;
pub mod outcome;
pub mod packet;
pub mod pinhole;
pub mod playback;
pub mod policy;
pub mod ports;
pub mod position;
pub mod profile;
pub mod promise;
pub mod segment;
pub mod session;
mod sessions;
mod settled;
pub mod shares;
mod silent;
pub mod stream;
mod survival;
pub mod tick;
pub mod waiting;

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use control::{ClientView, ControlTuple};
pub use counters::Counters;
use counters::Treatment;
pub use decision::{Decision, RestoreError, Verdict};
use dismissed::Dismissed;
use event::Departure;
use lost::Lost;
use outcome::Outcome;
use packet::{Malformed, Packet};
use pinhole::{Change, PinholeKey};
use policy::Policy;
use ports::Ports;
use segment::Surroundings;
use session::{Disposition, Session, Tap};
use sessions::Sessions;
use shares::{Shares, network_of};

/// How many control connections all workers together follow. The sets in nftables hold as many; those beyond pass
/// without being inspected.
pub const MAX_SESSIONS: usize = 131_072;

/// How many pinholes the sets in nftables take, open or asked for. Those beyond are refused.
pub const MAX_PINHOLES: usize = 65_536;

/// How many control connections one client may have, an IPv6 network counted as one: a quarter, of each worker, so that no address
/// can lock all others out. An office behind one address, or a proxy, stays far below.
pub const MAX_SESSIONS_PER_CLIENT: u32 = 32_768;

/// How many entries a map may have room for that it does not need: what the next few sessions would take again.
const SPARE: usize = 1024;

/// Gives memory back that a map has from fuller days.
pub fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 4 * map.len() + SPARE {
        map.shrink_to(2 * map.len());
    }
}

/// Puts what is in `from` behind what is in `to`, which almost always is empty.
fn move_behind<T>(to: &mut Vec<T>, from: &mut Vec<T>) {
    if to.is_empty() {
        std::mem::swap(to, from);
    } else {
        to.append(from);
    }
}

/// The control connection that a packet would be of.
fn tuple_of(tap: Tap, packet: &Packet<'_>) -> ControlTuple {
    match tap {
        Tap::ToServer => ControlTuple { server: packet.destination(), client: packet.source() },
        Tap::ToClient => ControlTuple { server: packet.source(), client: packet.destination() },
    }
}

/// The pinhole that the SYN of a data connection would need.
fn key_of(packet: &Packet<'_>) -> PinholeKey {
    let (from, to) = (packet.source(), packet.destination());
    PinholeKey { source: from.ip(), destination: to.ip(), port: to.port() }
}

/// All sessions of one worker.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    ports: Ports,
    sessions: Sessions,
    /// How many sessions each client's network has, of those whose client's view is known.
    shares: Shares,
    /// Shifted connections whose state is lost.
    lost: HashMap<ControlTuple, Lost>,
    /// What the kernel would not take, and no packet needs to wait for.
    postponed: Vec<Change>,
    /// Connections that the kernel was told of lately, that nothing of them is to be queued.
    dismissed: Dismissed,
    /// Sessions for which it is time that something is done.
    due: Vec<ControlTuple>,
    /// How many looks at the clock there were.
    looks: u64,
    last_id: u64,
    /// The step between two numbers of sessions, and what they leave when divided by it.
    numbers: (u64, u64),
    /// How many sessions are followed at most.
    most: usize,
    counters: Counters,
}

impl Engine {
    /// `seed` makes the choice of external ports hard to foresee.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            ports: Ports::new(seed),
            sessions: Sessions::default(),
            shares: Shares::up_to(MAX_SESSIONS_PER_CLIENT),
            lost: HashMap::new(),
            postponed: Vec::new(),
            dismissed: Dismissed::default(),
            due: Vec::new(),
            looks: 0,
            last_id: 0,
            numbers: (1, 0),
            most: MAX_SESSIONS,
            counters: Counters::default(),
        }
    }

    /// Sessions count up from behind this number: what was restored keeps its own.
    pub fn number_sessions_from(&mut self, id: u64) {
        self.last_id = self.last_id.max(id);
    }

    /// For engine `index`, counted from 0, of so many that share one log: each gives its sessions every so manieth number.
    pub fn share_numbers(&mut self, index: u16, engines: u16) {
        let engines = engines.max(1);
        self.numbers = (engines.into(), (index % engines).into());
    }

    /// For one of so many engines that share the sets in nftables: how many sessions it begins at most.
    pub fn share_room(&mut self, engines: u16) {
        self.most = MAX_SESSIONS / usize::from(engines.max(1));
    }

    fn next_id(&mut self) -> u64 {
        let (step, remainder) = self.numbers;
        let next = self.last_id.saturating_add(1);
        self.last_id = next.saturating_add((step + remainder - next % step) % step);
        self.last_id
    }

    /// What may open, from now on. Sessions go on; what is open stays open.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The sessions, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// The session of this name.
    pub fn session(&self, tuple: &ControlTuple) -> Option<&Session> {
        self.sessions.get(tuple)
    }

    /// One packet, taken at `tap`, `now` (time since boot). Its bytes are edited in place.
    pub fn handle(&mut self, now: Duration, tap: Tap, bytes: &mut Vec<u8>) -> Decision {
        let mut outcome = Outcome::default();
        let decision = match Packet::parse(bytes) {
            Ok(packet) => self.packet(now, tap, packet, &mut outcome),
            Err(Malformed::NotTcp) => Decision::of(Verdict::Pass),
            Err(_) => {
                self.counters.packet(tap, Treatment::Malformed);
                return Decision::of(Verdict::Drop);
            }
        };
        if let Some(treatment) = Treatment::of(decision.verdict) {
            self.counters.packet(tap, treatment);
        }
        decision
    }

    /// The session whose changes a packet may add to, or needs: its own, or that of the data connection which it begins.
    pub fn concerned_by(&self, tap: Tap, bytes: &mut Vec<u8>) -> Option<ControlTuple> {
        let packet = Packet::parse(bytes).ok()?;
        if tap == Tap::ToClient && packet.is_syn() && packet.acknowledgment().is_none() {
            return self.ports.session_of(key_of(&packet));
        }
        Some(tuple_of(tap, &packet))
    }

    /// The packet that was to get this verdict has to wait: what belongs to it could not be done.
    pub fn held_up(&mut self, tap: Tap, verdict: Verdict) {
        self.counters.held_up(tap, verdict);
    }

    fn packet(&mut self, now: Duration, tap: Tap, mut packet: Packet<'_>, outcome: &mut Outcome) -> Decision {
        let tuple = tuple_of(tap, &packet);
        // It may be another connection's, of the same name: nothing is held back because of it.
        let begins = packet.is_syn() && packet.acknowledgment().is_none();
        if let Some(verdict) = self.lost(now, tap, tuple, &mut packet, outcome) {
            if verdict == Verdict::PassEdited {
                packet.finish();
            }
            return Decision { is_translated: !begins, ..Decision::of(verdict) };
        }
        match tap {
            Tap::ToServer if packet.is_syn() && packet.acknowledgment().is_none() => {
                self.connection_begins(now, tuple, &packet);
            }
            Tap::ToClient if packet.is_syn() && packet.acknowledgment().is_none() => {
                return self.data_connection_begins(now, &packet);
            }
            Tap::ToClient if packet.is_syn() => self.connection_is_replaced(now, tuple, &packet, outcome),
            Tap::ToServer | Tap::ToClient => {}
        }
        let Some(session) = self.sessions.get_mut(&tuple) else {
            // Queued, but not followed: its beginning was not seen, or there are too many.
            self.dismissed.insert(tuple);
            return Decision { changes: vec![Change::Depart(tuple)], ..Decision::of(Verdict::Pass) };
        };
        if session.needs_view(&packet) {
            return Decision::of(Verdict::LookUp(tuple));
        }
        let was_greeted = session.dialogue.is_greeted();
        let disposition = if packet.is_syn() {
            session.handshake(tap, &mut packet, now, outcome)
        } else {
            let mut around = Surroundings { now, policy: &self.policy, ports: self.ports.act_for(tuple) };
            session.segment(tap, &mut packet, &mut around, outcome)
        };
        move_behind(&mut session.owed, &mut outcome.changes);
        move_behind(&mut session.unreported, &mut outcome.events);
        // A server that greets late must not wait for the next tick.
        if session.dialogue.is_greeted() && !was_greeted {
            session.asks_again();
            let due = session.hold_on(now);
            session.owed.extend(due);
        }
        let is_let_go = session.departed.is_some() && !session.is_shifted;
        if is_let_go && session.owed.last() != Some(&Change::Depart(tuple)) {
            session.owed.push(Change::Depart(tuple));
        }
        let verdict = match disposition {
            Disposition::Pass => Verdict::Pass,
            Disposition::Drop => Verdict::Drop,
            Disposition::Edited => {
                packet.finish();
                Verdict::PassEdited
            }
        };
        Decision {
            verdict,
            changes: session.owed.clone(),
            session: Some((tuple, session.id)),
            is_translated: !begins && session.is_marked(),
        }
    }

    /// The client's view of a connection, as conntrack knows it, or why it must not be inspected.
    pub fn learn(&mut self, tuple: ControlTuple, view: Result<ClientView, Departure>) {
        let Some(session) = self.sessions.get_mut(&tuple) else { return };
        let found = match view {
            Ok(found) => found,
            Err(why) => return session.leave(why),
        };
        let network = network_of(found.client);
        if !self.shares.have_room(network) {
            self.counters.overflow += 1;
            return session.leave(Departure::TooManySessions);
        }
        if session.view.replace(found).is_none() {
            self.shares.add(network);
        }
    }

    /// Takes a session out.
    fn remove(&mut self, tuple: &ControlTuple) -> Option<Box<Session>> {
        let session = self.sessions.remove(tuple)?;
        if let Some(view) = session.view {
            self.shares.remove(network_of(view.client));
        }
        Some(session)
    }
}
