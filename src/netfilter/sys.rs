//! The C libraries under this module, and the only `unsafe` of the program: libnftables, libmnl's socket, and what
//! libnftnl can build that the `nftnl` crate has no safe words for (set elements, the two queue expressions).
#![allow(unsafe_code, reason = "calls into libnftables, libmnl and libnftnl; everything above is safe")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

use libc::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use nftnl::expr::Expression;
use nftnl::nftnl_sys as nftnl_c;
use nftnl::{MsgType, NlMsg, ProtoFamily, Rule};

/// libnftables (libnftables.h, version 1 of its ABI).
mod libnftables {
    use super::{c_char, c_int, c_uint};

    /// `NFT_CTX_OUTPUT_*`: how lists are written.
    pub const STATELESS: c_uint = 1 << 2;
    pub const HANDLE: c_uint = 1 << 3;
    pub const JSON: c_uint = 1 << 4;
    pub const TERSE: c_uint = 1 << 11;

    /// `struct nft_ctx`, opaque.
    #[repr(C)]
    pub struct Context {
        _private: [u8; 0],
    }

    #[link(name = "nftables")]
    unsafe extern "C" {
        pub fn nft_ctx_new(flags: u32) -> *mut Context;
        pub fn nft_ctx_free(ctx: *mut Context);
        pub fn nft_ctx_buffer_output(ctx: *mut Context) -> c_int;
        pub fn nft_ctx_buffer_error(ctx: *mut Context) -> c_int;
        pub fn nft_ctx_output_set_flags(ctx: *mut Context, flags: c_uint);
        pub fn nft_ctx_get_output_buffer(ctx: *mut Context) -> *const c_char;
        pub fn nft_ctx_get_error_buffer(ctx: *mut Context) -> *const c_char;
        pub fn nft_run_cmd_from_buffer(ctx: *mut Context, buf: *const c_char) -> c_int;
    }
}

/// A context of libnftables: runs the language of `nft` in this process.
pub struct Nft {
    context: NonNull<libnftables::Context>,
    /// Its netlink socket, if that could be told.
    socket: Option<RawFd>,
}

// SAFETY: a context has no tie to the thread that made it; `&mut self` keeps its users apart.
unsafe impl Send for Nft {}

impl Nft {
    /// Opens a context. libnftables ends the process if it can't open its netlink socket: open a [`Socket`] first.
    pub fn new() -> io::Result<Self> {
        let before = open_sockets();
        // SAFETY: no arguments that point anywhere; null is checked.
        let context = NonNull::new(unsafe { libnftables::nft_ctx_new(0) })
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut opened = open_sockets();
        opened.retain(|socket| !before.contains(socket));
        let nft = Nft { context, socket: if opened.len() == 1 { opened.pop() } else { None } };
        // SAFETY: the context is live. Both calls only switch where output goes.
        let failed = unsafe {
            libnftables::nft_ctx_buffer_output(nft.context.as_ptr())
                | libnftables::nft_ctx_buffer_error(nft.context.as_ptr())
        };
        if failed != 0 { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(nft) }
    }

    /// The netlink socket to which the tables belong that it makes with the flag `owner`. libnftables has no word for
    /// it: it is the socket that came with the context, where that was the only one.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: libnftables closes it when the context is freed, and the context is live for as long as `self` is.
        self.socket.map(|socket| unsafe { BorrowedFd::borrow_raw(socket) })
    }

    /// Runs commands as one transaction. The error is what `nft` would have said, each thing once.
    pub fn run(&mut self, commands: &str) -> Result<(), String> {
        let commands = CString::new(commands).map_err(|e| e.to_string())?;
        // SAFETY: the context is live and the string NUL-terminated; libnftables copies what it keeps.
        let status =
            unsafe { libnftables::nft_run_cmd_from_buffer(self.context.as_ptr(), commands.as_ptr()) };
        if status == 0 {
            return Ok(());
        }
        // SAFETY: error output is buffered (see `new`), so this is null or a NUL-terminated string that lives until
        // the next command; it is copied before.
        let text = unsafe { copied(libnftables::nft_ctx_get_error_buffer(self.context.as_ptr())) };
        Err(said_once(&text))
    }

    /// Runs a command that lists something, and returns what it prints.
    pub fn list(&mut self, command: &str, style: ListStyle) -> Result<String, String> {
        let flags = match style {
            ListStyle::Json => libnftables::JSON | libnftables::STATELESS,
            ListStyle::JsonWithoutElements => libnftables::JSON | libnftables::STATELESS | libnftables::TERSE,
            ListStyle::Text => libnftables::STATELESS | libnftables::TERSE,
            ListStyle::TextWithHandles => libnftables::HANDLE | libnftables::STATELESS | libnftables::TERSE,
        };
        // SAFETY: the context is live; this only sets a number in it.
        unsafe { libnftables::nft_ctx_output_set_flags(self.context.as_ptr(), flags) };
        let done = self.run(command);
        // SAFETY: output is buffered (see `new`), so this is null or a NUL-terminated string that lives until the next
        // command; it is copied before. The flags are a number, as above.
        let text = unsafe {
            libnftables::nft_ctx_output_set_flags(self.context.as_ptr(), 0);
            copied(libnftables::nft_ctx_get_output_buffer(self.context.as_ptr()))
        };
        done.map(|()| text)
    }
}

