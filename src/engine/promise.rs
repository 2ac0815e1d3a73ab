//! What was said to one end before the other had said all of it.

use serde::{Deserialize, Serialize};

use super::ftp::host_port::{Notation, Spot};
use super::pinhole::PinholeKey;
use super::policy::Refusal;

/// An external port that went out to the other end before the listening end's own port was known: the line was
/// cut inside the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Where the address stands in the line.
    pub start: usize,
    /// How it is written.
    pub notation: Notation,
    /// What was promised.
    pub key: PinholeKey,
    /// Why it can't be kept, once that has turned out; the line is spoiled then.
    pub broken: Option<Refusal>,
}

impl Promise {
    /// The place of the address.
    pub fn spot(&self) -> Spot {
        Spot { start: self.start, notation: self.notation }
    }
}
