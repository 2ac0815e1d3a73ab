//! The router in the middle: NAT, what nftables holds, and a daemon that keeps to the engine's contract, unless it is
//! killed, away, or refused by the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use ftpalg::engine::control::{ClientView, ControlTuple};
use ftpalg::engine::event::{Departure, Event};
use ftpalg::engine::pinhole::{Change, Pinhole, PinholeKey};
use ftpalg::engine::policy::{Policy, Refusal};
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Decision, Engine, Verdict};

use crate::dice::Dice;
use crate::end::Time;
use crate::segment::Segment;

/// The addresses of a control connection on both sides of the router.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    pub client: SocketAddr,
    /// The client as the server sees it.
    pub public: SocketAddr,
    pub server: SocketAddr,
    /// The server as the client dials it.
    pub dialled: SocketAddr,
}

impl Site {
    pub fn new(nat_of_client: bool, nat_of_server: bool) -> Self {
        let server = ["192.168.77.121:21", "203.0.113.9:21"];
        Self::between(["10.0.0.2:40000", "203.0.113.1:40000"], server, nat_of_client, nat_of_server)
    }

    pub fn new6(nat_of_client: bool, nat_of_server: bool) -> Self {
        let client = ["[2001:db8::2]:40000", "[2001:db8:1::1]:40000"];
        Self::between(client, ["[fd00:2::9]:21", "[2001:db8:2::9]:21"], nat_of_client, nat_of_server)
    }

    /// Of each end its own address, and the one that NAT would give it.
    fn between(client: [&str; 2], server: [&str; 2], nat_of_client: bool, nat_of_server: bool) -> Self {
        let [[client, translated], [server, forwarded]] =
            [client, server].map(|end| end.map(|text| text.parse().unwrap()));
        Self {
            client,
            public: if nat_of_client { translated } else { client },
            server,
            dialled: if nat_of_server { forwarded } else { server },
        }
    }

    pub fn tuple(&self) -> ControlTuple {
        ControlTuple { server: self.server, client: self.public }
    }
}

pub fn policy() -> Policy {
    Policy {
        require_login: true,
        allow_third_party: vec!["198.51.100.0/24".parse().unwrap()],
        ports: 1024..=65535,
        timeout: Duration::from_secs(60),
    }
}

/// A session as it is saved.
pub fn saved(engine: &Engine, tuple: &ControlTuple) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    engine.save(tuple, &mut buffer).map(<[u8]>::to_vec)
}

/// What the kernel holds.
#[derive(Debug, Default)]
pub struct Kernel {
    /// By its SYN, before the daemon names it; and until when.
    pub control_new: HashMap<ControlTuple, Time>,
    pub control: HashSet<ControlTuple>,
    pub shifted: HashSet<ControlTuple>,
    /// Those of which a packet goes on with the daemon's mark alone.
    pub held: HashSet<ControlTuple>,
    pub expected: BTreeSet<PinholeKey>,
    pub open: BTreeMap<PinholeKey, Pinhole>,
}

impl Kernel {
    /// Whether nothing is queued any more of what this world's connection was.
    pub fn is_idle(&self) -> bool {
        self.control_new.is_empty() && self.control.is_empty() && self.shifted.is_empty()
    }

    /// A segment comes to the rules that fill `control_new` (nft-rules/ftpalg.nft), and to those that read it.
    fn hears_of(&mut self, tuple: ControlTuple, now: Time, tap: Tap, segment: &Segment) {
        self.control_new.retain(|_, until| *until > now);
        if tap == Tap::ToServer && segment.syn {
            self.control_new.insert(tuple, now + 10_000);
        } else if tap == Tap::ToServer && !segment.reset && !self.control.contains(&tuple) {
            self.control_new.entry(tuple).and_modify(|until| *until = now + 60_000);
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Track(tuple) => {
                self.control_new.remove(&tuple);
                self.control.insert(tuple);
            }
            Change::Shift(tuple) => {
                self.held.insert(tuple);
                self.shifted.insert(tuple);
            }
            Change::Unshift(tuple) => {
                self.held.remove(&tuple);
                self.shifted.remove(&tuple);
            }
            Change::Expect(key, _) => drop(self.expected.insert(key)),
            Change::Open(pinhole) => {
                self.expected.remove(&pinhole.key);
                self.open.insert(pinhole.key, pinhole);
            }
            Change::Renew(_) => {}
            Change::Close(key) => {
                self.expected.remove(&key);
                self.open.remove(&key);
            }
            Change::Depart(tuple) => {
                self.control_new.remove(&tuple);
                self.control.remove(&tuple);
                self.shifted.remove(&tuple);
            }
        }
    }
}

