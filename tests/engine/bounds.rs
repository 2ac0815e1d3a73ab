//! What happens where something would grow beyond its bound.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::session::Tap;
use ftpalg::engine::{Decision, Engine, MAX_SESSIONS, Verdict, give_back};

use crate::conversation::{Conversation, Cut};
use crate::router::{Site, policy};
use crate::segment::Segment;

fn begins(engine: &mut Engine, now: u64, number: usize) -> Decision {
    let client = SocketAddr::from(([10, 0, 0, 2], 1024 + u16::try_from(number % 60_000).unwrap()));
    let server = SocketAddr::from(([192, 0, 2, 1 + u8::try_from(number / 60_000).unwrap()], 21));
    let syn = Segment { syn: true, ..Segment::default() };
    engine.handle(Duration::from_secs(now), Tap::ToServer, &mut syn.encode(client, server))
}

#[test]
fn sessions_beyond_the_bound_pass_and_are_counted() {
    let mut engine = Engine::new(policy(), 1);
    for number in 0..MAX_SESSIONS {
        assert!(begins(&mut engine, 1, number).session.is_some());
    }
    let decision = begins(&mut engine, 1, MAX_SESSIONS);
    assert_eq!((decision.verdict, decision.session), (Verdict::Pass, None));
    assert!(matches!(decision.changes[..], [Change::Depart(_)]), "nothing of it is queued any more");
    assert_eq!((engine.sessions().count(), engine.counters().overflow), (MAX_SESSIONS, 1));
    // Those that nobody greets are gone after two minutes, and others find room.
    assert_eq!(engine.tick(Duration::from_secs(130)).len(), MAX_SESSIONS);
    assert_eq!(engine.sessions().count(), 0);
    assert!(begins(&mut engine, 131, MAX_SESSIONS).session.is_some());
}

#[test]
fn workers_share_the_bound() {
    let mut engine = Engine::new(policy(), 1);
    engine.share_room(4);
    for number in 0..=MAX_SESSIONS / 4 {
        begins(&mut engine, 1, number);
    }
    assert_eq!((engine.sessions().count(), engine.counters().overflow), (MAX_SESSIONS / 4, 1));
}

#[test]
fn no_two_engines_that_share_a_log_give_the_same_number() {
    let mut engines: Vec<_> = (0..3).map(|_| Engine::new(policy(), 1)).collect();
    for (index, engine) in (0..).zip(&mut engines) {
        engine.share_numbers(index, 3);
        engine.number_sessions_from(1000);
        for number in 0..100 {
            begins(engine, 1, number);
        }
    }
    let numbers: Vec<_> = engines.iter().flat_map(Engine::sessions).map(|session| session.id).collect();
    assert!(numbers.iter().all(|number| *number > 1000), "{numbers:?}");
    assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), 300, "{numbers:?}");
}

#[test]
fn a_session_asks_for_eight_ports_at_once() {
    let mut talk = Conversation::new(Site::new(false, false)).login();
    for port in 1..=9 {
        let line = format!("PORT 10,0,0,2,200,{port}\r\n");
        talk.says(&line, &line);
    }
    talk.logged("too many unanswered PORT commands");
    assert_eq!(talk.world.router.kernel.expected.len(), 8);
    for _ in 1..=9 {
        talk.replies("200 ok\r\n", "200 ok\r\n");
    }
    assert_eq!(talk.open_ports(), [200 * 256 + 8], "the last of those that were asked for");
    let line = "PORT 10,0,0,2,200,10\r\n";
    talk.exchange(line, "200 ok\r\n");
    assert_eq!(talk.open_ports(), [200 * 256 + 10]);
}

#[test]
fn who_loses_count_of_replies_opens_nothing_more() {
    let mut talk = Conversation::new(Site::new(false, false)).login();
    for _ in 0..100 {
        talk.says("RETR x\r\nNOOP\r\nRETR y\r\n", "RETR x\r\nNOOP\r\nRETR y\r\n");
    }
    talk.logged("too many commands wait for their replies");
    talk.says("PORT 10,0,0,2,200,1\r\n", "PORT 10,0,0,2,200,1\r\n");
    for _ in 0..400 {
        talk.replies("200 ok\r\n", "200 ok\r\n");
    }
    assert!(talk.open_ports().is_empty());
}

