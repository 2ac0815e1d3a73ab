//! What every end-to-end test is made of: a net with routers, servers and clients that others wrote, and the
//! ALG under test between them.
//!
//! A test names a [`Topology`], builds a [`Net`] from a [`Setup`], starts a [`Server`] and runs sessions of a
//! [`Client`] in a [`Mode`]. [`Net::finish`] looks at what must never have happened.

mod alg;
mod client;
mod elements;
mod firewall;
mod footprint;
mod net;
mod server;
pub mod session;
mod table;
mod topology;

pub use alg::{Alg, Daemon, configuration};
pub use client::Client;
pub use footprint::Footprint;
pub use net::{Net, Setup};
pub use server::{Server, ServerKind};
pub use session::{FEW, Mode, STANDARD, Transfer};
pub use topology::{Plan, Topology};

use std::time::Duration;

/// How long a session of a dozen transfers may take before it counts as hung.
pub const SESSION_LIMIT: Duration = Duration::from_secs(30);

/// The same over bad wires, where TCP waits for a second or more whenever a SYN is lost.
pub const DISORDERLY_LIMIT: Duration = Duration::from_secs(120);
