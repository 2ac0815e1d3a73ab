//! The names under which a control connection is known.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The server-facing tuple: the control connection's addresses as they stand on the server's side of this
/// host, after SNAT and DNAT. Both taps see the same tuple, so it is the key of a session.
///
/// It is the reply tuple of the connection's conntrack entry, read from `server` to `client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ControlTuple {
    /// The server's own address and control port.
    pub server: SocketAddr,
    /// The client's address and port as the server sees them.
    pub client: SocketAddr,
}

impl ControlTuple {
    /// The two hosts, as they stand on the server's side.
    pub fn hosts(&self) -> Hosts {
        Hosts::of(self.server.ip(), self.client.ip())
    }
}

/// Two addresses, whichever comes first. The kernel's balance over several queues brings all that passes between them to one
/// (`hash_v4` and `hash_v6` in net/netfilter/nf_queue.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hosts(IpAddr, IpAddr);

impl Hosts {
    /// These two.
    pub fn of(one: IpAddr, other: IpAddr) -> Self {
        Self(one.min(other), one.max(other))
    }
}

/// In few steps: a packet's tuple is hashed several times.
impl Hash for ControlTuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = (u32::from(self.server.port()) << 16) | u32::from(self.client.port());
        match (self.server.ip(), self.client.ip()) {
            (IpAddr::V4(server), IpAddr::V4(client)) => {
                let addresses = (u64::from(server.to_bits()) << 32) | u64::from(client.to_bits());
                state.write_u128((u128::from(addresses) << 32) | u128::from(ports));
            }
            (server, client) => {
                for address in [server, client] {
                    match address {
                        IpAddr::V4(address) => state.write_u32(address.to_bits()),
                        IpAddr::V6(address) => state.write_u128(address.to_bits()),
                    }
                }
                state.write_u32(ports);
            }
        }
    }
}

impl fmt::Display for ControlTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.client, self.server)
    }
}

/// The client's view of a control connection: the original tuple of its conntrack entry, and its mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientView {
    /// The client's own address, before SNAT.
    pub client: IpAddr,
    /// The address that the client dialled, before DNAT.
    pub dialled: IpAddr,
    /// The connection's mark (`ct mark`), inherited by its data connections.
    pub mark: u32,
}
