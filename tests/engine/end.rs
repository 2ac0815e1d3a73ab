//! One end of a TCP connection on a simulated clock: as much of RFC 9293, RFC 2018 and RFC 2883 as a translation in
//! the middle can break. What a real end would shrug off, but an honest peer would never send, is a panic here.

use std::collections::BTreeSet;

use crate::segment::Segment;

/// Milliseconds.
pub type Time = u64;

const FIRST_TIMEOUT: Time = 200;
const LONGEST_TIMEOUT: Time = 1600;
const DELAYED_ACK: Time = 40;
/// How much may be under way.
const FLIGHT: u64 = 20_000;

#[derive(Debug, Clone)]
pub struct Config {
    pub initial: u32,
    pub mss: usize,
    pub timestamps: bool,
    pub delayed_ack: bool,
    /// Small writes wait while something is under way (RFC 9293, section 3.7.4), and go together.
    pub nagle: bool,
    /// Retransmissions take together what was sent apart.
    pub coalesce: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial: 1000,
            mss: 1460,
            timestamps: false,
            delayed_ack: false,
            nagle: false,
            coalesce: false,
        }
    }
}

/// All offsets count from the first byte behind the SYN.
#[derive(Debug)]
pub struct End {
    pub config: Config,
    is_client: bool,
    peers_initial: Option<u32>,
    is_established: bool,
    /// Everything written so far, and where the writes ended.
    sent: Vec<u8>,
    writes: BTreeSet<u64>,
    closing: bool,
    unacknowledged: u64,
    next: u64,
    /// What the peer says it has (RFC 2018): never sent again.
    sacked: Vec<(u64, u64)>,
    recover: u64,
    duplicate_acks: u32,
    timeout_at: Option<Time>,
    timeout: Time,
    received: Vec<u8>,
    out_of_order: Vec<(u64, Vec<u8>)>,
    peers_end: Option<u64>,
    has_peers_fin: bool,
    duplicate: Option<(u64, u64)>,
    ack_at: Option<Time>,
    out: Vec<Segment>,
    pub retransmissions: u32,
    /// Something came again and said something else. An ALG or an intrusion detection between here and the router would
    /// have taken it for a forgery.
    pub was_contradicted: bool,
}

impl End {
    pub fn new(is_client: bool, config: Config) -> Self {
        Self {
            config,
            is_client,
            peers_initial: None,
            is_established: false,
            sent: Vec::new(),
            writes: BTreeSet::new(),
            closing: false,
            unacknowledged: 0,
            next: 0,
            sacked: Vec::new(),
            recover: 0,
            duplicate_acks: 0,
            timeout_at: None,
            timeout: FIRST_TIMEOUT,
            received: Vec::new(),
            out_of_order: Vec::new(),
            peers_end: None,
            has_peers_fin: false,
            duplicate: None,
            ack_at: None,
            out: Vec::new(),
            retransmissions: 0,
            was_contradicted: false,
        }
    }

    pub fn connect(&mut self, now: Time) {
        self.send_syn(now);
    }

