//! Sockets of a host, held by the test itself.

use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use netlab::Host;
use nix::sched::{CloneFlags, setns};

/// Runs a closure on a thread in the host's namespace. Sockets that it makes belong to the host for good, and
/// threads that it starts are in there, too.
pub fn inside<T: Send>(host: &Host, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(host.namespace());
    let namespace = File::open(&path).with_context(|| path.display().to_string())?;
    thread::scope(|scope| {
        let entered = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        entered.join().map_err(|_| anyhow!("a thread in {} panicked", host.name()))?
    })
}
