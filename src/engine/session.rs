//! One control connection: its two streams and its dialogue, and what becomes of each of its packets.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::control::{ClientView, ControlTuple};
use super::dialogue::Dialogue;
use super::event::{Departure, Event, Mode};
use super::handshake::{Newer, Syn};
use super::moment::Moment;
use super::outcome::Outcome;
use super::packet::Packet;
use super::pinhole::{Change, Pinhole, PinholeKey};
use super::policy::Refusal;
use super::ports::Ports;
use super::stream::Stream;

/// Where a packet was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Tap {
    /// On its way to the server: behind the firewall and NAT (postrouting, input).
    ToServer,
    /// On its way to the client: before conntrack (prerouting, output).
    ToClient,
}

/// What is to be done with a packet of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It goes on as it came.
    Pass,
    /// It goes on as it now is.
    Edited,
    /// It goes no further; its sender will send it again.
    Drop,
}

/// How long a connection may be silent before it is given up: conntrack's own time-out for established ones.
pub(super) const IDLE: Duration = Duration::from_secs(5 * 24 * 3600);

/// How long a connection may be silent of which one end has closed its side: conntrack's own time-out
/// (`nf_conntrack_tcp_timeout_fin_wait`).
pub(super) const HALF_CLOSED: Duration = Duration::from_secs(120);

/// Where the kernel has its element of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tracked {
    /// In `control_new`, for a minute from the client's last word on.
    New,
    /// In `control`, for days.
    Lasting,
    /// nftables did not take it to `control`: it may have run down.
    Refused,
}

/// A control connection. Everything that must outlive the daemon is in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Counts up from 1; in every log line.
    pub id: u64,
    /// The server-facing tuple.
    pub tuple: ControlTuple,
    /// The client's view, once it was asked for.
    pub view: Option<ClientView>,
    /// Packets have been edited: all that follow need translation.
    pub is_shifted: bool,
    /// Nothing may pass unseen until it is clear what did while the daemon was away: for the kernel it is shifted.
    is_watched: bool,
    /// Why it left inspection, if it did.
    pub departed: Option<Departure>,
    /// Changes that the kernel has not acknowledged yet.
    pub owed: Vec<Change>,
    /// How often the kernel refused them.
    pub refusals: u32,
    /// What has happened since the log was last told.
    #[serde(skip)]
    pub unreported: Vec<Event>,
    /// How many refusals the log was told of.
    #[serde(skip)]
    pub(super) told: u32,
    /// How it began.
    pub(super) syn: Syn,
    /// A later SYN of the same tuple. It begins a new connection once the server answers it: until then it may be
    /// forged. conntrack waits for the same (nf_conntrack_proto_tcp.c, "SYN/ACK in reply to a SYN that we ignored").
    pub(super) newer: Option<Box<Newer>>,
    /// The client's bytes.
    pub(super) to_server: Stream,
    /// The server's bytes, once its SYN-ACK has come.
    pub(super) to_client: Option<Stream>,
    /// What was said.
    pub dialogue: Dialogue,
    /// When it began (time since boot).
    began: Moment,
    /// When a packet came last (time since boot).
    pub(super) last_packet: Moment,
    /// When the kernel's elements of the connection were last set (time since boot).
    pub(super) held_since: Moment,
    pub(super) tracked: Tracked,
    pub(super) is_over: bool,
    /// The client has not answered the server's SYN-ACK, as conntrack says.
    #[serde(skip)]
    pub(super) is_half_open: bool,
    /// It has given back what memory it does not need while it is silent.
    #[serde(skip)]
    pub(super) is_at_rest: bool,
}

impl Session {
    /// A connection whose SYN passes now.
    pub fn new(id: u64, tuple: ControlTuple, syn: Syn, now: Duration) -> Self {
        Self {
            id,
            tuple,
            view: None,
            is_shifted: false,
            is_watched: false,
            departed: None,
            owed: Vec::new(),
            refusals: 0,
            unreported: Vec::new(),
            told: 0,
            syn,
            newer: None,
            to_server: Stream::new(syn.initial),
            to_client: None,
            dialogue: Dialogue::default(),
            began: now.into(),
            last_packet: now.into(),
            held_since: now.into(),
            tracked: Tracked::New,
            is_over: false,
            is_half_open: false,
            is_at_rest: false,
        }
    }

