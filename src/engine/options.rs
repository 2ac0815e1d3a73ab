//! The TCP options that a translated connection cannot leave as they came.

use serde::{Deserialize, Serialize};

use super::position::{Translate, distance};

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const SACK: u8 = 5;
const MD5: u8 = 19;
const AO: u8 = 29;
const MPTCP: u8 = 30;
const FAST_OPEN: u8 = 34;
const EXPERIMENT: [u8; 2] = [253, 254];
/// What fits any IPv6 path (RFC 8200, section 5): 1280 bytes, less the headers of IPv6 and TCP.
const ANY_PATH: u16 = 1220;
/// RFC 6994 identifier of TCP Fast Open, as sent before it had an option of its own (RFC 7413, section 4).
const EXPERIMENT_FAST_OPEN: [u8; 2] = [0xf9, 0x89];

/// Calls `visit` with each option's kind and its bytes (kind and length included). Stops at the end of the list,
/// and at an option whose length is impossible, as receivers do.
fn walk(options: &mut [u8], mut visit: impl FnMut(u8, &mut [u8])) {
    let mut rest = options;
    loop {
        let length = match rest {
            [] | [END, ..] => return,
            [NOP, ..] => 1,
            [_, length, ..] if *length >= 2 => usize::from(*length),
            _ => return,
        };
        let Some((option, behind)) = rest.split_at_mut_checked(length) else { return };
        if let [kind, ..] = *option {
            visit(kind, option);
        }
        rest = behind;
    }
}

/// The same for options that only are read. A TCP header has room for 40 bytes of them (RFC 9293, section 3.1).
fn read(options: &[u8], visit: impl FnMut(u8, &mut [u8])) {
    let mut copy = [END; 40];
    copy.iter_mut().zip(options).for_each(|(place, &byte)| *place = byte);
    walk(&mut copy, visit);
}

/// What the options of a SYN or SYN-ACK say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// Each segment is signed (RFC 2385, RFC 5925): nothing in the connection may be changed.
    pub signed: bool,
}

/// Reads the options of a SYN or SYN-ACK.
pub fn read_handshake(options: &[u8]) -> Handshake {
    let mut found = Handshake::default();
    read(options, |kind, _| found.signed |= matches!(kind, MD5 | AO));
    found
}

/// The end of all that a receiver has, in order or not (RFC 2018): its `acknowledgment`, or the end of its SACK blocks.
pub fn sacked(options: &[u8], acknowledgment: u32) -> u32 {
    let mut end = acknowledgment;
    read(options, |kind, option| {
        let (SACK, Some(blocks)) = (kind, option.get(2..)) else { return };
        for block in blocks.chunks_exact(8) {
            if let [.., r0, r1, r2, r3] = *block {
                let right = u32::from_be_bytes([r0, r1, r2, r3]);
                end = if distance(end, right) > 0 { right } else { end };
            }
        }
    });
    end
}

/// Overwrites with NOPs what would carry lengths or data past the translation: Multipath TCP (RFC 8684), whose
/// mappings name stream positions, and TCP Fast Open (RFC 7413), which brings data before the handshake. Lowers an MSS to what
/// fits any path: a host that can't forward a segment quotes the sequence number that it has now (RFC 1191, RFC 8201), which a
/// sender whose own is another takes for a forgery (RFC 5927, section 4.1). Returns whether anything changed.
pub fn scrub_handshake(options: &mut [u8]) -> bool {
    let mut changed = false;
    walk(options, |kind, option| {
        if let (MSS, [_, _, high, low]) = (kind, &mut *option) {
            if u16::from_be_bytes([*high, *low]) > ANY_PATH {
                [*high, *low] = ANY_PATH.to_be_bytes();
                changed = true;
            }
        }
        let fast_open = kind == FAST_OPEN
            || EXPERIMENT.contains(&kind) && option.get(2..4) == Some(EXPERIMENT_FAST_OPEN.as_slice());
        if kind == MPTCP || fast_open {
            option.fill(NOP);
            changed = true;
        }
    });
    changed
}

