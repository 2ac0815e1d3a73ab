//! The table that outlives a flush: what it holds back while the other one is away.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use ftpalg::engine::pinhole::Change;

use super::net::{Connected, Net, connects, is_dropped, is_refused, listen};
use super::*;

/// A router that lets everything through, so that what does not come through has been held back.
fn open() -> Net {
    let net = Net::new();
    for chain in ["forward", "input", "output"] {
        net.router.sh(&format!("nft insert rule inet filter {chain} accept"));
    }
    net
}

/// Whether something that is said comes to the other end within this time.
fn comes_through(said: &str, from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> bool {
    from.write_all(said.as_bytes()).unwrap();
    to.set_read_timeout(Some(within)).unwrap();
    let mut bytes = [0; 64];
    loop {
        match to.read(&mut bytes) {
            Ok(length) => return bytes[..length].starts_with(said.as_bytes()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // With a time-out, a read is not taken up again after a signal (signal(7)).
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
    }
}

/// What was dropped before comes first, after its sender's patience.
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

fn unseen(net: &Net) -> u64 {
    let text = net.router.sh("nft list counter inet ftpalg_hold unseen");
    text.rsplit("packets ").next().and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap()
}

fn ends(control: &mut Connected) -> (&mut TcpStream, &mut TcpStream) {
    (&mut control.dialler, &mut control.listener)
}

#[test]
fn while_the_table_is_away_nothing_passes_unseen() {
    for (server, other) in [("198.51.100.9", "192.168.1.1"), ("[fd00:2::9]", "[fd00:1::1]")] {
        let net = open();
        let port = |port: u16| format!("{server}:{port}");
        let listeners = [listen(&net.server, &port(21)), listen(&net.server, &port(80))];
        let mut control = connects(&net.client, &port(21), &listeners[0]);
        let (client, end) = ends(&mut control);
        assert!(comes_through("NOOP\r\n", client, end, LONG));
        assert_eq!(unseen(&net), 0);

        net.router.sh("nft delete table inet ftpalg");
        assert!(!comes_through("NOOP\r\n", client, end, SHORT));
        assert!(!comes_through("200 OK\r\n", end, client, SHORT));
        is_dropped(&net.client, &port(21));
        // A data connection, for all that can be known: between these hosts commands have been sent.
        is_dropped(&net.client, &port(80));
        assert!(unseen(&net) > 0);
        // Others are not held up.
        let elsewhere = listen(&net.router, &format!("{other}:80"));
        connects(&net.client, &format!("{other}:80"), &elsewhere);
        assert_eq!(net.leaked(), 0);

        net.firewall.lock().unwrap().repair(Live::default()).unwrap();
        net.router.sh("nft flush chain inet ftpalg divert");
        assert!(comes_through("NOOP\r\n", client, end, LONG));
        connects(&net.client, &port(80), &listeners[1]);
        connects(&net.client, &port(21), &listeners[0]);
        assert_eq!(net.leaked(), 0);
    }
}

/// The SYN was on its way when what had the same name before was taken out, and took with it what the SYN had put in.
#[test]
fn what_is_tracked_is_watched_whatever_was_taken_out() {
    let net = open();
    let listener = listen(&net.server, "198.51.100.9:21");
    let mut control = connects(&net.client, "198.51.100.9:21", &listener);
    let tuple = ControlTuple { server: control.listener.local_addr().unwrap(), client: control.peer };
    let (client, end) = ends(&mut control);
    let is_watched_for_days =
        || net.router.sh("nft list set inet ftpalg_hold watched4").contains(" timeout 5d expires ");
    assert!(!is_watched_for_days(), "its SYN has seen to a minute");
    net.commit(&[Change::Track(tuple)]);
    assert!(is_watched_for_days());
    net.commit(&[Change::Depart(tuple)]);
    net.router.sh("nft delete table inet ftpalg");
    assert!(comes_through("SYST\r\n", client, end, LONG), "it is not watched");
    net.firewall.lock().unwrap().repair(Live::default()).unwrap();
    // Twice: the second time it is there.
    for _ in 0..2 {
        net.commit(&[Change::Track(tuple)]);
        assert!(is_watched_for_days());
    }
    net.router.sh("nft delete table inet ftpalg");
    assert!(!comes_through("NOOP\r\n", client, end, SHORT));
    assert!(unseen(&net) > 0);
}

/// The table goes while a SYN is on its way through this host.
#[test]
fn a_data_connection_does_not_begin_without_its_nat() {
    let net = open();
    let listeners = [listen(&net.server, "198.51.100.9:21"), listen(&net.client, "192.168.1.2:4000")];
    let mut control = connects(&net.client, "198.51.100.9:21", &listeners[0]);
    let (client, end) = ends(&mut control);
    assert!(comes_through("PORT\r\n", client, end, LONG));
    let active = pinhole("198.51.100.9", "192.168.1.2:4000", "192.168.1.2:4000", "198.51.100.1", 0);
    net.commit(&[Change::Open(active)]);
    for chain in ["snat_postrouting", "to_server_postrouting"] {
        net.router.sh(&format!("nft flush chain inet ftpalg {chain}"));
    }
    is_dropped(&net.server, "192.168.1.2:4000");
    assert!(unseen(&net) > 0);
}

/// The mark by which the second table watches is the one that the administrator's filter accepts. No DNAT of somebody
/// else's lets a packet keep it.
#[test]
fn what_is_watched_is_not_accepted() {
    for priority in [-150, -110, -100] {
        let net = Net::new();
        let listeners = [listen(&net.server, "198.51.100.9:21"), listen(&net.server, "198.51.100.9:80")];
        let mut control = connects(&net.client, "198.51.100.9:21", &listeners[0]);
        let (client, end) = ends(&mut control);
        assert!(comes_through("PORT\r\n", client, end, LONG));
        net.router.sh(&format!(
            "nft 'add table inet other; add chain inet other pre {{ type nat hook prerouting priority {priority}; }}; \
             add rule inet other pre tcp dport 8080 dnat ip to 198.51.100.9:80'"
        ));
        is_refused(&net.client, "198.51.100.9:8080");
        is_refused(&net.client, "198.51.100.9:80");
        // It would come through, if it were accepted.
        net.router.sh("nft insert rule inet filter forward tcp dport 80 accept");
        connects(&net.client, "198.51.100.9:8080", &listeners[1]);
        assert_eq!(net.leaked(), 0);
    }
}
