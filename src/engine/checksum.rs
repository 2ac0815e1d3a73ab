//! The checksums of TCP segments and of IPv4 headers.

use std::net::IpAddr;

use etherparse::IpNumber;
use etherparse::checksum::u64_16bit_word as sum16;

/// What stands in the place of the TCP checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum.
    Right,
    /// The pseudo-header's sum alone: the network card was to do the rest (`CHECKSUM_PARTIAL` of linux/skbuff.h).
    Partial,
    /// Neither.
    Wrong,
}

impl Checksum {
    /// What `stands` in a segment.
    pub fn of(source: IpAddr, destination: IpAddr, segment: &[u8], stands: u16) -> Self {
        // A card that cuts segments itself may want it without the length.
        let is_partial = |length| partial_checksum(source, destination, length) == stands;
        if segment_checksum(source, destination, segment) == 0 {
            Self::Right
        } else if is_partial(segment.len()) || is_partial(0) {
            Self::Partial
        } else {
            Self::Wrong
        }
    }
}

/// The TCP checksum over pseudo-header and segment (RFC 9293, section 3.1; RFC 8200, section 8.1): 0 where the
/// segment holds its own right checksum.
pub fn segment_checksum(source: IpAddr, destination: IpAddr, segment: &[u8]) -> u16 {
    !fold(sum16::add_slice(pseudo_header_sum(source, destination, segment.len()), segment))
}

/// The checksum of an IPv4 header whose own checksum is 0 (RFC 791, section 3.1).
pub fn header_checksum(header: &[u8]) -> u16 {
    !fold(sum16::add_slice(0, header))
}

/// The sum over the pseudo-header alone, of a segment of `length` bytes.
pub fn partial_checksum(source: IpAddr, destination: IpAddr, length: usize) -> u16 {
    fold(pseudo_header_sum(source, destination, length))
}

fn pseudo_header_sum(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
    let sum = [source, destination].into_iter().fold(0, |sum, address| match address {
        IpAddr::V4(address) => sum16::add_4bytes(sum, address.octets()),
        IpAddr::V6(address) => sum16::add_slice(sum, &address.octets()),
    });
    let sum = sum16::add_2bytes(sum, [0, IpNumber::TCP.0]);
    sum16::add_4bytes(sum, u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes())
}

/// Folds a running sum of native-endian words to 16 bits in network order.
fn fold(sum: u64) -> u16 {
    u16::from_be(!sum16::ones_complement(sum))
}