/// How [`Nft::list`] writes; counters always without what they have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListStyle {
    /// libnftables-json(5).
    Json,
    /// The same, with sets that look empty.
    JsonWithoutElements,
    /// nft's language, with sets that look empty.
    Text,
    /// The same, each rule followed by `# handle` and its number.
    TextWithHandles,
}

/// A copy of a string of C's; empty if there is none.
///
/// SAFETY: `text` must be null or NUL-terminated.
unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// What libnftables says of a transaction, without the commands that it says it of: the kernel may refuse each of some
/// hundreds, and all for the same reason.
fn said_once(text: &str) -> String {
    let mut said: Vec<&str> = Vec::new();
    for message in text.lines().filter_map(|line| line.split_once("Error: ").map(|(_, message)| message)) {
        if !said.contains(&message) {
            said.push(message);
        }
    }
    if said.is_empty() { text.trim_end().to_owned() } else { said.join("; ") }
}

impl Drop for Nft {
    fn drop(&mut self) {
        // SAFETY: made by nft_ctx_new and freed once.
        unsafe { libnftables::nft_ctx_free(self.context.as_ptr()) };
    }
}

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

/// The sockets that this process has open; none where proc(5) does not tell.
fn open_sockets() -> Vec<RawFd> {
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_socket = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let sockets = all.flatten().filter(|entry| is_socket(&entry.path()));
    sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
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

/// A netlink socket of an earlier daemon's, to which a table belongs.
pub struct Owner(OwnedFd);

impl From<OwnedFd> for Owner {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl Owner {
    /// Deletes a table of the family inet; ENOENT if there is none, EPERM if it belongs to another.
    pub fn delete_table(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name).map_err(io::Error::other)?;
        let table = nftnl::Table::new(&name, ProtoFamily::Inet);
        let mut batch = nftnl::Batch::new();
        batch.add(&table, MsgType::Del);
        let mut buffer = vec![0_u8; 64 * 1024];
        for page in &batch.finalize() {
            // SAFETY: the page lives through the call.
            let sent = unsafe { libc::send(self.0.as_raw_fd(), page.as_ptr().cast(), page.len(), 0) };
            if sent < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        // The kernel has answered by now, if it has something to say: what failed is told without being asked for.
        loop {
            let (at, flags) = (buffer.as_mut_ptr().cast(), libc::MSG_DONTWAIT);
            // SAFETY: the buffer lives through the call and is as long as it says.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), at, buffer.len(), flags) };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) };
            };
            for message in mnl::NlMessages::new(buffer.get(..length).unwrap_or_default()) {
                if let Some(Err(error)) = super::netlink::Message::parse(message?).and_then(|m| m.error()) {
                    return Err(error);
                }
            }
        }
    }
}

/// A netlink socket to netfilter that never blocks unless told to.
pub struct Socket(mnl::Socket);

// SAFETY: `struct mnl_socket` is a file descriptor and its address; it has no tie to a thread.
unsafe impl Send for Socket {}

impl Socket {
    /// Opens and binds a socket, listening to the multicast groups of the bit mask.
    pub fn open(groups: u32) -> io::Result<Self> {
        Self::open_on(mnl::Bus::Netfilter, groups)
    }

    /// The same to the kernel's routing (rtnetlink(7)).
    pub fn open_to_routing() -> io::Result<Self> {
        Self::open_on(mnl::Bus::Route, 0)
    }

    fn open_on(bus: mnl::Bus, groups: u32) -> io::Result<Self> {
        let socket = mnl::Socket::open(bus)?;
        socket.bind(groups, mnl::mnl_sys::MNL_SOCKET_AUTOPID)?;
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

/// What a message does to a set element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Add it; EEXIST if it is there.
    AddNew,
    /// Delete it; ENOENT if it is not there.
    Delete,
    /// Delete it if it is there (kernels from 6.3 on).
    Destroy,
}

/// `NFT_MSG_DESTROYSETELEM`, newer than the libc crate's list (include/uapi/linux/netfilter/nf_tables.h).
const NFT_MSG_DESTROYSETELEM: c_int = 30;

/// A message about one element of a set or map in an `inet` table.
pub struct ElementMessage<'a> {
    pub table: &'a CStr,
    pub set: &'a CStr,
    pub verb: Verb,
    pub key: &'a [u8],
    pub data: Option<&'a [u8]>,
    pub timeout: Option<Duration>,
    /// Ask for an acknowledgement. Errors come without being asked for.
    pub acknowledge: bool,
}

// SAFETY: one element with a key and data of at most 64 bytes each is far below the largest message.
unsafe impl NlMsg for ElementMessage<'_> {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, _: MsgType) {
        let (kind, flags) = match self.verb {
            Verb::AddNew => (libc::NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL),
            Verb::Delete => (libc::NFT_MSG_DELSETELEM, 0),
            Verb::Destroy => (NFT_MSG_DESTROYSETELEM, 0),
        };
        let flags = if self.acknowledge { flags | NLM_F_ACK } else { flags };
        // SAFETY: the caller gives a buffer for the largest message. Names are NUL-terminated, keys and data are
        // copied with their lengths (libnftnl keeps up to 64 bytes of each). The set owns the element, and freeing
        // the set frees both. Allocation failures end the process, as Rust's own do.
        unsafe {
            let set = allocated(nftnl_c::nftnl_set_alloc()).as_ptr();
            nftnl_c::nftnl_set_set_str(set, attribute(nftnl_c::NFTNL_SET_TABLE), self.table.as_ptr());
            nftnl_c::nftnl_set_set_str(set, attribute(nftnl_c::NFTNL_SET_NAME), self.set.as_ptr());
            let element = allocated(nftnl_c::nftnl_set_elem_alloc()).as_ptr();
            set_bytes(element, nftnl_c::NFTNL_SET_ELEM_KEY, self.key);
            if let Some(data) = self.data {
                set_bytes(element, nftnl_c::NFTNL_SET_ELEM_DATA, data);
            }
            if let Some(timeout) = self.timeout {
                let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                nftnl_c::nftnl_set_elem_set_u64(element, attribute(nftnl_c::NFTNL_SET_ELEM_TIMEOUT), millis);
            }
            nftnl_c::nftnl_set_elem_add(set, element);
            let header = nftnl_c::nftnl_nlmsg_build_hdr(
                buf.cast::<c_char>(),
                attribute(kind.unsigned_abs()),
                ProtoFamily::Inet as u16,
                attribute(flags.unsigned_abs()),
                seq,
            );
            nftnl_c::nftnl_set_elems_nlmsg_build_payload(header, set);
            nftnl_c::nftnl_set_free(set);
        }
    }
}

