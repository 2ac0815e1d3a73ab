//! A queue of the kernel's (nfnetlink_queue): packets come out of it, verdicts go back.
//!
//! The `nfq` crate does the same with two system calls a packet, and has no way to its socket. Here one takes all
//! packets that wait, and one gives all their verdicts; and the socket has room for as many packets as the queue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, send, socket_with};

use super::netlink::{Message, Request, push_attribute, push_header, set_length, subsystem};
use super::sys::{Datagrams, lose_silently};

/// `NFQNL_MSG_*` (include/uapi/linux/netfilter/nfnetlink_queue.h).
const PACKET: u8 = 0;
const VERDICT: u8 = 1;
const CONFIG: u8 = 2;

/// `NFQA_*`.
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const MARK: u16 = 3;
const PAYLOAD: u16 = 10;
const ORIGINAL_LENGTH: u16 = 13;

/// `NFQA_CFG_*`.
const CONFIG_COMMAND: u16 = 1;
const CONFIG_PARAMETERS: u16 = 2;
const CONFIG_LENGTH: u16 = 3;

/// `NFQNL_CFG_CMD_BIND`.
const BIND: u8 = 1;
/// `NFQNL_COPY_PACKET`.
const COPY_PACKET: u8 = 2;

/// `NF_DROP` and `NF_ACCEPT` (include/uapi/linux/netfilter.h).
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// What an attribute can hold of a packet (`NFQNL_MAX_COPY_RANGE`).
const LONGEST: u16 = u16::MAX - 4;

/// How many bytes of verdicts go into one datagram, if it is more than one. For longer ones the kernel takes another
/// kind of memory, which costs more than a system call (`netlink_alloc_large_skb`).
const ENOUGH: usize = 3 * 1024;

/// What a full queue's packets take of the socket's buffer: segments of Ethernet's size take 2,304 bytes each with the
/// kernel's own data, and the kernel doubles what it is asked for.
const BUFFER: usize = 2 * 1024;

/// A queue that this program reads.
pub struct Queue {
    socket: OwnedFd,
    number: u16,
    received: Datagrams,
    /// Verdicts that the kernel does not have yet.
    verdicts: Vec<u8>,
}

/// A packet that waits for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its number in the queue.
    id: u32,
    /// The hook in which it was queued, `NF_INET_*`.
    pub hook: u8,
    /// Its mark.
    pub mark: u32,
    /// Whether all of its bytes are there.
    pub is_whole: bool,
}

