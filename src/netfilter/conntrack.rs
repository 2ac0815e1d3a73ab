//! Looks a control connection up in conntrack: what its client sees, its mark, and whether it is still alive.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ftpalg::engine::control::{ClientView, ControlTuple};

use super::connection::Connection;
use super::netlink::{Attributes, DUMP, Nest, Request, subsystem};

const IPCTNL_MSG_CT_NEW: u8 = 0;
const IPCTNL_MSG_CT_GET: u8 = 1;

/// `CTA_*` (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const MARK: u16 = 8;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_REPLY_FLAGS: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
const PROTOINFO_TCP: u16 = 1;
const PROTOINFO_TCP_STATE: u16 = 1;

/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE` (nf_conntrack_tcp.h): both ends are through with it.
const ENDED: [u8; 2] = [7, 8];

/// `TCP_CONNTRACK_SYN_RECV`: the server has answered, the client has not.
const HALF_OPEN: u8 = 2;

/// `IPS_SEQ_ADJUST` (nf_conntrack_common.h).
const SEQ_ADJUST: u32 = 1 << 6;

/// `CTA_FILTER_F_CTA_PROTO_NUM` and `_PROTO_SRC_PORT` (net/netfilter/nf_internals.h).
const BY_SERVERS_PORT: u32 = 0b01_1000;

/// How long there is no other search of all zones behind one, and as a multiple of what it took: conntrack is gone through as
/// a whole.
const REST: Duration = Duration::from_secs(1);
const REST_BY_WORK: u32 = 20;

/// Zones in which connections were found, whoever asked; not zone 0.
static ZONES: Mutex<Vec<u16>> = Mutex::new(Vec::new());
const MOST_ZONES: usize = 256;

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// What conntrack knows of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What its client sees, and its mark.
    pub view: ClientView,
    /// conntrack changes its sequence numbers behind the taps.
    pub is_resequenced: bool,
    state: Option<u8>,
}

/// What conntrack says of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Live,
    /// The server has answered its SYN, the client that has not.
    HalfOpen,
    /// Both ends have closed it, or one has reset it.
    Ended,
    /// It is not there: over for long, or the table has been flushed.
    Unknown,
}

/// What became of a search for a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is there.
    Entry(Entry),
    /// It is not there.
    Nowhere,
    /// It may be in a zone that is not known yet: ask again.
    NotSearched,
}

/// A socket to ask conntrack on (ctnetlink).
pub struct ConnTrack {
    connection: Connection,
    /// Until when there is no search of all zones.
    rests: Option<Instant>,
}

impl ConnTrack {
    /// Opens the socket.
    pub fn open() -> io::Result<Self> {
        Ok(ConnTrack { connection: Connection::open()?, rests: None })
    }

    /// What has become of a control connection. That conntrack does not answer is no proof of anything.
    pub fn fate(&mut self, tuple: &ControlTuple) -> Fate {
        match self.entry(tuple) {
            Ok(Some(entry)) if entry.state.is_some_and(|state| ENDED.contains(&state)) => Fate::Ended,
            Ok(Some(entry)) if entry.state == Some(HALF_OPEN) => Fate::HalfOpen,
            Ok(Some(_)) | Err(_) => Fate::Live,
            Ok(None) => Fate::Unknown,
        }
    }

    /// The entry of a control connection, in zone 0 (`ct zone set`) or in one where others were found; `None` if there is none.
    /// There is one from the moment its first packet has left this host. Asks by the reply tuple, which is the server-facing
    /// one read from server to client.
    pub fn entry(&mut self, tuple: &ControlTuple) -> io::Result<Option<Entry>> {
        if let Some(entry) = self.entry_in(None, tuple)? {
            return Ok(Some(entry));
        }
        for zone in known_zones() {
            if let Some(entry) = self.entry_in(Some(zone), tuple)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The same, wherever it is. Right behind a search for others all zones are not searched again.
    pub fn find(&mut self, tuple: &ControlTuple) -> io::Result<Found> {
        if let Some(entry) = self.entry(tuple)? {
            return Ok(Found::Entry(entry));
        }
        let start = Instant::now();
        if self.rests.is_some_and(|end| start < end) {
            // Where nobody uses zones, it is in none.
            return Ok(if known_zones().is_empty() { Found::Nowhere } else { Found::NotSearched });
        }
        let searched = self.learn_zones(tuple.server.is_ipv4(), tuple.server.port());
        let end = Instant::now();
        self.rests = Some(end + REST.max((end - start) * REST_BY_WORK));
        searched?;
        Ok(self.entry(tuple)?.map_or(Found::Nowhere, Found::Entry))
    }

    /// Learns in which zones there are connections to servers on this port, over IPv4 or IPv6.
    pub fn learn_zones(&mut self, is_v4: bool, port: u16) -> io::Result<()> {
        // A kernel that knows no filter (before 5.8) tells of all connections.
        let filter = Nest::default().attribute(FILTER_REPLY_FLAGS, &BY_SERVERS_PORT.to_ne_bytes());
        let family = if is_v4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        let request = Request::new(subsystem::CTNETLINK, IPCTNL_MSG_CT_GET, family, DUMP)
            .nest(TUPLE_REPLY, &Nest::default().nest(TUPLE_PROTO, &from_port(port)))
            .nest(FILTER, &filter);
        let found = self.connection.dump(&request, |message| {
            message.is(subsystem::CTNETLINK, IPCTNL_MSG_CT_NEW).then(|| zone(message.attributes()))?
        })?;
        let mut zones = ZONES.lock().unwrap_or_else(PoisonError::into_inner);
        for zone in found {
            if zones.len() < MOST_ZONES && !zones.contains(&zone) {
                zones.push(zone);
            }
        }
        Ok(())
    }

    fn entry_in(&mut self, zone: Option<u16>, tuple: &ControlTuple) -> io::Result<Option<Entry>> {
        let (family, reply) = reply(tuple);
        let mut request =
            Request::new(subsystem::CTNETLINK, IPCTNL_MSG_CT_GET, family, 0).nest(TUPLE_REPLY, &reply);
        if let Some(zone) = zone {
            request = request.attribute(ZONE, &zone.to_be_bytes());
        }
        let mut entry = None;
        let asked = self.connection.request(request, |message| {
            if message.is(subsystem::CTNETLINK, IPCTNL_MSG_CT_NEW) {
                entry = read(message.attributes());
            }
        });
        match asked {
            Ok(()) => Ok(entry),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn known_zones() -> Vec<u16> {
    ZONES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The reply direction of a control connection, and its `NFPROTO_*`.
fn reply(tuple: &ControlTuple) -> (u8, Nest) {
    let (family, addresses) = match (tuple.server.ip(), tuple.client.ip()) {
        (IpAddr::V4(server), IpAddr::V4(client)) => {
            let nest = Nest::default().attribute(IP_V4_SRC, &server.octets());
            (NFPROTO_IPV4, nest.attribute(IP_V4_DST, &client.octets()))
        }
        (server, client) => {
            let nest = Nest::default().attribute(IP_V6_SRC, &v6(server).octets());
            (NFPROTO_IPV6, nest.attribute(IP_V6_DST, &v6(client).octets()))
        }
    };
    let ports = from_port(tuple.server.port()).attribute(PROTO_DST_PORT, &tuple.client.port().to_be_bytes());
    (family, Nest::default().nest(TUPLE_IP, &addresses).nest(TUPLE_PROTO, &ports))
}

/// TCP, from a port.
fn from_port(port: u16) -> Nest {
    Nest::default()
        .attribute(PROTO_NUM, &[libc::IPPROTO_TCP.to_le_bytes()[0]])
        .attribute(PROTO_SRC_PORT, &port.to_be_bytes())
}

/// The zone of an entry, or of its reply direction alone (`ct reply zone set`).
fn zone(attributes: Attributes<'_>) -> Option<u16> {
    attributes.be16(ZONE).or_else(|| attributes.nest(TUPLE_REPLY)?.be16(TUPLE_ZONE))
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn read(attributes: Attributes<'_>) -> Option<Entry> {
    let addresses = attributes.nest(TUPLE_ORIG)?.nest(TUPLE_IP)?;
    let state = attributes.nest(PROTOINFO).and_then(|info| info.nest(PROTOINFO_TCP));
    Some(Entry {
        view: ClientView {
            client: address(addresses, IP_V4_SRC, IP_V6_SRC)?,
            dialled: address(addresses, IP_V4_DST, IP_V6_DST)?,
            mark: attributes.be32(MARK).unwrap_or_default(),
        },
        is_resequenced: attributes.be32(STATUS).unwrap_or_default() & SEQ_ADJUST != 0,
        state: state.and_then(|tcp| tcp.value(PROTOINFO_TCP_STATE)?.first().copied()),
    })
}

fn address(attributes: Attributes<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    if let Some(octets) = attributes.value(v4) {
        return <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(attributes.value(v6)?).ok()?;
    Some(Ipv6Addr::from(octets).into())
}