/// Translates SACK blocks (RFC 2018) back to the space of the stream's sender. A left edge inside a replacement
/// rounds up and a right edge down, so that nothing is called received that is not; a block of which nothing is
/// left goes, and NOPs take its place. So does a block below the receiver's own `acknowledgment`: it tells of a
/// duplicate (RFC 2883), which may be the one that was sent in place of swallowed bytes.
pub fn translate_sack(options: &mut [u8], acknowledgment: u32, translate: &impl Translate) {
    walk(options, |kind, option| {
        let (SACK, Some((head, blocks))) = (kind, option.split_at_mut_checked(2)) else { return };
        let mut kept = 0;
        for at in (0..blocks.len() / 8 * 8).step_by(8) {
            let Some([l0, l1, l2, l3, r0, r1, r2, r3]) =
                blocks.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok())
            else {
                continue;
            };
            let (left, right) = (u32::from_be_bytes([l0, l1, l2, l3]), u32::from_be_bytes([r0, r1, r2, r3]));
            let is_duplicate = distance(right, acknowledgment) >= 0;
            let (left, right) = (translate.left_edge(left), translate.right_edge(right));
            if !is_duplicate && distance(left, right) > 0 {
                let place = blocks.get_mut(kept..kept + 8).and_then(|place| place.split_at_mut_checked(4));
                if let Some((left_place, right_place)) = place {
                    left_place.copy_from_slice(&left.to_be_bytes());
                    right_place.copy_from_slice(&right.to_be_bytes());
                }
                kept += 8;
            }
        }
        let Some(unused) = blocks.get_mut(kept..) else { return };
        unused.fill(NOP);
        match (head, u8::try_from(kept)) {
            (head, Ok(0)) => head.fill(NOP),
            ([_, length], Ok(kept)) => *length = 2 + kept,
            _ => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that grew by 10 at 1000, where 1000..1010 is the replacement of nothing but position 1000.
    struct Grown;
    impl Translate for Grown {
        fn left_edge(&self, edge: u32) -> u32 {
            if edge <= 1000 { edge } else { edge.max(1010) - 10 }
        }
        fn right_edge(&self, edge: u32) -> u32 {
            if edge < 1010 { edge.min(1000) } else { edge - 10 }
        }
    }

    fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
        let mut option = vec![NOP, NOP, SACK, u8::try_from(2 + 8 * blocks.len()).unwrap()];
        for (left, right) in blocks {
            option.extend(left.to_be_bytes());
            option.extend(right.to_be_bytes());
        }
        option
    }

    #[test]
    fn sack_blocks_are_translated_and_empty_ones_go() {
        let mut options = sack(&[(1009, 1010), (1020, 1030), (900, 1005)]);
        translate_sack(&mut options, 890, &Grown);
        let mut expected = sack(&[(1010, 1020), (900, 1000)]);
        expected.extend([NOP; 8]);
        assert_eq!(options, expected);
    }

    #[test]
    fn a_lone_duplicate_block_leaves_only_nops() {
        let mut options = sack(&[(1009, 1010)]);
        translate_sack(&mut options, 890, &Grown);
        assert_eq!(options, [NOP; 12]);
    }

    #[test]
    fn news_of_duplicates_go() {
        let mut options = sack(&[(900, 901), (1020, 1030)]);
        translate_sack(&mut options, 901, &Grown);
        assert_eq!(options, [sack(&[(1010, 1020)]), vec![NOP; 8]].concat());
    }

    #[test]
    fn impossible_lengths_end_the_walk() {
        for options in [vec![SACK], vec![SACK, 0], vec![SACK, 1, 2], vec![SACK, 200, 1], vec![8, 10, 1]] {
            let mut edited = options.clone();
            translate_sack(&mut edited, 890, &Grown);
            assert!(!scrub_handshake(&mut edited));
            assert_eq!(edited, options);
        }
    }

    #[test]
    fn a_handshake_keeps_what_is_harmless() {
        let mss_and_scale = [MSS, 4, 2, 0x18, NOP, 3, 3, 7];
        let mut options =
            [&mss_and_scale[..], &[MPTCP, 4, 0, 1, FAST_OPEN, 2, EXPERIMENT[1], 4, 0xf9, 0x89]].concat();
        assert!(scrub_handshake(&mut options));
        assert_eq!(options, [&mss_and_scale[..], &[NOP; 10]].concat());
        assert_eq!(read_handshake(&options), Handshake { signed: false });
        assert!(read_handshake(&[MD5, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).signed);
    }

    #[test]
    fn an_mss_is_lowered_to_what_fits_any_path() {
        for (before, after) in [(1460, 1220), (1221, 1220), (1220, 1220), (536, 536)] {
            let option = |value: u16| [&[NOP, MSS, 4], &value.to_be_bytes()[..], &[NOP]].concat();
            let mut options = option(before);
            assert_eq!(scrub_handshake(&mut options), before != after);
            assert_eq!(options, option(after));
        }
    }
}
