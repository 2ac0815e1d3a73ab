//! An IP packet that carries TCP, as a checked view over its bytes that can be edited in place.
//!
//! [`Packet::parse`] checks every length once; afterwards the header fields stand at known places, and nothing
//! here panics. Options, flags and fields that are not named here stay as they came.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, IpSlice, TcpSlice};
use thiserror::Error;

use super::checksum::{Checksum, header_checksum, segment_checksum};

/// Why bytes are no TCP segment that a receiver would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// No whole IPv4 or IPv6 header, or lengths that contradict each other.
    #[error("the IP header is damaged")]
    Ip,
    /// A fragment: reassembly happens before the taps, so this one was made to get round it.
    #[error("a fragment of an IP packet")]
    Fragment,
    /// Not TCP.
    #[error("not TCP")]
    NotTcp,
    /// No whole TCP header (RFC 9293, section 3.1).
    #[error("the TCP header is damaged")]
    Tcp,
    /// The receiver would drop it (RFC 9293, section 3.1), so it must not be parsed, nor made valid by an edit.
    #[error("the TCP checksum is wrong")]
    Checksum,
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// Offsets in the TCP header (RFC 9293, section 3.1).
mod field {
    pub const SEQUENCE: usize = 4;
    pub const ACKNOWLEDGMENT: usize = 8;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;
    pub const URGENT: usize = 18;
    pub const OPTIONS: usize = 20;
}

/// A TCP segment in its IP packet. Invariant: `tcp + 20 <= payload <= bytes.len()`, and the IP header ends at or
/// before `tcp`.
#[derive(Debug)]
pub struct Packet<'a> {
    bytes: &'a mut Vec<u8>,
    source: SocketAddr,
    destination: SocketAddr,
    /// Where the TCP header begins.
    tcp: usize,
    /// Where the TCP payload begins.
    payload: usize,
}

/// Where in its bytes the parts of a packet stand.
struct Places {
    source: SocketAddr,
    destination: SocketAddr,
    tcp: usize,
    payload: usize,
    /// Where the IP packet ends.
    end: usize,
}

impl Places {
    fn find(bytes: &[u8]) -> Result<(Self, Checksum), Malformed> {
        let ip = IpSlice::from_slice(bytes).map_err(|_| Malformed::Ip)?;
        if ip.ipv6().is_some_and(|v6| v6.header().payload_length() == 0) {
            // etherparse takes it for a jumbogram (RFC 2675); receivers find no segment in it.
            return Err(Malformed::Ip);
        }
        let (source, destination) = (ip.source_addr(), ip.destination_addr());
        let body = ip.payload();
        if body.fragmented {
            return Err(Malformed::Fragment);
        }
        if body.ip_number != IpNumber::TCP {
            return Err(Malformed::NotTcp);
        }
        let segment = body.payload;
        let header = TcpSlice::from_slice(segment).map_err(|_| Malformed::Tcp)?;
        let checksum = Checksum::of(source, destination, segment, header.checksum());
        let tcp = segment.as_ptr() as usize - bytes.as_ptr() as usize;
        let payload = tcp + header.header_slice().len();
        let end = tcp + segment.len();
        let source = SocketAddr::new(source, header.source_port());
        let destination = SocketAddr::new(destination, header.destination_port());
        Ok((Self { source, destination, tcp, payload, end }, checksum))
    }
}

impl<'a> Packet<'a> {
    /// Checks the packet's headers, lengths and TCP checksum. Bytes behind the end of the IP packet are cut off, unless it
    /// is refused.
    pub fn parse(bytes: &'a mut Vec<u8>) -> Result<Self, Malformed> {
        match Places::find(bytes)? {
            (places, Checksum::Right) => Ok(Self::at(&places, bytes)),
            (_, Checksum::Partial | Checksum::Wrong) => Err(Malformed::Checksum),
        }
    }

    /// The same, whatever the TCP checksum is. Only for packets that do not come from a receiver's side of a wire.
    pub fn parse_unfinished(bytes: &'a mut Vec<u8>) -> Result<(Self, Checksum), Malformed> {
        let (places, checksum) = Places::find(bytes)?;
        Ok((Self::at(&places, bytes), checksum))
    }

