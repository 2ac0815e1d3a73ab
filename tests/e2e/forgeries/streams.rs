//! Ends of a control connection that break TCP's own rules, so that router and peer might read different bytes.

use anyhow::Result;

use super::Arena;
use crate::harness::Topology;

#[test]
fn what_was_acknowledged_before_it_was_sent_is_read_all_the_same() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("streams", "acknowledged_ahead")?;
    arena.finish()
}
