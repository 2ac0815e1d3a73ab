//! The elements behind each [`Change`]: in which set, under which key, with what data, for how long.
//!
//! A key or a value is a concatenation as nftables lays it out: every part padded with zeros to whole 32-bit
//! registers, addresses and ports in network byte order, marks in the host's.

use std::ffi::CStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Pinhole, PinholeKey};

use super::netlink::{Attributes, DUMP, Message, Nest, Request, nft, subsystem};
use super::sys::{ElementMessage, Verb};

/// The table that all of this is in but [`Set::Held`] and [`Set::Watched`].
pub const TABLE: &CStr = c"ftpalg";

/// `NFPROTO_INET`, the family of that table.
pub const INET: u8 = 1;

/// `NFTA_*` (include/uapi/linux/netfilter/nf_tables.h).
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const LIST_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const ELEM_EXPIRATION: u16 = 5;
const DATA_VALUE: u16 = 1;

/// How long a control connection stays in its sets unless it is named again: conntrack's own limit for one that is
/// silent (`nf_conntrack_tcp_timeout_established`).
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// How much longer than its pinhole the maps' elements live, so that a SYN that was let in finds them to the end.
const MAP_MARGIN: Duration = Duration::from_secs(10);

/// The sets and maps of nft-rules/ftpalg.nft and hold.nft that the daemon changes. Each exists for IPv4 and for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    ControlNew,
    Control,
    Shifted,
    Pending,
    Open,
    Mark,
    Dnat,
    Snat,
    Spent,
    /// In the table that outlives a flush, which has two names.
    Held,
    /// In the same.
    Watched,
}

impl Set {
    /// All of those whose content the daemon knows and puts back. `control_new` is the packet path's own, and `spent`
    /// may hold what the daemon has not heard of yet.
    pub const RESTORED: [Set; 7] =
        [Set::Control, Set::Shifted, Set::Pending, Set::Open, Set::Mark, Set::Dnat, Set::Snat];

    /// Those that hold a pinhole which was opened.
    pub const PINHOLE: [Set; 5] = [Set::Open, Set::Spent, Set::Mark, Set::Dnat, Set::Snat];

    /// Both names: IPv4's, IPv6's.
    pub const fn names(self) -> [&'static CStr; 2] {
        match self {
            Set::ControlNew => [c"control_new4", c"control_new6"],
            Set::Control => [c"control4", c"control6"],
            Set::Shifted => [c"shifted4", c"shifted6"],
            Set::Pending => [c"pending4", c"pending6"],
            Set::Open => [c"open4", c"open6"],
            Set::Mark => [c"mark4", c"mark6"],
            Set::Dnat => [c"dnat4", c"dnat6"],
            Set::Snat => [c"snat4", c"snat6"],
            Set::Spent => [c"spent4", c"spent6"],
            Set::Held => [c"held4", c"held6"],
            Set::Watched => [c"watched4", c"watched6"],
        }
    }

    /// Whether its elements carry data.
    pub const fn is_map(self) -> bool {
        matches!(self, Set::Mark | Set::Dnat | Set::Snat)
    }

    const fn name(self, family: Family) -> &'static CStr {
        match family {
            Family::V4 => self.names()[0],
            Family::V6 => self.names()[1],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// Addresses of both families in one key: nftables has no such element, and no such connection exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("IPv4 and IPv6 addresses mixed in one rule")]
pub struct MixedFamilies;

fn family(addresses: &[IpAddr]) -> Result<Family, MixedFamilies> {
    if addresses.iter().all(IpAddr::is_ipv4) {
        Ok(Family::V4)
    } else if addresses.iter().all(IpAddr::is_ipv6) {
        Ok(Family::V6)
    } else {
        Err(MixedFamilies)
    }
}

/// One part of a key or of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Address(IpAddr),
    Port(u16),
    Mark(u32),
}

impl fmt::Display for Part {
    /// As the nft language writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Address(address) => address.fmt(f),
            Part::Port(port) => port.fmt(f),
            Part::Mark(mark) => write!(f, "{mark:#x}"),
        }
    }
}

/// Up to four parts in a row: enough for every key here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat {
    parts: [Option<Part>; 4],
}

impl Concat {
    fn of<const N: usize>(given: [Part; N]) -> Self {
        let mut parts = [None; 4];
        for (slot, part) in parts.iter_mut().zip(given) {
            *slot = Some(part);
        }
        Concat { parts }
    }