    fn at(places: &Places, bytes: &'a mut Vec<u8>) -> Self {
        let &Places { source, destination, tcp, payload, end } = places;
        bytes.truncate(end);
        Self { bytes, source, destination, tcp, payload }
    }

    /// Where it comes from.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// Where it goes.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    fn u16_at(&self, field: usize) -> u16 {
        match self.bytes.get(self.tcp + field..) {
            Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    fn u32_at(&self, field: usize) -> u32 {
        (u32::from(self.u16_at(field)) << 16) | u32::from(self.u16_at(field + 2))
    }

    fn put(&mut self, field: usize, value: &[u8]) {
        let at = self.tcp + field;
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn flags(&self) -> u8 {
        self.bytes.get(self.tcp + field::FLAGS).copied().unwrap_or(0)
    }

    /// The segment's sequence number.
    pub fn sequence(&self) -> u32 {
        self.u32_at(field::SEQUENCE)
    }

    /// The acknowledgment number, if ACK is set.
    pub fn acknowledgment(&self) -> Option<u32> {
        (self.flags() & ACK != 0).then(|| self.u32_at(field::ACKNOWLEDGMENT))
    }

    /// The urgent pointer, if URG is set: an offset from the sequence number.
    pub fn urgent(&self) -> Option<u16> {
        (self.flags() & URG != 0).then(|| self.u16_at(field::URGENT))
    }

    /// Whether SYN is set.
    pub fn is_syn(&self) -> bool {
        self.flags() & SYN != 0
    }

    /// Whether FIN is set.
    pub fn is_fin(&self) -> bool {
        self.flags() & FIN != 0
    }

    /// Whether RST is set.
    pub fn is_reset(&self) -> bool {
        self.flags() & RST != 0
    }

    /// The TCP options, padding included.
    pub fn options(&self) -> &[u8] {
        self.bytes.get(self.tcp + field::OPTIONS..self.payload).unwrap_or_default()
    }

    /// The TCP options, to be edited in place. The checksum is made good by [`Self::finish`].
    pub fn options_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.tcp + field::OPTIONS..self.payload).unwrap_or_default()
    }

