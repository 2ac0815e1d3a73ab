//! Hosts that see nothing of a session, and forge its packets.

use anyhow::Result;

use super::Arena;
use crate::harness::Topology;

#[test]
fn packets_in_the_server_s_name_from_outside_change_nothing() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("offpath", "from_outside")?;
    arena.finish()
}

#[test]
fn packets_in_the_client_s_name_from_inside_change_nothing() -> Result<()> {
    let arena = Arena::new(Topology::Masquerade, "")?;
    arena.run("offpath", "from_inside")?;
    arena.run("offpath", "syns_from_inside")?;
    arena.finish()
}
