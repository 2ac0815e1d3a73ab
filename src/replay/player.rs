//! Plays a capture to the engine.
//!
//! A packet's way: [`Player::frame`] finds the control connection, or makes a beginning of one (`beginning.rs`);
//! [`Player::arrive`] (`order.rs`) puts its packets in order and notices what the capture lacks; [`Player::feed`]
//! (`performance.rs`) hands them to the engine and tells what comes of it.
//!
//! The capture's two ends know nothing of the engine's edits. Each end's own sequence numbers are taken as they are,
//! and what the other end acknowledges is translated to what it would acknowledge had it read the edited lines.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use ftpalg::engine::Engine;
use ftpalg::engine::checksum::Checksum;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::session::Tap;

use super::Options;
use super::doors::{Doors, Found};
use super::flow::{Flow, Item};
use super::nat::Views;
use super::stage::{MadeUp, finish, made_up, play};
use super::survey::Survey;
use super::tell::{Moment, Pinhole, Teller, What};
use crate::capture::{Frame, LinkType, Network, Resolution, Segment, Unusable, Writer};

/// How long a silent connection is remembered that the engine has let go of.
const IDLE: Duration = Duration::from_secs(120);

/// What is told only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Once {
    Link(LinkType),
    Cut,
    Fragment,
    Partial,
    Wrong,
    Many,
    BadNat,
    Clock,
    NatHint,
}

/// A capture in play.
pub struct Player<'a> {
    pub(super) options: &'a Options,
    pub(super) ports: Vec<u16>,
    pub(super) survey: Survey,
    pub(super) engine: Engine,
    pub(super) teller: Teller,
    pub(super) writer: Option<Writer>,
    pub(super) resolution: Resolution,
    pub(super) flows: HashMap<ControlTuple, Flow>,
    pub(super) doors: Doors,
    pub(super) now: Duration,
    pub(super) ticked: Duration,
    pub(super) held: usize,
    pub(super) sessions: u64,
    pub(super) told: HashSet<Once>,
    /// The last packet.
    pub(super) moment: Moment,
}

impl<'a> Player<'a> {
    pub fn new(
        options: &'a Options,
        ports: Vec<u16>,
        survey: Survey,
        engine: Engine,
        teller: Teller,
        writer: Option<Writer>,
    ) -> Self {
        let moment = Moment { packet: 0, at: Duration::ZERO };
        Self {
            options,
            ports,
            survey,
            engine,
            teller,
            writer,
            resolution: Resolution::Micro,
            flows: HashMap::new(),
            doors: Doors::default(),
            now: Duration::ZERO,
            ticked: Duration::ZERO,
            held: 0,
            sessions: 0,
            told: HashSet::new(),
            moment,
        }
    }

    /// The next packet of the file.
    pub fn frame(&mut self, frame: Frame, resolution: Resolution) -> Result<()> {
        self.resolution = resolution;
        self.teller.totals.packets += 1;
        self.moment = Moment { packet: frame.number, at: frame.at };
        if frame.at + Duration::from_secs(1) < self.now {
            self.once(
                Once::Clock,
                "the capture's clock was set back here: times before and behind are not of one clock",
            )?;
        }
        self.now = self.now.max(frame.at);
        self.tick();
        let offset = match frame.network() {
            Network::Ip(offset) => offset,
            Network::Other => return Ok(()),
            Network::UnknownLink => {
                let text = format!(
                    "packets are of {}, which is not read: capture with tcpdump on an interface of its own or with -i any",
                    frame.link
                );
                return self.once(Once::Link(frame.link), &text);
            }
        };
        let packet = frame.bytes.get(offset..).unwrap_or_default().to_vec();
        match Segment::read(&packet) {
            Ok(segment) => match self.control(segment.source, segment.destination) {
                Some((tap, tuple)) => self.of_control(frame, offset, &packet, &segment, tap, tuple),
                None if segment.is_syn && segment.acknowledgment.is_none() => self.knock(&segment),
                None => Ok(()),
            },
            Err(unusable) => self.unusable(unusable, &frame),
        }
    }

    /// Says what can't be used, if it may belong to a control connection.
    fn unusable(&mut self, unusable: Unusable, frame: &Frame) -> Result<()> {
        match unusable {
            Unusable::Cut(source, destination) if self.control(source, destination).is_some() => {
                self.teller.totals.cut += 1;
                let text = format!(
                    "the capture holds {} bytes of this packet's {}, too few to read it, as of others perhaps: \
                     capture with tcpdump -s 0",
                    frame.bytes.len(),
                    frame.length
                );
                self.once(Once::Cut, &text)
            }
            Unusable::Fragment(ports)
                if ports.is_none_or(|both| both.iter().any(|port| self.ports.contains(port))) =>
            {
                self.teller.totals.fragments += 1;
                self.once(
                    Once::Fragment,
                    "a fragment of an IP packet: the kernel puts it together before ftpalg gets it, a replay does \
                     not; it is left out",
                )
            }
            Unusable::Damaged(source, destination) if self.control(source, destination).is_some() => {
                self.teller.totals.wrong_checksums += 1;
                self.once(Once::Wrong, "its TCP header is damaged: no receiver takes it, nor does ftpalg")
            }
            _ => Ok(()),
        }
    }

