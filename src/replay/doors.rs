//! Data connections in a capture, and the pinholes that would let them through.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ftpalg::engine::MAX_SESSIONS;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Pinhole, PinholeKey};

use super::nat::Views;

/// A pinhole that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    pub pinhole: Pinhole,
    /// Whose it is.
    pub session: u64,
    pub tuple: ControlTuple,
    pub is_open: bool,
    /// When it closes unless somebody comes.
    until: Duration,
    used_by: Option<u16>,
}

/// What a SYN finds.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    /// A pinhole, open or about to be.
    Door(Door),
    /// Nothing, but it goes between the ends of this session.
    Nothing(u64),
    /// It was told of before, or is none of FTP's business.
    Stranger,
}

/// The pinholes of a replay.
#[derive(Debug, Default)]
pub struct Doors {
    by_key: HashMap<PinholeKey, Door>,
    /// From what a SYN looks like behind NAT.
    behind_nat: HashMap<(IpAddr, SocketAddr), PinholeKey>,
    /// The newest session between two addresses, either way round.
    hosts: HashMap<(IpAddr, IpAddr), u64>,
    /// SYNs that were told of lately, by port and sequence number: they come again, and on the other side of NAT.
    told: HashSet<(u16, u32)>,
}

/// How many SYNs are remembered.
const MOST_TOLD: usize = 4096;

impl Doors {
    /// A session between these ends begins.
    pub fn session(&mut self, views: &Views, session: u64) {
        if self.hosts.len() >= 8 * MAX_SESSIONS {
            self.hosts.clear();
        }
        for tuple in [views.inner, views.outer] {
            let (client, server) = (tuple.client.ip(), tuple.server.ip());
            self.hosts.insert((client, server), session);
            self.hosts.insert((server, client), session);
        }
    }

    /// A pinhole is asked for, or opens.
    pub fn put(&mut self, session: u64, tuple: ControlTuple, pinhole: Pinhole, is_open: bool, now: Duration) {
        let until = now.saturating_add(pinhole.timeout);
        self.behind_nat.insert((pinhole.from, pinhole.to), pinhole.key);
        self.by_key.insert(pinhole.key, Door { pinhole, session, tuple, is_open, until, used_by: None });
    }

    /// A pinhole closes. That it was used before shows for as long as its data connection's SYN may be repeated.
    pub fn close(&mut self, key: PinholeKey) {
        if self.by_key.get(&key).is_none_or(|door| door.used_by.is_none()) {
            self.remove(key);
        }
    }

    /// The clock of a pinhole starts anew.
    pub fn renew(&mut self, pinhole: &Pinhole, now: Duration) {
        if let Some(door) = self.by_key.get_mut(&pinhole.key) {
            door.until = now.saturating_add(pinhole.timeout);
        }
    }

    /// Lets go of those whose time is over.
    pub fn expire(&mut self, now: Duration) {
        let over: Vec<_> =
            self.by_key.iter().filter(|(_, door)| door.until < now).map(|(key, _)| *key).collect();
        over.into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: PinholeKey) {
        if let Some(door) = self.by_key.remove(&key) {
            self.behind_nat.remove(&(door.pinhole.from, door.pinhole.to));
        }
    }

    /// A SYN of no control connection.
    pub fn knock(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        sequence: u32,
        now: Duration,
    ) -> Found {
        let seen =
            PinholeKey { source: source.ip(), destination: destination.ip(), port: destination.port() };
        let key = if self.by_key.contains_key(&seen) {
            Some(seen)
        } else {
            self.behind_nat.get(&(source.ip(), destination)).copied()
        };
        let found = key.and_then(|key| self.by_key.get_mut(&key)).filter(|door| door.until >= now);
        match found {
            Some(door) if door.used_by == Some(source.port()) => return Found::Stranger,
            Some(door) if door.used_by.is_none() => {
                if door.is_open {
                    door.used_by = Some(source.port());
                }
                let door = *door;
                return if self.told(source.port(), sequence) { Found::Door(door) } else { Found::Stranger };
            }
            _ => {}
        }
        match self.hosts.get(&(source.ip(), destination.ip())).copied() {
            Some(session) if self.told(source.port(), sequence) => Found::Nothing(session),
            _ => Found::Stranger,
        }
    }

    /// Whether this SYN was not told of before.
    fn told(&mut self, port: u16, sequence: u32) -> bool {
        if self.told.len() >= MOST_TOLD {
            self.told.clear();
        }
        self.told.insert((port, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn doors(is_open: bool) -> Doors {
        let inner = ControlTuple { server: end("192.0.2.9:21"), client: end("10.0.0.2:4000") };
        let outer = ControlTuple { client: end("203.0.113.7:4000"), ..inner };
        let key = PinholeKey { source: outer.server.ip(), destination: outer.client.ip(), port: 5000 };
        let timeout = Duration::from_secs(60);
        let pinhole = Pinhole { key, to: end("10.0.0.2:6000"), from: key.source, mark: 0, timeout };
        let mut doors = Doors::default();
        doors.session(&Views { inner, outer }, 1);
        doors.put(1, outer, pinhole, is_open, NOW);
        doors
    }

    fn knock(doors: &mut Doors, destination: &str, sequence: u32, now: Duration) -> Found {
        doors.knock(end("192.0.2.9:20"), end(destination), sequence, now)
    }

    #[test]
    fn a_pinhole_serves_one_connection_on_either_side_of_nat() {
        for destination in ["203.0.113.7:5000", "10.0.0.2:6000"] {
            let mut doors = doors(true);
            assert!(matches!(knock(&mut doors, destination, 7, NOW), Found::Door(door) if door.is_open));
            for again in ["203.0.113.7:5000", "10.0.0.2:6000"] {
                assert!(
                    matches!(knock(&mut doors, again, 7, NOW), Found::Stranger),
                    "repeated, or behind NAT"
                );
            }
            let other = doors.knock(end("192.0.2.9:3000"), end(destination), 9, NOW);
            assert!(matches!(other, Found::Nothing(1)), "{other:?}");
        }
    }

    #[test]
    fn what_is_closed_or_over_or_elsewhere_lets_nothing_through() {
        assert!(
            matches!(knock(&mut doors(false), "203.0.113.7:5000", 7, NOW), Found::Door(door) if !door.is_open)
        );
        let mut closed = doors(true);
        closed.close(PinholeKey {
            source: end("192.0.2.9:1").ip(),
            destination: end("203.0.113.7:1").ip(),
            port: 5000,
        });
        assert!(matches!(knock(&mut closed, "10.0.0.2:6000", 7, NOW), Found::Nothing(1)));
        let late = NOW + Duration::from_secs(61);
        assert!(matches!(knock(&mut doors(true), "203.0.113.7:5000", 7, late), Found::Nothing(1)));
        assert!(matches!(knock(&mut doors(true), "203.0.113.7:5001", 7, NOW), Found::Nothing(1)));
        let elsewhere = doors(true).knock(end("192.0.2.8:20"), end("203.0.113.7:5000"), 7, NOW);
        assert!(matches!(elsewhere, Found::Stranger));
    }
}
