//! Hosts in network namespaces that the caller makes and that go away with the value that made them.
//!
//! A [`Lab`] names things and keeps a directory for files; a [`Host`] is a namespace; links, tunnels and
//! captures hang on hosts. Nothing outside the lab's own namespaces and its directory is touched: links are
//! made inside the namespaces from the start, and only processes that run in them are ended.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let lab = netlab::Lab::new()?;
//! let client = lab.host("client")?;
//! let router = lab.host("router")?;
//! lab.link(&client, &["10.0.0.2/24"], &router, &["10.0.0.1/24"])?;
//! client.route("default via 10.0.0.1")?;
//! router.forwarding(true)?;
//! client.run("ping", ["-c1", "10.0.0.1"])?.success()?;
//! # Ok(())
//! # }
//! ```
//!
//! It drives `ip`, `nft`, `tc`, `wg` and `tcpdump` and needs the right to make network namespaces
//! (root, or CAP_SYS_ADMIN and CAP_NET_ADMIN). Where the machine is slow, `NETLAB_PATIENCE=4` in the environment makes
//! every limit four times as long.

mod capture;
mod command;
mod host;
mod ipsec;
mod lab;
mod link;
mod patience;
mod process;
mod tunnel;
mod wire;

pub use capture::{Capture, Captured};
pub use command::Output;
pub use host::Host;
pub use ipsec::Ipsec;
pub use lab::Lab;
pub use link::{Lan, Link};
pub use nix::sys::signal::Signal;
pub use patience::patient;
pub use process::Process;
pub use tunnel::Tunnel;
pub use wire::{Disorder, Wire};
