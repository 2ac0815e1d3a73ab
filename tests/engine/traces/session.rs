//! How a session begins, leaves inspection, and ends.

use std::time::Duration;

use ftpalg::engine::Engine;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::session::Tap;

use crate::conversation::{Conversation, Cut};
use crate::router::Site;
use crate::segment::Segment;
use crate::world::Hop;

#[test]
fn an_accepted_auth_ends_inspection() {
    let mut talk = Conversation::new(Site::new(true, true)).connect();
    talk.exchange("AUTH GSSAPI\r\n", "504 no\r\n");
    talk.exchange("AUTH TLS\r\n", "234 go on\r\n");
    talk.logged("encrypted");
    assert!(talk.world.router.kernel.is_idle());
    assert_eq!(talk.world.router.engine.sessions().count(), 0);
    talk.exchange("PORT 10,0,0,2,19,137\r\n", "200 ok\r\n");
    talk.closes();
}

#[test]
fn a_shifted_session_is_translated_after_it_left_inspection() {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.exchange("AUTH TLS\r\n", "234 go on\r\n");
    assert!(talk.open_ports().is_empty());
    talk.exchange("PORT 10,0,0,2,19,137\r\n", "200 ok\r\n");
    talk.closes();
    let now = talk.world.now;
    talk.world.router.tick(now + 31_000);
    assert!(talk.world.router.kernel.shifted.is_empty());
}

#[test]
fn a_long_session_keeps_its_elements() {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    let engine = &mut talk.world.router.engine;
    let tuple = engine.sessions().next().unwrap().tuple;
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    // For a minute from the client's last word on the kernel has it among the new ones.
    assert_eq!(engine.tick(Duration::from_secs(14)), []);
    assert_eq!(engine.tick(Duration::from_secs(20)), [Change::Track(tuple)]);
    assert_eq!(engine.tick(hours(23)), []);
    assert_eq!(engine.tick(hours(25)), [Change::Track(tuple), Change::Shift(tuple)]);
    assert_eq!(engine.tick(hours(26)), []);
    assert_eq!(engine.tick(hours(50)).len(), 2);
}

/// A flush of the sets is told by what they should hold: not by what they never took.
#[test]
fn what_nftables_did_not_take_does_not_count_as_held() {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    let engine = &mut talk.world.router.engine;
    let is_held = |engine: &Engine, now| engine.sessions().next().unwrap().is_surely_held(now);
    let seconds = Duration::from_secs;
    assert!(is_held(engine, seconds(20)));
    let track = engine.tick(seconds(20));
    assert!(is_held(engine, seconds(3600)));
    engine.not_taken(&track);
    assert!(!is_held(engine, seconds(21)));
    let day = seconds(24 * 3600);
    assert_eq!(engine.tick(day), []);
    assert_eq!(engine.tick(seconds(21) + day), track);
    assert!(is_held(engine, seconds(22) + day));
}

/// What has waited for its greeting has few of its seconds left among the new ones.
#[test]
fn a_session_that_is_greeted_late_is_tracked_at_once() {
    for (wait, still_to_be_tracked) in [(0, 1), (20_000, 0)] {
        let mut talk = Conversation::new(Site::new(true, true)).shake_hands();
        talk.world.now += wait;
        talk.replies("220 hello\r\n", "220 hello\r\n");
        let later = Duration::from_millis(talk.world.now + 16_000);
        assert_eq!(talk.world.router.engine.tick(later).len(), still_to_be_tracked, "after {wait} ms");
    }
}

/// The kernel holds a connection for a minute from the client's last word on, the engine waits for the greeting twice as long.
#[test]
fn a_session_is_held_until_its_server_has_greeted() {
    let mut talk = Conversation::new(Site::new(true, true)).shake_hands();
    for _ in 0..115 {
        talk.world.now += 1000;
        talk.world.router.tick(talk.world.now);
    }
    talk.replies("220 hello\r\n", "220 hello\r\n");
    talk.exchange("USER a\r\n", "230 in\r\n");
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
}

#[test]
fn a_session_that_no_server_greets_ends() {
    let mut talk = Conversation::new(Site::new(true, true)).shake_hands();
    let world = &mut talk.world;
    let (tuple, engine) = (world.router.site.tuple(), &mut world.router.engine);
    let after = |seconds| Duration::from_millis(world.now) + Duration::from_secs(seconds);
    assert_eq!(engine.tick(after(32)), [Change::Track(tuple)]);
    assert_eq!(engine.tick(after(122)), [Change::Depart(tuple)]);
    assert_eq!(engine.sessions().count(), 0);
}

#[test]
fn what_is_not_ftp_is_let_go() {
    for first in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\n", b"\0\0\n", b"PORTAL 1\r\n"] {
        let mut talk = Conversation::new(Site::new(true, true)).connect();
        talk.says(first, first);
        talk.logged("no FTP command");
        talk.exchange("USER a\r\n", "230 in\r\n");
        talk.exchange("PORT 10,0,0,2,19,137\r\n", "200 ok\r\n");
        assert!(talk.world.router.opened.is_empty() && talk.world.router.kernel.is_idle());
        talk.closes();
    }
}

