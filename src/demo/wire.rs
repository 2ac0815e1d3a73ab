//! What went over a wire: the TCP segments of a capture, and the lines of the control connection in them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ftpalg::engine::session::Tap;

use crate::capture::{self, File, Network};
use crate::terminal::printable;

/// The servers' port for control connections.
const CONTROL_PORT: u16 = 21;

const MICROS_OF_DAY: u64 = 24 * 60 * 60 * 1_000_000;

/// A time of day (UTC), in microseconds since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64);

impl Moment {
    /// Microseconds from `start` to this, which was less than a day later.
    pub fn since(self, start: Moment) -> u64 {
        (self.0 + MICROS_OF_DAY - start.0) % MICROS_OF_DAY
    }

    /// Reads a time stamp such as `2026-11-21T10:15:00.123456Z` (RFC 3339).
    pub fn parse(stamp: &str) -> Option<Moment> {
        let (_, time) = stamp.strip_suffix('Z')?.split_once('T')?;
        let (time, micros) = time.split_once('.')?;
        let seconds = time.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))?;
        Some(Moment(seconds * 1_000_000 + micros.parse::<u64>().ok()?))
    }
}

/// A TCP segment.
#[derive(Debug, Clone)]
pub struct Segment {
    /// When it was seen.
    pub at: Moment,
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    sequence: u32,
    syn: bool,
    ack: bool,
    ends: bool,
    payload: Vec<u8>,
}

impl Segment {
    /// Its direction, if it belongs to a control connection.
    fn control(&self) -> Option<Tap> {
        if self.destination.port() == CONTROL_PORT {
            Some(Tap::ToServer)
        } else if self.source.port() == CONTROL_PORT {
            Some(Tap::ToClient)
        } else {
            None
        }
    }

    /// Whether it asks for a data connection.
    pub fn dials_data(&self) -> bool {
        self.syn && !self.ack && self.control().is_none()
    }

    fn new(at: Duration, segment: &capture::Segment<'_>) -> Segment {
        let micros = at.as_secs() % (24 * 60 * 60) * 1_000_000 + u64::from(at.subsec_micros());
        Segment {
            at: Moment(micros),
            source: segment.source,
            destination: segment.destination,
            sequence: segment.sequence,
            syn: segment.is_syn,
            ack: segment.acknowledgment.is_some(),
            ends: segment.is_fin || segment.is_reset,
            payload: segment.payload.to_vec(),
        }
    }
}

/// The TCP segments in a capture; a packet that is still being written is left out.
pub fn segments(file: &Path) -> Result<Vec<Segment>> {
    let written = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
    if written.len() == 0 {
        return Ok(Vec::new());
    }
    let mut capture = File::open(file)?;
    let mut segments = Vec::new();
    while let Some(frame) = capture.next()? {
        let Network::Ip(at) = frame.network() else { continue };
        let packet = frame.bytes.get(at..).unwrap_or_default();
        segments.extend(capture::Segment::read(packet).ok().map(|segment| Segment::new(frame.at, &segment)));
    }
    Ok(segments)
}

/// Whether both ends have closed the control connection.
pub fn control_closed(segments: &[Segment]) -> bool {
    [Tap::ToServer, Tap::ToClient]
        .into_iter()
        .all(|direction| segments.iter().any(|segment| segment.ends && segment.control() == Some(direction)))
}

/// A line of the control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When its end was seen.
    pub at: Moment,
    /// Without its end.
    pub text: String,
}

/// The lines of one direction of the only control connection in a capture.
pub fn lines(segments: &[Segment], direction: Tap) -> Vec<Line> {
    let mut segments: Vec<_> =
        segments.iter().filter(|segment| segment.control() == Some(direction)).collect();
    let Some(first) = segments.iter().find(|segment| segment.syn).map(|syn| syn.sequence.wrapping_add(1))
    else {
        return Vec::new();
    };
    segments.retain(|segment| !segment.syn && !segment.payload.is_empty());
    let position =
        |segment: &Segment| usize::try_from(segment.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
    segments.sort_by_key(|segment| position(segment));

    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut end = 0_usize;
    for segment in segments {
        // What was there before is a retransmission.
        let known = end.saturating_sub(position(segment));
        for &byte in segment.payload.iter().skip(known) {
            match byte {
                b'\n' => {
                    let text = printable(line.trim_ascii_end());
                    lines.push(Line { at: segment.at, text });
                    line.clear();
                }
                _ => line.push(byte),
            }
        }
        end = end.max(position(segment) + segment.payload.len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(sequence: u32, payload: &str) -> Segment {
        Segment {
            at: Moment(0),
            source: "192.168.100.2:40000".parse().unwrap(),
            destination: "192.0.2.9:21".parse().unwrap(),
            sequence,
            syn: payload.is_empty(),
            ack: !payload.is_empty(),
            ends: false,
            payload: payload.as_bytes().to_vec(),
        }
    }

    #[test]
    fn lines_are_put_together_whatever_the_segments() {
        let begin = u32::MAX - 3;
        let stream = [
            segment(begin, ""),
            segment(begin.wrapping_add(1), "USER"),
            segment(begin.wrapping_add(8), "\r\nPASS y\r\nQU"),
            segment(begin.wrapping_add(5), " x\x01"),
            segment(begin.wrapping_add(3), "ER x"),
        ];
        let texts: Vec<_> = lines(&stream, Tap::ToServer).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["USER x\\u{1}", "PASS y"]);
        assert_eq!(lines(&stream, Tap::ToClient), []);
    }

    #[test]
    fn moments_are_compared_across_midnight() {
        let before = Moment::parse("2026-11-21T23:59:59.900000Z").unwrap();
        let after = Moment::parse("2026-11-22T00:00:00.100000Z").unwrap();
        assert_eq!(after.since(before), 200_000);
        assert_eq!(Moment::parse("now"), None);
    }
}
