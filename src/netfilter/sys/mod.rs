//! The C libraries under this program, and its only `unsafe`: libnftables, netlink sockets by libmnl, and what libnftnl can
//! build that the `nftnl` crate has no safe words for. Everything that these modules offer is safe.
#![allow(unsafe_code, reason = "calls into libnftables, libmnl, libnftnl and libc")]

mod datagrams;
mod libnftables;
mod libnftnl;
mod socket;

use std::ffi::c_int;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub use datagrams::{Datagrams, lose_silently};
pub use libnftables::{ListStyle, Nft, lives_through};
pub use libnftnl::{ElementBatch, ElementMessage, NativeQueue, Queues, Verb, XtQueue};
pub use socket::{Buffer, Socket, delete_table, flush_chains, port_id, transact};

/// Has the allocator map large blocks each by itself and give back what is free at the end of its heaps, instead of
/// keeping ever more of it for later, which is its way once a large block has been freed (mallopt(3)).
pub fn keep_no_memory() {
    const BYTES: c_int = 128 * 1024;
    // SAFETY: no arguments that point anywhere. What it does not know it leaves alone.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, BYTES);
    }
}

/// Has the allocator give memory back that it keeps for later.
pub fn give_memory_back() {
    // SAFETY: no arguments that point anywhere; it locks what it touches.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the calling thread a network namespace of its own, empty but for a loopback interface, for as long as it lives.
///
/// # Errors
/// No permission (`CAP_SYS_ADMIN`), or the kernel has no network namespaces.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: no arguments that point anywhere; of this process it concerns the calling thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a file descriptor that the process was started with.
///
/// # Errors
/// It is not open.
pub fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no argument.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and whoever started the process has named it as handed over, so nothing else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSocket {
    /// Its file descriptor.
    pub fd: RawFd,
    /// Its inode, by which proc(5) lists it.
    pub inode: u64,
}

/// The sockets that this process has open; none where proc(5) does not tell.
pub fn open_sockets() -> Vec<OpenSocket> {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let sockets = all.flatten().filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some(OpenSocket { fd: entry.file_name().to_str()?.parse().ok()?, inode })
    });
    sockets.collect()
}

/// The socket that has been opened since, if it is the only one: for libraries that do not show theirs.
pub fn only_new(before: &[OpenSocket]) -> Option<OpenSocket> {
    let mut opened = open_sockets();
    opened.retain(|socket| !before.contains(socket));
    match opened.as_slice() {
        [only] => Some(*only),
        _ => None,
    }
}
