//! A point in time that takes little room: every session holds several.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A time since boot, to the millisecond: half of a [`Duration`]'s size, and so is an `Option` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(NonZeroU64);

impl Moment {
    /// How long ago it was, `now`; nothing, if it is still to come.
    pub fn elapsed(self, now: Duration) -> Duration {
        now.saturating_sub(self.into())
    }
}

impl From<Duration> for Moment {
    fn from(since_boot: Duration) -> Self {
        let milliseconds = u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(milliseconds))
    }
}

impl From<Moment> for Duration {
    fn from(moment: Moment) -> Self {
        Duration::from_millis(moment.0.get() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_keeps_milliseconds() {
        assert_eq!(size_of::<Option<Moment>>(), 8);
        for milliseconds in [0, 1, 999, 1000, u64::MAX - 1] {
            let since_boot = Duration::from_millis(milliseconds);
            assert_eq!(Duration::from(Moment::from(since_boot)), since_boot);
        }
        let moment = Moment::from(Duration::from_micros(1999));
        assert_eq!(moment.elapsed(Duration::from_millis(3)), Duration::from_millis(2));
        assert_eq!(moment.elapsed(Duration::ZERO), Duration::ZERO);
        assert!(Moment::from(Duration::MAX) > moment);
    }
}
