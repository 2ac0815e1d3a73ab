//! Two ends, a router and four hops on one clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ftpalg::engine::session::Tap;

use crate::dice::Dice;
use crate::end::{Config, End, Time};
use crate::router::{Router, Site, policy};
use crate::segment::Segment;

/// Where a segment is under way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    RouterFromClient,
    Server,
    RouterFromServer,
    Client,
}

/// What each hop does to its packets, in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disorder {
    pub loss: u32,
    pub duplication: u32,
    pub reordering: u32,
}

const DELAY: Time = 5;
/// How often the daemon looks at its clock.
const TICK: Time = 1000;
/// An exchange that takes longer than this hangs.
const PATIENCE: Time = 600_000;

#[derive(Debug)]
pub struct World {
    pub now: Time,
    pub client: End,
    pub server: End,
    pub router: Router,
    pub disorder: Disorder,
    pub dice: Dice,
    /// Sequence numbers, so that what was sent first arrives first.
    count: usize,
    under_way: BinaryHeap<Reverse<(Time, usize, Hop)>>,
    segments: std::collections::HashMap<usize, Segment>,
    trace: Vec<(Time, usize, Hop, Segment)>,
}

impl World {
    pub fn new(site: Site, client: Config, server: Config) -> Self {
        Self {
            now: 1000,
            client: End::new(true, client),
            server: End::new(false, server),
            router: Router::new(site, policy()),
            disorder: Disorder::default(),
            dice: Dice::new(1),
            count: 0,
            under_way: BinaryHeap::new(),
            segments: std::collections::HashMap::new(),
            trace: Vec::new(),
        }
    }

    /// Puts a segment on a hop.
    pub fn send(&mut self, hop: Hop, segment: &Segment) {
        let copies =
            match (self.dice.happens(self.disorder.loss), self.dice.happens(self.disorder.duplication)) {
                (true, _) => 0,
                (false, true) => 2,
                (false, false) => 1,
            };
        self.trace.push((self.now, copies, hop, segment.clone()));
        for _ in 0..copies {
            let late = if self.dice.happens(self.disorder.reordering) { self.dice.below(40) } else { 0 };
            self.count += 1;
            self.under_way.push(Reverse((self.now + DELAY + late, self.count, hop)));
            self.segments.insert(self.count, segment.clone());
        }
    }

    fn flush(&mut self) {
        for segment in self.client.take_output() {
            self.send(Hop::RouterFromClient, &segment);
        }
        for segment in self.server.take_output() {
            self.send(Hop::RouterFromServer, &segment);
        }
    }

    /// The next thing that happens; `false` if nothing will.
    pub fn step(&mut self) -> bool {
        self.flush();
        let arrival = self.under_way.peek().map(|Reverse((time, ..))| *time);
        let timer = [self.client.next_timer(), self.server.next_timer()].into_iter().flatten().min();
        let Some(next) = arrival.into_iter().chain(timer).min() else { return false };
        self.wait(next.saturating_sub(self.now));
        if arrival == Some(next) {
            let Some(Reverse((_, number, hop))) = self.under_way.pop() else { return false };
            let segment = self.segments.remove(&number).unwrap();
            self.arrive(hop, segment);
        } else {
            self.client.on_timer(self.now);
            self.server.on_timer(self.now);
        }
        self.flush();
        true
    }

    /// Time passes in which nothing comes.
    pub fn wait(&mut self, time: Time) {
        let before = self.now;
        self.now += time;
        if before / TICK != self.now / TICK {
            self.router.tick(self.now / TICK * TICK);
        }
    }

    fn arrive(&mut self, hop: Hop, segment: Segment) {
        match hop {
            Hop::Server => self.server.on_segment(self.now, &segment),
            Hop::Client => self.client.on_segment(self.now, &segment),
            Hop::RouterFromClient => self.route(Tap::ToServer, Hop::Server, segment),
            Hop::RouterFromServer => self.route(Tap::ToClient, Hop::Client, segment),
        }
        let is_contradicted = self.client.was_contradicted || self.server.was_contradicted;
        assert!(!is_contradicted, "a retransmission says something else\n{}", self.story());
    }

    fn route(&mut self, tap: Tap, onward: Hop, segment: Segment) {
        if let Some(segment) = self.router.pass(self.now, tap, segment, &mut self.dice) {
            self.send(onward, &segment);
        }
    }

    /// Runs until `done`, and says what was on the wire if that does not come.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = self.now + PATIENCE;
        self.flush();
        while !done(self) {
            let goes_on = self.step();
            if !goes_on || self.now > deadline {
                panic!("{what}: never comes\n{}", self.story());
            }
        }
    }

    /// Runs until nothing is under way and no timer runs.
    #[track_caller]
    pub fn settle(&mut self) {
        let deadline = self.now + PATIENCE;
        while self.step() {
            assert!(self.now < deadline, "never quiet\n{}", self.story());
        }
    }

    /// The last packets, for a panic's message.
    pub fn story(&self) -> String {
        let skipped = self.trace.len().saturating_sub(60);
        let log = self.router.log().join("\n");
        let trace: Vec<_> = self.trace[skipped..]
            .iter()
            .map(|(time, copies, hop, segment)| format!("{time} x{copies} {hop:?} {}", show(segment)))
            .collect();
        format!("{}\n--- log\n{log}", trace.join("\n"))
    }
}

fn show(segment: &Segment) -> String {
    let flags: String = [
        (segment.syn, 'S'),
        (segment.fin, 'F'),
        (segment.reset, 'R'),
        (segment.urgent.is_some(), 'U'),
        (segment.acknowledgment.is_some(), '.'),
    ]
    .iter()
    .filter_map(|&(is_set, letter)| is_set.then_some(letter))
    .collect();
    let acknowledgment = segment.acknowledgment.unwrap_or(0);
    let sack = segment.sack_blocks();
    let data = segment.payload.escape_ascii();
    format!("[{flags}] seq {} ack {acknowledgment} sack {sack:?} \"{data}\"", segment.sequence)
}
