//! Where the records of sessions stand, by the sessions' names.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::give_back;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its file.
    pub class: u8,
    /// Its slot in there.
    pub slot: u32,
}

/// The server's address, the client's and both ports, of a session over IPv4; its own tuple is five times as large.
type Narrow = [u32; 3];

/// The ends of one over IPv6, or over both.
type Wide = [(u128, u16); 2];

/// The places of all sessions.
#[derive(Debug, Default)]
pub struct Places {
    narrow: HashMap<Narrow, Place>,
    wide: HashMap<Wide, Place>,
}

enum Name {
    Narrow(Narrow),
    Wide(Wide),
}

impl Name {
    fn of(tuple: &ControlTuple) -> Self {
        let wide = |end: SocketAddr| match end.ip() {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), end.port()),
            IpAddr::V6(address) => (address.to_bits(), end.port()),
        };
        match (tuple.server, tuple.client) {
            (SocketAddr::V4(server), SocketAddr::V4(client)) => {
                let ports = (u32::from(server.port()) << 16) | u32::from(client.port());
                Self::Narrow([server.ip().to_bits(), client.ip().to_bits(), ports])
            }
            (server, client) => Self::Wide([server, client].map(wide)),
        }
    }
}

impl Places {
    /// Where this session's record stands.
    pub fn get(&self, tuple: &ControlTuple) -> Option<Place> {
        match Name::of(tuple) {
            Name::Narrow(name) => self.narrow.get(&name),
            Name::Wide(name) => self.wide.get(&name),
        }
        .copied()
    }

    /// It stands here from now on. Returns where it stood.
    pub fn insert(&mut self, tuple: &ControlTuple, place: Place) -> Option<Place> {
        match Name::of(tuple) {
            Name::Narrow(name) => self.narrow.insert(name, place),
            Name::Wide(name) => self.wide.insert(name, place),
        }
    }

    /// It stands nowhere from now on. Returns where it stood.
    pub fn remove(&mut self, tuple: &ControlTuple) -> Option<Place> {
        match Name::of(tuple) {
            Name::Narrow(name) => take(&mut self.narrow, &name),
            Name::Wide(name) => take(&mut self.wide, &name),
        }
    }

    /// For how many there is room.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.narrow.capacity() + self.wide.capacity()
    }
}

fn take<N: Eq + Hash>(places: &mut HashMap<N, Place>, name: &N) -> Option<Place> {
    let place = places.remove(name);
    give_back(places);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_both_families_keep_their_places() {
        let tuple = |server: &str, client: &str| ControlTuple {
            server: server.parse().unwrap(),
            client: client.parse().unwrap(),
        };
        let tuples = [
            tuple("192.0.2.1:21", "192.0.2.2:40000"),
            tuple("192.0.2.2:21", "192.0.2.1:40000"),
            tuple("192.0.2.1:21", "192.0.2.2:40001"),
            tuple("[2001:db8::1]:21", "[2001:db8::2]:40000"),
            tuple("[2001:db8::2]:21", "[2001:db8::1]:40000"),
            tuple("192.0.2.1:21", "[2001:db8::2]:40000"),
        ];
        let mut places = Places::default();
        let all: Vec<_> = (0..).zip(&tuples).map(|(slot, tuple)| (tuple, Place { class: 0, slot })).collect();
        for (tuple, place) in &all {
            assert_eq!(places.insert(tuple, *place), None);
        }
        for (tuple, place) in &all {
            assert_eq!(places.get(tuple), Some(*place));
            assert_eq!(places.remove(tuple), Some(*place));
            assert_eq!(places.get(tuple), None);
        }
    }
}
