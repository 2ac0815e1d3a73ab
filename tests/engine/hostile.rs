//! Packets that no honest end would send: nothing panics, and nothing grows without bound.

use std::net::SocketAddr;
use std::time::Duration;

use ftpalg::engine::control::{ClientView, ControlTuple};
use ftpalg::engine::event::Departure;
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Engine, MAX_SESSIONS_PER_CLIENT, Verdict};
use proptest::prelude::*;

use crate::router::{Site, policy, saved};
use crate::segment::Segment;

/// What one session may take on disk: an unfinished line, 16 edits, 256 outstanding commands, some pinholes.
const LARGEST_SESSION: usize = 8192 - 16;

/// One packet of a hostile conversation.
#[derive(Debug, Clone)]
struct Step {
    tap: bool,
    /// How far off its sequence and acknowledgment numbers are.
    offsets: (i32, i32),
    flags: u8,
    urgent: u16,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
    /// A byte of the packet to be changed, and the bits; the checksums are not made good.
    damage: Option<(usize, u8)>,
    restarts: bool,
    is_refused: bool,
}

fn offset() -> impl Strategy<Value = i32> {
    prop_oneof![6 => Just(0), 2 => -200..200_i32, 1 => any::<i32>(), 1 => Just(i32::MIN), 1 => Just(70_000)]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(&b"PORT 10,0,0,2,19,137\r\n"[..]),
        Just(&b"PORT 10,0,0,"[..]),
        Just(&b"2,9,9\r\n"[..]),
        Just(&b"EPRT |1|10.0.0.2|5000|\r\n"[..]),
        Just(&b"EPRT |2|::1|5000|\r\n"[..]),
        Just(&b"PASV\r\n"[..]),
        Just(&b"EPSV\r\n"[..]),
        Just(&b"USER x\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"220 hi\r\n"[..]),
        Just(&b"230 in\r\n"[..]),
        Just(&b"200 ok\r\n"[..]),
        Just(&b"227 (192,168,77,121,19,137)\r\n"[..]),
        Just(&b"227-(192,168,77,"[..]),
        Just(&b"229 (|||5001|)\r\n"[..]),
        Just(&b"234 go\r\n"[..]),
        Just(&b"RETR x\r\n"[..]),
        Just(&b"226 done\r\n"[..]),
    ];
    prop_oneof![
        6 => prop::collection::vec(line, 0..40).prop_map(|lines| lines.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..1500),
        3 => Just(Vec::new()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let options = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 16).prop_map(|edges| [&[1, 1, 5, 18][..], &edges].concat()),
    ];
    let flags = prop_oneof![8 => Just(0x10_u8), 1 => Just(0x11), 1 => Just(0x14), 1 => Just(2), 1 => Just(0x12), 1 => any::<u8>()];
    let damage = prop_oneof![9 => Just(None), 1 => (any::<usize>(), 1..=u8::MAX).prop_map(Some)];
    (
        any::<bool>(),
        (offset(), offset()),
        flags,
        (any::<u16>(), any::<u16>()),
        options,
        text(),
        damage,
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(tap, offsets, flags, (urgent, window), options, payload, damage, restarts, is_refused)| Step {
                tap,
                offsets,
                flags,
                urgent,
                window,
                options,
                payload,
                damage,
                restarts,
                is_refused,
            },
        )
}

