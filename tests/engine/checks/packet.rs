//! Any packet: what is read from it is what stands in it; what is edited changes, its checksums are right again, and
//! every other byte stays as it came.

use std::net::SocketAddr;

use arbitrary::{Arbitrary, Unstructured};
use etherparse::{SlicedPacket, TransportSlice};
use ftpalg::engine::options;
use ftpalg::engine::packet::{Malformed, Packet};
use ftpalg::engine::position::Translate;

use super::wire::{self, ACK, FIN, PSH, RST, URG, View};

/// What is done to the packet whose bytes follow.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
pub struct Edits {
    /// Make lengths and checksums right first; else the packet is handed in as it is.
    mended: u8,
    /// Which of the edits are made.
    made: u8,
    sequence: u32,
    acknowledgment: u32,
    urgent: u16,
    /// By how much the edges of SACK blocks move.
    shift: u16,
    /// The length of another payload.
    length: u16,
}

impl Edits {
    fn makes(&self, bit: u8) -> bool {
        self.made & (1 << bit) != 0
    }
}

/// An input: [`Edits`], and the packet.
pub fn check(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(edits) = Edits::arbitrary(&mut input) else { return };
    let mut bytes = input.take_rest().to_vec();
    if edits.mended & 1 != 0 {
        wire::mend(&mut bytes);
    }
    let original = bytes.clone();
    let view = wire::view(&original);
    match Packet::parse(&mut bytes) {
        Ok(packet) => {
            let view = view.expect("a packet that a strict reader takes, too");
            reads_the_same(&packet, &original, view);
            edit(packet, edits);
            assert_eq!(bytes, edited(&original[..view.end], view, edits), "{edits:?}");
            Packet::parse(&mut bytes).expect("what was edited can be read");
        }
        Err(error) => {
            assert_eq!(bytes, original, "what is refused stays as it is");
            if let Some(view) = view.filter(|view| view.is_plain) {
                let sum = view.sum(&original);
                assert!(error == Malformed::Checksum && sum != 0xffff, "{error}: sum {sum:#x}, {view:?}");
            }
        }
    }
}

/// Compares the engine's reading with two others.
fn reads_the_same(packet: &Packet<'_>, bytes: &[u8], view: View) {
    assert_eq!(view.sum(bytes), 0xffff, "a wrong checksum is refused");
    let at = |field: usize| wire::u32_at(bytes, view.tcp + field).unwrap();
    let flags = bytes[view.tcp + 13];
    let [source, destination] = [0, 2].map(|field| wire::u16_at(bytes, view.tcp + field).unwrap());
    let urgent = wire::u16_at(bytes, view.tcp + 18).unwrap();
    assert_eq!(packet.source(), SocketAddr::new(view.source, source));
    assert_eq!(packet.destination(), SocketAddr::new(view.destination, destination));
    assert_eq!(packet.sequence(), at(4));
    assert_eq!(packet.acknowledgment(), (flags & ACK != 0).then_some(at(8)));
    assert_eq!(packet.urgent(), (flags & URG != 0).then_some(urgent));
    assert_eq!(
        (packet.is_fin(), packet.is_syn(), packet.is_reset()),
        (flags & FIN != 0, flags & 2 != 0, flags & 4 != 0)
    );
    assert_eq!(packet.options(), &bytes[view.options()]);
    assert_eq!(packet.payload(), &bytes[view.payload..view.end]);

    let sliced = SlicedPacket::from_ip(bytes).expect("etherparse reads it");
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("etherparse finds no TCP") };
    assert_eq!(packet.sequence(), tcp.sequence_number());
    assert_eq!((packet.is_syn(), packet.is_fin(), packet.is_reset()), (tcp.syn(), tcp.fin(), tcp.rst()));
    assert_eq!(packet.acknowledgment(), tcp.ack().then(|| tcp.acknowledgment_number()));
    assert_eq!((packet.options(), packet.payload()), (tcp.options(), tcp.payload()));
}

/// Edges move; left ones are rounded up to a multiple of eight, right ones down.
struct Moved(u32);

impl Translate for Moved {
    fn left_edge(&self, edge: u32) -> u32 {
        edge.wrapping_add(self.0).wrapping_add(7) & !7
    }

    fn right_edge(&self, edge: u32) -> u32 {
        edge.wrapping_add(self.0) & !7
    }
}

