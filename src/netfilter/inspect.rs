//! Reads what the table holds, on a socket of its own: whoever only looks need not wait for transactions, nor they for
//! him.

use std::io;
use std::time::Duration;

use ftpalg::engine::pinhole::PinholeKey;

use super::connection::Connection;
use super::element::{Element, Set};
use super::probe::{Counter, counters};

/// What the kernel has of a pinhole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It waits for its connection, and for how long.
    Open(Duration),
    /// It waits for none: used, run down or closed.
    Gone,
    /// The kernel does not say.
    Unknown,
}

/// A socket to ask nftables on.
pub struct Inspector(Connection);

impl Inspector {
    /// Opens the socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        Connection::open().map(Self)
    }

    /// The counters of the daemon's table.
    ///
    /// # Errors
    /// What the kernel says, for one that the table is away.
    pub fn counters(&mut self) -> io::Result<Vec<Counter>> {
        counters(&mut self.0)
    }

    /// What is left of a pinhole.
    pub fn pinhole(&mut self, key: &PinholeKey) -> Left {
        let [spent, open] = [Set::Spent, Set::Open].map(|set| Element::pinhole(set, key, Duration::ZERO));
        let (Ok(spent), Ok(open)) = (spent, open) else { return Left::Unknown };
        if self.0.request(spent.question(), |_| {}).is_ok() {
            return Left::Gone;
        }
        let mut left = None;
        match self.0.request(open.question(), |message| left = left.or(Element::time_left(message))) {
            Ok(()) => left.map_or(Left::Unknown, Left::Open),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Left::Gone,
            Err(_) => Left::Unknown,
        }
    }
}
