//! Notices when another program changes the ruleset: a firewall reload takes the table away.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::firewall::Firewall;
use super::netlink::{Message, nft, subsystem};
use super::sys::{Buffer, Socket};

/// The multicast group of nftables (include/uapi/linux/netfilter/nfnetlink.h).
pub const NFNLGRP_NFTABLES: c_int = 7;
/// `NFTA_GEN_*` (include/uapi/linux/netfilter/nf_tables.h).
const GEN_ID: u16 = 1;
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;

/// Offsets in `struct nlmsghdr`, for the filter.
const TYPE_OFFSET: u32 = 4;
const PORT_ID_OFFSET: u32 = 12;

/// A change that was not the daemon's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// This program's, by name and process id as the kernel knows them.
    By(String, u32),
    /// Whose it was the kernel did not tell: it could not tell all of them, or was not listened to.
    Untold,
}

/// A socket on which the kernel tells of every new generation of the ruleset, except those that the
/// [`Firewall`] itself makes: the kernel's own filter keeps these from waking anybody.
pub struct Watch {
    socket: Arc<Socket>,
    buffer: Buffer,
    verified: Arc<AtomicU32>,
}

impl Watch {
    /// Starts to listen.
    pub fn open(firewall: &mut Firewall) -> io::Result<Self> {
        let socket = Arc::new(Socket::open()?);
        let (own_port_ids, verified) = firewall.watched_with(&socket);
        socket.attach_filter(&mut generations_of_others(own_port_ids))?;
        socket.join(NFNLGRP_NFTABLES)?;
        Ok(Watch { socket, buffer: Buffer::new(), verified })
    }

    /// Waits for a change by somebody else, for so long or for ever; `None` when the time is over. Then ask
    /// [`Firewall::intact`]. What happens while the [`Firewall`] loads its tables is not told.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Foreign>> {
        loop {
            match self.socket.wait(timeout) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let verified = self.verified.load(Ordering::Relaxed);
            match self.socket.receive(&mut self.buffer) {
                Ok(messages) => {
                    for message in messages {
                        let foreign = Message::parse(message?).and_then(|m| newer(&m, verified));
                        if foreign.is_some() {
                            return Ok(foreign);
                        }
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Foreign::Untold));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Who made this generation, unless it is known to be harmless: whatever came before the last look at the table.
fn newer(message: &Message<'_>, verified: u32) -> Option<Foreign> {
    let attributes = message.attributes();
    let id = message.is(subsystem::NFTABLES, nft::NEWGEN).then(|| attributes.be32(GEN_ID))??;
    let ahead = id.wrapping_sub(verified);
    let is_newer = ahead != 0 && ahead < u32::MAX / 2;
    let name = attributes.string(GEN_PROC_NAME).unwrap_or_default();
    is_newer.then(|| Foreign::By(name, attributes.be32(GEN_PROC_PID).unwrap_or_default()))
}

/// A program that lets through messages of type NEWGEN that another port id than these caused. BPF loads in
/// network byte order what netlink writes in the host's.
fn generations_of_others([first, second]: [u32; 2]) -> [libc::sock_filter; 7] {
    let load = |size, offset| instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, yes, no| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let give = |length| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, length);
    let kind = u16::from_be_bytes([subsystem::NFTABLES, nft::NEWGEN]);
    [
        load(libc::BPF_H, TYPE_OFFSET),
        equal(u32::from(kind.to_be()), 0, 3),
        load(libc::BPF_W, PORT_ID_OFFSET),
        equal(first.to_be(), 1, 0),
        equal(second.to_be(), 0, 1),
        give(0),
        give(u32::MAX),
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "BPF's opcodes fit 16 bits")]
const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}
