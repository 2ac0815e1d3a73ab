//! End to end: FTP servers and clients that others wrote, on hosts in network namespaces, with ftpalg on the
//! routers between them. Needs root and the programs of scripts/test-packages.txt.

mod addresses;
mod attacks;
mod bridges;
mod check;
mod cuts;
#[path = "../engine/dice.rs"]
mod dice;
mod disorder;
mod docker;
mod edits;
mod faults;
mod forgeries;
mod harness;
mod howto;
mod ipsec;
mod life;
mod load;
mod metrics;
mod mtu;
mod neighbours;
mod package;
mod policy_routing;
mod ports;
mod programs;
mod replay;
mod seeds;
mod soak;
mod status;
mod topologies;
mod unit;
mod vrf;
