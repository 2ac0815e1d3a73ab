//! What a captured IP packet says of its TCP segment, read leniently: captures cut packets, and network cards finish them.

use std::net::SocketAddr;

use etherparse::{IpNumber, LaxIpSlice, TcpHeaderSlice};

/// A TCP segment that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub sequence: u32,
    /// If ACK is set.
    pub acknowledgment: Option<u32>,
    pub is_syn: bool,
    pub is_fin: bool,
    pub is_reset: bool,
    pub payload: &'a [u8],
    /// IPv4's identification; with 0 it says nothing.
    pub identification: u16,
    /// How many routers it may still pass.
    pub hops_left: u8,
    /// All of the segment.
    pub bytes: &'a [u8],
}

/// Why a packet's segment can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// It is none of TCP, or no IP packet at all.
    Other,
    /// A fragment of an IP packet that holds TCP; between these ports, if it is the first.
    Fragment(Option<[u16; 2]>),
    /// The capture has cut it; it goes between these ends.
    Cut(SocketAddr, SocketAddr),
    /// Its TCP header says what can't be; it goes between these ends.
    Damaged(SocketAddr, SocketAddr),
}

impl<'a> Segment<'a> {
    /// Reads an IP packet. Bytes behind its end are left out.
    pub fn read(packet: &'a [u8]) -> Result<Segment<'a>, Unusable> {
        let (ip, _) = LaxIpSlice::from_slice(packet).map_err(|_| Unusable::Other)?;
        let body = ip.payload();
        if body.ip_number != IpNumber::TCP {
            return Err(Unusable::Other);
        }
        let bytes = body.payload;
        let ports = match bytes {
            [a, b, c, d, ..] => Some([u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])]),
            _ => None,
        };
        let (identification, hops_left, is_first) = match &ip {
            LaxIpSlice::Ipv4(v4) => {
                let header = v4.header();
                (header.identification(), header.ttl(), header.fragments_offset().value() == 0)
            }
            LaxIpSlice::Ipv6(v6) => (0, v6.header().hop_limit(), true),
        };
        if body.fragmented {
            return Err(Unusable::Fragment(ports.filter(|_| is_first && ip.ipv4().is_some())));
        }
        let [source, destination] = ports.ok_or(Unusable::Other)?;
        let source = SocketAddr::new(ip.source_addr(), source);
        let destination = SocketAddr::new(ip.destination_addr(), destination);
        if body.incomplete {
            return Err(Unusable::Cut(source, destination));
        }
        let header = TcpHeaderSlice::from_slice(bytes).map_err(|_| Unusable::Damaged(source, destination))?;
        Ok(Segment {
            source,
            destination,
            sequence: header.sequence_number(),
            acknowledgment: header.ack().then(|| header.acknowledgment_number()),
            is_syn: header.syn(),
            is_fin: header.fin(),
            is_reset: header.rst(),
            payload: bytes.get(header.slice().len()..).unwrap_or_default(),
            identification,
            hops_left,
            bytes,
        })
    }

    /// How many sequence numbers it takes.
    pub fn length(&self) -> u32 {
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX)
            + u32::from(self.is_syn)
            + u32::from(self.is_fin)
    }

    /// The sequence number behind it.
    pub fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.length())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn packet() -> Vec<u8> {
        let builder = PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64).tcp(40000, 21, 7, 64240).ack(9);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"USER x\r\n").unwrap();
        bytes
    }

    #[test]
    fn a_whole_packet_is_read_without_what_stands_behind_it() {
        let bytes = [packet(), vec![0; 6]].concat();
        let segment = Segment::read(&bytes).unwrap();
        assert_eq!((segment.source, segment.sequence), ("10.0.0.2:40000".parse().unwrap(), 7));
        assert_eq!((segment.payload, segment.end()), (&b"USER x\r\n"[..], 15));
        assert_eq!((segment.acknowledgment, segment.hops_left), (Some(9), 64));
    }

    #[test]
    fn what_is_cut_or_a_fragment_is_said_to_be() {
        let bytes = packet();
        let ends = ("10.0.0.2:40000".parse().unwrap(), "10.0.0.1:21".parse().unwrap());
        for length in 24..bytes.len() {
            assert_eq!(Segment::read(&bytes[..length]), Err(Unusable::Cut(ends.0, ends.1)), "{length} bytes");
        }
        for length in 0..24 {
            assert_eq!(Segment::read(&bytes[..length]), Err(Unusable::Other), "{length} bytes");
        }
        let mut first = bytes.clone();
        first[6] |= 0x20;
        assert_eq!(Segment::read(&first), Err(Unusable::Fragment(Some([40000, 21]))));
        let mut later = bytes;
        later[7] = 1;
        assert_eq!(Segment::read(&later), Err(Unusable::Fragment(None)));
    }
}
