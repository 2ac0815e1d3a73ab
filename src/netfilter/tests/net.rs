//! A router between two hosts, with an administrator's firewall that drops by default.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ftpalg::engine::pinhole::Change;

use super::*;

/// client 192.168.1.2 fd00:1::2 — router — server 198.51.100.9 fd00:2::9. The router has the addresses 192.168.1.1 and
/// fd00:1::1 on `lan`, 198.51.100.1, 198.51.100.7 and fd00:2::1 on `wan`.
pub struct Net {
    pub client: Host,
    pub router: Host,
    pub server: Host,
    pub firewall: Arc<Mutex<Firewall>>,
}

const ADMIN: &str = "nft -f - <<'E'
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy drop
    ct state established,related accept
    tcp dport 21 accept
  }
  chain input {
    type filter hook input priority 0; policy drop
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    tcp dport 21 accept
  }
  chain output {
    type filter hook output priority 0; policy drop
    ct state established,related accept
    meta l4proto ipv6-icmp accept
  }
  chain seen {
    type filter hook postrouting priority 400
    meta mark & 0x00200000 != 0 counter comment \"leaked\"
  }
  chain seen_input {
    type filter hook input priority 400
    meta mark & 0x00200000 != 0 counter comment \"leaked\"
  }
}
E";

/// How long a connection may take that will succeed, even with its first SYN lost.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long to wait for one that will not.
const IMPATIENCE: Duration = Duration::from_millis(300);

impl Net {
    pub fn new() -> Self {
        Net::with(&Config {
            accept_in: ["forward", "input", "output"]
                .map(|name| chain(&format!("inet filter {name}")))
                .to_vec(),
            ..config()
        })
    }

    pub fn with(configuration: &Config) -> Self {
        Net::with_shifted(configuration, &[])
    }

    /// The same, where so many shifted connections live already.
    pub fn with_shifted(configuration: &Config, shifted: &[ControlTuple]) -> Self {
        let [client, router, server] = [Host::new(), Host::new(), Host::new()];
        for host in [&client, &router, &server] {
            // No duplicate address detection: for a second it would keep the router from asking who its neighbours are.
            host.sh("sysctl -qw net.ipv6.conf.default.dad_transmits=0 net.ipv6.conf.default.accept_dad=0");
        }
        for (link, end) in [("lan", &client), ("wan", &server)] {
            router.sh(&format!("ip link add {link} type veth peer name eth0 netns {}", end.tid));
        }
        router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
             ip link set lan up; ip link set wan up
             ip addr add 192.168.1.1/24 dev lan; ip addr add fd00:1::1/64 dev lan nodad
             ip addr add 198.51.100.1/24 dev wan; ip addr add 198.51.100.7/24 dev wan
             ip addr add fd00:2::1/64 dev wan nodad");
        for (host, v4, v6) in [(&client, "192.168.1", "fd00:1:"), (&server, "198.51.100", "fd00:2:")] {
            let own = if v4 == "192.168.1" { 2 } else { 9 };
            host.sh(&format!(
                "ip link set eth0 up
                 ip addr add {v4}.{own}/24 dev eth0; ip addr add {v6}:{own}/64 dev eth0 nodad
                 ip route add default via {v4}.1; ip route add default via {v6}:1"
            ));
        }
        router.sh(ADMIN);
        let (configuration, shifted) = (configuration.clone(), shifted.to_vec());
        let firewall = router.run(move || {
            let mut firewall = open_firewall(&configuration);
            assert_eq!(firewall.install(Live { shifted: &shifted, ..Live::default() }).unwrap(), []);
            firewall
        });
        Net { client, router, server, firewall: Arc::new(Mutex::new(firewall)) }
    }

    #[track_caller]
    pub fn commit(&self, changes: &[Change]) {
        self.firewall.lock().unwrap().commit(changes).unwrap();
    }

    /// Packets that left with the pinhole's mark still on them.
    pub fn leaked(&self) -> u64 {
        let text = self.router.sh("nft list table inet filter");
        let lines = text.lines().filter(|line| line.contains("leaked"));
        lines
            .map(|line| line.split(' ').skip_while(|w| *w != "packets").nth(1).unwrap())
            .map(|n| n.parse::<u64>().unwrap())
            .sum()
    }
}

pub fn listen(host: &Host, address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().unwrap();
    let listener = host.run(move || TcpListener::bind(address).unwrap());
    listener.set_nonblocking(true).unwrap();
    listener
}

fn dial_for(host: &Host, address: &str, patience: Duration) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    host.run(move || TcpStream::connect_timeout(&address, patience))
}

/// Both ends of a connection, which lasts as long as this does.
pub struct Connected {
    pub dialler: TcpStream,
    pub listener: TcpStream,
    /// The address from which the listening end sees it come.
    pub peer: SocketAddr,
}

/// A connection that must come about.
#[track_caller]
pub fn connects(host: &Host, address: &str, listener: &TcpListener) -> Connected {
    connects_within(PATIENCE, host, address, listener)
}

/// One that must come about within this time.
#[track_caller]
pub fn connects_within(patience: Duration, host: &Host, address: &str, listener: &TcpListener) -> Connected {
    let dialler = dial_for(host, address, patience).unwrap_or_else(|error| panic!("{address}: {error}"));
    let (listener, peer) = accept(listener);
    Connected { dialler, listener, peer }
}

/// The last acknowledgement of a handshake may still be on its way.
#[track_caller]
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    for _ in 0..100 {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.unwrap(),
        }
    }
    panic!("nothing to accept");
}

/// A connection that must not come about.
#[track_caller]
pub fn is_refused(host: &Host, address: &str) {
    assert!(dial_for(host, address, IMPATIENCE).is_err(), "{address} could be reached");
}

/// A connection of which nobody answers the SYN.
#[track_caller]
pub fn is_dropped(host: &Host, address: &str) {
    let error = dial_for(host, address, IMPATIENCE).expect_err("it could be reached");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{address}");
}
