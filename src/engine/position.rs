//! Stream positions: sequence numbers that do not wrap.
//!
//! A position is a `u64` whose low 32 bits are the sequence number (RFC 9293, section 3.4). A stream begins in
//! the second lap, so that what lies before its beginning has a position, too.

/// The position with this sequence number that is nearest to `near`: less than 2^31 away from it.
pub fn unwrap(sequence: u32, near: u64) -> u64 {
    near.wrapping_add_signed(distance(sequence_of(near), sequence))
}

/// How far it is from one sequence number to another: from -2^31 up to 2^31 - 1.
pub fn distance(from: u32, to: u32) -> i64 {
    let ahead = i64::from(to.wrapping_sub(from));
    if ahead < 1 << 31 { ahead } else { ahead - (1 << 32) }
}

/// The position at which a stream with this initial sequence number begins.
pub fn first(initial: u32) -> u64 {
    (1 << 32) + u64::from(initial)
}

/// The sequence number of a position.
#[expect(clippy::cast_possible_truncation, reason = "a sequence number is a position modulo 2^32")]
pub fn sequence_of(position: u64) -> u32 {
    position as u32
}

/// Translation of edges that a receiver names, to the sender's space.
pub trait Translate {
    /// Of the first byte of a range: rounds up.
    fn left_edge(&self, edge: u32) -> u32;
    /// Of the byte behind a range, and of a cumulative acknowledgment: rounds down.
    fn right_edge(&self, edge: u32) -> u32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_where_sequence_numbers_wrap() {
        let start = first(u32::MAX - 1);
        assert_eq!(unwrap(u32::MAX - 1, start), start);
        assert_eq!(unwrap(3, start), start + 5);
        assert_eq!(sequence_of(start + 5), 3);
        assert_eq!(unwrap(u32::MAX - 11, start + 5), start - 10);
    }

    #[test]
    fn no_sequence_number_is_out_of_reach() {
        for sequence in [0, 1, 1 << 31, u32::MAX] {
            for near in [first(0), first(u32::MAX), first(1 << 31)] {
                assert_eq!(sequence_of(unwrap(sequence, near)), sequence);
            }
        }
    }
}
