//! What stands between lines and packets: positions, retransmissions, urgent data, sizes.

use ftpalg::engine::session::Tap;

use crate::conversation::{Conversation, Cut};
use crate::dice::Dice;
use crate::end::Config;
use crate::router::Site;
use crate::segment::Segment;

/// A session in which the client's stream has grown by three bytes.
fn shifted() -> Conversation {
    let mut talk = Conversation::new(Site::new(true, false)).login();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    talk
}

/// The client's next segment, not sent yet.
fn clients(talk: &Conversation, payload: &[u8]) -> Segment {
    let (sequence, acknowledgment) = talk.world.client.position();
    Segment {
        sequence,
        acknowledgment: Some(acknowledgment),
        window: 64240,
        payload: payload.to_vec(),
        ..Segment::default()
    }
}

fn passes(talk: &mut Conversation, tap: Tap, segment: Segment) -> Option<Segment> {
    let world = &mut talk.world;
    world.router.pass(world.now, tap, segment, &mut world.dice)
}

#[test]
fn sequence_numbers_wrap_at_every_byte_of_a_port() {
    let before = "USER a\r\nPASS b\r\n".len();
    for offset in 0..30 {
        let initial = u32::MAX.wrapping_sub(u32::try_from(before + offset).unwrap());
        for cut in [Cut::Whole, Cut::At(10), Cut::Bytewise] {
            let ends = |initial| Config { initial, ..Config::default() };
            let mut talk =
                Conversation::with(Site::new(true, true), ends(initial), ends(initial.wrapping_add(9)))
                    .login();
            talk.client_sends(b"PORT 10,0,0,2,19,137\r\n", cut);
            assert!(talk.server_reads_line().starts_with("PORT 203,0,113,1,"));
            talk.replies("200 ok\r\n", "200 ok\r\n");
            talk.exchange("NOOP\r\n", "200 ok\r\n");
            talk.closes();
        }
    }
}

#[test]
fn the_urgent_pointer_is_translated() {
    let mut talk = shifted();
    let segment = Segment { urgent: Some(3), ..clients(&talk, b"\xff\xf4\xff\xf2ABOR\r\n") };
    let out = passes(&mut talk, Tap::ToServer, segment.clone()).unwrap();
    assert_eq!((out.urgent, out.sequence), (Some(3), segment.sequence.wrapping_add(3)));
    assert_eq!(out.payload, segment.payload);

    let mut talk = shifted();
    let line = b"PORT 10,0,0,2,19,138\r\n";
    let segment = Segment { urgent: Some(22), ..clients(&talk, line) };
    let out = passes(&mut talk, Tap::ToServer, segment).unwrap();
    assert_eq!((out.urgent, out.payload.len()), (Some(25), line.len() + 3), "it points behind the line");
}

/// Whether an empty segment below what the server has goes on, which it answers with what it has.
fn asks(talk: &mut Conversation, segment: Segment) -> bool {
    let (_, has) = talk.world.server.position();
    let out = passes(talk, Tap::ToServer, segment).expect("a question");
    out.payload.is_empty() && !out.fin && out.sequence == has.wrapping_sub(1)
}

#[test]
fn a_retransmission_that_says_something_else_becomes_a_question() {
    let mut talk = Conversation::new(Site::new(false, false)).login();
    let first = clients(&talk, b"PORT 10,0,0,2,19,137\r\n");
    assert!(passes(&mut talk, Tap::ToServer, first.clone()).is_some());
    assert!(passes(&mut talk, Tap::ToServer, first.clone()).is_some(), "the same again");
    for other in
        [&b"PORT 10,0,0,2,0,25\r\nXX"[..], b"PORT 10,0,0,2,19,138\r\n", b"PORT 10,0,0,2,19,138\r\nNOOP\r\n"]
    {
        let forged = Segment { payload: other.to_vec(), ..first.clone() };
        assert!(asks(&mut talk, forged));
    }
    let longer = Segment { payload: b"PORT 10,0,0,2,19,137\r\nNOOP\r\n".to_vec(), ..first };
    assert!(passes(&mut talk, Tap::ToServer, longer).is_some(), "the same and more");
}