    /// What goes to the wire now.
    pub fn take_output(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.out)
    }

    /// What has come, in order.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    pub fn is_established(&self) -> bool {
        self.is_established
    }

    /// The peer has closed, and everything before that has come.
    pub fn peer_has_closed(&self) -> bool {
        self.has_peers_fin
    }

    /// Everything written, and the end of it, is acknowledged.
    pub fn all_acknowledged(&self) -> bool {
        self.unacknowledged == self.limit()
    }

    pub fn is_done(&self) -> bool {
        self.closing && self.all_acknowledged() && self.has_peers_fin
    }

    /// The sequence number that comes next, and the acknowledgment that goes with it.
    pub fn position(&self) -> (u32, u32) {
        (self.sequence_of(self.next), self.expected())
    }

    pub fn write(&mut self, now: Time, data: &[u8]) {
        self.sent.extend_from_slice(data);
        self.writes.insert(self.sent.len() as u64);
        self.transmit(now);
    }

    pub fn close(&mut self, now: Time) {
        self.closing = true;
        self.transmit(now);
    }

    pub fn next_timer(&self) -> Option<Time> {
        self.timeout_at.into_iter().chain(self.ack_at).min()
    }

    pub fn on_timer(&mut self, now: Time) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.acknowledge();
        }
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeout = (self.timeout * 2).min(LONGEST_TIMEOUT);
            self.recover = self.next;
            if self.is_established {
                self.retransmit(now);
            } else {
                self.send_syn(now);
            }
        }
    }

    fn send_syn(&mut self, now: Time) {
        let mss = u16::try_from(self.config.mss).unwrap().to_be_bytes();
        let acknowledgment = self.peers_initial.map(|initial| initial.wrapping_add(1));
        self.out.push(Segment {
            sequence: self.config.initial,
            acknowledgment,
            syn: true,
            window: 64240,
            options: vec![2, 4, mss[0], mss[1], 1, 1, 4, 2],
            ..Segment::default()
        });
        self.timeout_at = Some(now + self.timeout);
    }

    /// How far the stream goes, FIN included.
    fn limit(&self) -> u64 {
        self.sent.len() as u64 + u64::from(self.closing)
    }

    fn sequence_of(&self, offset: u64) -> u32 {
        self.config.initial.wrapping_add(1).wrapping_add(u32::try_from(offset).unwrap())
    }

    fn expected(&self) -> u32 {
        let offset = self.received.len() as u64 + u64::from(self.has_peers_fin);
        self.peers_initial.unwrap_or(0).wrapping_add(1).wrapping_add(u32::try_from(offset).unwrap())
    }

    fn transmit(&mut self, now: Time) {
        while self.is_established && self.next < self.limit() && self.next - self.unacknowledged < FLIGHT {
            let end = self.segment_end(self.next, self.config.nagle);
            let is_small = end - self.next < self.config.mss as u64;
            if self.config.nagle && is_small && self.unacknowledged < self.next && !self.closing {
                return;
            }
            self.emit(self.next, end);
            self.next = end;
            self.timeout_at.get_or_insert(now + self.timeout);
        }
    }

    /// Where the segment that begins at `from` ends; FIN counts as a byte.
    fn segment_end(&self, from: u64, together: bool) -> u64 {
        let all = self.sent.len() as u64;
        let cut = self.writes.range(from + 1..).next().copied().filter(|_| !together).unwrap_or(all);
        let end = cut.min(from + self.config.mss as u64).min(all).max(from);
        if end == all { self.limit() } else { end }
    }

    fn emit(&mut self, from: u64, to: u64) {
        let all = self.sent.len() as u64;
        let (start, end) = (usize::try_from(from.min(all)).unwrap(), usize::try_from(to.min(all)).unwrap());
        let segment = Segment {
            sequence: self.sequence_of(from),
            acknowledgment: Some(self.expected()),
            fin: to > all,
            push: true,
            window: 64240,
            options: self.options(),
            payload: self.sent[start..end].to_vec(),
            ..Segment::default()
        };
        self.ack_at = None;
        self.out.push(segment);
    }

    /// The first bytes that the peer does not have.
    fn retransmit(&mut self, now: Time) {
        let mut from = self.unacknowledged;
        while let Some(&(_, right)) = self.sacked.iter().find(|&&(left, right)| left <= from && from < right)
        {
            from = right;
        }
        if from >= self.next {
            self.timeout_at = (self.unacknowledged < self.next).then_some(now + self.timeout);
            return;
        }
        let barrier = self.sacked.iter().map(|&(left, _)| left).filter(|&left| left > from).min();
        let end = self.segment_end(from, self.config.coalesce || self.config.nagle);
        let end = end.min(self.next).min(barrier.unwrap_or(u64::MAX));
        self.emit(from, end);
        self.retransmissions += 1;
        self.timeout_at = Some(now + self.timeout);
    }

    fn options(&mut self) -> Vec<u8> {
        let mut options = Vec::new();
        if self.config.timestamps {
            options.extend([1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]);
        }
        let mut blocks: Vec<(u64, u64)> = self.duplicate.take().into_iter().collect();
        let mut ranges: Vec<_> =
            self.out_of_order.iter().map(|(at, data)| (*at, at + data.len() as u64)).collect();
        ranges.sort_unstable();
        ranges.truncate(3 - blocks.len());
        blocks.extend(ranges);
        if !blocks.is_empty() {
            options.extend([1, 1, 5, u8::try_from(2 + 8 * blocks.len()).unwrap()]);
            let start = self.peers_initial.unwrap_or(0).wrapping_add(1);
            for edge in blocks.into_iter().flat_map(|(left, right)| [left, right]) {
                options.extend(start.wrapping_add(u32::try_from(edge).unwrap()).to_be_bytes());
            }
        }
        options
    }

    fn acknowledge(&mut self) {
        let segment = Segment {
            sequence: self.sequence_of(self.next),
            acknowledgment: Some(self.expected()),
            window: 64240,
            options: self.options(),
            ..Segment::default()
        };
        self.ack_at = None;
        self.out.push(segment);
    }

    pub fn on_segment(&mut self, now: Time, segment: &Segment) {
        assert!(!segment.reset, "nobody resets an honest connection");
        if segment.syn {
            return self.on_syn(now, segment);
        }
        if self.peers_initial.is_none() {
            return;
        }
        if let Some(number) = segment.acknowledgment {
            self.on_acknowledgment(now, number, segment);
        }
        if self.is_established {
            self.on_data(now, segment);
            self.transmit(now);
        }
    }

    fn on_syn(&mut self, now: Time, segment: &Segment) {
        if self.is_client {
            assert_eq!(segment.acknowledgment, Some(self.config.initial.wrapping_add(1)));
            self.peers_initial = Some(segment.sequence);
            if !self.is_established {
                self.established(now);
            }
            self.acknowledge();
        } else if self.peers_initial.replace(segment.sequence).is_none() || !self.is_established {
            self.send_syn(now);
        }
    }

    fn established(&mut self, now: Time) {
        self.is_established = true;
        self.timeout_at = None;
        self.timeout = FIRST_TIMEOUT;
        self.transmit(now);
    }

    fn on_acknowledgment(&mut self, now: Time, number: u32, segment: &Segment) {
        let distance = steps(self.sequence_of(self.unacknowledged), number);
        if !self.is_established {
            assert!(distance >= 0);
            self.established(now);
        }
        let ahead = u64::try_from(distance).unwrap_or(0);
        let acknowledged = self.unacknowledged + ahead;
        assert!(
            acknowledged <= self.next,
            "{} bytes acknowledged that were never sent",
            acknowledged - self.next
        );
        for (left, right) in segment.sack_blocks() {
            let offset = |edge: u32| {
                let distance = steps(self.sequence_of(self.unacknowledged), edge);
                self.unacknowledged.checked_add_signed(distance.into())
            };
            // One that was overtaken by the acknowledgment of edits may be placed before the stream.
            let Some((left, right)) = offset(left).zip(offset(right)) else { continue };
            assert!(left < right && right <= self.next, "SACK of what was never sent");
            if left >= acknowledged {
                self.sacked.push((left, right));
            }
        }
        if ahead > 0 {
            self.unacknowledged = acknowledged;
            self.duplicate_acks = 0;
            self.timeout = FIRST_TIMEOUT;
            self.sacked.retain(|&(_, right)| right > acknowledged);
            self.timeout_at = (acknowledged < self.next).then_some(now + self.timeout);
            if acknowledged < self.recover {
                self.retransmit(now);
            }
        } else if distance == 0 && self.brings_news(segment) && self.unacknowledged < self.next {
            // RFC 6675, section 2: what counts as a duplicate brings news of what lies behind the gap.
            self.duplicate_acks += 1;
            if self.duplicate_acks == 3 {
                self.recover = self.next;
                self.retransmit(now);
            }
        }
    }

    fn brings_news(&self, segment: &Segment) -> bool {
        let edge = self.sequence_of(self.unacknowledged);
        segment.sack_blocks().iter().any(|&(left, _)| steps(edge, left) >= 0)
    }

    fn on_data(&mut self, now: Time, segment: &Segment) {
        let (data, length) = (&segment.payload, segment.payload.len() as u64);
        let base = self.received.len() as u64;
        let expected = base + u64::from(self.has_peers_fin);
        let distance = steps(self.expected(), segment.sequence);
        let at = expected.checked_add_signed(distance.into());
        let Some(at) = at else {
            // An old duplicate of what stood before edits that have shrunk the stream.
            return self.acknowledge();
        };
        if length == 0 && !segment.fin {
            if at < expected {
                self.acknowledge();
            }
            return;
        }
        if segment.fin {
            let end = at + length;
            assert!(self.peers_end.is_none_or(|known| known == end), "FIN moved");
            self.peers_end = Some(end);
        }
        if at < base && length > 0 {
            let had = &self.received[usize::try_from(at).unwrap()..];
            let is_same = had.iter().zip(data).all(|(had, again)| had == again);
            self.was_contradicted |= !is_same;
            self.duplicate = Some((at, base.min(at + length)));
        }
        let in_order = at <= base && at + length + u64::from(segment.fin) > expected;
        if at + length > base {
            self.out_of_order.push((at, data.clone()));
        }
        self.take_in_order();
        if in_order && self.out_of_order.is_empty() && self.config.delayed_ack && !self.has_peers_fin {
            match self.ack_at {
                Some(_) => self.acknowledge(),
                None => self.ack_at = Some(now + DELAYED_ACK),
            }
        } else {
            self.acknowledge();
        }
    }

    fn take_in_order(&mut self) {
        self.out_of_order.sort();
        let waiting = std::mem::take(&mut self.out_of_order);
        for (at, data) in waiting {
            let base = self.received.len() as u64;
            if at > base {
                self.out_of_order.push((at, data));
            } else if let Some(new) = data.get(usize::try_from(base - at).unwrap()..) {
                self.received.extend_from_slice(new);
            }
        }
        let base = self.received.len() as u64;
        self.has_peers_fin |= self.peers_end == Some(base);
        assert!(self.peers_end.is_none_or(|end| base <= end), "bytes behind the FIN");
    }
}

fn steps(from: u32, to: u32) -> i32 {
    i32::from_ne_bytes(to.wrapping_sub(from).to_ne_bytes())
}
