//! Data connections through pinholes: who gets through, how often, as whom and with which mark.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use etherparse::TcpHeader;
use ftpalg::engine::pinhole::{Change, Pinhole};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use super::super::ConnTrack;
use super::net::{Connected, Net, connects, connects_within, is_dropped, is_refused, listen};
use super::*;

/// Active mode through a router with NAT: the server dials the WAN address, and the client is to see it come from
/// the address that it dialled itself.
fn active() -> Pinhole {
    pinhole("198.51.100.9", "198.51.100.1:5000", "192.168.1.2:4000", "203.0.113.50", 0x42)
}

/// What conntrack has for a connection's mark.
fn mark(net: &Net, connected: &Connected) -> u32 {
    let tuple = ControlTuple { server: connected.listener.local_addr().unwrap(), client: connected.peer };
    let entry = net.router.run(move || ConnTrack::open().unwrap().entry(&tuple).unwrap());
    entry.expect("conntrack knows the connection").view.mark
}

/// Drops the first packets that match, in a host's own firewall.
fn lose(host: &Host, count: u32, hook: &str, matching: &str) {
    host.sh(&format!(
        "nft 'add table inet loss; add chain inet loss {hook} {{ type filter hook {hook} priority 0; }}
              add rule inet loss {hook} {matching} numgen inc mod 1000000 < {count} counter drop'"
    ));
}

#[test]
fn one_pinhole_one_connection() {
    let net = Net::new();
    let listener = listen(&net.client, "192.168.1.2:4000");
    is_refused(&net.server, "198.51.100.1:5000");
    net.commit(&[Change::Open(active())]);
    is_refused(&net.server, "198.51.100.1:5001");
    is_refused(&net.server, "198.51.100.7:5000");
    let data = connects(&net.server, "198.51.100.1:5000", &listener);
    assert_eq!(data.peer.ip().to_string(), "203.0.113.50");
    assert_eq!(mark(&net, &data), 0x42);
    assert_eq!(net.router.elements("spent4").len(), 1);
    is_refused(&net.server, "198.51.100.1:5000");
    assert_eq!(net.router.counted("pinholes_used"), 1);
    assert_eq!(net.leaked(), 0);

    // And again, where the maps still hold what the first left there.
    net.commit(&[Change::Open(Pinhole { mark: 0, ..active() })]);
    let data = connects(&net.server, "198.51.100.1:5000", &listener);
    assert_eq!(mark(&net, &data), 0);
}

/// A session that ended while no daemon was there has nobody who closes its pinhole.
#[test]
fn a_port_opens_again_that_was_used_under_a_daemon_that_is_gone() {
    let net = Net::new();
    let listener = listen(&net.client, "192.168.1.2:4000");
    net.router.add_elements("spent4", ["198.51.100.9 . 198.51.100.1 . 5000".to_owned()].into_iter());
    net.commit(&[Change::Open(active())]);
    connects(&net.server, "198.51.100.1:5000", &listener);
    is_refused(&net.server, "198.51.100.1:5000");
}

/// As in the moment in which a flush takes the table away: the maps are empty, the rest is there still.
#[test]
fn no_connection_begins_without_its_nat() {
    let net = Net::new();
    let six = pinhole("fd00:2::9", "[fd00:2::1]:5000", "[fd00:1::2]:4000", "fd00:3::50", 0);
    for (open, version) in [(active(), 4), (six, 6)] {
        let dialled = SocketAddr::new(open.key.destination, open.key.port).to_string();
        let listener = listen(&net.client, &open.to.to_string());
        for map in ["dnat", "snat"] {
            net.commit(&[Change::Open(open)]);
            net.router.sh(&format!("nft flush map inet ftpalg {map}{version}"));
            let before = net.router.counted("nat_missing");
            is_dropped(&net.server, &dialled);
            assert!(net.router.counted("nat_missing") > before, "{map}{version}");
            assert_eq!(net.router.elements(&format!("spent{version}")), [""; 0], "it is not used up");
            net.commit(&[Change::Close(open.key)]);
        }
        net.commit(&[Change::Open(open)]);
        connects(&net.server, &dialled, &listener);
    }
    assert_eq!(net.leaked(), 0);
}

#[test]
fn a_closed_pinhole_lets_nobody_through() {
    let net = Net::new();
    let _listener = listen(&net.client, "192.168.1.2:4000");
    net.commit(&[Change::Open(active())]);
    net.commit(&[Change::Close(active().key)]);
    is_refused(&net.server, "198.51.100.1:5000");
    let brief = Pinhole { timeout: Duration::from_millis(100), ..active() };
    net.commit(&[Change::Open(brief)]);
    std::thread::sleep(Duration::from_millis(200));
    is_refused(&net.server, "198.51.100.1:5000");
}

