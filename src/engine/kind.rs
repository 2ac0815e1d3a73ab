//! What counters and machines know an enumeration's values by.

use strum::{EnumCount, VariantArray};

/// What something is counted by: a reason, a mode. `as usize` is its place among its like.
pub trait Kind: VariantArray + EnumCount + Copy + Into<&'static str> {
    /// Its place in [`VariantArray::VARIANTS`].
    fn place(self) -> usize;

    /// Its name for machines: in metrics, in JSON, in the fields of log lines.
    fn name(self) -> &'static str {
        self.into()
    }
}
