//! Plays a capture to the engine.
//!
//! A packet's way: [`Player::frame`] finds the control connection; [`Player::arrive`] puts its packets in order and
//! notices what the capture lacks; [`Player::feed`] hands them to the engine and tells what came of it.
//!
//! The capture's two ends know nothing of the engine's edits. Each end's own sequence numbers are taken as they are,
//! and what the other end acknowledges is translated to what it would acknowledge had it read the edited lines.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::time::Duration;

use anyhow::Result;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::{Departure, Event};
use ftpalg::engine::packet::{Checksum, Packet};
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::position::distance;
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Engine, MAX_SESSIONS};

use super::Options;
use super::doors::{Doors, Found};
use super::flow::{Flow, Item, MOST_HELD, State, other};
use super::nat::{Side, Source, Standing};
use super::stage::{MadeUp, between, ends, finish, made_up, play, staged};
use super::survey::Survey;
use super::tell::{Moment, Pinhole, Sender, Teller, What, mode_name, session};
use crate::capture::{Frame, LinkType, Network, Resolution, Segment, Unusable, Writer};

/// How far off an acknowledgment, or a segment, may lie to be believed.
const FAR: i64 = 1 << 20;

/// How much all sessions together may hold back.
const MOST_HELD_BY_ALL: usize = 32 << 20;

/// How often a packet is handed to the engine before it counts as dropped.
const TRIES: u8 = 3;

/// How many gaps of a session are told.
const MOST_GAPS: u32 = 10;

/// How long a silent connection is remembered that the engine has let go of.
const IDLE: Duration = Duration::from_secs(120);

/// What is told only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Once {
    Link(LinkType),
    Cut,
    Fragment,
    Partial,
    Wrong,
    Many,
    BadNat,
    Clock,
}