#[test]
fn a_port_whose_reply_comes_too_late_does_not_open() {
    let mut talk = Conversation::new(Site::new(true, false)).login();
    talk.client_sends(b"PORT 10,0,0,2,200,1\r\n", Cut::Whole);
    assert_eq!(talk.server_reads_line(), "PORT 203,0,113,1,200,1\r\n");
    talk.world.now += 91_000;
    talk.world.router.tick(talk.world.now);
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.logged("too late");
    assert!(talk.open_ports().is_empty());
}

#[test]
fn a_flood_of_refusals_is_told_up_to_a_bound() {
    let mut talk = Conversation::new(Site::new(false, false)).login();
    for _ in 0..40 {
        let lines = "PORT 10,0,0,9,200,1\r\n".repeat(10);
        talk.says(&lines, &lines);
        let replies = "500 no\r\n".repeat(10);
        talk.replies(&replies, &replies);
    }
    let log = talk.world.router.log();
    assert_eq!(log.iter().filter(|line| line.contains("not opened for \"PORT")).count(), 100);
    assert_eq!(log.iter().filter(|line| line.contains("no longer told")).count(), 1);
    assert_eq!(talk.world.router.engine.counters().refused.total(), 400);
}

/// What is expected must be put back after a firewall reload, and only that: nftables takes all of it or nothing.
#[test]
fn what_was_expected_long_ago_is_not_put_back() {
    let mut talk = Conversation::new(Site::new(true, false)).login();
    talk.client_sends(b"PORT 10,0,0,2,200,1\r\n", Cut::Whole);
    talk.server_reads_line();
    let router = &talk.world.router;
    let at = |seconds: u64| Duration::from_millis(talk.world.now) + Duration::from_secs(seconds);
    let expected = router.engine.expected_pinholes(at(20));
    assert_eq!(expected.len(), 1);
    assert!(expected[0].1 <= Duration::from_secs(40));
    assert!(router.engine.expected_pinholes(at(61)).is_empty());
}

#[test]
fn a_map_gives_its_memory_back() {
    let tuple = |number: u32| ControlTuple {
        server: "192.0.2.1:21".parse().unwrap(),
        client: (Ipv4Addr::from_bits(number), 1024).into(),
    };
    let mut map: HashMap<_, _> = (0..50_000).map(|number| (tuple(number), ())).collect();
    let full = map.capacity();
    give_back(&mut map);
    assert_eq!(map.capacity(), full);
    map.retain(|tuple, ()| tuple.client.ip() < IpAddr::from([0, 0, 0, 100]));
    give_back(&mut map);
    assert_eq!((map.len(), map.capacity() < 1024), (100, true));
}

/// SYNs with forged sources, each of which the server answers.
#[test]
fn what_the_client_has_not_answered_does_not_hold_its_room() {
    let mut engine = Engine::new(policy(), 1);
    engine.share_room(64);
    for number in 0..MAX_SESSIONS / 64 {
        let decision = begins(&mut engine, 1, number);
        let (tuple, _) = decision.session.unwrap();
        let answer = Segment { syn: true, acknowledgment: Some(1), sequence: 7, ..Segment::default() };
        engine.handle(Duration::from_secs(1), Tap::ToClient, &mut answer.encode(tuple.server, tuple.client));
    }
    assert!(begins(&mut engine, 1, MAX_SESSIONS).session.is_none());
    // Of one of them conntrack says that it is established: its server greets late.
    let slow = engine.sessions().next().unwrap().tuple;
    for second in 2..18 {
        let now = Duration::from_secs(second);
        for tuple in engine.look_through(now).silent.into_iter().filter(|tuple| *tuple != slow) {
            engine.is_half_open(&tuple, now);
        }
        while engine.next_portion(now).is_some() {}
    }
    assert_eq!(engine.sessions().map(|session| session.tuple).collect::<Vec<_>>(), [slow]);
    assert!(begins(&mut engine, 18, MAX_SESSIONS).session.is_some());
}
