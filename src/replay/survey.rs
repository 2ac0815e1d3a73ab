//! A first look at a capture: which control connections are in it twice, once on either side of NAT.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use ftpalg::engine::MAX_SESSIONS;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::session::Tap;

use super::nat::{Side, Source, Standing, Views};
use crate::capture::{CaptureError, File, Network, Segment};

/// How long after its first side a packet may come by the other.
const CLOSE: Duration = Duration::from_secs(5);

/// The first packet of a connection that is in the capture: what NAT leaves as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mark {
    tap: Tap,
    sequence: u32,
    acknowledgment: Option<u32>,
    is_syn: bool,
    length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    tuple: ControlTuple,
    at: Duration,
    hops_left: u8,
}

/// What the capture shows of NAT.
#[derive(Debug, Default)]
pub struct Survey {
    standings: HashMap<ControlTuple, Standing>,
    seen: HashSet<ControlTuple>,
    recent: HashMap<Mark, Sighting>,
}

impl Survey {
    /// Reads a file to its end.
    pub fn of(file: &mut File, ports: &[u16]) -> Result<Survey, CaptureError> {
        let mut survey = Survey::default();
        while let Some(frame) = file.next()? {
            let Network::Ip(at) = frame.network() else { continue };
            if let Ok(segment) = Segment::read(frame.bytes.get(at..).unwrap_or_default()) {
                survey.note(&segment, frame.at, ports);
            }
        }
        (survey.seen, survey.recent) = Default::default();
        Ok(survey)
    }

    /// Where a connection stands, if both its sides are in the capture.
    pub fn standing(&self, tuple: &ControlTuple) -> Option<Standing> {
        self.standings.get(tuple).copied()
    }

    fn note(&mut self, segment: &Segment<'_>, at: Duration, ports: &[u16]) {
        let Some((tap, tuple)) = direction(segment, ports) else { return };
        let (sequence, acknowledgment) = (segment.sequence, segment.acknowledgment);
        let mark =
            Mark { tap, sequence, acknowledgment, is_syn: segment.is_syn, length: segment.payload.len() };
        let sighting = Sighting { tuple, at, hops_left: segment.hops_left };
        let is_first = !self.seen.contains(&tuple);
        if !is_first && !segment.is_syn {
            return;
        }
        if self.seen.len() >= 2 * MAX_SESSIONS || self.recent.len() >= MAX_SESSIONS {
            self.seen.clear();
            self.recent.clear();
        }
        self.seen.insert(tuple);
        match self.recent.insert(mark, sighting) {
            Some(other) if is_other_side(&other, &sighting, ports) => self.pair(tap, other, sighting),
            _ => {}
        }
    }

    fn pair(&mut self, tap: Tap, first: Sighting, second: Sighting) {
        if self.standings.contains_key(&first.tuple)
            || self.standings.contains_key(&second.tuple)
            || self.standings.len() >= 2 * MAX_SESSIONS
        {
            return;
        }
        // A packet has passed a router, or just the capture's order tells.
        let (earlier, later) =
            if first.hops_left >= second.hops_left { (first, second) } else { (second, first) };
        let (inner, outer) = match tap {
            Tap::ToServer => (earlier.tuple, later.tuple),
            Tap::ToClient => (later.tuple, earlier.tuple),
        };
        let views = Views { inner, outer };
        for (tuple, side) in [(inner, Side::Client), (outer, Side::Server)] {
            self.standings.insert(tuple, Standing { views, side, source: Source::Capture });
        }
    }
}

/// Whether two sightings of what looks like one packet are on two sides of NAT.
fn is_other_side(one: &Sighting, other: &Sighting, ports: &[u16]) -> bool {
    let ends = |sighting: &Sighting| [sighting.tuple.client.ip(), sighting.tuple.server.ip()];
    let [(a, b), (c, d)] = [(ends(one)[0], ends(other)[0]), (ends(one)[1], ends(other)[1])];
    let is_control = [one, other].iter().any(|sighting| ports.contains(&sighting.tuple.server.port()));
    is_control && (a != b || c != d) && a.is_ipv4() == b.is_ipv4() && one.at.abs_diff(other.at) <= CLOSE
}

/// Of a connection to a control port, or of a SYN to any: NAT may have changed the port.
fn direction(segment: &Segment<'_>, ports: &[u16]) -> Option<(Tap, ControlTuple)> {
    let is_control = |end: SocketAddr| ports.contains(&end.port());
    let is_first_syn = segment.is_syn && segment.acknowledgment.is_none();
    let (source, destination) = (segment.source, segment.destination);
    if is_control(destination) || is_first_syn {
        Some((Tap::ToServer, ControlTuple { server: destination, client: source }))
    } else if is_control(source) {
        Some((Tap::ToClient, ControlTuple { server: source, client: destination }))
    } else {
        None
    }
}
