//! Edits that make the stream longer and shorter, many in a session, in both directions.

use anyhow::Result;

use crate::harness::{Mode, Plan, ServerKind, Setup, Topology, Transfer};

/// Sixty small transfers, each way in turn.
fn many() -> Vec<Transfer> {
    [Transfer::Get("small"), Transfer::Put("small")].repeat(30)
}

/// One session over all modes in turn, then one for each address text that is edited.
fn many_edits(topology: Topology, plan: Plan) -> Result<()> {
    let net = Setup::new(topology).plan(plan).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    net.mixed_session(&Mode::ALL, &server, &many())?;
    net.mixed_session(&[Mode::Port, Mode::Pasv], &server, &many())?;
    drop(server);
    let server = net.serve(ServerKind::Pyftpdlib)?;
    net.mixed_session(&[Mode::Eprt, Mode::Pasv, Mode::Port], &server, &many())?;
    net.finish()
}

#[test]
fn commands_that_grow() -> Result<()> {
    many_edits(Topology::Masquerade, Plan::ShortInside)
}

#[test]
fn commands_that_shrink() -> Result<()> {
    many_edits(Topology::Masquerade, Plan::LongInside)
}

#[test]
fn replies_that_grow() -> Result<()> {
    many_edits(Topology::Dnat, Plan::ShortInside)
}

#[test]
fn replies_that_shrink() -> Result<()> {
    many_edits(Topology::Dnat, Plan::LongInside)
}

/// In a hairpin one router edits both directions.
#[test]
fn both_directions_in_one_session_short_inside() -> Result<()> {
    many_edits(Topology::Hairpin, Plan::ShortInside)
}

#[test]
fn both_directions_in_one_session_long_inside() -> Result<()> {
    many_edits(Topology::Hairpin, Plan::LongInside)
}

/// One router edits commands, the other replies, and each sees what the other made.
#[test]
fn two_routers_edit_one_session() -> Result<()> {
    many_edits(Topology::BothNat, Plan::LongInside)
}
