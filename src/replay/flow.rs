//! One control connection of a capture: what is known of it, and what waits for its turn.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use ftpalg::engine::position::distance;
use ftpalg::engine::session::Tap;

use super::lines::Lines;
use super::nat::{Side, Standing};
use super::tell::Moment;
use crate::capture::{Frame, Segment};

/// How many packets back a copy is looked for.
const COPIES: usize = 32;

/// How many bytes of a session may wait for those before them: no receiver's window is told here, and control
/// connections have less under way.
pub const MOST_HELD: usize = 64 << 10;

/// A packet of a control connection, finished, with the place in its stream.
#[derive(Debug, Clone)]
pub struct Item {
    pub tap: Tap,
    pub moment: Moment,
    pub frame: Frame,
    /// Where in the frame the IP packet begins.
    pub offset: usize,
    /// The IP packet.
    pub packet: Vec<u8>,
    pub sequence: u32,
    pub acknowledgment: Option<u32>,
    pub is_syn: bool,
    pub is_reset: bool,
    pub end: u32,
    /// How often the engine has refused it.
    pub refused: u8,
}

impl Item {
    /// Whether there is something in it that has its place in the stream.
    pub fn takes_room(&self) -> bool {
        self.end != self.sequence
    }
}

/// How far inspection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Going on.
    Inspected,
    /// Over for good; packets pass as they are, or translated.
    Left,
}

/// A control connection.
#[derive(Debug)]
pub struct Flow {
    pub number: u64,
    pub standing: Standing,
    /// The side that is written.
    pub written: Side,
    pub state: State,
    /// The client's initial sequence number.
    pub initial: u32,
    /// Of a later SYN of the same name, until the server answers it.
    pub newer: Option<Item>,
    pub has_begun: bool,
    pub lines: [Lines; 2],
    held: [VecDeque<Item>; 2],
    pub held_bytes: usize,
    copies: VecDeque<u64>,
    pub last: Duration,
    /// Gaps that were told of.
    pub gaps: u32,
    /// The last line of the client was rewritten, and the server has not answered.
    pub is_answer_of_old: bool,
}

impl Flow {
    pub fn new(number: u64, standing: Standing, written: Side, initial: u32, now: Duration) -> Flow {
        Flow {
            number,
            standing,
            written,
            state: State::Inspected,
            initial,
            newer: None,
            has_begun: false,
            lines: Default::default(),
            held: Default::default(),
            held_bytes: 0,
            copies: VecDeque::new(),
            last: now,
            gaps: 0,
            is_answer_of_old: false,
        }
    }

    /// The lines of a direction.
    pub fn lines(&mut self, tap: Tap) -> &mut Lines {
        &mut self.lines[index(tap)]
    }

    /// Whether this packet was seen before: on another interface of the same router, by a switch that mirrors it, or
    /// doubled on its way. A sender that repeats itself counts its packets on.
    pub fn is_copy(&mut self, segment: &Segment<'_>) -> bool {
        let mut hasher = DefaultHasher::new();
        // Without the checksum, which a router may have to finish.
        let (head, tail) = segment.bytes.split_at_checked(16).unwrap_or_default();
        (segment.identification, head, tail.get(2..)).hash(&mut hasher);
        if segment.identification == 0 {
            // IPv6, and SYN-ACKs of Linux: only one that has passed a router is told from a repetition.
            let mut with_hops = hasher.clone();
            segment.hops_left.hash(&mut with_hops);
            let own = with_hops.finish();
            let is_copy = [1, 2].iter().any(|passed| {
                let mut earlier = hasher.clone();
                segment.hops_left.wrapping_add(*passed).hash(&mut earlier);
                self.copies.contains(&earlier.finish())
            });
            self.remember(own);
            return is_copy;
        }
        let own = hasher.finish();
        let is_copy = self.copies.contains(&own);
        self.remember(own);
        is_copy
    }

    fn remember(&mut self, copy: u64) {
        if self.copies.len() >= COPIES {
            self.copies.pop_front();
        }
        self.copies.push_back(copy);
    }

    /// Keeps a packet for later. Returns by how much more is held.
    pub fn hold(&mut self, item: Item) -> usize {
        let size = item.packet.len() + item.frame.bytes.len() + size_of::<Item>();
        self.held_bytes += size;
        let held = &mut self.held[index(item.tap)];
        let place = held.iter().position(|other| distance(other.sequence, item.sequence) < 0);
        held.insert(place.unwrap_or(held.len()), item);
        size
    }

    /// The held packet of a direction that comes first, if it `fits`. Returns by how much less is held as well.
    pub fn release(&mut self, tap: Tap, fits: impl Fn(&Item) -> bool) -> Option<(Item, usize)> {
        let held = &mut self.held[index(tap)];
        let item = if held.front().is_some_and(fits) { held.pop_front()? } else { return None };
        let size = item.packet.len() + item.frame.bytes.len() + size_of::<Item>();
        self.held_bytes = self.held_bytes.saturating_sub(size);
        Some((item, size))
    }

    /// Where the first held packet of a direction begins.
    pub fn first_held(&self, tap: Tap) -> Option<u32> {
        self.held[index(tap)].front().map(|item| item.sequence)
    }
}

fn index(tap: Tap) -> usize {
    match tap {
        Tap::ToServer => 0,
        Tap::ToClient => 1,
    }
}

/// The other direction.
pub fn other(tap: Tap) -> Tap {
    match tap {
        Tap::ToServer => Tap::ToClient,
        Tap::ToClient => Tap::ToServer,
    }
}