/// SAFETY: `element` must be live.
unsafe fn set_bytes(element: *mut nftnl_c::nftnl_set_elem, what: u32, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    // SAFETY: the bytes are copied, with their length.
    unsafe {
        nftnl_c::nftnl_set_elem_set(element, attribute(what), bytes.as_ptr().cast(), length);
    }
}

/// The bindings have constants as `u32` where the functions take `u16`.
#[expect(clippy::cast_possible_truncation, reason = "attribute numbers, message types and flags are small")]
const fn attribute(constant: u32) -> u16 {
    constant as u16
}

/// Ends the process where libnftnl found no memory, as Rust's own allocations do.
fn allocated<T>(pointer: *mut T) -> NonNull<T> {
    NonNull::new(pointer).unwrap_or_else(|| std::process::abort())
}

/// To which queues packets go, and what happens when nobody listens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    /// The first queue's number.
    pub first: u16,
    /// How many there are; packets are spread by address.
    pub total: u16,
    /// Let packets pass when no program listens.
    pub bypass: bool,
}

/// The kernel's own `queue` expression (`nft_queue`).
pub struct NativeQueue(pub Queues);

/// `NFT_QUEUE_FLAG_BYPASS`.
const QUEUE_BYPASS: u16 = 1;

impl Expression for NativeQueue {
    fn to_expr(&self, _: &Rule) -> NonNull<nftnl_c::nftnl_expr> {
        let flags = if self.0.bypass { QUEUE_BYPASS } else { 0 };
        // SAFETY: the name is NUL-terminated; the values are copied. The rule will own the expression.
        unsafe {
            let expr = allocated(nftnl_c::nftnl_expr_alloc(c"queue".as_ptr()));
            let set = |what, value| nftnl_c::nftnl_expr_set_u16(expr.as_ptr(), attribute(what), value);
            set(nftnl_c::NFTNL_EXPR_QUEUE_NUM, self.0.first);
            set(nftnl_c::NFTNL_EXPR_QUEUE_TOTAL, self.0.total);
            set(nftnl_c::NFTNL_EXPR_QUEUE_FLAGS, flags);
            expr
        }
    }
}

