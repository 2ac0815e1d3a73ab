//! What libnftnl can build that the `nftnl` crate has no safe words for: set elements with data and time-outs, and the two
//! expressions that queue.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

use libc::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use nftnl::expr::Expression;
use nftnl::nftnl_sys as nftnl_c;
use nftnl::{ProtoFamily, Rule};

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

/// More than any [`ElementMessage`] takes: one element with names of at most 32 bytes, a key and data of at most 64 each.
const MESSAGE: usize = 1024;

/// Messages about elements that the kernel carries out together: one transaction. The memory is used again and again.
#[derive(Debug, Default)]
pub struct ElementBatch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl ElementBatch {
    /// An empty one, in the memory of this one.
    pub fn begin(&mut self) {
        self.bytes.clear();
        self.sequence = 0;
        // SAFETY: a batch's first message is a header of 20 bytes.
        self.push(|buffer, sequence| unsafe { nftnl_c::nftnl_batch_begin(buffer, sequence) });
    }

    /// Adds a message.
    pub fn add(&mut self, message: &ElementMessage<'_>) {
        // SAFETY: MESSAGE bytes are enough for it.
        self.push(|buffer, sequence| unsafe { message.write(buffer, sequence) });
    }

    /// The bytes of the whole, and the sequence number of the last message, which asked for the acknowledgement: the
    /// batch's own first and last message do not, for each answer is another system call.
    pub fn finish(&mut self) -> (&[u8], u32) {
        let last = self.sequence;
        // SAFETY: a batch's last message is a header of 20 bytes.
        self.push(|buffer, sequence| unsafe { nftnl_c::nftnl_batch_end(buffer, sequence) });
        (&self.bytes, last)
    }

    /// Has a message of at most [`MESSAGE`] bytes written behind the others.
    fn push(&mut self, write: impl FnOnce(*mut c_char, u32) -> *mut libc::nlmsghdr) {
        self.sequence += 1;
        self.bytes.reserve(MESSAGE);
        let room = &mut self.bytes.spare_capacity_mut()[..MESSAGE];
        room.fill(std::mem::MaybeUninit::zeroed());
        let header = write(room.as_mut_ptr().cast(), self.sequence);
        // SAFETY: the header was just written, at a multiple of 4 bytes; all of the room has been written to.
        unsafe {
            let length = usize::try_from((*header).nlmsg_len).unwrap_or(0).next_multiple_of(4);
            assert!(length <= room.len(), "a message of {length} bytes");
            self.bytes.set_len(self.bytes.len() + length);
        }
    }
}

impl ElementMessage<'_> {
    /// # Safety
    /// `buffer` must have room for [`MESSAGE`] bytes.
    unsafe fn write(&self, buffer: *mut c_char, sequence: u32) -> *mut libc::nlmsghdr {
        let (kind, flags) = match self.verb {
            Verb::AddNew => (libc::NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL),
            Verb::Delete => (libc::NFT_MSG_DELSETELEM, 0),
            Verb::Destroy => (NFT_MSG_DESTROYSETELEM, 0),
        };
        let flags = if self.acknowledge { flags | NLM_F_ACK } else { flags };
        // SAFETY: the caller gives a buffer that is large enough. Names are NUL-terminated, keys and data are
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
                buffer,
                attribute(kind.unsigned_abs()),
                ProtoFamily::Inet as u16,
                attribute(flags.unsigned_abs()),
                sequence,
            );
            nftnl_c::nftnl_set_elems_nlmsg_build_payload(header, set);
            nftnl_c::nftnl_set_free(set);
            header
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
}