/// Its acknowledgment was lost, and the edit is forgotten: the text as it was sent is not what the server got, and whoever
/// else is on the path would take it for a forgery.
#[test]
fn what_was_edited_is_not_said_otherwise_later() {
    let line = b"PORT 10,0,0,2,19,137\r\n";
    let again = |talk: &Conversation, behind: &[u8]| {
        let mut segment = clients(talk, &[line, behind].concat());
        segment.sequence = segment.sequence.wrapping_sub(u32::try_from(line.len()).unwrap());
        segment
    };
    let mut talk = shifted();
    let (_, has) = talk.world.server.position();
    let segment = again(&talk, b"");
    for from in 0..line.len() {
        let mut part = segment.clone();
        part.sequence = part.sequence.wrapping_add(u32::try_from(from).unwrap());
        part.payload.drain(..from);
        assert!(asks(&mut talk, part));
    }
    let segment = again(&talk, b"NOOP\r\n");
    let out = passes(&mut talk, Tap::ToServer, segment).unwrap();
    assert_eq!((out.sequence, out.payload), (has, b"NOOP\r\n".to_vec()), "what is new goes on alone");

    let mut talk = shifted();
    let (_, has) = talk.world.server.position();
    let segment = Segment { fin: true, ..again(&talk, b"") };
    for _ in 0..2 {
        let out = passes(&mut talk, Tap::ToServer, segment.clone()).unwrap();
        assert_eq!((out.sequence, out.fin, out.payload), (has, true, b"".to_vec()), "and so does a FIN");
    }
}

#[test]
fn keepalives_pass() {
    let mut talk = shifted();
    for payload in [&b""[..], b"\0"] {
        let mut probe = clients(&talk, payload);
        probe.sequence = probe.sequence.wrapping_sub(1);
        assert!(asks(&mut talk, probe));
    }
    // Where acknowledgments pass unseen, the garbage byte can't be told from a contradiction.
    let mut talk = Conversation::new(Site::new(false, false)).login();
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    let mut probe = clients(&talk, b"\0");
    probe.sequence = probe.sequence.wrapping_sub(1);
    assert!(passes(&mut talk, Tap::ToServer, probe).is_some());
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    talk.closes();
}

/// RFC 9293, section 3.8.6.1: the probe is the next byte itself, and comes again and again.
#[test]
fn zero_window_probes_are_ordinary_bytes() {
    let mut talk = shifted();
    let probe = clients(&talk, b"P");
    for _ in 0..6 {
        let out = passes(&mut talk, Tap::ToServer, probe.clone()).unwrap();
        assert_eq!((out.sequence, out.payload), (probe.sequence.wrapping_add(3), b"P".to_vec()));
    }
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.closes();
}

#[test]
fn a_segment_out_of_order_waits_for_its_turn() {
    let mut talk = shifted();
    let mut ahead = clients(&talk, b"138\r\n");
    ahead.sequence = ahead.sequence.wrapping_add(17);
    for _ in 0..20 {
        assert!(passes(&mut talk, Tap::ToServer, ahead.clone()).is_none());
    }
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.closes();
}

#[test]
fn segments_out_of_the_window_change_nothing() {
    let mut talk = shifted();
    for off in [200_000_i32, -200_000, i32::MIN, i32::MAX] {
        let mut far = clients(&talk, b"PORT 10,0,0,2,19,138\r\n");
        far.sequence = far.sequence.wrapping_add_signed(off);
        for acknowledgment in [far.acknowledgment, Some(12345)] {
            far.acknowledgment = acknowledgment;
            // What is not read must not reach the server, whatever window it has.
            let out = passes(&mut talk, Tap::ToServer, far.clone());
            assert_eq!(out.map(|out| out.payload), (off < 0).then(|| far.payload.clone()), "{off}");
        }
    }
    talk.exchange("NOOP\r\n", "200 ok\r\n");
    assert_eq!(talk.world.router.opened.len(), 1);
    talk.closes();
}

/// RFC 9293, section 3.10.7.4; RFC 5961, section 5.2.
#[test]
fn what_the_receiver_would_not_look_at_is_not_read() {
    let mut talk = shifted();
    let honest = clients(&talk, b"PORT 10,0,0,2,19,138\r\n");
    let acknowledged = honest.acknowledgment.unwrap();
    for acknowledgment in [None, Some(acknowledged.wrapping_add(100_000)), Some(acknowledged ^ (1 << 31))] {
        let forged = Segment { acknowledgment, ..honest.clone() };
        assert!(passes(&mut talk, Tap::ToServer, forged).is_none(), "{acknowledgment:?}");
    }
    let mut reset = Segment { reset: true, ..honest };
    reset.sequence = reset.sequence.wrapping_sub(1);
    passes(&mut talk, Tap::ToServer, reset);
    assert_eq!(talk.world.router.kernel.expected.len(), 0);
    talk.says("PORT 10,0,0,2,19,139\r\n", "PORT 203,0,113,1,19,139\r\n");
    talk.closes();
}

