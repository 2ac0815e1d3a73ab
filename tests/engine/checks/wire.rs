//! A reader of IP and TCP headers of its own, by the RFCs and byte by byte: slow, and nothing of the engine's in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

pub const FIN: u8 = 0x01;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;

/// Where the parts of a TCP segment stand in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Where the TCP header begins, and the payload.
    pub tcp: usize,
    pub payload: usize,
    /// Where the IP packet ends; more bytes may follow.
    pub end: usize,
    /// Nothing stands between the IP header and the TCP header.
    pub is_plain: bool,
}

/// Finds the segment; `None` where there is no whole one, or only a fragment.
pub fn view(bytes: &[u8]) -> Option<View> {
    let (source, destination, mut at, end, mut protocol) = match bytes.first()? >> 4 {
        4 => {
            let header = usize::from(bytes[0] & 15) * 4;
            let is_fragment = u16_at(bytes, 6)? & 0x3fff != 0;
            let total = usize::from(u16_at(bytes, 2)?);
            if header < 20 || total < header || is_fragment {
                return None;
            }
            let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(array::<4>(bytes, at)?)));
            (address(12)?, address(16)?, header, total, bytes[9])
        }
        6 => {
            let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(array::<16>(bytes, at)?)));
            (address(8)?, address(24)?, 40, 40 + usize::from(u16_at(bytes, 4)?), *bytes.get(6)?)
        }
        _ => return None,
    };
    let body = bytes.get(..end)?;
    let is_plain = protocol == 6;
    while protocol != 6 {
        let next = *body.get(at)?;
        let length = usize::from(*body.get(at + 1)?);
        at += match protocol {
            // Hop-by-hop options, routing, destination options: RFC 8200, section 4.
            0 | 43 | 60 | 135 | 139 | 140 if source.is_ipv6() => (length + 1) * 8,
            44 if source.is_ipv6() && u16_at(body, at + 2)? & 0xfff9 == 0 => 8,
            // Authentication header: RFC 4302, section 2.2.
            51 => (length + 2) * 4,
            _ => return None,
        };
        protocol = next;
    }
    let header = usize::from(*body.get(at + 12)? >> 4) * 4;
    let payload = at + header;
    (header >= 20 && payload <= end).then_some(View { source, destination, tcp: at, payload, end, is_plain })
}

impl View {
    pub fn options(&self) -> Range<usize> {
        self.tcp + 20..self.payload
    }

    /// What the checksum's sum comes to (RFC 9293, section 3.1): 0xffff where it is right.
    pub fn sum(&self, bytes: &[u8]) -> u16 {
        let segment = &bytes[self.tcp..self.end];
        let mut words = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (IpAddr::V6(source), IpAddr::V6(destination)) => [source.octets(), destination.octets()].concat(),
            _ => unreachable!("both addresses come from one header"),
        };
        words.extend(u32::try_from(segment.len()).unwrap().to_be_bytes());
        words.extend([0, 0, 0, 6]);
        words.extend(segment);
        sum(&words)
    }
}

/// Makes lengths and checksums right, as far as the headers can be read.
pub fn mend(bytes: &mut [u8]) {
    let length = bytes.len();
    match bytes.first().map(|first| first >> 4) {
        Some(4) if length >= 20 => {
            bytes[2..4].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            let header = (usize::from(bytes[0] & 15) * 4).min(length);
            if header >= 20 {
                bytes[10..12].fill(0);
                let sum = !sum(&bytes[..header]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        Some(6) if length >= 40 => {
            bytes[4..6].copy_from_slice(&u16::try_from(length - 40).unwrap_or(u16::MAX).to_be_bytes());
        }
        _ => return,
    }
    if let Some(view) = view(bytes) {
        let place = view.tcp + 16..view.tcp + 18;
        bytes[place.clone()].fill(0);
        let sum = !view.sum(bytes);
        bytes[place].copy_from_slice(&sum.to_be_bytes());
    }
}

/// One TCP option: its kind, and where it stands, kind and length included.
pub type TcpOption = (u8, Range<usize>);

/// The options of a header, up to the end of the list or to the first that cannot be read (RFC 9293, section 3.2).
pub fn options(bytes: &[u8]) -> Vec<TcpOption> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != 0 {
        let length = match (bytes[at], bytes.get(at + 1)) {
            (1, _) => 1,
            (_, Some(&length)) if length >= 2 => usize::from(length),
            _ => break,
        };
        if at + length > bytes.len() {
            break;
        }
        found.push((bytes[at], at..at + length));
        at += length;
    }
    found
}

/// The ones' complement sum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|word| (u32::from(word[0]) << 8) | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}