/// A capture in play.
pub struct Player<'a> {
    options: &'a Options,
    ports: Vec<u16>,
    survey: Survey,
    engine: Engine,
    pub teller: Teller,
    writer: Option<Writer>,
    resolution: Resolution,
    flows: HashMap<ControlTuple, Flow>,
    doors: Doors,
    now: Duration,
    ticked: Duration,
    held: usize,
    sessions: u64,
    told: HashSet<Once>,
    /// The last packet.
    moment: Moment,
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
    fn control(
        &self,
        source: std::net::SocketAddr,
        destination: std::net::SocketAddr,
    ) -> Option<(Tap, ControlTuple)> {
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
                    server: std::net::SocketAddr::new(key.source, source.port()),
                    client: std::net::SocketAddr::new(key.destination, key.port),
                };
                let says = MadeUp { is_syn: true, sequence: segment.sequence, ..MadeUp::default() };
                let syn = made_up(tuple, Tap::ToClient, says);
                let views = super::nat::Views::same(door.tuple);
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

    /// A connection of which nothing was seen before.
    fn begin(&mut self, tuple: ControlTuple, tap: Tap, segment: &Segment<'_>) -> Result<Option<Flow>> {
        if segment.is_reset || (!segment.is_syn && segment.acknowledgment.is_none()) {
            return Ok(None);
        }
        if self.flows.len() >= MAX_SESSIONS {
            self.once(Once::Many, "more sessions at once than ftpalg follows: those beyond are left out")?;
            return Ok(None);
        }
        let standing = match self.survey.standing(&tuple) {
            Some(standing) => standing,
            None => match Standing::by_rules(&self.options.rules(), tuple) {
                Ok(standing) => standing,
                Err(public) => {
                    let text = format!(
                        "{public} stands for a whole network, and this side of the router does not show which host it \
                         is: name the client with --nat CLIENT={public}"
                    );
                    self.once(Once::BadNat, &text)?;
                    Standing {
                        views: super::nat::Views::same(tuple),
                        side: Side::Server,
                        source: Source::Nothing,
                    }
                }
            },
        };
        self.sessions += 1;
        let number = self.sessions;
        let written = self.options.side.unwrap_or(standing.views.edited_side());
        let initial = match tap {
            Tap::ToServer => segment.sequence,
            Tap::ToClient => segment.acknowledgment.unwrap_or(0).wrapping_sub(1),
        };
        let flow = Flow::new(number, standing, written, initial, self.now);
        self.doors.session(&standing.views, number);
        self.tell(Some(number), &session(&standing.views, standing.source.to_string()))?;
        if !segment.is_syn {
            self.amid(&flow, tap, segment)?;
        } else if tap == Tap::ToClient {
            self.note(number, "the client's SYN is not in the capture")?;
            let says = MadeUp { is_syn: true, sequence: initial, ..MadeUp::default() };
            self.silently(&flow, Tap::ToServer, says);
        }
        Ok(Some(flow))
    }

    /// The capture begins amid a session: makes up a beginning, so that the engine reads the rest.
    fn amid(&mut self, flow: &Flow, tap: Tap, segment: &Segment<'_>) -> Result<()> {
        const GREETING: &[u8] = b"220 \r\n";
        const USER: &[u8] = b"USER x\r\n";
        const LOGGED_IN: &[u8] = b"230 \r\n";
        self.note(
            flow.number,
            "the capture begins amid this session: a login before it is taken for granted, and a command from before \
             has no answer. ftpalg itself leaves alone what it has not seen from its SYN on",
        )?;
        let acknowledgment = segment.acknowledgment.unwrap_or(0);
        let (client, server) = match tap {
            Tap::ToServer => (segment.sequence, acknowledgment),
            Tap::ToClient => (acknowledgment, segment.sequence),
        };
        let client = client.wrapping_sub(length(USER));
        let server = server.wrapping_sub(length(GREETING) + length(LOGGED_IN));
        let says =
            |is_syn, sequence, acknowledgment, payload| MadeUp { is_syn, sequence, acknowledgment, payload };
        self.silently(flow, Tap::ToServer, says(true, client.wrapping_sub(1), None, &[]));
        self.silently(flow, Tap::ToClient, says(true, server.wrapping_sub(1), Some(client), &[]));
        self.silently(flow, Tap::ToClient, says(false, server, Some(client), GREETING));
        let greeted = server.wrapping_add(length(GREETING));
        self.silently(flow, Tap::ToServer, says(false, client, Some(greeted), USER));
        let asked = client.wrapping_add(length(USER));
        self.silently(flow, Tap::ToClient, says(false, greeted, Some(asked), LOGGED_IN));
        Ok(())
    }

    /// Hands something to the engine that is not in the capture, and tells nothing of it.
    fn silently(&mut self, flow: &Flow, tap: Tap, says: MadeUp<'_>) {
        let views = &flow.standing.views;
        let packet = made_up(views.outer, tap, says);
        let played = play(&mut self.engine, self.now, tap, packet, views);
        self.changes(flow.number, views.outer, &played.changes);
    }

    /// A packet of a connection, in the capture's order.
    fn arrive(&mut self, flow: &mut Flow, item: Item) -> Result<()> {
        if item.is_syn {
            return self.handshake(flow, item);
        }
        let outer = flow.standing.views.outer;
        let tap = item.tap;
        self.supply_answer(flow, &item)?;
        if let Some(number) = item.acknowledgment {
            let is_near = self.next(outer, tap).is_none_or(|next| distance(next, item.sequence).abs() < FAR);
            if is_near && !item.is_reset {
                self.reach(flow, other(tap), number)?;
            }
        }
        let ahead = self.next(outer, tap).map_or(0, |next| distance(next, item.sequence));
        if (1..FAR).contains(&ahead) && item.takes_room() && !item.is_reset {
            self.hold(flow, item);
            if flow.held_bytes > MOST_HELD || self.held > MOST_HELD_BY_ALL {
                self.overflow(flow, tap)?;
            }
            return Ok(());
        }
        self.feed(flow, item)?;
        self.drain(flow, tap)
    }

    /// A SYN or a SYN-ACK.
    fn handshake(&mut self, flow: &mut Flow, item: Item) -> Result<()> {
        match item.tap {
            Tap::ToServer if item.sequence != flow.initial && flow.has_begun => {
                // A connection of the same name, or a forged SYN: the server's answer will tell.
                flow.newer = Some(item);
                Ok(())
            }
            Tap::ToClient => {
                let answered = item.acknowledgment.map(|number| number.wrapping_sub(1));
                if let Some(syn) = flow.newer.take_if(|newer| Some(newer.sequence) == answered) {
                    self.renew(flow, syn)?;
                }
                self.feed(flow, item)
            }
            Tap::ToServer => {
                flow.has_begun = true;
                self.feed(flow, item)
            }
        }
    }

    /// Another connection takes the place of this one.
    fn renew(&mut self, flow: &mut Flow, syn: Item) -> Result<()> {
        self.flush(flow)?;
        self.engine.forget(&flow.standing.views.outer);
        self.sessions += 1;
        *flow = Flow::new(self.sessions, flow.standing, flow.written, syn.sequence, self.now);
        self.doors.session(&flow.standing.views, flow.number);
        self.tell(Some(flow.number), &session(&flow.standing.views, flow.standing.source.to_string()))?;
        flow.has_begun = true;
        self.feed(flow, syn)
    }

    /// The SYN-ACK, where the capture lacks it.
    fn supply_answer(&mut self, flow: &Flow, item: &Item) -> Result<()> {
        let outer = flow.standing.views.outer;
        let Some(session) = self.engine.session(&outer) else { return Ok(()) };
        let Some(number) = item.acknowledgment else { return Ok(()) };
        if session.next(Tap::ToClient).is_some() || item.is_reset {
            return Ok(());
        }
        let (Some(client), server) = (
            session.next(Tap::ToServer),
            match item.tap {
                Tap::ToServer => number,
                Tap::ToClient => item.sequence,
            },
        ) else {
            return Ok(());
        };
        self.note(flow.number, "the server's SYN-ACK is not in the capture")?;
        let says = MadeUp {
            is_syn: true,
            sequence: server.wrapping_sub(1),
            acknowledgment: Some(client),
            payload: &[],
        };
        self.silently(flow, Tap::ToClient, says);
        Ok(())
    }

    fn next(&self, outer: ControlTuple, tap: Tap) -> Option<u32> {
        self.engine.session(&outer)?.next(tap)
    }

    fn hold(&mut self, flow: &mut Flow, item: Item) {
        self.held += flow.hold(item);
    }

    /// The receiver has acknowledged everything of a direction before `number`: what did not come by until now is not in
    /// the capture.
    fn reach(&mut self, flow: &mut Flow, tap: Tap, number: u32) -> Result<()> {
        let outer = flow.standing.views.outer;
        loop {
            let Some(next) = self.next(outer, tap) else { return Ok(()) };
            if !(1..FAR).contains(&distance(next, number)) {
                return Ok(());
            }
            let first = flow.first_held(tap).filter(|first| distance(*first, number) > 0);
            match first.map(|first| distance(next, first)) {
                Some(..=0) => self.drain(flow, tap)?,
                Some(_) => self.skip(flow, tap, next, first.unwrap_or(number))?,
                None => self.skip(flow, tap, next, number)?,
            }
            if self.next(outer, tap) == Some(next) {
                // The engine does not take what it is offered.
                return self.skip(flow, tap, next, number);
            }
        }
    }

    /// Too much waits for what does not come.
    fn overflow(&mut self, flow: &mut Flow, tap: Tap) -> Result<()> {
        let outer = flow.standing.views.outer;
        while let (Some(next), Some(first)) = (self.next(outer, tap), flow.first_held(tap)) {
            if distance(next, first) > 0 {
                self.skip(flow, tap, next, first)?;
            } else if let Some((item, size)) = flow.release(tap, |_| true) {
                self.held = self.held.saturating_sub(size);
                self.feed(flow, item)?;
            }
        }
        Ok(())
    }

    /// The capture lacks what stands between two places of a stream.
    fn skip(&mut self, flow: &mut Flow, tap: Tap, from: u32, to: u32) -> Result<()> {
        let outer = flow.standing.views.outer;
        let bytes = u32::try_from(distance(from, to)).unwrap_or(0);
        flow.gaps += 1;
        match flow.gaps.cmp(&MOST_GAPS) {
            std::cmp::Ordering::Less => {
                self.tell(Some(flow.number), &What::Gap { from: tap.into(), bytes })?;
            }
            std::cmp::Ordering::Equal => {
                let text = "packets of this session are missing again and again, which is told no more: does the \
                            capture have both directions (asymmetric routes, a filter with src or dst)?";
                self.note(flow.number, text)?;
            }
            std::cmp::Ordering::Greater => self.teller.totals.gaps += 1,
        }
        self.engine.skip(outer, tap, to);
        let events = self.engine.committed(outer);
        flow.lines(tap).lack(false);
        let events: Vec<_> = events.into_iter().filter(|event| *event != Event::Resumed).collect();
        self.flow_events(flow, &events)?;
        self.drain(flow, tap)
    }

    /// Hands over what waited for its turn.
    fn drain(&mut self, flow: &mut Flow, tap: Tap) -> Result<()> {
        let outer = flow.standing.views.outer;
        loop {
            let next = self.next(outer, tap);
            let fits = |item: &Item| next.is_none_or(|next| distance(next, item.sequence) <= 0);
            let Some((mut item, size)) = flow.release(tap, fits) else { return Ok(()) };
            self.held = self.held.saturating_sub(size);
            // It leaves now, not before what it waited for.
            item.frame.at = item.frame.at.max(self.moment.at);
            self.feed(flow, item)?;
            if next.is_some() && self.next(outer, tap) == next {
                return Ok(());
            }
        }
    }

    /// Hands a packet to the engine, and tells what comes of it.
    fn feed(&mut self, flow: &mut Flow, mut item: Item) -> Result<()> {
        let (views, tap) = (flow.standing.views, item.tap);
        let outer = views.outer;
        if flow.state == State::Left && self.engine.session(&outer).is_none() {
            let packet = between(&item.packet, ends(outer, tap));
            return self.write(flow, &item, &packet, Some(&packet));
        }
        let before = staged(&self.engine, &item.packet, outer, tap);
        let played = play(&mut self.engine, self.now, tap, before.clone(), &views);
        self.write(flow, &item, &before, played.passed.as_deref())?;
        if flow.state == State::Inspected && !item.is_syn {
            self.take_lines(flow, &item, &before, played.passed.as_deref());
            self.tell_lines(flow, item.moment, tap)?;
        }
        self.flow_events(flow, &played.events)?;
        self.changes(flow.number, outer, &played.changes);
        let rest = self.next(outer, tap).map_or(0, |next| distance(next, item.end));
        if rest > 0 && item.takes_room() && !item.is_reset && rest < FAR {
            // Its sender would send the rest again.
            item.refused += 1;
            if item.refused < TRIES {
                self.hold(flow, item);
                return Ok(());
            }
        }
        if played.passed.is_none() {
            self.teller.tell(Some(flow.number), item.moment, &What::Dropped { from: tap.into() })?;
        }
        Ok(())
    }

    /// Both sides' lines of a packet.
    fn take_lines(&mut self, flow: &mut Flow, item: &Item, before: &[u8], after: Option<&[u8]>) {
        let next = self.next(flow.standing.views.outer, item.tap);
        let lines = flow.lines(item.tap);
        if let (Ok(packet), Some(_)) = (Packet::parse(&mut before.to_vec()), after) {
            let payload = packet.payload();
            // As much of it as the engine took.
            let taken = next.map_or(payload.len(), |next| {
                usize::try_from(distance(item.sequence, next)).unwrap_or(0).min(payload.len())
            });
            lines.sent(item.sequence, payload.get(..taken).unwrap_or(payload));
        }
        if let Some(Ok(packet)) = after.map(<[u8]>::to_vec).as_mut().map(Packet::parse) {
            lines.received(packet.sequence(), packet.payload());
        }
    }

    fn tell_lines(&mut self, flow: &mut Flow, moment: Moment, tap: Tap) -> Result<()> {
        let with_passwords = self.options.show_passwords;
        while let Some(both) = flow.lines(tap).next() {
            let is_rewritten = both[0] != both[1];
            let [text, new] = both.map(|line| line.shown(tap, with_passwords));
            let what = What::Line { from: tap.into(), text, rewritten: is_rewritten.then_some(new) };
            self.teller.tell(Some(flow.number), moment, &what)?;
        }
        Ok(())
    }

    fn flow_events(&mut self, flow: &mut Flow, events: &[Event]) -> Result<()> {
        if events.iter().any(|event| matches!(event, Event::Departed(_))) {
            flow.state = State::Left;
        }
        self.events(flow.number, flow.standing.views.outer, events)
    }

    fn events(&mut self, session: u64, tuple: ControlTuple, events: &[Event]) -> Result<()> {
        for event in events {
            let what = match event {
                Event::Started(_) | Event::Edited(_) => continue,
                Event::LoggedIn => What::LoggedIn,
                Event::Opened(mode, pinhole) => {
                    self.doors.put(session, tuple, *pinhole, true, self.now);
                    What::Opened {
                        mode: mode_name(*mode),
                        source: pinhole.key.source,
                        destination: std::net::SocketAddr::new(pinhole.key.destination, pinhole.key.port),
                        to: pinhole.to,
                        seen: pinhole.from,
                        seconds: pinhole.timeout.as_secs(),
                    }
                }
                Event::Refused { mode, line, reason } => What::Refused {
                    mode: mode_name(*mode),
                    line: if self.options.show_passwords { line.clone() } else { without_password(line) },
                    reason: reason.to_string(),
                },
                Event::Departed(why @ Departure::Unseen) => What::Left {
                    reason: format!("{why}, or packets are missing before the server's greeting"),
                },
                Event::Departed(why) => What::Left { reason: why.to_string() },
                Event::Ended => What::Ended,
                Event::Muted | Event::Resumed => What::Note { text: event.to_string() },
            };
            self.tell(Some(session), &what)?;
        }
        Ok(())
    }

    fn changes(&mut self, session: u64, tuple: ControlTuple, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Expect(key, _) => {
                    let asked = self.engine.session(&tuple).and_then(|session| {
                        session
                            .dialogue
                            .pinholes()
                            .find(|(pinhole, is_open, _)| pinhole.key == *key && !is_open)
                    });
                    if let Some((pinhole, ..)) = asked {
                        self.doors.put(session, tuple, pinhole, false, self.now);
                    }
                }
                Change::Renew(pinhole) => self.doors.renew(pinhole, self.now),
                Change::Close(key) => self.doors.close(*key),
                _ => {}
            }
        }
    }

    /// Writes a packet as the chosen side sees it.
    fn write(&mut self, flow: &Flow, item: &Item, sent: &[u8], passed: Option<&[u8]>) -> Result<()> {
        let is_asked_for = self.options.session.is_none_or(|only| only == flow.number);
        let Some(writer) = self.writer.as_mut().filter(|_| is_asked_for) else { return Ok(()) };
        // Before the engine on its sender's side, behind it on the other.
        let is_receivers =
            matches!((item.tap, flow.written), (Tap::ToServer, Side::Server) | (Tap::ToClient, Side::Client));
        let Some(packet) = (if is_receivers { passed } else { Some(sent) }) else { return Ok(()) };
        let packet = between(packet, ends(flow.standing.views.on(flow.written), item.tap));
        let bytes = if packet.get(..) == item.frame.bytes.get(item.offset..item.offset + packet.len()) {
            item.frame.bytes.clone()
        } else {
            item.frame.with_packet(item.offset, &packet)
        };
        writer.packet(item.frame.number, item.frame.at, (item.frame.link, self.resolution), &bytes)?;
        self.teller.totals.written += 1;
        Ok(())
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

    /// What is left of a connection: packets that waited in vain, and a line without its end.
    fn flush(&mut self, flow: &mut Flow) -> Result<()> {
        for tap in [Tap::ToServer, Tap::ToClient] {
            self.overflow(flow, tap)?;
            let with_passwords = self.options.show_passwords;
            if let Some(rest) = flow.lines(tap).rest().filter(|_| flow.state == State::Inspected) {
                let sender = match Sender::from(tap) {
                    Sender::Client => "client",
                    Sender::Server => "server",
                };
                let text = format!("a line of the {sender} has no end: {}", rest.shown(tap, with_passwords));
                self.note(flow.number, &text)?;
            }
        }
        Ok(())
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

    fn tell(&mut self, session: Option<u64>, what: &What) -> Result<()> {
        Ok(self.teller.tell(session, self.moment, what)?)
    }

    fn note(&mut self, session: u64, text: &str) -> Result<()> {
        self.tell(Some(session), &What::Note { text: text.to_owned() })
    }

    fn once(&mut self, what: Once, text: &str) -> Result<()> {
        if !self.told.insert(what) {
            return Ok(());
        }
        self.tell(None, &What::Note { text: text.to_owned() })
    }
}

fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(0)
}

/// Any line may be quoted in a refusal.
fn without_password(line: &str) -> String {
    let mut lines = super::lines::Lines::default();
    lines.sent(0, line.as_bytes());
    lines.rest().map(|line| line.shown(Tap::ToServer, false)).unwrap_or_default()
}