    /// The bytes as the kernel has them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40);
        for part in self.parts.iter().flatten() {
            match part {
                Part::Address(IpAddr::V4(address)) => bytes.extend(address.octets()),
                Part::Address(IpAddr::V6(address)) => bytes.extend(address.octets()),
                Part::Port(port) => {
                    bytes.extend(port.to_be_bytes());
                    bytes.extend([0, 0]);
                }
                Part::Mark(mark) => bytes.extend(mark.to_ne_bytes()),
            }
        }
        bytes
    }
}

impl fmt::Display for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, part) in self.parts.iter().flatten().enumerate() {
            let separator = if position == 0 { "" } else { " . " };
            write!(f, "{separator}{part}")?;
        }
        Ok(())
    }
}

/// One element: its set, its key, and for maps what the key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    pub set: Set,
    family: Family,
    key: Concat,
    data: Option<Concat>,
    timeout: Duration,
}

impl Element {
    /// Whether both have the same key in the same set.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.set, self.key) == (other.set, other.key)
    }

    /// The message that does `verb` with it, given to `use_it`.
    pub fn with_message<R>(
        &self,
        verb: Verb,
        acknowledge: bool,
        use_it: impl FnOnce(&ElementMessage<'_>) -> R,
    ) -> R {
        self.with_message_to(TABLE, verb, acknowledge, use_it)
    }

    /// The same, in another table.
    pub fn with_message_to<R>(
        &self,
        table: &CStr,
        verb: Verb,
        acknowledge: bool,
        use_it: impl FnOnce(&ElementMessage<'_>) -> R,
    ) -> R {
        let adds = verb == Verb::AddNew;
        let data = self.data.filter(|_| adds).map(|data| data.bytes());
        use_it(&ElementMessage {
            table,
            set: self.set_name(),
            verb,
            key: &self.key.bytes(),
            data: data.as_deref(),
            timeout: adds.then_some(self.timeout),
            acknowledge,
        })
    }

    /// The request for it; ENOENT if it is not there.
    pub fn question(&self) -> Request {
        self.question_in(&TABLE.to_string_lossy())
    }

    /// The same, in another table.
    pub fn question_in(&self, table: &str) -> Request {
        let key = Nest::default().attribute(DATA_VALUE, &self.key.bytes());
        let element = Nest::default().nest(ELEM_KEY, &key);
        Request::new(subsystem::NFTABLES, nft::GETSETELEM, INET, 0)
            .string(ELEM_LIST_TABLE, table)
            .string(ELEM_LIST_SET, &self.set_name().to_string_lossy())
            .nest(ELEM_LIST_ELEMENTS, &Nest::default().nest(LIST_ELEM, &element))
    }

    /// What is left of its time, if this message of the answer to [`Element::question`] tells.
    pub fn time_left(message: Message<'_>) -> Option<Duration> {
        message.is(subsystem::NFTABLES, nft::NEWSETELEM).then_some(())?;
        let mut list = message.attributes().nest(ELEM_LIST_ELEMENTS)?;
        Attributes::inside(list.next()?.1).be64(ELEM_EXPIRATION).map(Duration::from_millis)
    }

    /// The request for all elements of the sets that hold control connections, by the names of table and set.
    pub fn all(table: &str, set: &str) -> Request {
        Request::new(subsystem::NFTABLES, nft::GETSETELEM, INET, DUMP)
            .string(ELEM_LIST_TABLE, table)
            .string(ELEM_LIST_SET, set)
    }

    /// The control connections in one message of the answer to [`Element::all`].
    pub fn control_tuples(message: Message<'_>) -> Vec<ControlTuple> {
        if !message.is(subsystem::NFTABLES, nft::NEWSETELEM) {
            return Vec::new();
        }
        let list = message.attributes().nest(ELEM_LIST_ELEMENTS).into_iter().flatten();
        let keys = list.filter_map(|(_, element)| {
            Attributes::inside(element).nest(ELEM_KEY)?.value(DATA_VALUE).and_then(control_tuple)
        });
        keys.collect()
    }

    /// The name of its set.
    pub fn set_name(&self) -> &'static CStr {
        self.set.name(self.family)
    }

    /// A control connection in one of the sets keyed by its tuple.
    pub fn control(set: Set, tuple: &ControlTuple) -> Result<Self, MixedFamilies> {
        let ControlTuple { server, client } = tuple;
        Ok(Element {
            set,
            family: family(&[server.ip(), client.ip()])?,
            key: Concat::of([
                Part::Address(server.ip()),
                Part::Port(server.port()),
                Part::Address(client.ip()),
                Part::Port(client.port()),
            ]),
            data: None,
            timeout: CONTROL_TIMEOUT,
        })
    }

    /// A pinhole's key in a set, or without its data in a map (to delete it).
    pub fn pinhole(set: Set, key: &PinholeKey, timeout: Duration) -> Result<Self, MixedFamilies> {
        Ok(Element {
            set,
            family: family(&[key.source, key.destination])?,
            key: Concat::of([
                Part::Address(key.source),
                Part::Address(key.destination),
                Part::Port(key.port),
            ]),
            data: None,
            timeout,
        })
    }

    /// Everything that an open pinhole consists of.
    pub fn open(pinhole: &Pinhole) -> Result<Vec<Self>, MixedFamilies> {
        let Pinhole { key, to, from, mark, timeout } = pinhole;
        family(&[key.source, key.destination, to.ip(), *from])?;
        let map = |set, data| {
            Element::pinhole(set, key, *timeout + MAP_MARGIN)
                .map(|element| Element { data: Some(data), ..element })
        };
        let mut elements = vec![
            Element::pinhole(Set::Open, key, *timeout)?,
            map(Set::Dnat, socket_address(to))?,
            map(Set::Snat, Concat::of([Part::Address(*from)]))?,
        ];
        if *mark != 0 {
            elements.push(map(Set::Mark, Concat::of([Part::Mark(*mark)]))?);
        }
        Ok(elements)
    }
}

