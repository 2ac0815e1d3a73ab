//! The unit, as it is installed, on a machine of its own that systemd has booted: Debian's kernel, its systemd, its
//! nftables.service with one of the example rulesets. That machine is the router. These tests change it as they like
//! (scripts/test-in-vm makes it), so they run there alone, one after the other.

mod boot;
mod failing;
mod journal;
mod life;
pub mod machine;
mod metrics;
mod modules;
mod sandbox;

use machine::{Router, property, systemctl};
