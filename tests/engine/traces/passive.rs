//! 227 and 229.

use crate::conversation::{Conversation, Cut};
use crate::router::Site;

fn published() -> Conversation {
    Conversation::new(Site::new(false, true)).login()
}

#[test]
fn a_227_is_rewritten_and_opens() {
    for (text, read) in [
        (
            "227 Entering Passive Mode (192,168,77,121,19,137).\r\n",
            "227 Entering Passive Mode (203,0,113,9,19,137).\r\n",
        ),
        ("227 =192,168,77,121,19,137\r\n", "227 =203,0,113,9,19,137\r\n"),
        ("227 v2 on 7 (192,168,77,121,19,137)\r\n", "227 v2 on 7 (203,0,113,9,19,137)\r\n"),
        ("227 192,168,77,121,19,137\n", "227 203,0,113,9,19,137\n"),
    ] {
        let mut talk = published();
        talk.says("PASV\r\n", "PASV\r\n");
        talk.replies(text, read);
        assert_eq!(talk.open_ports(), [5001]);
        let pinhole = *talk.world.router.kernel.open.values().next().unwrap();
        assert_eq!(pinhole.to, "192.168.77.121:5001".parse().unwrap());
        assert_eq!(pinhole.key.source, talk.world.router.site.client.ip());
        talk.closes();
    }
}

#[test]
fn a_cut_is_harmless_at_every_byte() {
    for text in
        ["227 Entering Passive Mode (192,168,77,121,19,137).\r\n", "227 v2 on 7 (192,168,77,121,19,137)\r\n"]
    {
        for cut in (0..text.len()).map(Cut::At).chain([Cut::Bytewise]) {
            let mut talk = published();
            talk.says("PASV\r\n", "PASV\r\n");
            talk.server_sends(text.as_bytes(), cut);
            let line = talk.client_reads_line();
            assert!(line.contains("(203,0,113,9,"), "{cut:?}: {line}");
            let open: Vec<_> = talk.world.router.kernel.open.values().copied().collect();
            assert_eq!(open.len(), 1, "{cut:?}");
            assert_eq!(open[0].to, "192.168.77.121:5001".parse().unwrap(), "{cut:?}");
            talk.closes();
        }
    }
}