/// Hands every step to an engine, as if both ends had gone mad.
fn attack(initials: (u32, u32), steps: &[Step], repeat: usize) {
    let site = Site::new(true, true);
    let tuple = site.tuple();
    let view = ClientView { client: site.client.ip(), dialled: site.dialled.ip(), mark: 0 };
    let mut engine = Engine::new(policy(), 1);
    let mut now = Duration::from_secs(1);
    let mut next = [initials.0.wrapping_add(1), initials.1.wrapping_add(1)];
    let hand = |engine: &mut Engine, now, tap, bytes: &mut Vec<u8>, is_refused: bool| {
        let mut decision = engine.handle(now, tap, bytes);
        if let Verdict::LookUp(tuple) = decision.verdict {
            engine.learn(tuple, Ok(view));
            decision = engine.handle(now, tap, bytes);
        }
        if let Some((tuple, _)) = decision.session {
            if is_refused && !decision.changes.is_empty() {
                engine.refused(tuple, decision.changes);
            } else {
                engine.committed(tuple);
            }
        }
        if decision.verdict == Verdict::PassEdited {
            Segment::decode(bytes);
        }
    };
    let syn = Segment { sequence: initials.0, syn: true, ..Segment::default() };
    hand(&mut engine, now, Tap::ToServer, &mut syn.encode(site.public, site.server), false);
    let answer =
        Segment { sequence: initials.1, syn: true, acknowledgment: Some(next[0]), ..Segment::default() };
    hand(&mut engine, now, Tap::ToClient, &mut answer.encode(site.server, site.public), false);
    for step in std::iter::repeat_n(steps, repeat).flatten() {
        now += Duration::from_millis(700);
        let (own, other) = (usize::from(step.tap), usize::from(!step.tap));
        let segment = Segment {
            sequence: next[own].wrapping_add_signed(step.offsets.0),
            acknowledgment: (step.flags & 0x10 != 0).then(|| next[other].wrapping_add_signed(step.offsets.1)),
            syn: step.flags & 2 != 0,
            fin: step.flags & 1 != 0,
            reset: step.flags & 4 != 0,
            push: step.flags & 8 != 0,
            urgent: (step.flags & 0x20 != 0).then_some(step.urgent),
            window: step.window,
            options: step.options.clone(),
            payload: step.payload.clone(),
        };
        if step.offsets.0 == 0 {
            next[own] = next[own].wrapping_add(u32::try_from(step.payload.len()).unwrap());
        }
        let (tap, from, to) = if step.tap {
            (Tap::ToClient, site.server, site.public)
        } else {
            (Tap::ToServer, site.public, site.server)
        };
        let mut bytes = segment.encode(from, to);
        if let Some((at, bits)) = step.damage {
            let at = at % bytes.len();
            bytes[at] ^= bits;
        }
        hand(&mut engine, now, tap, &mut bytes, step.is_refused);
        if let Some(saved) = saved(&engine, &tuple) {
            assert!(saved.len() < LARGEST_SESSION, "{} bytes", saved.len());
            if step.restarts {
                engine = Engine::new(policy(), 2);
                engine.restore(&saved, |_| false).expect("what was saved can be restored");
            }
        }
        engine.tick(now);
        assert!(engine.open_pinholes(now).len() <= 1, "a session has one data port at a time");
    }
}

proptest! {
    #![proptest_config(crate::proptest_config())]

    #[test]
    fn mad_ends_neither_break_the_engine_nor_fill_it(
        initials in any::<(u32, u32)>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        attack(initials, &steps, 3);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), tap in any::<bool>()) {
        let mut engine = Engine::new(policy(), 1);
        let tap = if tap { Tap::ToServer } else { Tap::ToClient };
        engine.handle(Duration::ZERO, tap, &mut bytes.clone());
        prop_assert_eq!(engine.sessions().count(), 0);
    }

    #[test]
    fn a_damaged_state_file_is_survived(
        initials in any::<(u32, u32)>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        steps in prop::collection::vec(step(), 1..20),
    ) {
        let mut bytes = saved_session(initials);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut engine = Engine::new(policy(), 1);
        if engine.restore(&bytes, |_| false).is_ok() {
            let site = Site::new(true, true);
            for step in steps {
                let segment = Segment {
                    sequence: initials.0.wrapping_add_signed(step.offsets.0),
                    acknowledgment: Some(initials.1.wrapping_add_signed(step.offsets.1)),
                    options: step.options,
                    payload: step.payload,
                    ..Segment::default()
                };
                let mut packet = segment.encode(site.public, site.server);
                engine.handle(Duration::from_secs(9), Tap::ToServer, &mut packet);
                let mut packet = segment.encode(site.server, site.public);
                engine.handle(Duration::from_secs(9), Tap::ToClient, &mut packet);
                engine.tick(Duration::from_secs(9));
                engine.open_pinholes(Duration::from_secs(9));
            }
        }
    }
}

