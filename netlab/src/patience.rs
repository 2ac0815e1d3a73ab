//! How long to wait, on slow machines too.

use std::env;
use std::sync::LazyLock;
use std::time::Duration;

/// By how much `NETLAB_PATIENCE` lengthens every limit.
static FACTOR: LazyLock<u32> =
    LazyLock::new(|| env::var("NETLAB_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1));

/// `limit`, as long as this machine needs.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    limit * *FACTOR
}