#[test]
fn a_repeated_syn_passes_too() {
    // Both ends repeat a lost SYN-ACK after a second, in either order: with two lost, a SYN comes again for certain.
    let losses = [
        (1, "input", "tcp flags & (syn | ack) == syn"),
        (2, "output", "tcp flags & (syn | ack) == (syn | ack)"),
    ];
    for (count, hook, lost) in losses {
        let net = Net::new();
        let listener = listen(&net.client, "192.168.1.2:4000");
        lose(&net.client, count, hook, lost);
        net.commit(&[Change::Open(active())]);
        let data = connects(&net.server, "198.51.100.1:5000", &listener);
        assert_eq!(mark(&net, &data), 0x42);
        assert_eq!(net.router.counted("pinholes_used"), 1, "{lost}");
        assert!(net.router.counted("pinholes_repeated") >= 1, "{lost}");
        assert_eq!(net.leaked(), 0);
        is_refused(&net.server, "198.51.100.1:5000");
    }
}

/// The same after a flush, which takes away what the kernel knew of the connection: whether the daemon has put the pinhole
/// back, or knew that it was used. Nobody else gets through.
#[test]
fn a_repeated_syn_passes_after_a_flush() {
    for is_known in [true, false] {
        let net = Net::new();
        let listener = listen(&net.client, "192.168.1.2:4000");
        net.client
            .sh("nft 'add table inet loss; add chain inet loss input { type filter hook input priority 0; }
                  add rule inet loss input tcp flags syn drop'");
        net.commit(&[Change::Open(active())]);
        let firewall = Arc::clone(&net.firewall);
        let answer = std::thread::scope(|scope| {
            let data = scope.spawn(|| {
                connects_within(Duration::from_secs(30), &net.server, "198.51.100.1:5000", &listener)
            });
            while net.router.counted("pinholes_used") == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(firewall.lock().unwrap().was_used(&active().key));
            net.router.sh("nft delete table inet ftpalg");
            let (open, spent) = ([active()], [(active().key, Duration::from_secs(60))]);
            let live = if is_known {
                Live { spent: &spent, ..Live::default() }
            } else {
                Live { pinholes: &open, ..Live::default() }
            };
            firewall.lock().unwrap().repair(live).unwrap();
            net.client.sh("nft delete table inet loss");
            data.join().unwrap()
        });
        assert_eq!(answer.peer.ip().to_string(), "203.0.113.50");
        assert_eq!(net.router.elements("spent4").len(), 1);
        assert_eq!(net.leaked(), 0);
        is_refused(&net.server, "198.51.100.1:5000");
    }
}

#[test]
fn a_stray_acknowledgement_does_not_use_a_pinhole_up() {
    let net = Net::new();
    let listener = listen(&net.client, "192.168.1.2:4000");
    net.commit(&[Change::Open(active())]);
    net.server.run(|| {
        let [from, to] = [Ipv4Addr::new(198, 51, 100, 9), Ipv4Addr::new(198, 51, 100, 1)];
        let mut header = TcpHeader::new(33333, 5000, 1, 1000);
        header.ack = true;
        header.checksum = header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]).unwrap();
        let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), SockProtocol::Tcp).unwrap();
        let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        sendto(raw.as_raw_fd(), &header.to_bytes(), &to, MsgFlags::empty()).unwrap();
    });
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(net.router.counted("pinholes_used"), 0);
    connects(&net.server, "198.51.100.1:5000", &listener);
}

#[test]
fn a_syn_that_the_filter_drops_does_not_use_a_pinhole_up() {
    let net = Net::new();
    let listener = listen(&net.client, "192.168.1.2:4000");
    net.commit(&[Change::Open(active())]);
    net.router.sh("nft insert rule inet filter forward drop");
    is_refused(&net.server, "198.51.100.1:5000");
    let handle = "nft -a list chain inet filter forward | sed -n 's/.*drop # handle //p'";
    net.router.sh(&format!("nft delete rule inet filter forward handle $({handle})"));
    let data = connects(&net.server, "198.51.100.1:5000", &listener);
    assert_eq!(mark(&net, &data), 0x42);
}

#[test]
fn the_second_of_two_on_their_way_through_one_pinhole_is_dropped() {
    let net = Net::new();
    let _listener = listen(&net.client, "192.168.1.2:4000");
    // What a second connection looks like that passed the filter before the first one took the pinhole away.
    net.router.sh(
        "nft insert rule inet filter forward tcp dport 4000 meta mark set meta mark '|' 0x00200000 accept",
    );
    is_refused(&net.server, "192.168.1.2:4000");
    assert!(net.router.counted("pinholes_late") >= 1);
}

