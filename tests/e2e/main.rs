//! End to end: FTP servers and clients that others wrote, on hosts in network namespaces, with ftpalg on the
//! routers between them. Needs root and the programs of scripts/test-packages.txt.

mod addresses;
mod cuts;
mod disorder;
mod edits;
mod faults;
mod harness;
mod life;
mod mtu;
mod policy_routing;
mod ports;
mod topologies;