/// xtables' NFQUEUE target, revision 3, through nft_compat: for kernels without `nft_queue`.
pub struct XtQueue(pub Queues);

/// Bytes of `struct xt_NFQ_info_v3` (queuenum, queues_total, flags), padded as XT_ALIGN does.
const NFQ_INFO_V3: usize = 8;

impl Queues {
    /// `struct xt_NFQ_info_v3` (include/uapi/linux/netfilter/xt_NFQUEUE.h): three 16-bit numbers in host byte order.
    fn xt_info(self) -> [u8; NFQ_INFO_V3] {
        let flags: u16 = if self.bypass { QUEUE_BYPASS } else { 0 };
        let mut info = [0; NFQ_INFO_V3];
        info[0..2].copy_from_slice(&self.first.to_ne_bytes());
        info[2..4].copy_from_slice(&self.total.to_ne_bytes());
        info[4..6].copy_from_slice(&flags.to_ne_bytes());
        info
    }
}

impl Expression for XtQueue {
    fn to_expr(&self, _: &Rule) -> NonNull<nftnl_c::nftnl_expr> {
        const NAME: &CStr = c"NFQUEUE";
        let info = self.0.xt_info();
        // SAFETY: name and numbers are copied. The info is not: libnftnl takes the buffer over and frees it with
        // free(3), so it comes from malloc(3), with exactly the bytes written that its length says.
        unsafe {
            let expr = allocated(nftnl_c::nftnl_expr_alloc(c"target".as_ptr()));
            nftnl_c::nftnl_expr_set_str(expr.as_ptr(), attribute(nftnl_c::NFTNL_EXPR_TG_NAME), NAME.as_ptr());
            nftnl_c::nftnl_expr_set_u32(expr.as_ptr(), attribute(nftnl_c::NFTNL_EXPR_TG_REV), 3);
            let buffer = allocated(libc::malloc(NFQ_INFO_V3)).as_ptr();
            ptr::copy_nonoverlapping(info.as_ptr(), buffer.cast::<u8>(), NFQ_INFO_V3);
            nftnl_c::nftnl_expr_set(expr.as_ptr(), attribute(nftnl_c::NFTNL_EXPR_TG_INFO), buffer, 8);
            expr
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_xt_target_has_the_kernels_layout() {
        let queues = Queues { first: 2121, total: 4, bypass: true };
        let number =
            |range: std::ops::Range<usize>| u16::from_ne_bytes(queues.xt_info()[range].try_into().unwrap());
        assert_eq!((number(0..2), number(2..4), number(4..6), number(6..8)), (2121, 4, 1, 0));
    }

    #[test]
    fn each_thing_is_said_once() {
        let text = "/dev/stdin:1:1-7: Error: Could not process rule: Operation not permitted\nadd rule\n^^^^^^^\n\
                    Error: Could not process rule: Operation not permitted\nadd rule\n^^^^^^^\n\
                    Error: Could not process rule: No such file or directory\nadd rule\n^^^^^^^\n";
        let said = "Could not process rule: Operation not permitted; Could not process rule: No such file or directory";
        assert_eq!(said_once(text), said);
        assert_eq!(said_once("netlink: something else\n"), "netlink: something else");
    }
}