/// A session with an edit in flight and a line cut inside its address.
fn saved_session(initials: (u32, u32)) -> Vec<u8> {
    let site = Site::new(true, true);
    let mut engine = Engine::new(policy(), 1);
    let (client, server) = (initials.0.wrapping_add(1), initials.1.wrapping_add(1));
    let said = |sequence, acknowledgment, payload: &[u8]| Segment {
        sequence,
        acknowledgment,
        payload: payload.to_vec(),
        ..Segment::default()
    };
    let syn = Segment { syn: true, ..said(initials.0, None, b"") };
    let answer = Segment { syn: true, ..said(initials.1, Some(client), b"") };
    let greeting = said(server, Some(client), b"220 hi\r\n");
    let login = said(client, Some(server), b"USER a\r\n");
    let admitted = said(server.wrapping_add(8), Some(client.wrapping_add(8)), b"230 in\r\n");
    let port = said(client.wrapping_add(8), Some(server), b"PORT 10,0,0,2,9,9\r\nPORT 10,0,0,2,");
    for (tap, segment) in [
        (Tap::ToServer, syn),
        (Tap::ToClient, answer),
        (Tap::ToClient, greeting),
        (Tap::ToServer, login),
        (Tap::ToClient, admitted),
        (Tap::ToServer, port),
    ] {
        let (from, to) =
            if tap == Tap::ToServer { (site.public, site.server) } else { (site.server, site.public) };
        let mut bytes = segment.encode(from, to);
        if let Verdict::LookUp(tuple) = engine.handle(Duration::from_secs(1), tap, &mut bytes).verdict {
            let view = ClientView { client: site.client.ip(), dialled: site.dialled.ip(), mark: 0 };
            engine.learn(tuple, Ok(view));
            engine.handle(Duration::from_secs(1), tap, &mut bytes);
        }
        engine.committed(site.tuple());
    }
    assert!(engine.sessions().all(|session| session.is_shifted));
    saved(&engine, &site.tuple()).unwrap()
}

/// One host cannot lock all others out of inspection, and what it had is free when it has gone.
#[test]
fn one_client_cannot_have_all_sessions() {
    let mut engine = Engine::new(policy(), 1);
    let begin = |engine: &mut Engine, number: u32, client: &str| {
        let public = SocketAddr::from((
            [203, 0, 113, u8::try_from(number >> 14).unwrap()],
            u16::try_from(1024 + (number & 0x3fff)).unwrap(),
        ));
        let tuple = ControlTuple { server: "192.168.77.121:21".parse().unwrap(), client: public };
        let syn = Segment { sequence: 1000, syn: true, ..Segment::default() };
        let mut bytes = syn.encode(tuple.client, tuple.server);
        engine.handle(Duration::from_secs(1), Tap::ToServer, &mut bytes);
        let view = ClientView { client: client.parse().unwrap(), dialled: tuple.server.ip(), mark: 0 };
        engine.learn(tuple, Ok(view));
        let departed = engine.session(&tuple).unwrap().departed;
        engine.committed(tuple);
        (tuple, departed)
    };
    let (first, _) = begin(&mut engine, 0, "10.0.0.2");
    for number in 1..MAX_SESSIONS_PER_CLIENT {
        assert_eq!(begin(&mut engine, number, "10.0.0.2").1, None, "{number}");
    }
    let refused = Some(Departure::TooManySessions);
    assert_eq!(begin(&mut engine, MAX_SESSIONS_PER_CLIENT, "10.0.0.2").1, refused);
    assert_eq!(engine.counters().overflow, 1);
    assert_eq!(begin(&mut engine, MAX_SESSIONS_PER_CLIENT + 1, "10.0.0.3").1, None);
    engine.forget(&first);
    assert_eq!(begin(&mut engine, MAX_SESSIONS_PER_CLIENT + 2, "10.0.0.2").1, None);
}

/// A host can have as many IPv6 addresses as its link has: its network counts.
#[test]
fn one_ipv6_network_cannot_have_all_sessions() {
    let mut engine = Engine::new(policy(), 1);
    let mut begin = |number: u32, network: &str| {
        let client = format!("{network}:{:x}:{:x}::1", number >> 16, number & 0xffff);
        let client = SocketAddr::new(client.parse().unwrap(), 40_000);
        let tuple = ControlTuple { server: "[2001:db8:f::21]:21".parse().unwrap(), client };
        let syn = Segment { sequence: 1000, syn: true, ..Segment::default() };
        engine.handle(Duration::from_secs(1), Tap::ToServer, &mut syn.encode(client, tuple.server));
        engine.learn(tuple, Ok(ClientView { client: client.ip(), dialled: tuple.server.ip(), mark: 0 }));
        let departed = engine.session(&tuple).unwrap().departed;
        engine.committed(tuple);
        departed
    };
    for number in 0..MAX_SESSIONS_PER_CLIENT {
        assert_eq!(begin(number, "2001:db8:0:1"), None, "{number}");
    }
    let refused = Some(Departure::TooManySessions);
    assert_eq!(begin(MAX_SESSIONS_PER_CLIENT, "2001:db8:0:1"), refused);
    assert_eq!(begin(0, "2001:db8:0:2"), None);
}
