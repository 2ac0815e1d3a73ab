//! Control connections: which packets reach the chains that queue, and under which tuple.

use std::io::{Read as _, Write as _};

use ftpalg::engine::pinhole::Change;

use super::super::{ConnTrack, Fate};
use super::net::{Connected, Net, connects, is_refused, listen};
use super::*;

impl Net {
    /// Counts instead of queueing.
    fn count_diverted(&self) {
        // What the daemon does with packets of shifted connections.
        let translated = "meta mark set meta mark | 0x00200000";
        for (chain, rest) in [("divert", ""), ("divert_shifted", translated)] {
            self.router.sh(&format!(
                "nft 'flush chain inet ftpalg {chain}; add rule inet ftpalg {chain} counter {rest}'"
            ));
        }
    }

    /// Packets in `divert` and in `divert_shifted`. What is on its way arrives first.
    fn diverted(&self) -> [u64; 2] {
        std::thread::sleep(Duration::from_millis(100));
        ["divert", "divert_shifted"].map(|chain| {
            let text = self.router.sh(&format!("nft list chain inet ftpalg {chain}"));
            text.split("packets ").nth(1).and_then(|n| n.split(' ').next()).unwrap().parse().unwrap()
        })
    }
}

fn tuple_of(control: &Connected) -> ControlTuple {
    ControlTuple { server: control.listener.local_addr().unwrap(), client: control.peer }
}

fn say(control: &mut Connected) {
    control.dialler.write_all(b"NOOP\r\n").unwrap();
}