impl Queue {
    /// Opens the socket. Nothing is bound yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        lose_silently(socket.as_fd())?;
        Ok(Self { socket, number: 0, received: Datagrams::new(), verdicts: Vec::new() })
    }

    /// The socket's inode, by which proc(5) lists it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(fstat(&self.socket)?.st_ino)
    }

    /// Binds queue `number`, in which so many packets may wait. Nothing may be diverted to it before: what comes while
    /// the kernel answers would get no verdict.
    ///
    /// The kernel's flags stay off: a queue that is full drops (`NFQA_CFG_F_FAIL_OPEN`), and packets come as they go
    /// over the wire, with their checksums finished (`NFQA_CFG_F_GSO`).
    ///
    /// # Errors
    /// EBUSY or EPERM where another program has it, EPERM without the right to (`CAP_NET_ADMIN`).
    pub fn bind(&mut self, number: u16, length: u32) -> io::Result<()> {
        self.number = number;
        self.make_room(length);
        let [high, low] = LONGEST.to_be_bytes();
        let acknowledge = u16::try_from(libc::NLM_F_ACK).unwrap_or(4);
        let request = Request::new(subsystem::QUEUE, CONFIG, 0, acknowledge)
            .about(number)
            .attribute(CONFIG_COMMAND, &[BIND, 0, 0, 0])
            .attribute(CONFIG_PARAMETERS, &[0, 0, high, low, COPY_PACKET])
            .attribute(CONFIG_LENGTH, &length.to_be_bytes());
        send(&self.socket, &request.finish(0), SendFlags::empty())?;
        loop {
            let received = match self.receive() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            let message = |index| Message::parse(self.received.datagram(index));
            if let Some(answer) = (0..received).find_map(|index| message(index)?.error()) {
                return answer;
            }
        }
    }

    /// Makes the socket's buffer large enough. Beyond the system's limit (`net.core.rmem_max`) that takes the right of
    /// `CAP_NET_ADMIN` outside of all user namespaces; without it the buffer becomes as large as the limit lets it.
    fn make_room(&self, length: u32) {
        let bytes = usize::try_from(length).unwrap_or(0).saturating_mul(BUFFER);
        let _ = set_socket_recv_buffer_size_force(&self.socket, bytes)
            .or_else(|_| set_socket_recv_buffer_size(&self.socket, bytes));
    }

    /// Waits for messages. Returns how many there are; [`Queue::take`] has each of them.
    ///
    /// # Errors
    /// The socket's; a signal came.
    pub fn receive(&mut self) -> io::Result<usize> {
        self.received.receive(self.socket.as_fd())
    }

    /// The message with this index of those received last. Its packet's bytes go into `packet`; `None` if it brings no
    /// packet.
    ///
    /// # Errors
    /// A verdict has failed: ENOENT where its packet was gone.
    pub fn take(&self, index: usize, packet: &mut Vec<u8>) -> io::Result<Option<Waiting>> {
        // The kernel sends each packet and each error by itself (nfqnl_build_packet_message, netlink_ack).
        read(self.received.datagram(index), packet)
    }

    /// A packet goes on: with another mark or other bytes, if they are given. One that has grown beyond what can be
    /// handed to the kernel is dropped.
    ///
    /// # Errors
    /// As for [`Queue::hand_over`].
    pub fn accept(&mut self, packet: Waiting, mark: Option<u32>, bytes: Option<&[u8]>) -> io::Result<()> {
        match bytes {
            Some(bytes) if bytes.len() > usize::from(LONGEST) => self.verdict(packet, DROP, None, None),
            bytes => self.verdict(packet, ACCEPT, mark, bytes),
        }
    }

    /// A packet is dropped.
    ///
    /// # Errors
    /// As for [`Queue::hand_over`].
    pub fn drop(&mut self, packet: Waiting) -> io::Result<()> {
        self.verdict(packet, DROP, None, None)
    }

    fn verdict(
        &mut self,
        packet: Waiting,
        verdict: u32,
        mark: Option<u32>,
        bytes: Option<&[u8]>,
    ) -> io::Result<()> {
        let before = self.verdicts.len();
        push_header(&mut self.verdicts, subsystem::QUEUE, VERDICT, 0, 0, self.number);
        let mut header = [0; 8];
        header[..4].copy_from_slice(&verdict.to_be_bytes());
        header[4..].copy_from_slice(&packet.id.to_be_bytes());
        push_attribute(&mut self.verdicts, VERDICT_HEADER, &header);
        if let Some(mark) = mark {
            push_attribute(&mut self.verdicts, MARK, &mark.to_be_bytes());
        }
        if let Some(bytes) = bytes {
            push_attribute(&mut self.verdicts, PAYLOAD, bytes);
        }
        set_length(&mut self.verdicts, before);
        if before == 0 || self.verdicts.len() <= ENOUGH {
            return Ok(());
        }
        // Those before it go first, for one socket keeps packets of one connection in their order.
        self.send(before)
    }

    /// Gives the kernel the verdicts that it has not got yet. Packets go on while it does.
    ///
    /// # Errors
    /// ENOBUFS or ENOMEM: the kernel has no memory, and the packets wait until the next verdicts are handed over.
    pub fn hand_over(&mut self) -> io::Result<()> {
        self.send(self.verdicts.len())
    }

    /// Sends so many bytes of verdicts. Those that the kernel can't take now stay: a packet without a verdict would keep
    /// its place in the queue for good.
    fn send(&mut self, length: usize) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            let verdicts = some_of(self.verdicts.get(done..length).unwrap_or_default());
            if verdicts.is_empty() {
                break Ok(());
            }
            let sent = send(&self.socket, verdicts, SendFlags::empty());
            if !matches!(sent, Err(Errno::NOBUFS | Errno::NOMEM | Errno::INTR)) {
                done += verdicts.len();
            }
            if let Err(error) = sent {
                break Err(error.into());
            }
        };
        self.verdicts.drain(..done);
        result
    }
}

/// The first message, and those behind it that go into one datagram with it.
fn some_of(messages: &[u8]) -> &[u8] {
    let mut end = 0;
    while let Some(length) = messages.get(end..).and_then(<[u8]>::first_chunk) {
        let next = end.saturating_add(usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX));
        if end > 0 && next > ENOUGH || next > messages.len() || next == end {
            break;
        }
        end = next;
    }
    messages.get(..end).unwrap_or_default()
}