#[test]
fn a_229_names_another_port_only_where_it_must() {
    let mut talk = published();
    talk.exchange("EPSV\r\n", "229 Entering Extended Passive Mode (|||5001|)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    let text = "229 Entering Extended Passive Mode (|||5002|)\r\n";
    for cut in (0..text.len()).map(Cut::At).chain([Cut::Bytewise]) {
        talk.says("EPSV\r\n", "EPSV\r\n");
        talk.server_sends(text.as_bytes(), cut);
        let line = talk.client_reads_line();
        let port: u16 = line.trim_end_matches("|)\r\n").rsplit('|').next().unwrap().parse().unwrap();
        assert_eq!(talk.open_ports(), [port], "{cut:?}");
    }
    talk.closes();
}

/// `0,0,0,0` names no address: vsftpd says so over IPv6, others where they do not know their own.
#[test]
fn a_227_may_name_a_port_alone() {
    let line = |address: &str, port: u16| {
        format!("227 Entering Passive Mode ({address},{},{}).\r\n", port >> 8, port & 255)
    };
    for (site, address) in [
        (Site::new(false, false), "0,0,0,0"),
        (Site::new(false, true), "203,0,113,9"),
        (Site::new6(false, false), "0,0,0,0"),
        (Site::new6(true, true), "0,0,0,0"),
    ] {
        let text = line("0,0,0,0", 5001);
        for cut in (0..text.len()).map(Cut::At).chain([Cut::Bytewise]) {
            let mut talk = Conversation::new(site).login();
            talk.says("PASV\r\n", "PASV\r\n");
            talk.server_sends(text.as_bytes(), cut);
            let read = talk.client_reads_line();
            let open: Vec<_> = talk.world.router.kernel.open.values().copied().collect();
            assert_eq!(open.len(), 1, "{cut:?}: {read}");
            assert_eq!(read, line(address, open[0].key.port), "{cut:?}");
            assert_eq!(open[0].key.destination, site.dialled.ip(), "{cut:?}");
            assert_eq!((open[0].to.ip(), open[0].to.port()), (site.server.ip(), 5001), "{cut:?}");
            talk.closes();
        }
    }
    let mut talk = Conversation::new(Site::new6(true, true)).login();
    talk.says("PASV\r\n", "PASV\r\n");
    talk.replies("227-Entering\r\n", "227-Entering\r\n");
    talk.replies("227 (0,0,0,0,19,137)\r\n", "227 (0,0,0,0,19,137)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.closes();
    let mut talk = Conversation::new(Site::new6(false, false)).login();
    talk.exchange("PASV\r\n", "227 (0,0,0,0,3,137)\r\n");
    talk.exchange("PASV\r\n", "227 (192,168,77,121,19,137)\r\n");
    talk.exchange("PORT 0,0,0,0,19,137\r\n", "200 ok\r\n");
    assert!(talk.world.router.opened.is_empty(), "{:?}", talk.world.router.opened);
    talk.closes();
}

#[test]
fn either_reply_answers_either_command() {
    let mut talk = published();
    talk.says("EPSV\r\n", "EPSV\r\n");
    talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (203,0,113,9,19,137)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.exchange("PASV\r\n", "229 Entering Extended Passive Mode (|||5002|)\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
    let text = "227 (192,168,77,121,19,137)\r\n";
    for cut in (0..text.len()).map(Cut::At).chain([Cut::Bytewise]) {
        let mut talk = published();
        talk.says("EPSV\r\n", "EPSV\r\n");
        talk.server_sends(text.as_bytes(), cut);
        let line = talk.client_reads_line();
        assert!(line.starts_with("227 (203,0,113,9,"), "{cut:?}: {line}");
        let open: Vec<_> = talk.world.router.kernel.open.values().copied().collect();
        assert_eq!(open.len(), 1, "{cut:?}");
        assert_eq!(open[0].to, "192.168.77.121:5001".parse().unwrap(), "{cut:?}");
        talk.closes();
    }
}

#[test]
fn only_an_answer_opens() {
    let mut talk = published();
    let offer = "227 (192,168,77,121,19,137)\r\n";
    talk.replies(offer, offer);
    talk.exchange("NOOP\r\n", offer);
    talk.exchange("PASV\r\n", "227 Logout.\r\n");
    talk.exchange("PASV\r\n", "500 no\r\n");
    talk.replies(offer, offer);
    talk.exchange("EPSV 3\r\n", offer);
    talk.exchange("EPSV ALL\r\n", "229 (|||5001|)\r\n");
    talk.exchange("PASV\r\n", "227 (192,168,77,1,19,137)\r\n");
    talk.exchange("PASV\r\n", "227 (192,168,77,121,3,137)\r\n");
    talk.exchange("PASV\r\n", "227 (192,168,77,121,300,137)\r\n");
    talk.exchange("STAT\r\n", "211-hi\r\n227 (192,168,77,121,19,137)\r\n211 end\r\n");
    assert!(talk.world.router.opened.is_empty(), "{:?}", talk.world.router.opened);
    talk.closes();
}

#[test]
fn replies_of_several_lines() {
    let mut talk = published();
    talk.says("PASV\r\n", "PASV\r\n");
    talk.replies("227-Entering\r\n", "227-Entering\r\n");
    talk.replies(" 192,168,77,121,1,1 and so on\r\n", " 192,168,77,121,1,1 and so on\r\n");
    talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (203,0,113,9,19,137)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.says("PASV\r\n", "PASV\r\n");
    talk.replies("227-(192,168,77,121,19,138)\r\n", "227-(203,0,113,9,19,138)\r\n");
    assert_eq!(talk.open_ports(), [5001], "it is not over");
    talk.server_sends(b"227 (192,168,77,121,19,139)\r\n", Cut::At(15));
    talk.client_reads(b"227 (192,168,77,121,19,139)\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
}

#[test]
fn aborted_transfers_and_empty_lines_leave_no_reply_behind() {
    let mut talk = published();
    talk.says("RETR x\r\n", "RETR x\r\n");
    talk.replies("150 here\r\n", "150 here\r\n");
    talk.says(b"\xff\xf4\xff\xf2ABOR\r\n", b"\xff\xf4\xff\xf2ABOR\r\n");
    talk.replies("226 aborted\r\n", "226 aborted\r\n");
    talk.says("\r\nPASV\r\n", "\r\nPASV\r\n");
    talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (203,0,113,9,19,137)\r\n");
    assert_eq!(talk.open_ports(), [5001]);
    talk.says("\r\n", "\r\n");
    talk.replies("500 what?\r\n", "500 what?\r\n");
    talk.says("PASV\r\n", "PASV\r\n");
    talk.replies("227 (192,168,77,121,19,138)\r\n", "227 (203,0,113,9,19,138)\r\n");
    assert_eq!(talk.open_ports(), [5002]);
    talk.closes();
}

/// pyftpdlib has one reply for a transfer that waits for its data connection and the ABOR that ends it.
#[test]
fn one_reply_to_a_transfer_and_its_abor_leaves_none_behind() {
    for (command, reply) in [
        ("CWD x\r\n", "250 there\r\n"),
        ("PWD\r\n", "257 \"/\"\r\n"),
        ("SIZE x\r\n", "213 5\r\n"),
        ("SIZE x\r\n", "550 which x?\r\n"),
        ("REST 5\r\n", "350 go on\r\n"),
        ("SYST\r\n", "215 UNIX\r\n"),
        ("TYPE I\r\n", "200 fine\r\n"),
    ] {
        let mut talk = published();
        talk.exchange("RETR x\r\n", "150 here\r\n");
        talk.exchange("ABOR\r\n", "225 aborted\r\n");
        talk.exchange(command, reply);
        talk.says("PASV\r\n", "PASV\r\n");
        talk.replies("227 (192,168,77,121,19,137)\r\n", "227 (203,0,113,9,19,137)\r\n");
        assert_eq!(talk.open_ports(), [5001], "{command}");
        talk.closes();
    }
}