#[test]
fn both_taps_see_the_server_facing_tuple() {
    let net = Net::new();
    net.router.sh("nft 'add table ip nat
              add chain ip nat post { type nat hook postrouting priority srcnat; }
              add rule ip nat post oifname wan masquerade
              add chain ip nat pre { type nat hook prerouting priority dstnat; }
              add rule ip nat pre iifname wan tcp dport 21 dnat to 192.168.1.2:3333'");
    net.router.sh("nft add rule inet filter forward tcp dport 3333 accept");
    net.count_diverted();
    let cases = [
        (&net.client, &net.server, "198.51.100.9:21", "198.51.100.9:21", "192.168.1.2"),
        (&net.server, &net.client, "198.51.100.1:21", "192.168.1.2:3333", "198.51.100.9"),
        (&net.client, &net.server, "[fd00:2::9]:21", "[fd00:2::9]:21", "fd00:1::2"),
        (&net.client, &net.router, "192.168.1.1:21", "192.168.1.1:21", "192.168.1.2"),
    ];
    for (sessions, (dialler, listening, dialled, real, client)) in cases.into_iter().enumerate() {
        let listener = listen(listening, real);
        let before = net.diverted()[0];
        let mut control = connects(dialler, dialled, &listener);
        let (tuple, peer) = (tuple_of(&control), control.peer);
        // SYN and SYN-ACK, then one line; its acknowledgement and the handshake's are not queued.
        assert_eq!(net.diverted()[0] - before, 2, "{dialled}");
        say(&mut control);
        assert_eq!(net.diverted()[0] - before, 3, "{dialled}");
        let set = if peer.is_ipv4() { "control_new4" } else { "control_new6" };
        let key =
            format!("{} . {} . {} . {} ", tuple.server.ip(), tuple.server.port(), peer.ip(), peer.port());
        assert!(net.router.elements(set).iter().any(|e| e.starts_with(&key)), "{key}");

        let local = control.dialler.local_addr().unwrap();
        let (view, live, wrong) = net.router.run(move || {
            let mut conntrack = ConnTrack::open().unwrap();
            let wrong = ControlTuple { client: tuple.server, ..tuple };
            (
                conntrack.entry(&tuple).unwrap().unwrap().view,
                conntrack.fate(&tuple) == Fate::Live,
                conntrack.entry(&wrong).unwrap(),
            )
        });
        assert_eq!(view.client.to_string(), client);
        assert_eq!(view.client, local.ip());
        assert_eq!(view.dialled, dialled.parse::<SocketAddr>().unwrap().ip());
        assert_eq!(view.mark, 0);
        assert!(live);
        assert_eq!(wrong, None);
        assert_eq!(net.router.counted("sessions_begun"), sessions as u64 + 1);
    }
    assert_eq!(net.router.counted("sessions_unseen"), 0);
}

#[test]
fn what_both_ends_closed_is_not_live() {
    let net = Net::new();
    let listener = listen(&net.server, "198.51.100.9:21");
    let control = connects(&net.client, "198.51.100.9:21", &listener);
    let tuple = tuple_of(&control);
    drop(control);
    // The last of its packets may still be on their way.
    until(|| net.router.run(move || ConnTrack::open().unwrap().fate(&tuple) != Fate::Live));
}

#[test]
fn every_packet_of_a_shifted_connection_is_diverted() {
    let net = Net::new();
    net.count_diverted();
    let listener = listen(&net.server, "198.51.100.9:21");
    let mut control = connects(&net.client, "198.51.100.9:21", &listener);
    let tuple = tuple_of(&control);
    net.commit(&[Change::Track(tuple)]);
    assert_eq!(net.router.elements("control_new4"), [""; 0]);
    let before = net.diverted();
    say(&mut control);
    assert_eq!(net.diverted(), [before[0] + 1, 0], "tracked: the line, not its acknowledgement");
    net.commit(&[Change::Shift(tuple)]);
    say(&mut control);
    assert_eq!(net.diverted(), [before[0] + 1, 2], "shifted: both");
    net.commit(&[Change::Depart(tuple)]);
    say(&mut control);
    assert_eq!(net.diverted(), [before[0] + 1, 2], "departed: neither");
}

#[test]
fn other_connections_are_left_alone() {
    let net = Net::new();
    net.router.sh("nft add rule inet filter forward tcp dport 2222 accept");
    net.count_diverted();
    let listener = listen(&net.server, "198.51.100.9:2222");
    let mut control = connects(&net.client, "198.51.100.9:2222", &listener);
    say(&mut control);
    assert_eq!(net.diverted(), [0, 0]);
    // A control connection that the filter drops never gets to be one.
    net.router.sh("nft insert rule inet filter forward drop");
    is_refused(&net.client, "198.51.100.9:21");
    assert_eq!(net.router.elements("control_new4"), [""; 0]);
}

#[test]
fn an_expected_syn_goes_through_the_queue() {
    let net = Net::new();
    net.count_diverted();
    let pinhole = pinhole("198.51.100.9", "198.51.100.1:5000", "192.168.1.2:4000", "198.51.100.9", 0);
    net.commit(&[Change::Expect(pinhole.key, Duration::from_secs(60))]);
    let listener = listen(&net.client, "192.168.1.2:4000");
    is_refused(&net.server, "198.51.100.1:5000");
    assert_eq!(net.router.counted("pending_queued"), 1);
    assert_eq!(net.diverted(), [1, 0]);
    net.commit(&[Change::Open(pinhole)]);
    connects(&net.server, "198.51.100.1:5000", &listener);
    assert_eq!(net.diverted(), [1, 0]);
}

#[test]
fn without_a_listener_packets_pass_unless_shifted() {
    let net = Net::new();
    net.firewall.lock().unwrap().divert().unwrap();
    let listener = listen(&net.server, "198.51.100.9:21");
    let mut control = connects(&net.client, "198.51.100.9:21", &listener);
    let tuple = tuple_of(&control);
    net.commit(&[Change::Track(tuple)]);
    let mut heard = [0; 6];
    say(&mut control);
    control.listener.read_exact(&mut heard).unwrap();
    net.commit(&[Change::Shift(tuple)]);
    control.listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    say(&mut control);
    control.listener.read_exact(&mut heard).expect_err("nobody was there to translate it");
}

#[test]
fn what_the_client_has_not_answered_is_half_open() {
    let net = Net::new();
    let listener = listen(&net.server, "198.51.100.9:21");
    net.client.sh("nft 'add table ip mute; add chain ip mute out { type filter hook output priority 0; }
         add rule ip mute out tcp flags & (syn | ack) == ack drop'");
    let dialler = net.client.run(|| std::net::TcpStream::connect("198.51.100.9:21").unwrap());
    let tuple =
        ControlTuple { server: listener.local_addr().unwrap(), client: dialler.local_addr().unwrap() };
    let fate = move || ConnTrack::open().unwrap().fate(&tuple);
    assert_eq!(net.router.run(fate), Fate::HalfOpen);
    net.client.sh("nft delete table ip mute");
    (&dialler).write_all(b"NOOP\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(net.router.run(fate), Fate::Live);
}
