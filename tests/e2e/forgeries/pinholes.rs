//! Open pinholes, and those who should not get through them.

use anyhow::Result;

use super::Arena;
use crate::harness::Topology;

#[test]
fn two_sessions_that_announce_one_port_do_not_close_each_other_s() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Firewall] {
        let arena = Arena::new(topology, "")?;
        arena.run("pinholes", "one_port_twice")?;
        arena.finish()?;
    }
    Ok(())
}
