//! Several datagrams for one system call (recvmmsg(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// How many datagrams are received at once. What is done about the last of them keeps the first one waiting, so more
/// are not better; from 8 on the system call no longer shows beside what its datagrams cost.
const MOST: usize = 16;

/// Room for one: 64 KiB of a packet, and what netlink says about it. No multiple of a page, else the beginnings of all
/// of them would share a few lines of the processor's cache.
const SIZE: usize = 64 * 1024 + 1088;

/// Received datagrams.
pub struct Datagrams {
    room: Vec<u8>,
    lengths: [usize; MOST],
}

impl Datagrams {
    /// With room for them. The kernel gives memory to what is used of it, and that is little: packets are small.
    pub fn new() -> Self {
        Self { room: vec![0; MOST * SIZE], lengths: [0; MOST] }
    }

    /// Waits for a datagram, and takes those that wait behind it as well. Returns how many there are.
    ///
    /// # Errors
    /// The socket's; a signal came.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MOST];
        for (part, room) in parts.iter_mut().zip(self.room.chunks_exact_mut(SIZE)) {
            *part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        }
        let mut headers = parts.each_mut().map(|part| {
            // SAFETY: all zeros is a header without an address, data or anything beside them.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        let most = libc::c_uint::try_from(headers.len()).map_err(io::Error::other)?;
        // SAFETY: as many headers as it says, which live through the call, as do the parts they point to and the room
        // that those point to, each as long as it says. No time-out.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                most,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
        for (length, header) in self.lengths.iter_mut().zip(&headers) {
            *length = usize::try_from(header.msg_len).map_err(io::Error::other)?;
        }
        Ok(received)
    }

    /// One of those received last, as far as there was room for it; nothing where there is none.
    pub fn datagram(&self, index: usize) -> &[u8] {
        let length = self.lengths.get(index).copied().unwrap_or_default();
        let room = self.room.chunks_exact(SIZE).nth(index).unwrap_or_default();
        room.get(..length).unwrap_or(room)
    }
}

/// Has a netlink socket lose what finds no room in its buffer, instead of saying so and losing all else until the
/// buffer is empty (`netlink_overrun` in net/netlink/af_netlink.c). For queues, whose losses are counted elsewhere.
pub fn lose_silently(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the value lives through the call and is as long as it says.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_NO_ENOBUFS,
            (&raw const on).cast(),
            size,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn what_waits_is_received_at_once() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let mut datagrams = Datagrams::new();
        for size in 1..=MOST + 1 {
            there.send(&vec![7; size]).unwrap();
        }
        assert_eq!(datagrams.receive(here.as_fd()).unwrap(), MOST);
        for index in 0..MOST {
            assert_eq!(datagrams.datagram(index), vec![7; index + 1]);
        }
        assert_eq!(datagrams.receive(here.as_fd()).unwrap(), 1);
        assert_eq!(datagrams.datagram(0).len(), MOST + 1);
        assert_eq!(datagrams.datagram(MOST), b"", "there is no such one");
    }

    #[test]
    fn what_has_no_room_is_cut() {
        let (here, there) = UnixDatagram::pair().unwrap();
        there.send(&vec![7; SIZE + 1]).unwrap();
        let mut datagrams = Datagrams::new();
        assert_eq!(datagrams.receive(here.as_fd()).unwrap(), 1);
        assert_eq!(datagrams.datagram(0), vec![7; SIZE]);
    }
}