impl fmt::Display for Element {
    /// As the nft language writes it between the braces of a set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.timeout.as_secs(), self.timeout.subsec_millis());
        write!(f, "{} timeout {seconds}s{millis}ms", self.key)?;
        self.data.map_or(Ok(()), |data| write!(f, " : {data}"))
    }
}

/// Reads the key that [`Element::control`] writes.
fn control_tuple(key: &[u8]) -> Option<ControlTuple> {
    let end = |part: &[u8]| -> Option<SocketAddr> {
        let (address, port) = part.split_last_chunk::<4>()?;
        let address = match address.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        };
        Some(SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]])))
    };
    let (server, client) = key.split_at_checked(key.len() / 2)?;
    Some(ControlTuple { server: end(server)?, client: end(client)? })
}

fn socket_address(address: &SocketAddr) -> Concat {
    Concat::of([Part::Address(address.ip()), Part::Port(address.port())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_laid_out_as_the_kernel_has_them() {
        let tuple = ControlTuple {
            server: "192.0.2.1:21".parse().unwrap(),
            client: "198.51.100.2:40000".parse().unwrap(),
        };
        let element = Element::control(Set::Control, &tuple).unwrap();
        let bytes = [192, 0, 2, 1, 0, 21, 0, 0, 198, 51, 100, 2, 0x9c, 0x40, 0, 0];
        assert_eq!(element.key.bytes(), bytes);
        assert_eq!(control_tuple(&bytes), Some(tuple));
        assert_eq!(control_tuple(&bytes[1..]), None);
        assert_eq!(element.to_string(), "192.0.2.1 . 21 . 198.51.100.2 . 40000 timeout 432000s0ms");
    }

    #[test]
    fn an_open_pinhole_is_a_set_element_and_what_the_maps_hold() {
        let pinhole = Pinhole {
            key: PinholeKey {
                source: "2001:db8::1".parse().unwrap(),
                destination: "2001:db8::2".parse().unwrap(),
                port: 1024,
            },
            to: "[2001:db8::3]:2000".parse().unwrap(),
            from: "2001:db8::4".parse().unwrap(),
            mark: 0x10,
            timeout: Duration::from_secs(60),
        };
        let elements = Element::open(&pinhole).unwrap();
        assert!(elements.iter().all(|e| e.key.bytes().len() == 36));
        let data: Vec<_> = elements.iter().map(|e| e.data.map(|d| d.bytes().len())).collect();
        assert_eq!(data, [None, Some(20), Some(16), Some(4)]);
        assert!(elements[1..].iter().all(|e| e.timeout > elements[0].timeout));
        let unmarked = Pinhole { mark: 0, ..pinhole };
        assert!(Element::open(&unmarked).unwrap().iter().all(|e| e.set != Set::Mark));
        let mixed = Pinhole { from: "192.0.2.1".parse().unwrap(), ..pinhole };
        assert_eq!(Element::open(&mixed), Err(MixedFamilies));
    }
}