    /// The TCP payload.
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload..).unwrap_or_default()
    }

    /// Puts other ends in place of the packet's own. They are of the same address family; otherwise nothing changes.
    pub fn set_ends(&mut self, source: SocketAddr, destination: SocketAddr) {
        let addresses = match (source.ip(), destination.ip(), self.source.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to), IpAddr::V4(_)) => {
                self.bytes.get_mut(12..20).map(|place| (place, [from.octets(), to.octets()].concat()))
            }
            (IpAddr::V6(from), IpAddr::V6(to), IpAddr::V6(_)) => {
                self.bytes.get_mut(8..40).map(|place| (place, [from.octets(), to.octets()].concat()))
            }
            _ => None,
        };
        let Some((place, addresses)) = addresses else { return };
        place.copy_from_slice(&addresses);
        self.put(0, &source.port().to_be_bytes());
        self.put(2, &destination.port().to_be_bytes());
        (self.source, self.destination) = (source, destination);
    }

    /// Sets the sequence number.
    pub fn set_sequence(&mut self, sequence: u32) {
        self.put(field::SEQUENCE, &sequence.to_be_bytes());
    }

    /// Sets the acknowledgment number.
    pub fn set_acknowledgment(&mut self, acknowledgment: u32) {
        self.put(field::ACKNOWLEDGMENT, &acknowledgment.to_be_bytes());
    }

    /// Sets the urgent pointer; `None` takes URG away.
    pub fn set_urgent(&mut self, urgent: Option<u16>) {
        let flags = (self.flags() & !URG) | if urgent.is_some() { URG } else { 0 };
        self.put(field::FLAGS, &[flags]);
        self.put(field::URGENT, &urgent.unwrap_or(0).to_be_bytes());
    }

    /// Takes FIN and PSH away: the segment no longer reaches the end of what was sent.
    pub fn clear_end_flags(&mut self) {
        let flags = self.flags() & !(FIN | PSH);
        self.put(field::FLAGS, &[flags]);
    }

    /// Makes it a reset with these numbers, and nothing else.
    pub fn become_reset(&mut self, sequence: u32, acknowledgment: u32) {
        self.become_bare(sequence, acknowledgment, RST | ACK);
        self.set_payload(&[]);
    }

    /// Makes it an acknowledgment that carries one byte, which stands outside its receiver's window.
    pub fn become_question(&mut self, sequence: u32, acknowledgment: u32) {
        self.become_bare(sequence, acknowledgment, ACK);
        self.set_payload(&[0]);
    }

    fn become_bare(&mut self, sequence: u32, acknowledgment: u32, flags: u8) {
        self.set_sequence(sequence);
        self.set_acknowledgment(acknowledgment);
        self.put(field::FLAGS, &[flags]);
        self.put(field::URGENT, &[0; 2]);
    }

    /// Puts another payload in place of the segment's own.
    pub fn set_payload(&mut self, payload: &[u8]) {
        self.bytes.truncate(self.payload);
        self.bytes.extend_from_slice(payload);
    }

    /// Makes lengths and checksums good after edits.
    pub fn finish(self) {
        let Self { bytes, source, destination, tcp, .. } = self;
        let total = bytes.len();
        match source.ip() {
            IpAddr::V4(_) => {
                let length = u16::try_from(total).unwrap_or(u16::MAX);
                let header = bytes.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
                if let Some(header) = bytes.get_mut(..header) {
                    header[2..4].copy_from_slice(&length.to_be_bytes());
                    header[10..12].fill(0);
                    let sum = header_checksum(header);
                    header[10..12].copy_from_slice(&sum.to_be_bytes());
                }
            }
            IpAddr::V6(_) => {
                let length = u16::try_from(total.saturating_sub(40)).unwrap_or(u16::MAX);
                if let Some(place) = bytes.get_mut(4..6) {
                    place.copy_from_slice(&length.to_be_bytes());
                }
            }
        }
        if let Some(segment) = bytes.get_mut(tcp..) {
            segment[field::CHECKSUM..field::CHECKSUM + 2].fill(0);
            let sum = segment_checksum(source.ip(), destination.ip(), segment);
            segment[field::CHECKSUM..field::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use etherparse::PacketBuilder;

    use super::super::checksum::partial_checksum;
    use super::*;

    /// A TCP segment from 10.0.0.2:40000 to 10.0.0.1:21.
    pub(crate) fn segment(sequence: u32, acknowledgment: u32, payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64)
            .tcp(40000, 21, sequence, 64240)
            .ack(acknowledgment)
            .psh();
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn segment_v6(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(40000, 21, 7, 64240);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    #[test]
    fn reads_the_header_fields() {
        let mut bytes = segment(100, 200, b"NOOP\r\n");
        let packet = Packet::parse(&mut bytes).unwrap();
        assert_eq!(packet.sequence(), 100);
        assert_eq!(packet.acknowledgment(), Some(200));
        assert_eq!(packet.urgent(), None);
        assert_eq!(packet.payload(), b"NOOP\r\n");
        assert_eq!(packet.source(), "10.0.0.2:40000".parse().unwrap());
        assert_eq!(packet.destination(), "10.0.0.1:21".parse().unwrap());
        assert!(!packet.is_syn() && !packet.is_fin() && !packet.is_reset());
    }

    #[test]
    fn an_edited_packet_parses_again_with_what_was_written() {
        for original in [segment(100, 200, b"PORT 10,0,0,2,4,1\r\n"), segment_v6(b"EPRT |2|::1|1025|\r\n")] {
            let mut bytes = original.clone();
            let mut packet = Packet::parse(&mut bytes).unwrap();
            packet.set_sequence(u32::MAX);
            packet.set_acknowledgment(5);
            packet.set_urgent(Some(3));
            packet.set_payload(b"PORT 198,51,100,200,200,13\r\n");
            packet.finish();
            let packet = Packet::parse(&mut bytes).unwrap();
            assert_eq!(packet.sequence(), u32::MAX);
            assert_eq!(packet.urgent(), Some(3));
            assert_eq!(packet.payload(), b"PORT 198,51,100,200,200,13\r\n");
        }
    }

    #[test]
    fn finishing_an_untouched_packet_changes_nothing() {
        for original in [segment(1, 2, b"odd"), segment_v6(b"even"), segment_v6(b"")] {
            let mut bytes = original.clone();
            Packet::parse(&mut bytes).unwrap().finish();
            assert_eq!(bytes, original);
        }
    }

    #[test]
    fn a_packet_with_other_ends_is_whole_again_once_finished() {
        let cases = [
            (segment(100, 200, b"NOOP\r\n"), ["192.168.1.2:5", "203.0.113.9:2121"]),
            (segment_v6(b"NOOP\r\n"), ["[fd00::2]:5", "[2001:db8::9]:2121"]),
        ];
        for (mut bytes, ends) in cases {
            let [source, destination] = ends.map(|end| end.parse().unwrap());
            let mut packet = Packet::parse(&mut bytes).unwrap();
            packet.set_ends(source, destination);
            packet.finish();
            let packet = Packet::parse(&mut bytes).unwrap();
            assert_eq!((packet.source(), packet.destination()), (source, destination));
            assert_eq!(packet.payload(), b"NOOP\r\n");
        }
    }

    #[test]
    fn a_checksum_that_is_left_to_the_card_is_known_and_finished() {
        for original in [segment(100, 200, b"NOOP\r\n"), segment_v6(b"NOOP\r\n")] {
            let mut bytes = original.clone();
            let (tcp, ends) = {
                let packet = Packet::parse(&mut bytes).unwrap();
                (packet.tcp, (packet.source.ip(), packet.destination.ip()))
            };
            for length in [bytes.len() - tcp, 0] {
                let partial = partial_checksum(ends.0, ends.1, length);
                bytes[tcp + 16..tcp + 18].copy_from_slice(&partial.to_be_bytes());
                assert_eq!(Packet::parse(&mut bytes).unwrap_err(), Malformed::Checksum);
                let (packet, checksum) = Packet::parse_unfinished(&mut bytes).unwrap();
                assert_eq!(checksum, Checksum::Partial);
                packet.finish();
                assert_eq!(bytes, original);
            }
            bytes[tcp + 16] ^= 1;
            assert_eq!(Packet::parse_unfinished(&mut bytes).unwrap().1, Checksum::Wrong);
        }
    }

    #[test]
    fn every_damaged_byte_of_the_segment_is_noticed() {
        let original = segment(1, 2, b"USER anonymous\r\n");
        for at in 20..original.len() {
            let mut bytes = original.clone();
            bytes[at] ^= 0x41;
            assert!(Packet::parse(&mut bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn cut_and_foreign_packets_are_refused() {
        let original = segment(1, 2, b"USER anonymous\r\n");
        for length in 0..original.len() {
            assert!(Packet::parse(&mut original[..length].to_vec()).is_err(), "{length} bytes");
        }
        let mut udp = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64).udp(1, 2).write(&mut udp, b"x").unwrap();
        assert_eq!(Packet::parse(&mut udp).unwrap_err(), Malformed::NotTcp);
        let mut fragment = original;
        fragment[6] |= 0x20;
        assert_eq!(Packet::parse(&mut fragment).unwrap_err(), Malformed::Fragment);
    }

    #[test]
    fn an_ipv6_packet_that_says_it_is_empty_is_refused() {
        let mut bytes = segment_v6(b"QUIT\r\n");
        bytes[4..6].fill(0);
        assert_eq!(Packet::parse(&mut bytes).unwrap_err(), Malformed::Ip);
    }

    #[test]
    fn bytes_behind_the_packet_are_cut_off() {
        let mut bytes = segment(1, 2, b"QUIT\r\n");
        let whole = bytes.len();
        bytes.extend_from_slice(b"PORT 1,2,3,4,5,6\r\n");
        assert_eq!(Packet::parse(&mut bytes).unwrap().payload(), b"QUIT\r\n");
        assert_eq!(bytes.len(), whole);
    }
}