    /// When it began (time since boot).
    pub fn began(&self) -> Duration {
        self.began.into()
    }

    /// A packet has come that is its own.
    pub(super) fn speaks(&mut self, now: Duration) {
        self.last_packet = now.into();
        self.is_half_open = false;
    }

    /// When a packet came last (time since boot).
    pub fn last_packet(&self) -> Duration {
        self.last_packet.into()
    }

    /// How much longer the receivers' streams are than the senders', in bytes: to the server, to the client.
    pub fn shifts(&self) -> (i64, i64) {
        let to_client = self.to_client.as_ref().map_or(0, |stream| stream.edits.shift());
        (self.to_server.edits.shift(), to_client)
    }

    /// The client's own address, as far as it is known.
    pub fn client(&self) -> IpAddr {
        self.view.map_or(self.tuple.client.ip(), |view| view.client)
    }

    /// Whether both sides have closed it, or one has reset it.
    pub fn has_ended(&self) -> bool {
        self.is_over
    }

    /// Whether the kernel must go on queueing its packets: it is inspected, or needs translation.
    pub fn is_taken(&self) -> bool {
        self.is_shifted || self.departed.is_none()
    }

    /// Whether it would break, or worse, if its packets passed untranslated.
    pub fn needs_translation(&self) -> bool {
        self.is_shifted && !self.is_over
    }

    /// The daemon's rules were away for a moment, so that packets may have passed unseen.
    pub fn was_passed_by(&mut self) {
        self.to_server.was_passed_by();
        if let Some(to_client) = &mut self.to_client {
            to_client.was_passed_by();
        }
    }

    /// Whether no packet of it may pass unseen, for it is not clear yet what did while the daemon was away.
    pub fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Whether its packets go on with the mark alone: they are translated, or watched.
    pub fn is_marked(&self) -> bool {
        self.is_shifted || self.is_watched
    }

    /// The daemon was away: what follows may lie ahead of what was seen, unless nothing could pass, because the kernel
    /// has `held` it back.
    pub fn was_unattended(&mut self, held: bool) {
        self.was_passed_by();
        if self.is_shifted || self.is_watched && held {
            return;
        }
        self.to_server.was_unattended();
        if let Some(to_client) = &mut self.to_client {
            to_client.was_unattended();
        }
    }

    /// What goes on from where a stream stands waits for its receiver's answer: nothing may pass it by meanwhile, and
    /// the answer must come by here.
    pub(super) fn watch(&mut self, outcome: &mut Outcome) {
        if !self.is_shifted && !self.is_watched {
            self.is_watched = true;
            outcome.changes.push(Change::Shift(self.tuple));
        }
    }

    /// Lets packets pass again that need no translation, once no answer is awaited.
    pub(super) fn unwatch(&mut self, outcome: &mut Outcome) {
        let mut streams = [Some(&self.to_server), self.to_client.as_ref()].into_iter().flatten();
        if self.is_watched && !streams.any(Stream::is_watched) {
            self.is_watched = false;
            if !self.is_shifted {
                outcome.changes.push(Change::Unshift(self.tuple));
            }
        }
    }

    /// Whether this packet can't be judged before the client's view of the connection is known.
    pub fn needs_view(&self, packet: &Packet<'_>) -> bool {
        self.view.is_none() && self.departed.is_none() && !packet.is_syn() && !packet.payload().is_empty()
    }

