//! Link layers: where in a captured frame the IP packet begins.

use std::fmt;

use super::Frame;

/// A link type (draft-ietf-opsawg-pcaplinktype).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the address family in the byte order of the host that captured.
    pub const NULL: LinkType = LinkType(0);
    pub const ETHERNET: LinkType = LinkType(1);
    /// What OpenBSD and others call raw IP in files of their own.
    const RAW_BSD: [LinkType; 2] = [LinkType(12), LinkType(14)];
    /// Begins with the IP header.
    pub const RAW: LinkType = LinkType(101);
    /// As NULL, in network order.
    const LOOP: LinkType = LinkType(108);
    /// Linux cooked.
    pub const SLL: LinkType = LinkType(113);
    const IPV4: LinkType = LinkType(228);
    const IPV6: LinkType = LinkType(229);
    /// Linux cooked, version 2: what `tcpdump -i any` writes.
    pub const SLL2: LinkType = LinkType(276);
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NULL => "BSD loopback",
            Self::ETHERNET => "Ethernet",
            Self::RAW | Self::IPV4 | Self::IPV6 => "raw IP",
            Self::SLL => "Linux cooked",
            Self::SLL2 => "Linux cooked, version 2",
            LinkType(number) => return write!(f, "link type {number}"),
        };
        f.write_str(name)
    }
}

/// What is in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// An IP packet that begins here.
    Ip(usize),
    /// Something else, or nothing.
    Other,
    /// Who knows: nothing here reads this link type.
    UnknownLink,
}

/// Ethernet types.
mod ether {
    pub const IPV4: u16 = 0x0800;
    pub const IPV6: u16 = 0x86dd;
    /// IEEE 802.1Q, 802.1ad, and what was used for the latter before.
    pub const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
    pub const PPPOE: u16 = 0x8864;
}

/// A PPPoE header and the protocol of the PPP frame in it (RFC 2516, section 4; RFC 1661, section 2).
const PPPOE: usize = 8;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// How many tags may stand in a row.
const MOST_TAGS: usize = 8;

impl Frame {
    /// Where its IP packet begins.
    pub fn network(&self) -> Network {
        let bytes = self.bytes.as_slice();
        let found = match self.link {
            LinkType::ETHERNET => behind(bytes, 12, 14),
            LinkType::SLL => behind(bytes, 14, 16),
            LinkType::SLL2 => behind(bytes, 0, 20),
            LinkType::NULL | LinkType::LOOP => ip_at(bytes, 4),
            link if LinkType::RAW_BSD.contains(&link) => ip_at(bytes, 0),
            LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => ip_at(bytes, 0),
            _ => return Network::UnknownLink,
        };
        found.map_or(Network::Other, Network::Ip)
    }

    /// The same frame with another IP packet in it.
    pub fn with_packet(&self, at: usize, packet: &[u8]) -> Vec<u8> {
        let mut head = self.bytes.get(..at).unwrap_or_default().to_vec();
        // PPPoE has a length of its own, which counts the protocol field, too.
        let is_pppoe = head.len() >= PPPOE + 2 && u16_at(&head, head.len() - PPPOE - 2) == Some(ether::PPPOE);
        if is_pppoe && self.link != LinkType::RAW {
            let place = head.len() - 4;
            let length = u16::try_from(packet.len() + 2).unwrap_or(u16::MAX);
            head[place..place + 2].copy_from_slice(&length.to_be_bytes());
        }
        head.extend_from_slice(packet);
        head
    }
}

/// The IP packet behind an Ethernet type, and behind what else stands in between.
fn behind(bytes: &[u8], ether_type: usize, mut next: usize) -> Option<usize> {
    let mut kind = u16_at(bytes, ether_type)?;
    for _ in 0..MOST_TAGS {
        if !ether::TAGS.contains(&kind) {
            break;
        }
        kind = u16_at(bytes, next + 2)?;
        next += 4;
    }
    if kind == ether::PPPOE {
        next += PPPOE;
        kind = match u16_at(bytes, next - 2)? {
            PPP_IPV4 => ether::IPV4,
            PPP_IPV6 => ether::IPV6,
            _ => return None,
        };
    }
    let version = match kind {
        ether::IPV4 => 4,
        ether::IPV6 => 6,
        _ => return None,
    };
    (bytes.get(next)? >> 4 == version).then_some(next)
}

fn ip_at(bytes: &[u8], at: usize) -> Option<usize> {
    matches!(bytes.get(at)? >> 4, 4 | 6).then_some(at)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(link: LinkType, head: &[u8]) -> Frame {
        let bytes = [head, &[0x45, 0, 0, 20]].concat();
        Frame { number: 1, at: Duration::ZERO, link, length: bytes.len(), bytes }
    }

    #[test]
    fn the_packet_is_found_behind_every_link_layer() {
        let ethernet = |types: &[u8]| frame(LinkType::ETHERNET, &[&[2; 12], types].concat());
        assert_eq!(ethernet(&[8, 0]).network(), Network::Ip(14));
        assert_eq!(ethernet(&[0x81, 0, 0, 7, 8, 0]).network(), Network::Ip(18));
        assert_eq!(ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0]).network(), Network::Ip(22));
        assert_eq!(ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 22, 0, 0x21]).network(), Network::Ip(22));
        assert_eq!(ethernet(&[8, 6]).network(), Network::Other, "ARP");
        let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6][..], &[0; 8]].concat();
        assert_eq!(frame(LinkType::SLL2, &sll2).network(), Network::Ip(20));
        assert_eq!(frame(LinkType::SLL, &[&[0; 14][..], &[8, 0]].concat()).network(), Network::Ip(16));
        assert_eq!(frame(LinkType::RAW, &[]).network(), Network::Ip(0));
        assert_eq!(frame(LinkType::NULL, &[2, 0, 0, 0]).network(), Network::Ip(4));
        assert_eq!(frame(LinkType(195), &[]).network(), Network::UnknownLink);
    }

    #[test]
    fn a_header_that_is_cut_holds_nothing() {
        let whole =
            [&[2; 12][..], &[0x88, 0xa8, 0, 7, 0x88, 0x64, 0x11, 0, 0, 1, 0, 22, 0, 0x21, 0x45]].concat();
        for length in 0..whole.len() {
            let bytes = whole[..length].to_vec();
            let frame = Frame { number: 1, at: Duration::ZERO, link: LinkType::ETHERNET, length, bytes };
            assert_eq!(frame.network(), Network::Other, "{length} bytes");
        }
    }

    #[test]
    fn pppoe_s_length_follows_the_packet_s() {
        let head = [&[2; 12][..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 22, 0, 0x21]].concat();
        let edited = frame(LinkType::ETHERNET, &head).with_packet(22, &[0x45; 300]);
        assert_eq!(edited[18..20], 302_u16.to_be_bytes());
        assert_eq!(edited.len(), 322);
    }
}
