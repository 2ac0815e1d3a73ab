//! Tunnels between two hosts that reach each other already.

use std::fs;

use anyhow::Result;

use crate::ipsec::{self, Ipsec};
use crate::{Host, Lab};

/// The port of WireGuard's packets, as its users have it.
const WIREGUARD_PORT: u16 = 51820;

/// What a tunnel wraps packets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// UDP to port 4789, a whole Ethernet frame (RFC 7348).
    Vxlan,
    /// IP in IP (RFC 2003).
    Ipip,
    /// Generic routing encapsulation (RFC 2784).
    Gre,
    /// UDP to port 51820, encrypted; needs `wg`.
    WireGuard,
    /// ESP (RFC 4303), by an interface that stands for its policies (xfrm).
    Xfrm,
    /// The same by an interface that puts their mark on packets (vti).
    Vti,
}

/// One end of a tunnel: its host, the address that the other end knows that by, and the addresses inside, with their
/// prefix length.
pub type End<'a> = (&'a Host, &'a str, &'a [&'a str]);

impl Tunnel {
    /// The type of link, with its options, for `ip link`.
    fn link_type(self, local: &str, remote: &str) -> String {
        let ends = format!("local {local} remote {remote}");
        match self {
            Tunnel::Vxlan => format!("vxlan id 42 dstport 4789 {ends}"),
            Tunnel::Ipip => format!("ipip {ends}"),
            Tunnel::Gre => format!("gre {ends}"),
            Tunnel::WireGuard => "wireguard".to_owned(),
            Tunnel::Xfrm => "xfrm if_id 42".to_owned(),
            Tunnel::Vti => format!("vti {ends} key 42"),
        }
    }

    /// What 1500 bytes outside leave inside.
    fn mtu(self) -> u16 {
        match self {
            Tunnel::Vxlan => 1450,
            Tunnel::Ipip => 1480,
            Tunnel::Gre => 1476,
            Tunnel::WireGuard => 1420,
            Tunnel::Xfrm | Tunnel::Vti => 1430,
        }
    }
}

impl Lab {
    /// A tunnel over IPv4; the interface has the name `name` at both ends, and the MTU that 1500 bytes outside leave.
    ///
    /// # Errors
    /// What `ip` or `wg` says; "Unknown device type" where the kernel does not have this kind.
    pub fn tunnel(&self, kind: Tunnel, name: &str, a: End<'_>, b: End<'_>) -> Result<()> {
        for ((host, local, _), (_, remote, _)) in [(a, b), (b, a)] {
            host.ip(&format!("link add name {name} type {}", kind.link_type(local, remote)))?;
            host.mtu(name, kind.mtu())?;
        }
        let [whole_a, whole_b] = [a, b].map(|(host, outer, _)| (host, outer, "0.0.0.0/0"));
        match kind {
            Tunnel::Vxlan | Tunnel::Ipip | Tunnel::Gre => {}
            Tunnel::WireGuard => self.exchange_keys(name, a, b)?,
            Tunnel::Xfrm => ipsec::associate(Ipsec::Tunnel, "if_id 42", whole_a, whole_b)?,
            Tunnel::Vti => ipsec::associate(Ipsec::Tunnel, "mark 42", whole_a, whole_b)?,
        }
        [a, b].into_iter().try_for_each(|(host, _, addresses)| host.bring_up(name, addresses))
    }

    /// Gives each end of a WireGuard tunnel its key and the other's (wg(8)).
    fn exchange_keys(&self, name: &str, a: End<'_>, b: End<'_>) -> Result<()> {
        let file = |host: &Host| self.dir().join(format!("{name}.{}.key", host.name())).display().to_string();
        for (host, ..) in [a, b] {
            fs::write(file(host), host.run("wg", ["genkey"])?.success()?.stdout)?;
        }
        for ((host, _, _), (peer, remote, _)) in [(a, b), (b, a)] {
            let [own, others] = [file(host), file(peer)];
            let line = format!(
                "wg set {name} listen-port {WIREGUARD_PORT} private-key {own} peer $(wg pubkey <{others}) \
                 allowed-ips 0.0.0.0/0 endpoint {remote}:{WIREGUARD_PORT}"
            );
            host.run("sh", ["-ec", line.as_str()])?.success()?;
        }
        Ok(())
    }
}
