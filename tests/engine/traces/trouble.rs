//! The daemon is killed, away, refused by the kernel, or passed by.

use ftpalg::engine::session::{Session, Tap};

use crate::conversation::{Conversation, Cut};
use crate::router::Site;
use crate::segment::Segment;
use crate::world::World;

fn behind_nat() -> Conversation {
    Conversation::new(Site::new(true, true)).login()
}

/// What is said now passes while the daemon is dead.
fn unattended(talk: &mut Conversation, exchange: impl FnOnce(&mut Conversation)) {
    talk.world.router.away_until = u64::MAX;
    exchange(talk);
    talk.world.router.away_until = 0;
    talk.world.router.restart();
}

#[test]
fn killed_in_the_middle_of_a_port() {
    let text = b"PORT 10,0,0,2,19,137\r\n";
    for at in 1..text.len() {
        let mut talk = behind_nat();
        talk.client_sends(&text[..at], Cut::Bytewise);
        talk.world.run_until("the first part", |world| world.client.all_acknowledged());
        talk.world.router.restart();
        talk.client_sends(&text[at..], Cut::Bytewise);
        assert!(talk.server_reads_line().starts_with("PORT 203,0,113,1,"), "at {at}");
        talk.world.router.restart();
        talk.replies("200 ok\r\n", "200 ok\r\n");
        assert_eq!(talk.open_ports().len(), 1, "at {at}");
        talk.world.router.restart();
        talk.exchange("RETR x\r\n", "150 here\r\n226 done\r\n");
        assert!(talk.open_ports().is_empty(), "at {at}");
        talk.closes();
    }
}

#[test]
fn killed_between_question_and_answer() {
    let mut talk = behind_nat();
    talk.says("PASV\r\n", "PASV\r\n");
    talk.world.router.restart();
    talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (203,0,113,9,19,137)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.world.router.restart();
    let now = std::time::Duration::from_millis(talk.world.now);
    assert_eq!(talk.world.router.engine.open_pinholes(now).len(), 1);
    talk.closes();
}

#[test]
fn what_passed_while_the_daemon_was_away_is_adopted() {
    let mut talk = behind_nat();
    unattended(&mut talk, |talk| {
        talk.exchange("CWD x\r\n", "250 ok\r\n");
        talk.exchange("PORT 10,0,0,2,19,137\r\n", "500 not yours\r\n");
        talk.says("TYPE I\r\n", "TYPE I\r\n");
    });
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.logged("after a gap");
    assert_eq!(talk.open_ports(), [5002]);
    talk.says("PASV\r\n", "PASV\r\n");
    talk.replies("227 (192,168,77,121,19,139)\r\n", "227 (203,0,113,9,19,139)\r\n");
    assert_eq!(talk.open_ports(), [5003]);
    talk.closes();
}

#[test]
fn more_than_a_window_passed_while_the_daemon_was_away() {
    let mut talk = behind_nat();
    unattended(&mut talk, |talk| {
        let name = "z".repeat(1000);
        for _ in 0..80 {
            talk.exchange(&format!("CWD {name}\r\n"), &format!("250 {name}\r\n"));
        }
    });
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
}

/// The line passed, its acknowledgment did not: were the retransmission edited, the server's stream would no longer
/// fit the client's.
#[test]
fn a_retransmission_of_what_passed_is_not_edited() {
    let mut talk = behind_nat();
    talk.client_sends(b"PORT 10,0,0,2,19,137\r\n", Cut::Whole);
    talk.world.router.away_until = u64::MAX;
    talk.world.run_until("the line", |world| world.server.received().ends_with(b"137\r\n"));
    talk.world.router.away_until = 0;
    talk.world.router.restart();
    let (sequence, acknowledgment) = talk.world.client.position();
    let again = Segment {
        sequence: sequence.wrapping_sub(22),
        acknowledgment: Some(acknowledgment),
        window: 64240,
        payload: b"PORT 10,0,0,2,19,137\r\n".to_vec(),
        ..Segment::default()
    };
    let world = &mut talk.world;
    assert_eq!(world.router.pass(world.now, Tap::ToServer, again, &mut world.dice), None, "once");
    talk.server_reads(b"PORT 10,0,0,2,19,137\r\n");
    talk.replies("500 not yours\r\n", "500 not yours\r\n");
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
}

