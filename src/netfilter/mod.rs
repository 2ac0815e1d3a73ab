//! nftables, conntrack and the queues: everything that the daemon asks of the kernel.
//!
//! [`Firewall`] holds the table (nft-rules/ftpalg.nft) and carries out the engine's
//! [changes](ftpalg::engine::pinhole::Change); [`Watch`] tells when somebody else touched the ruleset; [`ConnTrack`]
//! finds the client's view of a control connection; [`Queue`] brings packets; [`kernel`] tells what is missing.

mod accept;
mod connection;
pub mod conntrack;
mod crash;
mod element;
mod error;
mod firewall;
mod hold;
mod inspect;
pub mod kernel;
mod listing;
mod netlink;
mod probe;
mod queue;
pub mod ruleset;
mod sys;
mod transaction;
mod watch;

pub use accept::MissingRule;
pub use conntrack::{ConnTrack, Fate, Found};
pub use crash::{Crash, try_libnftables};
pub use error::FirewallError;
pub use firewall::Firewall;
pub use inspect::{Inspector, Left};
pub use listing::{Listing, ListingError, MarkedRoute, Trial, marked_routes};
pub use probe::{Counter, Table};
pub use queue::{Queue, Waiting};
pub use ruleset::Live;
pub use sys::{give_memory_back, inherit, keep_no_memory};
pub use transaction::{CommitError, Refused};
pub use watch::{Foreign, Watch};

#[cfg(test)]
mod tests;