/// An optimistic acknowledgment must not reach the client as one of bytes that it has not sent.
#[test]
fn an_acknowledgment_inside_a_replacement_covers_nothing_of_it() {
    let mut talk = Conversation::new(Site::new(true, false)).login();
    let line = clients(&talk, b"PORT 10,0,0,2,19,137\r\n");
    let out = passes(&mut talk, Tap::ToServer, line.clone()).unwrap();
    let (sequence, _) = talk.world.server.position();
    for (received, known) in [(0, 0), (5, 5), (6, 5), (18, 5), (23, 20), (25, 22)] {
        let acknowledgment = out.sequence.wrapping_add(received);
        let answer =
            Segment { sequence, acknowledgment: Some(acknowledgment), window: 64240, ..Segment::default() };
        let seen = passes(&mut talk, Tap::ToClient, answer).unwrap().acknowledgment.unwrap();
        assert_eq!(seen.wrapping_sub(line.sequence), known, "{received} received");
    }
}

#[test]
fn a_full_segment_does_not_grow() {
    for mss in [88, 512, 536, 1460] {
        let client = Config { mss, ..Config::default() };
        let mut talk = Conversation::with(Site::new(true, false), client, Config::default()).login();
        let filler = "x".repeat(mss - 4 - 2 - 22);
        talk.says(
            format!("CWD {filler}\r\nPORT 10,0,0,2,19,137\r\n"),
            format!("CWD {filler}\r\nPORT 203,0,113,1,19,137\r\n"),
        );
        talk.replies("250 ok\r\n200 ok\r\n", "250 ok\r\n200 ok\r\n");
        assert_eq!(talk.open_ports(), [5001]);
        talk.closes();
    }
    let mut talk = shifted();
    let filler = "x".repeat(1460 - 4 - 2 - 22);
    let segment = clients(&talk, format!("CWD {filler}\r\nPORT 10,0,0,2,19,138\r\n").as_bytes());
    let segment = Segment { fin: true, push: true, ..segment };
    let out = passes(&mut talk, Tap::ToServer, segment).unwrap();
    assert_eq!((out.payload.len(), out.fin, out.push), (1460, false, false), "its end was cut off");
}

#[test]
fn overlong_lines_pass_and_open_nothing() {
    let mut talk = shifted();
    let name = "y".repeat(5000);
    talk.exchange(&format!("STOR {name}\r\n"), "553 no\r\n");
    talk.exchange(&format!("PORT 10,0,0,2,19,138{}\r\n", " ".repeat(600)), "200 ok\r\n");
    talk.exchange(&format!("PORT{}10,0,0,2,19,138\r\n", " ".repeat(600)), "200 ok\r\n");
    talk.exchange("NOOP\r\n", &format!("200 {name}\r\n"));
    assert_eq!(talk.world.router.opened.len(), 1, "only the first");
    talk.says("PORT 10,0,0,2,19,139\r\n", "PORT 203,0,113,1,19,139\r\n");
    talk.closes();
}

#[test]
fn sack_blocks_survive_a_lossy_hop_behind_the_router() {
    for seed in 0..40 {
        let mut talk = shifted();
        talk.world.dice = Dice::new(seed);
        talk.world.disorder.loss = 250;
        for port in 0..6 {
            talk.client_sends(format!("PORT 10,0,0,2,20,{port}\r\n").as_bytes(), Cut::At(9));
        }
        for _ in 0..6 {
            assert!(talk.server_reads_line().starts_with("PORT 203,0,113,1,"));
        }
        talk.world.disorder.loss = 0;
        talk.closes();
    }
}

/// A keepalive, or a probe of a closed window, is answered because it lies below what its receiver expects.
#[test]
fn a_probe_behind_a_cut_address_is_answered() {
    let text = b"PORT 10,0,0,2,19,137\r\n";
    for cut in 1..text.len() {
        let mut talk = Conversation::new(Site::new(true, false)).login();
        talk.client_sends(&text[..cut], Cut::Whole);
        talk.world.run_until("the acknowledgment", |world| world.client.all_acknowledged());
        let expected = talk.world.server.position().1;
        let keepalive = clients(&talk, b"");
        let probe = Segment { sequence: keepalive.sequence.wrapping_sub(1), ..keepalive };
        let out = passes(&mut talk, Tap::ToServer, probe);
        let below = out.map(|out| expected.wrapping_sub(out.sequence));
        assert!(matches!(below, Some(1..100)), "{cut}: {below:?}");
    }
}
