//! A TCP segment as the simulated ends speak it, and as the bytes of an IP packet that the engine sees.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpSlice, PacketBuilder, TcpHeader, TcpSlice};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    pub sequence: u32,
    pub acknowledgment: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub reset: bool,
    pub push: bool,
    pub urgent: Option<u16>,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    /// The IP packet.
    pub fn encode(&self, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let mut header = TcpHeader::new(from.port(), to.port(), self.sequence, self.window);
        header.ack = self.acknowledgment.is_some();
        header.acknowledgment_number = self.acknowledgment.unwrap_or(0);
        (header.syn, header.fin, header.rst, header.psh) = (self.syn, self.fin, self.reset, self.push);
        header.urg = self.urgent.is_some();
        header.urgent_pointer = self.urgent.unwrap_or(0);
        header.set_options_raw(&self.options).unwrap();
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
            _ => panic!("one packet, two families"),
        };
        let mut bytes = Vec::new();
        builder.tcp_header(header).write(&mut bytes, &self.payload).unwrap();
        bytes
    }

    /// Reads a packet, and checks that its lengths and checksums are right.
    #[track_caller]
    pub fn decode(bytes: &[u8]) -> Self {
        let ip =
            IpSlice::from_slice(bytes).expect("a packet that the engine made must have a whole IP header");
        let tcp = TcpSlice::from_slice(ip.payload().payload).expect("… and a whole TCP header");
        let checksum = match &ip {
            IpSlice::Ipv4(v4) => {
                let header = v4.header();
                assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                assert_eq!(usize::from(header.total_len()), bytes.len());
                tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap()
            }
            IpSlice::Ipv6(v6) => {
                assert_eq!(usize::from(v6.header().payload_length()) + 40, bytes.len());
                tcp.calc_checksum_ipv6(v6.header().source(), v6.header().destination()).unwrap()
            }
        };
        assert_eq!(tcp.checksum(), checksum, "the TCP checksum");
        Self {
            sequence: tcp.sequence_number(),
            acknowledgment: tcp.ack().then(|| tcp.acknowledgment_number()),
            syn: tcp.syn(),
            fin: tcp.fin(),
            reset: tcp.rst(),
            push: tcp.psh(),
            urgent: tcp.urg().then(|| tcp.urgent_pointer()),
            window: tcp.window_size(),
            options: tcp.options().to_vec(),
            payload: tcp.payload().to_vec(),
        }
    }

    /// Nothing but an acknowledgment: nftables lets these pass where the connection is not shifted.
    pub fn is_bare_acknowledgment(&self) -> bool {
        self.payload.is_empty() && !self.syn && !self.fin && !self.reset && self.acknowledgment.is_some()
    }

    /// The blocks of its SACK option.
    pub fn sack_blocks(&self) -> Vec<(u32, u32)> {
        let mut rest = &self.options[..];
        while let [kind, behind @ ..] = rest {
            match (kind, behind) {
                (0, _) => break,
                (1, _) => rest = behind,
                (5, [length, blocks @ ..]) => {
                    let edge = |at: &[u8]| u32::from_be_bytes(at.try_into().unwrap());
                    let blocks = &blocks[..usize::from(*length) - 2];
                    return blocks.chunks(8).map(|block| (edge(&block[..4]), edge(&block[4..]))).collect();
                }
                (_, [length, ..]) => rest = &rest[usize::from(*length)..],
                (_, []) => break,
            }
        }
        Vec::new()
    }
}
