//! The names under which a control connection is known.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The server-facing tuple: the control connection's addresses as they stand on the server's side of this
/// host, after SNAT and DNAT. Both taps see the same tuple, so it is the key of a session.
///
/// It is the reply tuple of the connection's conntrack entry, read from `server` to `client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ControlTuple {
    /// The server's own address and control port.
    pub server: SocketAddr,
    /// The client's address and port as the server sees them.
    pub client: SocketAddr,
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