#[test]
fn a_server_that_does_not_greet_is_let_go() {
    for first in ["SSH-2.0-x\r\n", "421 full\r\n", "554 no\r\n"] {
        let mut talk = Conversation::new(Site::new(true, true));
        talk.world.client.connect(talk.world.now);
        talk.replies(first, first);
        talk.logged("was not 220");
        talk.closes();
    }
}

#[test]
fn an_unknown_connection_is_let_go() {
    let mut talk = Conversation::new(Site::new(true, true));
    talk.world.router.tracked = false;
    let mut talk = talk.connect();
    talk.logged("conntrack has no entry");
    talk.exchange("USER a\r\n", "230 in\r\n");
    assert!(talk.world.router.kernel.is_idle());
    talk.closes();
}

#[test]
fn a_delayed_greeting_and_commands_before_it() {
    let mut talk = Conversation::new(Site::new(true, true));
    talk.world.client.connect(talk.world.now);
    talk.says("USER a\r\nPASV\r\n", "USER a\r\nPASV\r\n");
    talk.replies("120 soon\r\n220 now\r\n", "120 soon\r\n220 now\r\n");
    talk.replies("230 in\r\n", "230 in\r\n");
    talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (203,0,113,9,19,137)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.closes();
}

#[test]
fn options_that_cannot_be_translated_are_taken_away() {
    let mut talk = Conversation::new(Site::new(true, true));
    let world = &mut talk.world;
    let options = vec![2, 4, 5, 180, 30, 12, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 34, 2, 4, 2];
    let syn = Segment { sequence: 9, syn: true, options, ..Segment::default() };
    let out = world.router.pass(world.now, Tap::ToServer, syn, &mut world.dice).unwrap();
    assert_eq!(out.options, [&[2, 4, 4, 196][..], &[1; 14], &[4, 2]].concat(), "and the MSS is lowered");
}

#[test]
fn a_signed_connection_is_left_alone() {
    let mut talk = Conversation::new(Site::new(true, true));
    let world = &mut talk.world;
    let options = [&[19, 18][..], &[7; 16], &[30, 2]].concat();
    let syn = Segment { sequence: 9, syn: true, options, ..Segment::default() };
    let answer = Segment { sequence: 99, acknowledgment: Some(10), ..syn.clone() };
    for (tap, segment) in [(Tap::ToServer, syn), (Tap::ToClient, answer)] {
        let out = world.router.pass(world.now, tap, segment.clone(), &mut world.dice).unwrap();
        assert_eq!(out, segment);
    }
    talk.logged("signed");
    assert!(talk.world.router.kernel.is_idle());
}

fn shifted() -> Conversation {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk
}

#[test]
fn an_rst_counts_only_in_its_place() {
    let mut talk = shifted();
    let (sequence, acknowledgment) = talk.world.client.position();
    let world = &mut talk.world;
    for off in [5, -5, 100_000, i32::MIN] {
        let reset =
            Segment { sequence: sequence.wrapping_add_signed(off), reset: true, ..Segment::default() };
        world.router.pass(world.now, Tap::ToServer, reset, &mut world.dice).unwrap();
        assert_eq!(world.router.kernel.open.len(), 1, "{off}");
    }
    let reset = Segment { sequence, acknowledgment: Some(acknowledgment), reset: true, ..Segment::default() };
    let out = world.router.pass(world.now, Tap::ToServer, reset, &mut world.dice).unwrap();
    assert_eq!(out.sequence, sequence.wrapping_add(3), "translated");
    assert!(world.router.kernel.open.is_empty());
    assert!(!world.router.kernel.shifted.is_empty(), "lingers");
    world.router.tick(world.now + 31_000);
    world.router.tick(world.now + 61_000);
    assert!(world.router.kernel.is_idle());
}

#[test]
fn a_forged_syn_changes_nothing() {
    let mut talk = shifted();
    let world = &mut talk.world;
    for initial in [1, 77, 1 << 31] {
        let syn = Segment { sequence: initial, syn: true, ..Segment::default() };
        world.router.pass(world.now, Tap::ToServer, syn, &mut world.dice).unwrap();
    }
    talk.exchange("RETR x\r\n", "150 here\r\n226 done\r\n");
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.closes();
    let world = &mut talk.world;
    world.router.tick(world.now + 31_000);
    assert_eq!(
        world.router.engine.sessions().count(),
        0,
        "no session comes of it when this one's time is over"
    );
}