/// How often what goes wrong, in packets of a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    pub killed: u32,
    pub refused: u32,
    /// It is killed, and what is not shifted passes, for up to two seconds.
    pub away: u32,
}

#[derive(Debug)]
pub struct Router {
    pub site: Site,
    pub engine: Engine,
    pub kernel: Kernel,
    pub trouble: Trouble,
    /// The daemon is away until then, and packets that are not shifted pass.
    pub away_until: Time,
    /// Every commit is refused.
    pub refuses: bool,
    /// conntrack has an entry for the connection.
    pub tracked: bool,
    /// All pinholes that were ever opened, and what the log said.
    pub opened: Vec<Pinhole>,
    pub events: Vec<Event>,
    pub passed_unseen: usize,
    saved: HashMap<ControlTuple, Vec<u8>>,
    restarts: u64,
}

impl Router {
    pub fn new(site: Site, policy: Policy) -> Self {
        Self {
            site,
            engine: Engine::new(policy, 1),
            kernel: Kernel::default(),
            trouble: Trouble::default(),
            away_until: 0,
            refuses: false,
            tracked: true,
            opened: Vec::new(),
            events: Vec::new(),
            passed_unseen: 0,
            saved: HashMap::new(),
            restarts: 0,
        }
    }

    /// Another worker goes on with the connection, as after a restart with several of them.
    pub fn change_hands(&mut self) {
        let mut former = std::mem::replace(&mut self.engine, Engine::new(policy(), 1 + self.restarts));
        former.hand_over(self.site.tuple().hosts(), &mut self.engine);
        assert_eq!(former.sessions().count() + former.doomed().count(), 0);
    }

    /// kill -9, and started again: all that is left is what was saved, and what the new one loads for that.
    pub fn restart(&mut self) {
        self.restarts += 1;
        self.engine = Engine::new(policy(), 1 + self.restarts);
        let held = std::mem::take(&mut self.kernel.shifted);
        for saved in self.saved.values() {
            self.engine.restore(saved, |tuple| held.contains(tuple)).expect("what was saved can be restored");
        }
        if self.restarts % 2 == 0 {
            self.change_hands();
        }
        let held = self.engine.sessions().filter(|session| session.is_marked());
        self.kernel.shifted = held.map(|session| session.tuple).collect();
        self.kernel.held = self.kernel.shifted.clone();
        let taken = self.engine.sessions().filter(|session| session.is_taken());
        self.kernel.control = taken.map(|session| session.tuple).collect();
        let open = self.engine.open_pinholes(Duration::ZERO).into_iter();
        self.kernel.open = open.map(|pinhole| (pinhole.key, pinhole)).collect();
    }

    /// One packet; `None` if it is dropped.
    pub fn pass(&mut self, now: Time, tap: Tap, segment: Segment, dice: &mut Dice) -> Option<Segment> {
        let tuple = self.site.tuple();
        if dice.happens(self.trouble.away) && now >= self.away_until {
            self.restart();
            self.away_until = now + dice.below(2000);
        }
        let is_shifted = self.kernel.shifted.contains(&tuple);
        if now < self.away_until {
            self.passed_unseen += usize::from(!is_shifted);
            return (!is_shifted).then_some(segment);
        }
        self.kernel.hears_of(tuple, now, tap, &segment);
        let Kernel { control_new, control, held, .. } = &self.kernel;
        let is_queued = control_new.contains_key(&tuple) || control.contains(&tuple) || is_shifted;
        if !is_queued || !is_shifted && segment.is_bare_acknowledgment() {
            return (!held.contains(&tuple)).then_some(segment);
        }
        let (from, to) = match tap {
            Tap::ToServer => (self.site.public, self.site.server),
            Tap::ToClient => (self.site.server, self.site.public),
        };
        let bytes = segment.encode(from, to);
        self.queued(now, tap, bytes, dice).map(|bytes| Segment::decode(&bytes))
    }