    /// Which control connection a packet belongs to, and which way it goes.
    fn control(&self, source: SocketAddr, destination: SocketAddr) -> Option<(Tap, ControlTuple)> {
        let known =
            |tuple: &ControlTuple| self.survey.standing(tuple).is_some() || self.flows.contains_key(tuple);
        let to_server = ControlTuple { server: destination, client: source };
        let to_client = ControlTuple { server: source, client: destination };
        let is_port = |tuple: &ControlTuple| self.ports.contains(&tuple.server.port());
        if known(&to_server) {
            Some((Tap::ToServer, to_server))
        } else if known(&to_client) {
            Some((Tap::ToClient, to_client))
        } else if is_port(&to_server) {
            Some((Tap::ToServer, to_server))
        } else {
            is_port(&to_client).then_some((Tap::ToClient, to_client))
        }
    }

    /// A SYN of no control connection.
    fn knock(&mut self, segment: &Segment<'_>) -> Result<()> {
        let (source, destination) = (segment.source, segment.destination);
        let (session, pinhole) = match self.doors.knock(source, destination, segment.sequence, self.now) {
            Found::Stranger => return Ok(()),
            Found::Nothing(session) => (session, Pinhole::None),
            Found::Door(door) if door.is_open => (door.session, Pinhole::Open),
            Found::Door(door) => {
                let key = door.pinhole.key;
                let tuple = ControlTuple {
                    server: SocketAddr::new(key.source, source.port()),
                    client: SocketAddr::new(key.destination, key.port),
                };
                let says = MadeUp { is_syn: true, sequence: segment.sequence, ..MadeUp::default() };
                let syn = made_up(tuple, Tap::ToClient, says);
                let views = Views::same(door.tuple);
                let played = play(&mut self.engine, self.now, Tap::ToClient, syn, &views);
                self.events(door.session, door.tuple, &played.events)?;
                self.changes(door.session, door.tuple, &played.changes);
                let pinhole = if played.passed.is_some() { Pinhole::Open } else { Pinhole::Waiting };
                (door.session, pinhole)
            }
        };
        self.tell(Some(session), &What::Data { source, destination, pinhole })
    }

    fn of_control(
        &mut self,
        frame: Frame,
        offset: usize,
        packet: &[u8],
        segment: &Segment<'_>,
        tap: Tap,
        tuple: ControlTuple,
    ) -> Result<()> {
        if self
            .survey
            .standing(&tuple)
            .is_some_and(|standing| standing.side != standing.views.original_side())
        {
            self.teller.totals.copies += 1;
            return Ok(());
        }
        let mut flow = match self.flows.remove(&tuple) {
            Some(flow) => flow,
            None => match self.begin(tuple, tap, segment)? {
                Some(flow) => flow,
                None => return Ok(()),
            },
        };
        let done = self.with_flow(&mut flow, frame, offset, packet, segment, tap);
        self.flows.insert(tuple, flow);
        done
    }

    fn with_flow(
        &mut self,
        flow: &mut Flow,
        frame: Frame,
        offset: usize,
        packet: &[u8],
        segment: &Segment<'_>,
        tap: Tap,
    ) -> Result<()> {
        flow.last = self.now;
        if flow.is_copy(segment) {
            self.teller.totals.copies += 1;
            return Ok(());
        }
        self.teller.totals.control_packets += 1;
        let mut packet = packet.to_vec();
        match finish(&mut packet) {
            Ok(Checksum::Right) => {}
            Ok(Checksum::Partial) => {
                self.teller.totals.unfinished_checksums += 1;
                self.once(
                    Once::Partial,
                    "its checksum was left to the network card, as those of others that this host has sent: finished here",
                )?;
            }
            Ok(Checksum::Wrong) | Err(_) => {
                self.teller.totals.wrong_checksums += 1;
                return self.once(
                    Once::Wrong,
                    "its TCP checksum is wrong: its receiver drops it, and so does ftpalg; other tools can mend \
                     that (tcprewrite --fixcsum)",
                );
            }
        }
        let item = Item {
            tap,
            moment: self.moment,
            frame,
            offset,
            packet,
            sequence: segment.sequence,
            acknowledgment: segment.acknowledgment,
            is_syn: segment.is_syn,
            is_reset: segment.is_reset,
            end: segment.end(),
            refused: 0,
        };
        self.arrive(flow, item)
    }

    /// Once a second of the capture's.
    fn tick(&mut self) {
        if self.now.saturating_sub(self.ticked) < Duration::from_secs(1) {
            return;
        }
        self.ticked = self.now;
        self.engine.tick(self.now);
        self.doors.expire(self.now);
        let (engine, now) = (&self.engine, self.now);
        let mut freed = 0;
        self.flows.retain(|_, flow| {
            let is_known = engine.session(&flow.standing.views.outer).is_some();
            let stays = is_known || now.saturating_sub(flow.last) < IDLE;
            freed += if stays { 0 } else { flow.held_bytes };
            stays
        });
        self.held = self.held.saturating_sub(freed);
    }

    /// The file is over.
    pub fn finish(mut self) -> Result<Teller> {
        let mut flows: Vec<_> = mem::take(&mut self.flows).into_values().collect();
        flows.sort_by_key(|flow| flow.number);
        for mut flow in flows {
            self.flush(&mut flow)?;
        }
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
        }
        Ok(self.teller)
    }

    pub(super) fn tell(&mut self, session: Option<u64>, what: &What) -> Result<()> {
        Ok(self.teller.tell(session, self.moment, what)?)
    }

    pub(super) fn note(&mut self, session: u64, text: &str) -> Result<()> {
        self.tell(Some(session), &What::Note { text: text.to_owned() })
    }

    pub(super) fn once(&mut self, what: Once, text: &str) -> Result<()> {
        if !self.told.insert(what) {
            return Ok(());
        }
        self.tell(None, &What::Note { text: text.to_owned() })
    }
}