    /// Gives up what the kernel will not take, and says so instead of that it opened. What is left in `owed` is
    /// nothing that a packet has to wait for.
    pub fn give_up(&mut self, ports: &mut Ports) {
        let mut given_up = Vec::new();
        if self.owed.contains(&Change::Shift(self.tuple)) {
            given_up = self.unshift(ports);
            // The kernel may have opened what the line was to announce, which goes out as it was.
            given_up.extend(self.unreported.iter().filter_map(|event| match event {
                Event::Opened(_, pinhole) => Some(*pinhole),
                _ => None,
            }));
            self.to_server.goes_on();
            self.to_client.iter_mut().for_each(Stream::goes_on);
        }
        self.owed.retain(|change| match change {
            Change::Open(pinhole) => {
                if !given_up.contains(pinhole) {
                    given_up.push(*pinhole);
                }
                false
            }
            Change::Expect(..) | Change::Renew(_) | Change::Shift(_) => false,
            Change::Track(_) | Change::Unshift(_) | Change::Close(_) | Change::Depart(_) => true,
        });
        for pinhole in &given_up {
            self.dialogue.abandon(pinhole, ports);
            // The kernel may hold what an earlier line has opened, or made it expect, under the same key.
            if self.dialogue.pinholes().all(|(held, ..)| held.key != pinhole.key) {
                self.owed.push(Change::Close(pinhole.key));
            }
            self.unreported.retain(|event| !matches!(event, Event::Opened(_, opened) if opened == pinhole));
            let (mode, line) = (self.mode_of(pinhole), pinhole.key.to_string());
            self.unreported.push(Event::Refused { mode, line, reason: Refusal::Firewall });
        }
    }

    /// Takes all edits back. This can be done as long as the kernel has not agreed to hold back what is not
    /// translated: nothing that was edited has gone out. Returns the pinholes whose commands go out as they are.
    pub fn unshift(&mut self, ports: &mut Ports) -> Vec<Pinhole> {
        self.is_shifted = false;
        self.is_watched = false;
        self.unreported.retain(|event| !matches!(event, Event::Edited(_)));
        for stream in [Some(&mut self.to_server), self.to_client.as_mut()].into_iter().flatten() {
            if let Some(promise) = stream.undo_edits() {
                ports.release(promise.key);
            }
        }
        self.owed.retain(|change| !matches!(change, Change::Shift(_)));
        self.dialogue.withdraw_asked()
    }

    /// Whether a session that comes from a file can have been saved by this engine.
    pub fn is_sound(&self) -> bool {
        let mut streams = [Some(&self.to_server), self.to_client.as_ref()].into_iter().flatten();
        streams.all(Stream::is_sound) && self.dialogue.pinholes().all(|(pinhole, ..)| pinhole.timeout < IDLE)
    }

    /// The keys of addresses that went out before all of theirs had come.
    pub fn promised(&self) -> impl Iterator<Item = PinholeKey> {
        let lines = [Some(&self.to_server), self.to_client.as_ref()].into_iter().flatten();
        let promises = lines.filter_map(|stream| stream.line.promise.as_deref());
        promises.filter(|promise| promise.broken.is_none()).map(|promise| promise.key)
    }

    /// Who listens behind a pinhole of this session.
    pub fn mode_of(&self, pinhole: &Pinhole) -> Mode {
        if pinhole.key.source == self.tuple.server.ip() { Mode::Active } else { Mode::Passive }
    }

    /// The connection leaves inspection before it is read at all.
    pub fn leave(&mut self, why: Departure) {
        self.departed = Some(why);
        self.unreported.push(Event::Departed(why));
    }

    /// The connection leaves inspection. No answer is awaited any more.
    pub fn depart(&mut self, why: Departure, outcome: &mut Outcome) {
        self.departed = Some(why);
        outcome.events.push(Event::Departed(why));
        if std::mem::take(&mut self.is_watched) && !self.is_shifted {
            outcome.changes.push(Change::Unshift(self.tuple));
        }
    }

    /// Both FINs have come, or an RST in its place.
    pub(super) fn end(&mut self, ports: &mut Ports, outcome: &mut Outcome) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.dialogue.end(ports, outcome);
            outcome.events.push(Event::Ended);
        }
    }
}
