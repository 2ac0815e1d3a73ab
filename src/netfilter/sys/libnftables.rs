//! libnftables: the language of `nft`, run in this process.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::thread;
use std::time::{Duration, Instant};

use super::{only_new, open_sockets};

/// libnftables (libnftables.h, version 1 of its ABI).
mod c {
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
    context: NonNull<c::Context>,
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
        let context = NonNull::new(unsafe { c::nft_ctx_new(0) })
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let opened = only_new(&before);
        let nft = Nft { context, socket: opened.map(|socket| socket.fd) };
        // SAFETY: the context is live. Both calls only switch where output goes.
        let failed = unsafe {
            c::nft_ctx_buffer_output(nft.context.as_ptr()) | c::nft_ctx_buffer_error(nft.context.as_ptr())
        };
        if failed != 0 { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(nft) }
    }

    /// The netlink socket to which the tables belong that it makes with the flag `owner`. libnftables has no word for
    /// it: it is the socket that came with the context, where that was the only one.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: libnftables closes it when the context is freed, and the context is live for as long as `self` is.
        self.socket.map(|socket| unsafe { BorrowedFd::borrow_raw(socket) })
    }

    /// As where there is no proc(5).
    #[cfg(test)]
    pub fn forget_socket(&mut self) {
        self.socket = None;
    }

    /// Runs commands as one transaction. The error is what `nft` would have said, each thing once.
    pub fn run(&mut self, commands: &str) -> Result<(), String> {
        let commands = CString::new(commands).map_err(|e| e.to_string())?;
        // SAFETY: the context is live and the string NUL-terminated; libnftables copies what it keeps.
        let status = unsafe { c::nft_run_cmd_from_buffer(self.context.as_ptr(), commands.as_ptr()) };
        if status == 0 {
            return Ok(());
        }
        // SAFETY: error output is buffered (see `new`), so this is null or a NUL-terminated string that lives until
        // the next command; it is copied before.
        let text = unsafe { copied(c::nft_ctx_get_error_buffer(self.context.as_ptr())) };
        Err(said_once(&text))
    }

    /// Runs a command that lists something, and returns what it prints.
    pub fn list(&mut self, command: &str, style: ListStyle) -> Result<String, String> {
        let flags = match style {
            ListStyle::Json => c::JSON | c::STATELESS,
            ListStyle::JsonWithoutElements => c::JSON | c::STATELESS | c::TERSE,
            ListStyle::Text => c::STATELESS | c::TERSE,
            ListStyle::TextWithHandles => c::HANDLE | c::STATELESS | c::TERSE,
        };
        // SAFETY: the context is live; this only sets a number in it.
        unsafe { c::nft_ctx_output_set_flags(self.context.as_ptr(), flags) };
        let done = self.run(command);
        // SAFETY: output is buffered (see `new`), so this is null or a NUL-terminated string that lives until the next
        // command; it is copied before. The flags are a number, as above.
        let text = unsafe {
            c::nft_ctx_output_set_flags(self.context.as_ptr(), 0);
            copied(c::nft_ctx_get_output_buffer(self.context.as_ptr()))
        };
        done.map(|()| text)
    }
}

/// How long a child may take that tries something; one that was made while another thread held a lock of a library's may
/// wait for ever.
const TRIAL: Duration = Duration::from_secs(2);

/// What a process is ended by that has gone wrong.
const CRASHES: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL, libc::SIGFPE];

/// Whether a process lives through this command, which lists something: a child tries it, and only whether it crashes counts.
///
/// # Errors
/// No child could be made, or waited for, or it was killed, or too slow.
pub fn lives_through(command: &str) -> io::Result<bool> {
    // SAFETY: the child is this thread alone. It allocates, which glibc's allocator is prepared for; what else might wait for
    // another thread is ended from here. It ends without running anything that belongs to this process.
    let child = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: no arguments that point anywhere. A crash that is looked for needs no core file.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
            // SAFETY: both names are NUL-terminated, and nobody else in the child has its standard error. libxtables writes there
            // of rules that it does not know.
            unsafe { libc::dup2(libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY), libc::STDERR_FILENO) };
            let _listed = Nft::new().map(|mut nft| nft.list(command, ListStyle::Text));
            // SAFETY: it ends the child.
            unsafe { libc::_exit(0) }
        }
        child => child,
    };
    let end = Instant::now() + TRIAL;
    let mut is_late = false;
    let mut status = 0;
    loop {
        // SAFETY: it is this process's own child, which nobody else waits for, and the status is written to.
        match unsafe { libc::waitpid(child, &raw mut status, if is_late { 0 } else { libc::WNOHANG }) } {
            0 if Instant::now() < end => thread::sleep(TRIAL / 2000),
            0 => {
                is_late = true;
                // SAFETY: no memory is touched.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            _ if libc::WIFEXITED(status) => return Ok(true),
            _ if CRASHES.contains(&libc::WTERMSIG(status)) => return Ok(false),
            _ if is_late => return Err(io::ErrorKind::TimedOut.into()),
            _ => return Err(io::ErrorKind::Interrupted.into()),
        }
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
        unsafe { c::nft_ctx_free(self.context.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