/// The client was switched off, the server gave up: nobody has told the router.
#[test]
fn a_tuple_that_is_used_again_is_another_session() {
    for ends_first in [false, true] {
        let mut talk = shifted();
        if ends_first {
            talk.closes();
        }
        let mut again = talk.anew(0).login();
        assert!(again.open_ports().is_empty());
        assert!(again.world.router.kernel.shifted.is_empty());
        again.exchange("CWD x\r\n", "250 ok\r\n");
        again.says("PORT 10,0,0,2,19,139\r\n", "PORT 203,0,113,1,19,139\r\n");
        again.replies("200 ok\r\n", "200 ok\r\n");
        assert_eq!(again.open_ports(), [5003]);
        again.closes();
    }
}

/// The port is used again when the former session's time is over, and nobody has looked at the clock yet, or does so between
/// the SYN and its answer.
#[test]
fn a_tuple_that_is_used_again_when_its_session_expires_is_another_session() {
    for former in [shifted, || Conversation::new(Site::new(true, true)).login()] {
        for wait in (0..15_000).step_by(105).chain((29_900..31_100).step_by(5)) {
            let mut talk = former();
            talk.closes();
            let mut again = talk.anew(wait).login();
            again.says("PORT 10,0,0,2,19,139\r\n", "PORT 203,0,113,1,19,139\r\n");
            again.replies("200 ok\r\n", "200 ok\r\n");
            assert_eq!(again.open_ports(), [5003], "after {wait} ms");
            again.closes();
        }
    }
}

/// The SYN has passed the rules when the kernel is told to queue nothing more of the session before, and comes to the engine
/// afterwards.
#[test]
fn a_syn_that_waits_while_the_former_session_is_let_go_of_is_followed() {
    let over = |talk: &mut Conversation| talk.closes();
    let encrypted = |talk: &mut Conversation| talk.exchange("AUTH TLS\r\n", "234 go on\r\n");
    for changes_hands in [false, true] {
        syn_waits_meanwhile(over, 14_000, changes_hands);
        syn_waits_meanwhile(encrypted, 0, changes_hands);
    }
}

fn syn_waits_meanwhile(ends: impl FnOnce(&mut Conversation), wait: u64, changes_hands: bool) {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    ends(&mut talk);
    let mut again = talk.anew(wait);
    assert!(again.world.router.kernel.is_idle());
    if changes_hands {
        again.world.router.change_hands();
    }
    again.world.client.connect(again.world.now);
    while again.world.router.engine.sessions().count() == 0 {
        again.world.step();
    }
    again.world.router.kernel.control_new.clear();
    again.world.run_until("the handshake", |world| world.server.is_established());
    again.replies("220 ready\r\n", "220 ready\r\n");
    again.exchange("USER a\r\n", "230 in\r\n");
    again.says("PORT 10,0,0,2,19,139\r\n", "PORT 203,0,113,1,19,139\r\n");
    again.replies("200 ok\r\n", "200 ok\r\n");
    again.closes();
}

#[test]
fn either_end_may_close_first_and_fins_may_be_lost() {
    for client_first in [true, false] {
        let mut talk = shifted();
        talk.world.disorder.loss = 500;
        let world = &mut talk.world;
        let (now, first) = (world.now, if client_first { &mut world.client } else { &mut world.server });
        first.close(now);
        world.run_until("the first FIN", |world| {
            if client_first { world.server.peer_has_closed() } else { world.client.peer_has_closed() }
        });
        let (now, second) = (world.now, if client_first { &mut world.server } else { &mut world.client });
        second.close(now);
        world.run_until("the end", |world| world.client.is_done() && world.server.is_done());
        talk.logged("ended");
        assert!(talk.open_ports().is_empty());
    }
}

#[test]
fn a_repeated_syn_ack_does_not_begin_the_stream_anew() {
    let mut talk = Conversation::new(Site::new(true, true));
    talk.world.client.connect(talk.world.now);
    talk.world.run_until("the handshake", |world| world.client.is_established());
    talk.server_sends(b"220-part one\r\n", Cut::Whole);
    talk.client_reads(b"220-part one\r\n");
    let (initial, client) = (talk.world.server.config.initial, talk.world.client.config.initial);
    let answer = Segment {
        sequence: initial,
        acknowledgment: Some(client.wrapping_add(1)),
        syn: true,
        ..Segment::default()
    };
    talk.world.send(Hop::RouterFromServer, &answer);
    talk.world.settle();
    talk.replies("220 part two\r\n", "220 part two\r\n");
    talk.exchange("USER a\r\n", "230 in\r\n");
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.closes();
}

#[test]
fn a_half_closed_session_is_not_kept_for_days() {
    let mut talk = shifted();
    let now = talk.world.now;
    talk.world.server.close(now);
    talk.world.run_until("the FIN", |world| world.client.peer_has_closed());
    let now = talk.world.now;
    talk.world.router.tick(now + 100_000);
    assert_eq!(talk.world.router.engine.sessions().count(), 1);
    talk.world.router.tick(now + 130_000);
    assert_eq!(talk.world.router.engine.sessions().count(), 0);
    assert!(talk.open_ports().is_empty());
}
