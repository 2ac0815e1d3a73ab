//! Chance that can be repeated.

/// SplitMix64, which may be given its first results.
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
    given: std::vec::IntoIter<u8>,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self::loaded(seed, Vec::new())
    }

    /// Every two bytes decide once, before the seed does: so a fuzzer that changes one changes one event.
    pub fn loaded(seed: u64, given: Vec<u8>) -> Self {
        Self { state: seed, given: given.into_iter() }
    }

    pub fn roll(&mut self) -> u64 {
        if let (Some(high), Some(low)) = (self.given.next(), self.given.next()) {
            return u16::from_be_bytes([high, low]).into();
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    /// So many times in a thousand.
    pub fn happens(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.below(1000) < u64::from(thousandths)
    }
}