/// The client has the line as it was, and its acknowledgment was lost: the edit of the retransmission would come too
/// late. It waits, and the client is asked.
#[test]
fn nothing_is_edited_before_its_receiver_has_said_what_it_has() {
    let mut talk = behind_nat();
    talk.says("PASV\r\n", "PASV\r\n");
    talk.world.router.away_until = u64::MAX;
    talk.server_sends(b"227 (192,168,77,121,19,137)\r\n", Cut::Whole);
    talk.world.run_until("the line", |world| world.client.received().ends_with(b"137)\r\n"));
    talk.world.router.away_until = 0;
    talk.world.router.restart();
    talk.world.disorder.loss = 1000;
    talk.world.step();
    talk.world.disorder.loss = 0;
    talk.world.run_until("a question and its answer", |world| world.server.all_acknowledged());
    talk.client_reads(b"227 (192,168,77,121,19,137)\r\n");
    talk.logged("after a gap");
    talk.says("PASV\r\n", "PASV\r\n");
    talk.replies("227 (192,168,77,121,19,138)\r\n", "227 (203,0,113,9,19,138)\r\n");
    talk.closes();
}

/// The daemon is killed again while it waits for an answer.
#[test]
fn a_question_outlives_the_daemon() {
    let mut talk = behind_nat();
    unattended(&mut talk, |talk| talk.exchange("NOOP\r\n", "200 ok\r\n"));
    talk.client_sends(b"PORT 10,0,0,2,19,137\r\n", Cut::Whole);
    talk.world.run_until("a question", |world| !world.router.kernel.shifted.is_empty());
    talk.world.router.restart();
    talk.server_reads(b"PORT 203,0,113,1,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.closes();
}

/// What needs no edit after all lets the session off again.
#[test]
fn a_session_that_was_asked_is_not_held_on_to() {
    let mut talk = behind_nat();
    unattended(&mut talk, |talk| talk.exchange("NOOP\r\n", "200 ok\r\n"));
    talk.exchange("CWD x\r\n", "250 ok\r\n");
    talk.exchange("CWD y\r\n", "250 ok\r\n");
    assert!(talk.world.router.kernel.shifted.is_empty());
    assert_eq!(talk.world.router.kernel.control.len(), 1);
    talk.closes();
}

/// The end of a line that passed while the daemon was away is no line, whatever it looks like.
#[test]
fn the_rest_of_a_line_that_passed_is_not_judged() {
    for rest in [&b"RT 10,0,0,2,19,137\r\n"[..], b"PORT 10,0,0,2,19,137"] {
        let mut talk = behind_nat();
        talk.world.router.away_until = u64::MAX;
        talk.client_sends(b"CWD ", Cut::Whole);
        talk.server_reads(b"CWD ");
        talk.world.router.away_until = 0;
        talk.world.router.restart();
        talk.client_sends(rest, Cut::Whole);
        talk.server_reads(rest);
        talk.says("\r\n", "\r\n");
        talk.replies("200 ok\r\n", "200 ok\r\n");
        assert!(talk.open_ports().is_empty());
        talk.closes();
    }
}

/// A flush of the firewall lets packets pass for a moment, though the daemon lives.
#[test]
fn what_passed_beside_a_living_daemon_is_adopted() {
    let mut talk = behind_nat();
    talk.world.router.away_until = u64::MAX;
    talk.exchange("CWD x\r\n", "250 ok\r\n");
    talk.world.router.away_until = 0;
    talk.world.router.engine.was_passed_by();
    talk.exchange("CWD y\r\n", "250 ok\r\n");
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
}

/// The end of a line passed as well, and waits there behind a gap: with another address in it, the line would run into its own
/// end.
#[test]
fn a_line_whose_end_has_passed_is_left_as_it_is() {
    let mut talk = behind_nat();
    let (sequence, acknowledgment) = talk.world.client.position();
    let world = &mut talk.world;
    world.router.engine.was_passed_by();
    let (command, line, end) = (b"CWD x\r", b"\nPORT 10,0,0,2,", b"19,137\r\n");
    let after = |bytes: usize| sequence.wrapping_add(u32::try_from(bytes).unwrap());
    let gap = command.len()..command.len() + line.len();
    let edges = [after(gap.end), after(gap.end + end.len())];
    let reply = Segment {
        sequence: acknowledgment,
        acknowledgment: Some(after(gap.start)),
        window: 64240,
        options: [1, 1, 5, 10].into_iter().chain(edges.into_iter().flat_map(u32::to_be_bytes)).collect(),
        payload: b"250 ok\r\n".to_vec(),
        ..Segment::default()
    };
    assert!(world.router.pass(world.now, Tap::ToClient, reply, &mut world.dice).is_some());
    let segment = Segment {
        sequence: after(gap.start),
        acknowledgment: Some(acknowledgment.wrapping_add(8)),
        window: 64240,
        payload: line.to_vec(),
        ..Segment::default()
    };
    let out = world.router.pass(world.now, Tap::ToServer, segment, &mut world.dice).unwrap();
    assert_eq!(out.payload, line);
}

/// The reply passed unseen, and before its acknowledgment is seen, the other direction is shifted.
#[test]
fn one_direction_is_adopted_after_the_other_was_shifted() {
    let mut talk = behind_nat();
    talk.world.router.away_until = u64::MAX;
    talk.server_sends(b"226 late\r\n", Cut::Whole);
    while talk.world.router.passed_unseen == 0 {
        talk.world.step();
    }
    talk.world.router.away_until = 0;
    talk.world.router.restart();
    talk.client_sends(b"PORT 10,0,0,2,19,138\r\n", Cut::Whole);
    let line = talk.server_reads_line();
    assert_eq!(line, "PORT 203,0,113,1,19,138\r\n");
    talk.client_reads(b"226 late\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    talk.closes();
}

#[test]
fn refused_once_it_is_asked_again() {
    let mut talk = behind_nat();
    talk.client_sends(b"PORT 10,0,0,2,19,137\r\n", Cut::Whole);
    talk.world.router.refuses = true;
    talk.world.run_until("a retransmission", |world| world.client.retransmissions == 1);
    talk.world.router.refuses = false;
    talk.server_reads(b"PORT 203,0,113,1,19,137\r\n");
    talk.server_sends(b"200 ok\r\n", Cut::Whole);
    talk.world.router.refuses = true;
    talk.world.run_until("a retransmission", |world| world.server.retransmissions == 1);
    assert!(talk.open_ports().is_empty());
    talk.world.router.refuses = false;
    talk.client_reads(b"200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.closes();
}

#[test]
fn refused_for_good_the_conversation_goes_on_without() {
    for cut in [Cut::Whole, Cut::At(10), Cut::Bytewise] {
        let mut talk = behind_nat();
        talk.world.router.refuses = true;
        talk.client_sends(b"PORT 10,0,0,2,19,137\r\n", cut);
        talk.server_reads(b"PORT 10,0,0,2,19,137\r\n");
        talk.replies("200 ok\r\n", "200 ok\r\n");
        talk.says("PASV\r\n", "PASV\r\n");
        talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (192,168,77,121,19,137)\r\n");
        talk.exchange("QUIT\r\n", "221 bye\r\n");
        talk.logged("nftables did not take");
        talk.closes();
        assert!(talk.world.router.opened.is_empty());
    }
}

#[test]
fn a_shifted_session_outlives_a_kernel_that_refuses() {
    let mut talk = behind_nat();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.world.router.refuses = true;
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk.exchange("QUIT\r\n", "221 bye\r\n");
    talk.closes();
    assert_eq!(talk.world.router.opened.len(), 1);
    let now = talk.world.now;
    talk.world.router.tick(now + 31_000);
    assert!(talk.world.router.kernel.open.is_empty() && talk.world.router.kernel.shifted.is_empty());
}

/// A pinhole that was used must not be put back with what a flush took away, nor after a restart; another of the same key
/// is.
#[test]
fn a_used_pinhole_is_not_put_back() {
    let mut talk = behind_nat();
    let put_back = |talk: &Conversation| {
        talk.world.router.engine.open_pinholes(std::time::Duration::from_millis(talk.world.now))
    };
    for _ in 0..2 {
        talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
        talk.replies("200 ok\r\n", "200 ok\r\n");
        let open = put_back(&talk);
        assert_eq!(open.len(), 1);
        assert!(talk.world.router.engine.used(open[0].key).is_some());
        assert_eq!(put_back(&talk), []);
        // It is saved with the next packet at the latest.
        talk.exchange("RETR x\r\n", "150 here\r\n");
        talk.world.router.restart();
        assert_eq!(put_back(&talk), []);
    }
    talk.replies("226 done\r\n", "226 done\r\n");
    assert!(talk.open_ports().is_empty());
    talk.closes();
}

/// The client says what ends inspection, before it has said what it has of the server's stream.
#[test]
fn a_session_that_leaves_while_an_answer_is_awaited_is_not_held_up() {
    let mut talk = Conversation::new(Site::new(true, true)).connect();
    talk.world.router.restart();
    talk.client_sends(b"HELO\r\n", Cut::Whole);
    for _ in 0..4 {
        talk.world.step();
    }
    let World { now, server, router, dice, .. } = &mut talk.world;
    server.write(*now, b"421 busy\r\n");
    for segment in server.take_output() {
        assert!(router.pass(*now, Tap::ToClient, segment, dice).is_none(), "it waits");
    }
    assert!(router.engine.sessions().all(Session::is_watched));
    talk.server_reads(b"HELO\r\n");
    talk.logged("no FTP command");
    talk.client_reads(b"421 busy\r\n");
    talk.exchange("QUIT\r\n", "221 bye\r\n");
    talk.closes();
}
