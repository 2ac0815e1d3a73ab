//! Any packets at either tap, refused transactions, saved states that are damaged: nothing panics, nothing grows
//! without bound, what goes out is whole, and no pinhole leads where none may lead.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use ftpalg::engine::control::ClientView;
use ftpalg::engine::event::Departure;
use ftpalg::engine::pinhole::{Change, Pinhole, PinholeKey};
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Decision, Engine, Verdict};

use super::{site, wire};
use crate::router::{Site, policy, saved};
use crate::segment::Segment;

/// What one session may take on disk, as in the daemon's store.
const LARGEST_SESSION: usize = 8192 - 16;
/// How many steps are made of one input.
const STEPS: usize = 200;

/// What all steps share.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
pub struct Setting {
    /// Bits: NAT of the client, NAT of the server, IPv6; not tracked by conntrack.
    site: u8,
    /// Added to the sequence numbers of the client and of the server.
    initials: [u32; 2],
}

/// One step. What it needs more follows: as many bytes as `length` says.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
pub struct Step {
    /// Bits 0 to 2, what is done; bit 3, the tap; bit 4, numbers and checksums are left as they are; bit 5, the
    /// transaction is refused; bit 6, the daemon is killed afterwards.
    what: u8,
    /// Time that passes before, in 100 ms.
    pause: u8,
    length: u16,
}

/// An input: [`Setting`], and [`Step`]s.
pub fn check(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(setting) = Setting::arbitrary(&mut input) else { return };
    let mut attack = Attack::new(setting);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        let length = usize::from(step.length).min(input.len());
        let Ok(bytes) = input.bytes(length) else { break };
        attack.step(step, bytes);
    }
    attack.ends();
}

struct Attack {
    setting: Setting,
    site: Site,
    engine: Engine,
    now: Duration,
    /// What a server was last told to connect to.
    expected: Option<PinholeKey>,
    /// The state came from bytes that no engine has saved: it may say anything, for as long as nothing panics.
    is_damaged: bool,
}

impl Attack {
    fn new(setting: Setting) -> Self {
        Self {
            setting,
            site: site(setting.site),
            engine: Engine::new(policy(), 1),
            now: Duration::from_secs(1),
            expected: None,
            is_damaged: false,
        }
    }

    fn step(&mut self, step: Step, bytes: &[u8]) {
        self.now += Duration::from_millis(100) * u32::from(step.pause);
        let tap = if step.what & 8 == 0 { Tap::ToServer } else { Tap::ToClient };
        match step.what & 7 {
            0 => self.is_damaged |= self.engine.restore(bytes, |_| false).is_ok(),
            1 => self.damage(bytes),
            2 => drop(self.engine.tick(self.now)),
            3 => self.data_connection(step, bytes),
            _ => self.packet(step, tap, bytes),
        }
        if step.what & 0x40 != 0 {
            self.restart();
        }
        self.is_sound();
    }

    /// The server connects to a port that it was told, or to any other; without bytes, the session is forgotten.
    fn data_connection(&mut self, step: Step, bytes: &[u8]) {
        let [beside, ..] = bytes else { return self.engine.forget(&self.site.tuple()) };
        let port = self.expected.map_or(5000, |key| key.port).wrapping_add(u16::from(*beside));
        let syn = Segment { syn: true, sequence: 1, window: 1000, ..Segment::default() };
        let (from, to) = (SocketAddr::new(self.site.server.ip(), 20), self.site.public.ip());
        self.hand_in(step, Tap::ToClient, syn.encode(from, SocketAddr::new(to, port)));
    }

    /// A packet of the control connection, or whatever the bytes say.
    fn packet(&mut self, step: Step, tap: Tap, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if step.what & 0x10 == 0 {
            belong(&mut bytes, tap, self.site, self.setting.initials);
            wire::mend(&mut bytes);
        }
        self.hand_in(step, tap, bytes);
    }

    fn hand_in(&mut self, step: Step, tap: Tap, mut bytes: Vec<u8>) {
        let original = bytes.clone();
        let mut decision = self.engine.handle(self.now, tap, &mut bytes);
        if let Verdict::LookUp(tuple) = decision.verdict {
            let Site { client, dialled, .. } = self.site;
            let view = ClientView { client: client.ip(), dialled: dialled.ip(), mark: 7 };
            let is_tracked = self.setting.site & 8 == 0 && tuple == self.site.tuple();
            self.engine.learn(tuple, is_tracked.then_some(view).ok_or(Departure::NotTracked));
            decision = self.engine.handle(self.now, tap, &mut bytes);
        }
        let Decision { verdict, changes, session, .. } = decision;
        match verdict {
            Verdict::Pass | Verdict::Drop => {
                let cut = &original[..original.len().min(bytes.len())];
                assert!(verdict == Verdict::Drop || bytes == cut, "passes, but not as it came");
            }
            Verdict::PassEdited => {
                let view = wire::view(&bytes).expect("a whole packet goes out");
                assert_eq!((view.end, view.sum(&bytes)), (bytes.len(), 0xffff));
                assert!(bytes.len() <= original.len().max(512 + 120), "{} bytes", bytes.len());
            }
            Verdict::LookUp(_) => panic!("looked up twice"),
        }
        for change in &changes {
            match change {
                Change::Open(pinhole) => self.may_lead_there(pinhole),
                Change::Expect(key, _) => self.expected = Some(*key),
                _ => {}
            }
        }
        if let Some((tuple, _)) = session {
            if step.what & 0x20 != 0 && !changes.is_empty() {
                self.engine.refused(tuple, changes);
            } else {
                self.engine.committed(tuple);
            }
        }
    }