fn edit(mut packet: Packet<'_>, edits: Edits) {
    if edits.makes(0) {
        packet.set_sequence(edits.sequence);
    }
    if edits.makes(1) {
        packet.set_acknowledgment(edits.acknowledgment);
    }
    if edits.makes(2) {
        packet.set_urgent((edits.urgent != 0).then_some(edits.urgent));
    }
    if edits.makes(3) {
        packet.clear_end_flags();
    }
    if edits.makes(4) {
        packet.set_payload(&payload(edits));
    }
    if edits.makes(5) {
        options::scrub_handshake(packet.options_mut());
    }
    if edits.makes(6) {
        let moved = Moved(u32::from(edits.shift));
        options::translate_sack(packet.options_mut(), edits.acknowledgment, &moved);
    }
    let Edits { sequence, acknowledgment, .. } = edits;
    match (edits.makes(7), edits.length % 2) {
        (true, 0) => packet.become_reset(sequence, acknowledgment),
        (true, _) => packet.become_question(sequence, acknowledgment),
        _ => {}
    }
    options::read_handshake(packet.options());
    options::sacked(packet.options(), acknowledgment);
    packet.finish();
}

fn payload(edits: Edits) -> Vec<u8> {
    vec![b'x'; usize::from(edits.length % 2048)]
}

/// The same edits, made on the bytes alone.
fn edited(original: &[u8], view: View, edits: Edits) -> Vec<u8> {
    let mut bytes = original.to_vec();
    let mut put = |field: usize, value: &[u8]| {
        bytes[view.tcp + field..view.tcp + field + value.len()].copy_from_slice(value);
    };
    if edits.makes(0) {
        put(4, &edits.sequence.to_be_bytes());
    }
    if edits.makes(1) {
        put(8, &edits.acknowledgment.to_be_bytes());
    }
    if edits.makes(2) {
        put(18, &edits.urgent.to_be_bytes());
        bytes[view.tcp + 13] &= !URG;
        bytes[view.tcp + 13] |= if edits.urgent == 0 { 0 } else { URG };
    }
    if edits.makes(3) {
        bytes[view.tcp + 13] &= !(FIN | PSH);
    }
    if edits.makes(4) {
        bytes.truncate(view.payload);
        bytes.extend(payload(edits));
    }
    if edits.makes(5) {
        scrub(&mut bytes[view.options()]);
    }
    if edits.makes(6) {
        translate(&mut bytes[view.options()], edits.acknowledgment, &Moved(u32::from(edits.shift)));
    }
    if edits.makes(7) {
        let is_question = edits.length % 2 == 1;
        bytes.truncate(view.payload);
        bytes.resize(view.payload + usize::from(is_question), 0);
        bytes[view.tcp + 4..view.tcp + 8].copy_from_slice(&edits.sequence.to_be_bytes());
        bytes[view.tcp + 8..view.tcp + 12].copy_from_slice(&edits.acknowledgment.to_be_bytes());
        bytes[view.tcp + 13] = if is_question { ACK } else { ACK | RST };
        bytes[view.tcp + 18..view.tcp + 20].fill(0);
    }
    wire::mend(&mut bytes);
    bytes
}

fn scrub(options: &mut [u8]) {
    for (kind, place) in wire::options(options) {
        let is_fast_open = kind == 34
            || matches!(kind, 253 | 254) && options[place.clone()].get(2..4) == Some(&[0xf9, 0x89]);
        if kind == 30 || is_fast_open {
            options[place].fill(1);
        } else if let (2, [_, _, mss @ ..]) = (kind, &mut options[place]) {
            if let Ok(most) = <[u8; 2]>::try_from(&*mss) {
                mss.copy_from_slice(&u16::from_be_bytes(most).min(1220).to_be_bytes());
            }
        }
    }
}

fn translate(options: &mut [u8], acknowledgment: u32, moved: &Moved) {
    let reaches = |from: u32, to: u32| to.wrapping_sub(from) < 1 << 31;
    for (_, place) in wire::options(options).into_iter().filter(|&(kind, _)| kind == 5) {
        let blocks = options[place.start + 2..place.end].chunks_exact(8);
        let kept: Vec<u8> = blocks
            .filter_map(|block| {
                let (left, right) = (wire::u32_at(block, 0)?, wire::u32_at(block, 4)?);
                let tells_of_a_duplicate = reaches(right, acknowledgment);
                let (left, right) = (moved.left_edge(left), moved.right_edge(right));
                (!tells_of_a_duplicate && left != right && reaches(left, right))
                    .then(|| [left.to_be_bytes(), right.to_be_bytes()].concat())
            })
            .flatten()
            .collect();
        let option = &mut options[place];
        let head = if kept.is_empty() { vec![1, 1] } else { vec![5, u8::try_from(kept.len() + 2).unwrap()] };
        option.fill(1);
        option[..2].copy_from_slice(&head);
        option[2..2 + kept.len()].copy_from_slice(&kept);
    }
}