#[test]
fn data_for_this_host_itself() {
    let net = Net::new();
    // Its FTP server, passive: no NAT anywhere.
    let passive = pinhole("192.168.1.2", "192.168.1.1:5000", "192.168.1.1:5000", "192.168.1.2", 0);
    // Its FTP client, active: it dialled an address that stood for the server's.
    let active =
        pinhole("198.51.100.9", "198.51.100.1:5001", "198.51.100.1:5002", "203.0.113.77", 0x1214_5678);
    let listeners = [listen(&net.router, "192.168.1.1:5000"), listen(&net.router, "198.51.100.1:5002")];
    is_refused(&net.client, "192.168.1.1:5000");
    net.commit(&[Change::Open(passive), Change::Open(active)]);
    net.router.sh("ip route add 203.0.113.77 via 198.51.100.9");
    let data = connects(&net.client, "192.168.1.1:5000", &listeners[0]);
    assert_eq!(data.peer.ip().to_string(), "192.168.1.2");
    is_refused(&net.client, "192.168.1.1:5000");
    let data = connects(&net.server, "198.51.100.1:5001", &listeners[1]);
    assert_eq!(data.peer.ip().to_string(), "203.0.113.77");
    assert_eq!(mark(&net, &data), 0x1214_5678);
    is_refused(&net.server, "198.51.100.1:5001");
    assert_eq!(net.leaked(), 0);
}

#[test]
fn data_from_this_host_itself() {
    let net = Net::new();
    let listener = listen(&net.server, "198.51.100.9:4000");
    let pinhole = pinhole("198.51.100.1", "198.51.100.9:6000", "198.51.100.9:4000", "198.51.100.7", 0x42);
    is_refused(&net.router, "198.51.100.9:4000");
    net.commit(&[Change::Open(pinhole)]);
    lose(&net.server, 1, "input", "tcp flags & (syn | ack) == syn");
    let data = connects(&net.router, "198.51.100.9:6000", &listener);
    assert_eq!(data.peer.ip().to_string(), "198.51.100.7");
    assert_eq!(mark(&net, &data), 0x42);
    assert_eq!(net.router.counted("pinholes_repeated"), 1);
    assert_eq!(net.leaked(), 0);
    is_refused(&net.router, "198.51.100.9:6000");
}

#[test]
fn the_inherited_mark_routes() {
    let net = Net::new();
    let vpn = Host::new();
    net.router.sh(&format!(
        "ip link add vpn type veth peer name eth0 netns {}
         ip link set vpn up; ip addr add 10.9.9.1/24 dev vpn
         ip rule add fwmark 0x42 lookup 100; ip route add 198.51.100.9 via 10.9.9.2 table 100
         sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.vpn.rp_filter=0",
        vpn.tid
    ));
    vpn.sh("ip link set eth0 up; ip addr add 10.9.9.2/24 dev eth0; ip addr add 198.51.100.9/32 dev lo
         ip route add default via 10.9.9.1");
    net.router.sh("nft 'add table inet pbr
              add chain inet pbr pre { type filter hook prerouting priority mangle; }
              add rule inet pbr pre meta mark set ct mark
              add chain inet pbr out { type route hook output priority mangle; }
              add rule inet pbr out meta mark set ct mark'");
    // The same address is at the far end of the bare link and of the VPN.
    let bare = [listen(&net.server, "198.51.100.9:4000"), listen(&net.server, "198.51.100.9:4001")];
    let tunnel = [listen(&vpn, "198.51.100.9:4000"), listen(&vpn, "198.51.100.9:4001")];
    let forwarded = pinhole("192.168.1.2", "198.51.100.9:4000", "198.51.100.9:4000", "10.9.9.1", 0x42);
    let own = pinhole("198.51.100.1", "198.51.100.9:4001", "198.51.100.9:4001", "10.9.9.1", 0x42);
    net.commit(&[Change::Open(forwarded), Change::Open(own)]);
    connects(&net.client, "198.51.100.9:4000", &tunnel[0]);
    connects(&net.router, "198.51.100.9:4001", &tunnel[1]);
    assert!(bare.iter().all(|listener| listener.accept().is_err()));
}

#[test]
fn ipv6_forwarded_to_this_host_and_from_it() {
    let net = Net::new();
    let cases = [
        (&net.server, &net.client, "fd00:2::9", "[fd00:1::2]:4000", "[fd00:1::2]:4000", "fd00:2::9"),
        (&net.client, &net.server, "fd00:1::2", "[fd00:2::9]:5000", "[fd00:2::9]:5001", "fd00:2::1"),
        (&net.server, &net.router, "fd00:2::9", "[fd00:2::1]:6000", "[fd00:2::1]:6001", "fd00:2::99"),
        (&net.router, &net.server, "fd00:2::1", "[fd00:2::9]:7000", "[fd00:2::9]:7001", "fd00:2::1"),
    ];
    net.router.sh("ip route add fd00:2::99 via fd00:2::9");
    for (dialler, listening, source, dialled, to, from) in cases {
        let listener = listen(listening, to);
        is_refused(dialler, dialled);
        net.commit(&[Change::Open(pinhole(source, dialled, to, from, 0x42))]);
        let data = connects(dialler, dialled, &listener);
        assert_eq!(data.peer.ip().to_string(), from, "{dialled}");
        assert_eq!(mark(&net, &data), 0x42);
        is_refused(dialler, dialled);
    }
    assert_eq!(net.router.counted("pinholes_used"), 4);
    assert_eq!(net.leaked(), 0);
}
