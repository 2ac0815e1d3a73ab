//! PORT and EPRT.

use ftpalg::engine::session::Tap;

use crate::conversation::{Conversation, Cut};
use crate::end::Config;
use crate::router::Site;
use crate::segment::Segment;

fn behind_nat() -> Conversation {
    Conversation::new(Site::new(true, false)).login()
}

#[test]
fn a_port_opens_with_its_200_and_closes_with_its_226() {
    let mut talk = behind_nat();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    assert_eq!(talk.open_ports(), [0_u16; 0]);
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    let pinhole = *talk.world.router.kernel.open.values().next().unwrap();
    assert_eq!(pinhole.to, "10.0.0.2:5001".parse().unwrap());
    assert_eq!(pinhole.key.source, talk.world.router.site.server.ip());
    assert_eq!(pinhole.mark, 7);
    talk.exchange("RETR x\r\n", "150 here\r\n");
    talk.replies("226 done\r\n", "226 done\r\n");
    assert!(talk.open_ports().is_empty());
    talk.closes();
}

#[test]
fn a_port_that_the_server_refuses_opens_nothing() {
    let mut talk = behind_nat();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    assert_eq!(talk.world.router.kernel.expected.len(), 1);
    talk.replies("500 no\r\n", "500 no\r\n");
    assert!(talk.world.router.opened.is_empty() && talk.world.router.kernel.expected.is_empty());
    talk.closes();
}

#[test]
fn without_nat_nothing_is_edited_and_the_connection_is_not_shifted() {
    let mut talk = Conversation::new(Site::new(false, false)).login();
    talk.exchange("PORT 10,0,0,2,19,137\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.exchange("EPRT |1|10.0.0.2|5002|\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5002], "one data port at a time");
    assert!(talk.world.router.kernel.shifted.is_empty());
    talk.closes();
}

