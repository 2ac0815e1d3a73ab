//! Attacks by what is said on the control connection: for each known way to make an ALG open what it should not, a
//! session that tries, and an honest one as like it as can be. Connections through the router's firewall are the judge;
//! see docs/threat-model.md.
//!
//! A table of [`case`]s is a file; [`stage`] plays all of them over each net.

mod bounce;
mod case;
mod echoes;
mod families;
mod inside;
mod lines;
mod login;
mod numbers;
mod place;
mod slipstream;
mod stage;
mod unasked;
mod witness;

use anyhow::{Result, ensure};

use crate::harness::{Alg, Topology};
use case::Case;
use stage::Stage;

/// Plays all tables.
fn attack(topology: Topology) -> Result<()> {
    if Alg::under_test() == Alg::Kernel {
        return Ok(()); // it falls for a good part of them
    }
    let mut stage = Stage::build(topology)?;
    let mut faults = Vec::new();
    let tables = [
        ("bounce", bounce::cases()),
        ("numbers", numbers::cases()),
        ("families", families::cases()),
        ("slipstream", translated(slipstream::cases())),
        ("echoes", translated(echoes::cases())),
        ("unasked", translated(unasked::cases())),
        ("login", translated(login::cases())),
        ("lines", translated(lines::cases())),
    ];
    for (table, cases) in tables {
        faults.extend(stage.play(table, &cases)?);
    }
    ensure!(faults.is_empty(), "{} cases:\n{}", faults.len(), faults.join("\n"));
    stage.finish()
}

/// Tables about the dialogue, not about how an address is written.
fn translated(cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(Case::translated).collect()
}

#[test]
fn nothing_that_is_said_opens_a_hole_in_a_firewall() -> Result<()> {
    attack(Topology::Firewall)
}

#[test]
fn nothing_that_is_said_opens_a_hole_in_a_firewall_over_ipv6() -> Result<()> {
    attack(Topology::Firewall6)
}

#[test]
fn nothing_that_is_said_opens_a_hole_in_masquerade() -> Result<()> {
    attack(Topology::Masquerade)
}

#[test]
fn nothing_that_is_said_opens_a_hole_beside_a_forwarded_port() -> Result<()> {
    attack(Topology::Dnat)
}

#[test]
fn nothing_that_is_said_opens_a_hole_in_masquerade_over_ipv6() -> Result<()> {
    attack(Topology::Masquerade6)
}

#[test]
fn nothing_that_is_said_opens_a_hole_beside_a_forwarded_port_over_ipv6() -> Result<()> {
    attack(Topology::Dnat6)
}