    /// What the daemon does with a packet from the queue.
    pub fn queued(&mut self, now: Time, tap: Tap, mut bytes: Vec<u8>, dice: &mut Dice) -> Option<Vec<u8>> {
        let killed_at = if dice.happens(self.trouble.killed) { dice.below(3) } else { 3 };
        let time = Duration::from_millis(now);
        let begins = Segment::decode(&bytes);
        let begins = begins.syn && begins.acknowledgment.is_none();
        let mut decision = self.engine.handle(time, tap, &mut bytes);
        assert!(
            !begins || !decision.is_translated,
            "nft-rules/hold.nft takes it for a packet that was not seen"
        );
        if let Verdict::LookUp(tuple) = decision.verdict {
            let Site { client, dialled, .. } = self.site;
            let view = ClientView { client: client.ip(), dialled: dialled.ip(), mark: 7 };
            self.engine.learn(tuple, self.tracked.then_some(view).ok_or(Departure::NotTracked));
            decision = self.engine.handle(time, tap, &mut bytes);
        }
        if killed_at == 0 {
            self.restart();
            return None;
        }
        let Decision { verdict, changes, session, is_translated } = decision;
        let is_refused = !changes.is_empty() && (self.refuses || dice.happens(self.trouble.refused));
        // What is refused together is tried one by one, unless it comes behind something about the same.
        let (mut undone, mut done): (Vec<Change>, _) = (Vec::new(), Vec::new());
        for change in changes {
            let refuses_one = is_refused && (self.refuses || dice.happens(500));
            let waits = undone.iter().any(|before| before.concerns(&change));
            if refuses_one || waits { &mut undone } else { &mut done }.push(change);
        }
        let is_refused = !undone.is_empty();
        for change in done {
            self.opened.extend(match change {
                Change::Open(pinhole) => Some(pinhole),
                _ => None,
            });
            self.kernel.apply(change);
        }
        if killed_at == 1 {
            self.restart();
            return None;
        }
        if let Some((tuple, _)) = session {
            if is_refused {
                self.engine.refused(tuple, undone);
            } else {
                self.events.extend(self.engine.committed(tuple));
            }
            match saved(&self.engine, &tuple) {
                Some(saved) => {
                    assert!(saved.len() <= 8192 - 16, "a session of {} bytes", saved.len());
                    self.saved.insert(tuple, saved)
                }
                None => self.saved.remove(&tuple),
            };
        }
        if killed_at == 2 {
            self.restart();
            return None;
        }
        let is_held_up = !begins && !is_translated && self.kernel.held.contains(&self.site.tuple());
        match verdict {
            Verdict::Pass | Verdict::PassEdited if !is_refused && !is_held_up => Some(bytes),
            Verdict::LookUp(_) => panic!("looked up twice"),
            _ => None,
        }
    }

    pub fn tick(&mut self, now: Time) {
        if now < self.away_until {
            return;
        }
        self.kernel.control_new.retain(|_, until| *until > now);
        for change in self.engine.tick(Duration::from_millis(now)) {
            if let Change::Track(tuple) | Change::Depart(tuple) = change {
                match saved(&self.engine, &tuple) {
                    Some(saved) => self.saved.insert(tuple, saved),
                    None => self.saved.remove(&tuple),
                };
            }
            self.kernel.apply(change);
            if let Change::Depart(tuple) = change {
                if self.engine.session(&tuple).is_none() {
                    self.kernel.held.remove(&tuple);
                }
            }
        }
    }

    /// Whether something was not opened because on bad wires a reply took longer than a pinhole is kept for it.
    pub fn was_too_late(&self) -> bool {
        let too_late = Refusal::TooLate.to_string();
        self.log().iter().any(|line| line.contains(&too_late))
    }

    /// What the engine refused to open, for the log.
    pub fn log(&self) -> Vec<String> {
        self.events.iter().map(ToString::to_string).collect()
    }
}