fn read(datagram: &[u8], packet: &mut Vec<u8>) -> io::Result<Option<Waiting>> {
    packet.clear();
    let Some(message) = Message::parse(datagram) else { return Ok(None) };
    if let Some(answer) = message.error() {
        return answer.map(|()| None);
    }
    if !message.is(subsystem::QUEUE, PACKET) {
        return Ok(None);
    }
    let mut header = None;
    let mut mark = 0;
    let mut original_length = 0;
    let number = |value: &[u8]| value.try_into().map_or(0, u32::from_be_bytes);
    for (kind, value) in message.attributes() {
        match kind {
            // `struct nfqnl_msg_packet_hdr`: the packet's number, the protocol on the wire, the hook.
            PACKET_HEADER => {
                let Some((id, [_, _, hook, ..])) = value.split_first_chunk() else { return Ok(None) };
                header = Some((u32::from_be_bytes(*id), *hook));
            }
            MARK => mark = number(value),
            PAYLOAD => packet.extend_from_slice(value),
            ORIGINAL_LENGTH => original_length = usize::try_from(number(value)).unwrap_or(usize::MAX),
            _ => {}
        }
    }
    let is_whole = !packet.is_empty() && original_length <= packet.len();
    Ok(header.map(|(id, hook)| Waiting { id, hook, mark, is_whole }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(payload: &[u8]) -> Request {
        Request::new(subsystem::QUEUE, PACKET, 2, 0)
            .about(7)
            .attribute(PACKET_HEADER, &[0, 0, 1, 2, 8, 0, 4])
            .attribute(MARK, &5_u32.to_be_bytes())
            .attribute(PAYLOAD, payload)
    }

    fn read_request(request: Request) -> (io::Result<Option<Waiting>>, Vec<u8>) {
        let mut bytes = b"what was there before".to_vec();
        (read(&request.finish(0), &mut bytes), bytes)
    }

    #[test]
    fn verdicts_are_divided_between_messages() {
        let message = |length: usize| {
            [&u32::try_from(length).unwrap().to_ne_bytes()[..], &vec![1; length - 4]].concat()
        };
        let lengths = |messages: &[usize]| {
            some_of(&messages.iter().flat_map(|&length| message(length)).collect::<Vec<_>>()).len()
        };
        assert_eq!(lengths(&[]), 0);
        assert_eq!(lengths(&[40, 40]), 80);
        assert_eq!(lengths(&[ENOUGH - 40, 40, 40]), ENOUGH);
        assert_eq!(lengths(&[60_000, 40]), 60_000, "one that is longer goes alone");
        assert_eq!(lengths(&[40, 60_000]), 40);
        assert_eq!(some_of(&message(40)[..39]).len(), 0);
    }

    #[test]
    fn a_packet_is_read() {
        let (read, bytes) = read_request(packet(b"abc"));
        assert_eq!(read.unwrap(), Some(Waiting { id: 0x102, hook: 4, mark: 5, is_whole: true }));
        assert_eq!(bytes, b"abc");
    }

    #[test]
    fn a_packet_that_was_cut_is_known_by_its_length() {
        for (request, is_whole) in [
            (packet(b"abc").attribute(ORIGINAL_LENGTH, &4_u32.to_be_bytes()), false),
            (packet(b"abc").attribute(ORIGINAL_LENGTH, &3_u32.to_be_bytes()), true),
            (packet(b""), false),
        ] {
            assert_eq!(read_request(request).0.unwrap().unwrap().is_whole, is_whole);
        }
        let mut cut = packet(b"abcdefgh").finish(0);
        cut.truncate(cut.len() - 1);
        let waiting = read(&cut, &mut Vec::new()).unwrap().unwrap();
        assert_eq!((waiting.id, waiting.is_whole), (0x102, false), "it can be dropped");
    }

    #[test]
    fn errors_are_told_and_what_is_no_packet_is_passed_over() {
        let message = |kind: u8, subsystem| Request::new(subsystem, kind, 0, 0);
        // NLMSG_ERROR is 2, and its first four bytes stand where the family's header does.
        let mut error = message(2, 0).finish(0);
        error[16..20].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        let result = read(&error, &mut Vec::new());
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOENT));
        error[16..20].copy_from_slice(&i32::MIN.to_ne_bytes());
        assert!(read(&error, &mut Vec::new()).is_err());
        for other in [message(CONFIG, subsystem::QUEUE), message(PACKET, subsystem::NFTABLES)] {
            assert_eq!(read_request(other).0.unwrap(), None);
        }
        let without_header = message(PACKET, subsystem::QUEUE).attribute(PAYLOAD, b"abc");
        assert_eq!(read_request(without_header).0.unwrap(), None);
        let short_header = message(PACKET, subsystem::QUEUE).attribute(PACKET_HEADER, &[0, 0, 0, 1, 8, 0]);
        assert_eq!(read_request(short_header).0.unwrap(), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_received_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, &mut Vec::new());
            if let Some(kind) = bytes.get_mut(4..6) {
                kind.copy_from_slice(&u16::from_be_bytes([subsystem::QUEUE, PACKET]).to_ne_bytes());
            }
            let _ = read(&bytes, &mut Vec::new());
        }
    }
}
