//! Netlink sockets to netfilter, and what is received on them.

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nftnl::{MsgType, ProtoFamily};

/// Deletes a table of the family inet that belongs to this socket; ENOENT if there is none, EPERM if it belongs to another.
pub fn delete_table(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let name = CString::new(name).map_err(io::Error::other)?;
    let mut batch = nftnl::Batch::new();
    batch.add(&nftnl::Table::new(&name, ProtoFamily::Inet), MsgType::Del);
    batch.finalize().iter().try_for_each(|page| transact(socket, page))
}

/// Deletes all rules of these chains of such a table; the errors are those of [`delete_table`].
pub fn flush_chains(socket: BorrowedFd<'_>, table: &str, chains: &[&CStr]) -> io::Result<()> {
    let table = CString::new(table).map_err(io::Error::other)?;
    let table = nftnl::Table::new(&table, ProtoFamily::Inet);
    let mut batch = nftnl::Batch::new();
    for name in chains {
        // Deleting a rule without saying which empties the chain.
        batch.add(&nftnl::Rule::new(&nftnl::Chain::new(name, &table)), MsgType::Del);
    }
    batch.finalize().iter().try_for_each(|page| transact(socket, page))
}

/// The port id of a netlink socket, which it is given now if nothing was sent over it yet.
pub fn port_id(socket: BorrowedFd<'_>) -> Option<u32> {
    // SAFETY: all zeros is an address of no family.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).ok()?;
    let mut length = libc::socklen_t::try_from(size_of_val(&address)).ok()?;
    let at = (&raw mut address).cast();
    // SAFETY: address and length live through the calls, and the length is the address's. A port id of 0 asks the kernel
    // for one; a socket that has one keeps it (EINVAL).
    let got = unsafe {
        libc::bind(socket.as_raw_fd(), at, length);
        libc::getsockname(socket.as_raw_fd(), at, &raw mut length)
    };
    (got == 0).then_some(address.nl_pid).filter(|id| *id != 0)
}

/// Sends a batch over a socket that somebody else uses at other times, and takes all answers off it. The first error in
/// them is the result; without one, no answer is needed: what failed is told without being asked for.
pub fn transact(socket: BorrowedFd<'_>, batch: &[u8]) -> io::Result<()> {
    // SAFETY: the batch lives through the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), batch.as_ptr().cast(), batch.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut buffer = [0_u8; 8 * 1024];
    let mut result = Ok(());
    loop {
        // SAFETY: the buffer lives through the call and is as long as it says.
        let length = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { result } else { Err(error) };
        };
        for message in mnl::NlMessages::new(buffer.get(..length).unwrap_or_default()) {
            let answer =
                crate::netfilter::netlink::Message::parse(message?).and_then(|message| message.error());
            result = result.and(answer.unwrap_or(Ok(())));
        }
    }
}

/// A netlink socket to netfilter that never blocks unless told to.
pub struct Socket(mnl::Socket);

// SAFETY: `struct mnl_socket` is a file descriptor and its address; it has no tie to a thread.
unsafe impl Send for Socket {}
// SAFETY: nothing that is shared of it changes; the kernel orders what several threads do with a descriptor.
unsafe impl Sync for Socket {}

impl Socket {
    /// Opens and binds a socket.
    pub fn open() -> io::Result<Self> {
        Self::open_on(mnl::Bus::Netfilter)
    }

    /// The same to the kernel's routing (rtnetlink(7)).
    pub fn open_to_routing() -> io::Result<Self> {
        Self::open_on(mnl::Bus::Route)
    }

    fn open_on(bus: mnl::Bus) -> io::Result<Self> {
        let socket = mnl::Socket::open(bus)?;
        socket.bind(0, mnl::mnl_sys::MNL_SOCKET_AUTOPID)?;
        // SAFETY: the descriptor is open; F_SETFL takes an int.
        let set = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(Socket(socket)) }
    }

    /// The port id that the kernel writes into what it says about this socket's doings.
    pub fn port_id(&self) -> u32 {
        self.0.portid()
    }

    /// Sends one datagram of messages.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        if self.0.send(messages)? == messages.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one datagram if one is there; [`io::ErrorKind::WouldBlock`] if not.
    pub fn receive<'a>(&self, buffer: &'a mut Buffer) -> io::Result<mnl::NlMessages<'a>> {
        self.0.recv(&mut buffer.0)
    }

    /// Waits until there is something to receive, or for so long. Tells whether there is.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = timeout.map_or(-1, |t| c_int::try_from(t.as_millis()).unwrap_or(c_int::MAX));
        // SAFETY: one pollfd, which lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, millis) } {
            n if n < 0 => Err(io::Error::last_os_error()),
            n => Ok(n > 0),
        }
    }

    /// Listens to a multicast group (netlink(7)).
    pub fn join(&self, group: c_int) -> io::Result<()> {
        self.set_membership(libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Listens to it no longer.
    pub fn leave(&self, group: c_int) -> io::Result<()> {
        self.set_membership(libc::NETLINK_DROP_MEMBERSHIP, group)
    }

    fn set_membership(&self, option: c_int, group: c_int) -> io::Result<()> {
        let size = libc::socklen_t::try_from(size_of_val(&group)).map_err(io::Error::other)?;
        // SAFETY: the option takes an int, which lives through the call.
        let set = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const group).cast(), size)
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Has the kernel throw away what this classic BPF program does not let through.
    pub fn attach_filter(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
        let length = u16::try_from(program.len()).map_err(io::Error::other)?;
        let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
        let size = libc::socklen_t::try_from(size_of_val(&filter)).map_err(io::Error::other)?;
        // SAFETY: the structure and the program it points to live through the call; the kernel copies and checks them.
        let set = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                size,
            )
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Room for one datagram from the kernel, which sends dumps in pieces of up to 32 KiB.
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// A buffer. The allocator aligns it to more than the four bytes that netlink asks for.
    pub fn new() -> Self {
        Buffer(vec![0; 64 * 1024])
    }
}