#[test]
fn eprt_is_rewritten_with_any_delimiter() {
    let mut talk = behind_nat();
    talk.says("eprt !1!10.0.0.2!5001!\r\n", "eprt !1!203.0.113.1!5001!\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.closes();
}

#[test]
fn a_cut_is_harmless_at_every_byte() {
    for text in ["PORT 10,0,0,2,19,137\r\n", "EPRT |1|10.0.0.2|5001|\r\n"] {
        for cut in (0..text.len()).map(Cut::At).chain([Cut::Bytewise]) {
            for nagle in [false, true] {
                let client = Config { nagle, ..Config::default() };
                let mut talk = Conversation::with(Site::new(true, false), client, Config::default()).login();
                talk.client_sends(text.as_bytes(), cut);
                let line = talk.server_reads_line();
                assert!(line.contains("203,0,113,1,") || line.contains("|203.0.113.1|"), "{cut:?}: {line}");
                talk.replies("200 ok\r\n", "200 ok\r\n");
                let open: Vec<_> = talk.world.router.kernel.open.values().copied().collect();
                assert_eq!(open.len(), 1, "{cut:?}");
                assert_eq!(open[0].to, "10.0.0.2:5001".parse().unwrap(), "{cut:?}");
                assert_eq!(talk.world.client.retransmissions, 0, "{cut:?}{}", talk.world.story());
                talk.closes();
            }
        }
    }
}

#[test]
fn a_cut_address_that_turns_out_invalid_is_refused_by_the_server() {
    for text in ["PORT 10,0,0,2,19,256\r\n", "PORT 10,0,0,3,19,137\r\n", "PORT 10,0,0,2,0,80\r\n"] {
        let mut talk = behind_nat();
        talk.client_sends(text.as_bytes(), Cut::At(12));
        let line = talk.server_reads_line();
        assert!(line.starts_with("PORT 203,0,113,1,") && line.ends_with(",refused\r\n"), "{line}");
        talk.replies("501 what?\r\n", "501 what?\r\n");
        talk.says("NOOP\r\n", "NOOP\r\n");
        talk.replies("200 ok\r\n", "200 ok\r\n");
        assert!(talk.world.router.opened.is_empty());
        talk.closes();
    }
}

#[test]
fn a_cut_address_of_a_third_party_is_not_promised_another() {
    let mut talk = behind_nat();
    talk.client_sends(b"PORT 198,51,100,9,19,137\r\n", Cut::At(14));
    talk.server_reads(b"PORT 198,51,100,9,19,137\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    let pinhole = *talk.world.router.kernel.open.values().next().unwrap();
    assert_eq!(pinhole.to, "198.51.100.9:5001".parse().unwrap());
    talk.closes();
}

#[test]
fn what_must_not_open_does_not() {
    for (command, reason) in [
        ("PORT 10,0,0,2,3,255\r\n", "below 1024"),
        ("PORT 10,0,0,3,19,137\r\n", "not the sender's own"),
        ("PORT 10,0,0,2,19,256\r\n", "not valid"),
        ("PORT 10,0,0,2,19,137 x\r\n", "not well formed"),
        ("PORT\r\n", "not valid"),
        ("EPRT |2|::1|5001|\r\n", "another family"),
        ("EPRT |1|10.0.0.2|70000|\r\n", "not valid"),
        ("EPRT |1|10.0.0.2|5001\r\n", "not well formed"),
    ] {
        let mut talk = behind_nat();
        talk.exchange(command, "200 ok\r\n");
        talk.logged(reason);
        assert!(talk.world.router.opened.is_empty(), "{command}");
        talk.closes();
    }
}

#[test]
fn nothing_opens_before_the_login() {
    let mut talk = Conversation::new(Site::new(true, true)).connect();
    talk.exchange("PORT 10,0,0,2,19,137\r\n", "200 ok\r\n");
    talk.exchange("PASV\r\n", "227 (192,168,77,121,19,137)\r\n");
    talk.logged("nobody is logged in");
    assert!(talk.world.router.opened.is_empty());
    talk.exchange("USER a\r\n", "230 in\r\n");
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    talk.exchange("REIN\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001], "REIN is not answered yet");
    talk.replies("220 again\r\n", "220 again\r\n");
    talk.exchange("PORT 10,0,0,2,19,138\r\n", "200 ok\r\n");
    assert!(talk.open_ports().is_empty());
    talk.closes();
}

/// The server's SYN to the external port that `behind_nat` hands out first. Returns whether it passes.
fn data_syn_passes(talk: &mut Conversation) -> bool {
    let syn = Segment { sequence: 5, syn: true, ..Segment::default() }
        .encode("192.168.77.121:20".parse().unwrap(), "203.0.113.1:5001".parse().unwrap());
    let world = &mut talk.world;
    world.router.queued(world.now, Tap::ToClient, syn, &mut world.dice).is_some()
}

#[test]
fn a_data_syn_waits_until_its_port_is_the_next_to_be_answered() {
    let mut talk = behind_nat();
    talk.says("NOOP\r\nPORT 10,0,0,2,19,137\r\n", "NOOP\r\nPORT 203,0,113,1,19,137\r\n");
    assert!(!data_syn_passes(&mut talk), "the server has not come to the PORT yet");
    assert!(talk.open_ports().is_empty());
    talk.replies("200 noop\r\n200 ok\r\n", "200 noop\r\n200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    assert!(data_syn_passes(&mut talk), "right behind the 200");
    talk.closes();
}

#[test]
fn a_server_that_connects_before_it_replies_has_consented() {
    let mut talk = behind_nat();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    assert!(talk.open_ports().is_empty());
    assert!(data_syn_passes(&mut talk));
    assert_eq!(talk.open_ports(), [5001]);
    talk.replies("200 connected\r\n", "200 connected\r\n");
    assert_eq!(talk.open_ports(), [5001], "opened once");
    assert_eq!(talk.world.router.opened.len(), 1);
    talk.closes();
}

#[test]
fn a_server_that_connects_before_it_replies_may_have_left_an_abor_unanswered() {
    let mut talk = behind_nat();
    talk.exchange("PASV\r\n", "227 (192,168,77,121,20,1)\r\n");
    talk.exchange("RETR x\r\n", "150 here\r\n");
    talk.exchange("ABOR\r\n", "225 aborted\r\n");
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    assert!(data_syn_passes(&mut talk));
    assert_eq!(talk.open_ports(), [5001]);
    talk.replies("425 can't connect\r\n", "425 can't connect\r\n");
    assert!(talk.open_ports().is_empty());
    talk.says("PORT 10,0,0,2,19,138\r\n", "PORT 203,0,113,1,19,138\r\n");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
}

#[test]
fn a_login_that_rein_has_taken_back_opens_nothing_whatever_its_code() {
    for reply in ["220 ready\r\n", "230 Ready for new user.\r\n", "200 fine\r\n"] {
        let mut talk = behind_nat();
        talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
        talk.replies("200 ok\r\n", "200 ok\r\n");
        talk.exchange("REIN\r\n", reply);
        assert!(talk.open_ports().is_empty(), "{reply}");
        talk.exchange("PORT 10,0,0,2,19,138\r\n", "200 ok\r\n");
        assert!(talk.open_ports().is_empty(), "{reply}");
        talk.closes();
    }
}

#[test]
fn a_refusal_closes_what_the_server_s_syn_had_opened() {
    let mut talk = behind_nat();
    talk.says("PORT 10,0,0,2,19,137\r\n", "PORT 203,0,113,1,19,137\r\n");
    assert!(data_syn_passes(&mut talk));
    talk.replies("425 can't connect\r\n", "425 can't connect\r\n");
    assert!(talk.open_ports().is_empty());
    talk.closes();
}

#[test]
fn commands_sent_ahead_open_one_after_the_other() {
    let mut talk = behind_nat();
    talk.says(
        "NOOP\r\nPORT 10,0,0,2,19,137\r\nRETR a\r\nPORT 10,0,0,2,19,138\r\nRETR b\r\n",
        "NOOP\r\nPORT 203,0,113,1,19,137\r\nRETR a\r\nPORT 203,0,113,1,19,138\r\nRETR b\r\n",
    );
    talk.replies("200 noop\r\n200 ok\r\n", "200 noop\r\n200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.replies("150 a\r\n226 a\r\n200 ok\r\n150 b\r\n", "150 a\r\n226 a\r\n200 ok\r\n150 b\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.replies("226 b\r\n", "226 b\r\n");
    assert!(talk.open_ports().is_empty());
    talk.closes();
}

#[test]
fn the_same_port_twice_is_held_until_both_are_answered() {
    let mut talk = behind_nat();
    talk.says(
        "PORT 10,0,0,2,19,137\r\nPORT 10,0,0,2,19,137\r\n",
        "PORT 203,0,113,1,19,137\r\nPORT 203,0,113,1,19,137\r\n",
    );
    talk.replies("500 no\r\n", "500 no\r\n");
    assert_eq!(talk.world.router.kernel.expected.len(), 1, "the second still waits");
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.closes();
}

#[test]
fn a_hundred_ports_in_one_segment() {
    let client = Config { mss: 4000, ..Config::default() };
    let mut talk = Conversation::with(Site::new(true, false), client, Config::default()).login();
    let text: String = (0..100).map(|port| format!("PORT 10,0,0,2,19,{port}\r\n")).collect();
    talk.client_sends(text.as_bytes(), Cut::Whole);
    for port in 0..100 {
        let line = talk.server_reads_line();
        let address = if port < 8 { "203,0,113,1" } else { "10,0,0,2" };
        assert_eq!(line, format!("PORT {address},19,{port}\r\n"));
    }
    talk.logged("too many unanswered PORT commands");
    talk.replies("200 ok\r\n".repeat(100), "200 ok\r\n".repeat(100));
    assert_eq!(talk.open_ports(), [19 * 256 + 7]);
    talk.closes();
}

#[test]
fn ports_far_ahead_of_their_acknowledgments_wait_for_them() {
    let client = Config { mss: 600, ..Config::default() };
    let mut talk = Conversation::with(Site::new(true, true), client, Config::default()).login();
    for round in 0..40_u16 {
        let text: String = (0..8).map(|port| format!("PORT 10,0,0,2,{},{port}\r\n", 20 + round)).collect();
        let read = text.replace("10,0,0,2", "203,0,113,1");
        talk.says(text, read);
        talk.replies("200 ok\r\n".repeat(8), "200 ok\r\n".repeat(8));
    }
    talk.closes();
}

#[test]
fn a_session_of_many_transfers_in_both_modes() {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    for round in 0..60 {
        talk.says(format!("PORT 10,0,0,2,30,{round}\r\n"), format!("PORT 203,0,113,1,30,{round}\r\n"));
        talk.replies("200 ok\r\n", "200 ok\r\n");
        talk.exchange("RETR x\r\n", "150 here\r\n226 done\r\n");
        talk.says("PASV\r\n", "PASV\r\n");
        talk.replies(
            format!("227 Entering Passive Mode (192,168,77,121,31,{round}).\r\n"),
            format!("227 Entering Passive Mode (203,0,113,9,31,{round}).\r\n"),
        );
        talk.exchange("STOR x\r\n", "150 here\r\n226 done\r\n");
    }
    assert_eq!(talk.world.router.opened.len(), 120);
    assert_eq!(talk.world.client.retransmissions + talk.world.server.retransmissions, 0);
    talk.closes();
}

/// As a whole line would: what is on its way when the login is taken back opens nothing.
#[test]
fn a_line_that_is_cut_does_not_outlive_the_login() {
    let mut talk = Conversation::new(Site::new(true, true)).login();
    talk.client_sends(b"REIN\r\nPORT 10,0", Cut::Whole);
    assert_eq!(talk.server_reads_line(), "REIN\r\n");
    talk.replies("220 ready\r\n", "220 ready\r\n");
    talk.client_sends(b",0,2,19,137\r\n", Cut::Whole);
    talk.server_reads_line();
    talk.replies("200 ok\r\n", "200 ok\r\n");
    assert!(talk.world.router.opened.is_empty(), "{:?}", talk.world.router.opened);
    talk.logged("nobody is logged in");
    talk.closes();
}
