//! Packets as they are handed to the engine: finished, with server-facing addresses, and with what their receiver would
//! acknowledge if it had read what the engine made of the lines.

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::PacketBuilder;
use ftpalg::engine::checksum::Checksum;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::Event;
use ftpalg::engine::options::translate_sack;
use ftpalg::engine::packet::{Malformed, Packet};
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Engine, Verdict};

use super::flow::other;
use super::nat::Views;

/// Finishes what a network card was to finish. Returns what stood in the checksum's place.
pub fn finish(bytes: &mut Vec<u8>) -> Result<Checksum, Malformed> {
    // What a card was to cut into segments may be longer than IPv4 can say; the length is 0 then.
    if bytes.first().is_some_and(|first| first >> 4 == 4) && bytes.get(2..4) == Some(&[0, 0]) {
        let length = u16::try_from(bytes.len()).map_err(|_| Malformed::Ip)?;
        if let Some(place) = bytes.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    let (packet, checksum) = Packet::parse_unfinished(bytes)?;
    if checksum == Checksum::Partial {
        packet.finish();
    }
    Ok(checksum)
}

/// Source and destination of a direction.
pub fn ends(tuple: ControlTuple, tap: Tap) -> (SocketAddr, SocketAddr) {
    match tap {
        Tap::ToServer => (tuple.client, tuple.server),
        Tap::ToClient => (tuple.server, tuple.client),
    }
}

/// The same packet between other ends.
pub fn between(bytes: &[u8], (source, destination): (SocketAddr, SocketAddr)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Ok((mut packet, _)) = Packet::parse_unfinished(&mut bytes) {
        if (packet.source(), packet.destination()) != (source, destination) {
            packet.set_ends(source, destination);
            packet.finish();
        }
    }
    bytes
}

/// A packet as its receiver, who has read what the engine made of the lines, would send it.
pub fn staged(engine: &Engine, bytes: &[u8], tuple: ControlTuple, tap: Tap) -> Vec<u8> {
    let mut bytes = between(bytes, ends(tuple, tap));
    let Some(session) = engine.session(&tuple).filter(|session| session.is_shifted) else { return bytes };
    if let Ok(mut packet) = Packet::parse(&mut bytes) {
        if let Some(number) = packet.acknowledgment() {
            let receivers = session.receivers(other(tap));
            let translated = receivers.number(number);
            if translated != number {
                translate_sack(packet.options_mut(), number, &receivers);
                packet.set_acknowledgment(translated);
                packet.finish();
            }
        }
    }
    bytes
}

/// What the engine made of a packet.
pub struct Played {
    /// The packet as it goes on; `None` if it is dropped.
    pub passed: Option<Vec<u8>>,
    pub events: Vec<Event>,
    pub changes: Vec<Change>,
}

/// Hands a packet to the engine, and does what a daemon would.
pub fn play(engine: &mut Engine, now: Duration, tap: Tap, mut bytes: Vec<u8>, views: &Views) -> Played {
    let mut decision = engine.handle(now, tap, &mut bytes);
    if let Verdict::LookUp(tuple) = decision.verdict {
        engine.learn(tuple, Ok(views.client_view()));
        decision = engine.handle(now, tap, &mut bytes);
    }
    let events = decision.session.map(|(tuple, _)| engine.committed(tuple)).unwrap_or_default();
    let passed = matches!(decision.verdict, Verdict::Pass | Verdict::PassEdited).then_some(bytes);
    Played { passed, events, changes: decision.changes }
}

/// What a made-up segment says.
#[derive(Debug, Clone, Copy, Default)]
pub struct MadeUp<'a> {
    pub is_syn: bool,
    pub sequence: u32,
    pub acknowledgment: Option<u32>,
    pub payload: &'a [u8],
}

/// A segment that the capture lacks.
pub fn made_up(tuple: ControlTuple, tap: Tap, says: MadeUp<'_>) -> Vec<u8> {
    const WINDOW: u16 = 64_240;
    let (source, destination) = ends(tuple, tap);
    let builder = match (source, destination) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => return Vec::new(),
    };
    let mut builder = builder.tcp(source.port(), destination.port(), says.sequence, WINDOW);
    if says.is_syn {
        builder = builder.syn();
    }
    if let Some(number) = says.acknowledgment {
        builder = builder.ack(number);
    }
    let mut bytes = Vec::with_capacity(builder.size(says.payload.len()));
    // Into memory, and short: it can't fail.
    if builder.write(&mut bytes, says.payload).is_err() {
        bytes.clear();
    }
    bytes
}
