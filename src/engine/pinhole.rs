//! What a session asks of the firewall. The engine only names these changes; the daemon carries them out.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::control::ControlTuple;

/// What a data connection's first SYN must look like when it reaches this host, before any DNAT: the original
/// tuple of the conntrack entry it is about to make, with the source port left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PinholeKey {
    /// The end that opens the data connection: the server (active) or the client (passive).
    pub source: IpAddr,
    /// The address it dials.
    pub destination: IpAddr,
    /// The TCP port it dials.
    pub port: u16,
}

impl fmt::Display for PinholeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.source, SocketAddr::new(self.destination, self.port))
    }
}

/// One expected data connection, and what becomes of it. NAT follows the control connection as the kernel's
/// `nf_nat_follow_master` does: to the real end, from the address under which that end knows the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pinhole {
    /// What its first SYN looks like.
    pub key: PinholeKey,
    /// DNAT: the real end that listens.
    pub to: SocketAddr,
    /// SNAT: the address from which the listening end expects it.
    pub from: IpAddr,
    /// The control connection's mark, which the data connection inherits. 0 leaves the mark alone.
    pub mark: u32,
    /// How long it waits for that SYN.
    pub timeout: Duration,
}

/// One change to what the kernel holds for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// Queue the packets of this control connection from now on.
    Track(ControlTuple),
    /// This connection's packets need translation from now on: queue all of them, and never let one pass
    /// without the daemon.
    Shift(ControlTuple),
    /// They do not, after all.
    Unshift(ControlTuple),
    /// Send a SYN that fits this key through the queue: its pinhole may open at any moment.
    Expect(PinholeKey, Duration),
    /// Open a pinhole; where the same key was expected, it no longer is. An older pinhole of the same key
    /// gives way.
    Open(Pinhole),
    /// Start the clock of an open pinhole anew, if nobody has used it yet.
    Renew(Pinhole),
    /// Close a pinhole, or stop expecting it. That it is gone already is no error.
    Close(PinholeKey),
    /// The control connection is over, or is no longer inspected: nothing of it is queued any more.
    Depart(ControlTuple),
}

impl Change {
    /// The control connection that it is about, if it is about one as a whole.
    pub fn connection(&self) -> Option<ControlTuple> {
        match self {
            Self::Track(tuple) | Self::Shift(tuple) | Self::Unshift(tuple) | Self::Depart(tuple) => {
                Some(*tuple)
            }
            Self::Expect(..) | Self::Open(_) | Self::Renew(_) | Self::Close(_) => None,
        }
    }

    /// The pinhole that it is about, if it is about one.
    fn key(&self) -> Option<PinholeKey> {
        match self {
            Self::Open(Pinhole { key, .. }) | Self::Renew(Pinhole { key, .. }) => Some(*key),
            Self::Expect(key, _) | Self::Close(key) => Some(*key),
            _ => None,
        }
    }

    /// Whether both are about the same control connection or the same pinhole: they must be carried out in their order.
    pub fn concerns(&self, other: &Self) -> bool {
        (self.connection(), self.key()) == (other.connection(), other.key())
    }
}