    fn may_lead_there(&self, pinhole: &Pinhole) {
        let Site { client, server, .. } = self.site;
        let to = pinhole.to;
        if self.is_damaged {
            return;
        }
        let is_own = to.ip() == client.ip() || to.ip() == server.ip();
        assert!(is_own || super::is_listed(to.ip()), "{pinhole:?} leads to a stranger");
        assert!(to.port() >= 1024 && pinhole.key.port >= 1024, "{pinhole:?}");
    }

    /// The saved session with some bytes changed: pairs of place and value.
    fn damage(&mut self, bytes: &[u8]) {
        let Some(mut saved) = saved(&self.engine, &self.site.tuple()) else { return };
        for pair in bytes.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([pair[0], pair[1]])) % saved.len();
            saved[at] = pair[2];
        }
        let mut engine = Engine::new(policy(), 2);
        if engine.restore(&saved, |_| false).is_ok() {
            (self.engine, self.is_damaged) = (engine, true);
        }
    }

    /// kill -9: all that is left is what was saved, and that is all there was.
    fn restart(&mut self) {
        let mut engine = Engine::new(policy(), 3);
        for session in self.engine.sessions() {
            let saved = saved(&self.engine, &session.tuple).expect("it is there");
            let restored = engine.restore(&saved, |_| session.is_shifted);
            assert!(restored.is_ok() || self.is_damaged, "what was saved can be restored: {restored:?}");
        }
        self.engine = engine;
    }

    fn is_sound(&self) {
        if self.is_damaged {
            return;
        }
        for session in self.engine.sessions() {
            let saved = saved(&self.engine, &session.tuple).expect("it is there");
            assert!(saved.len() <= LARGEST_SESSION, "{} bytes", saved.len());
        }
        let sessions = self.engine.sessions().count();
        assert!(self.engine.open_pinholes(self.now).len() <= sessions, "one data port a session at a time");
    }

    /// In the end, everything goes: what was there, and what has waited for its end to begin.
    fn ends(&mut self) {
        for wait in [7 * 24 * 3600, 60] {
            self.now += Duration::from_secs(wait);
            self.engine.tick(self.now);
        }
        if self.is_damaged {
            return;
        }
        assert_eq!(self.engine.sessions().count(), 0);
        assert!(self.engine.open_pinholes(self.now).is_empty());
    }
}

/// Makes it a packet of the control connection, and counts its numbers from the initial ones; as far as it has room.
fn belong(bytes: &mut [u8], tap: Tap, site: Site, initials: [u32; 2]) {
    let ([own, other], from, to) = match tap {
        Tap::ToServer => (initials, site.public, site.server),
        Tap::ToClient => ([initials[1], initials[0]], site.server, site.public),
    };
    let version = bytes.first().map_or(0, |first| first >> 4);
    let tcp = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) if version == 4 => {
            put(bytes, 12, &[from.octets(), to.octets()].concat());
            usize::from(bytes[0] & 15) * 4
        }
        (IpAddr::V6(from), IpAddr::V6(to)) if version == 6 => {
            put(bytes, 8, &[from.octets(), to.octets()].concat());
            40
        }
        _ => return,
    };
    put(bytes, tcp, &[from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    add(bytes, tcp + 4, own);
    add(bytes, tcp + 8, other);
    let header = bytes.get(tcp + 12).map_or(0, |offset| usize::from(offset >> 4) * 4);
    let options = bytes.get(tcp + 20..tcp + header).map(wire::options).unwrap_or_default();
    for (_, place) in options.into_iter().filter(|&(kind, _)| kind == 5) {
        (place.start + 2..place.end).step_by(4).for_each(|edge| add(bytes, tcp + 20 + edge, other));
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn add(bytes: &mut [u8], at: usize, more: u32) {
    if let Some(number) = wire::u32_at(bytes, at) {
        put(bytes, at, &number.wrapping_add(more).to_be_bytes());
    }
}
