//! The kernel's queues as proc(5) shows them: who has bound one, and what it could not deliver.
//!
//! That list is for root alone. Whoever has just the right to use queues can see of its own what the kernel says of their
//! sockets.

use std::fs;
use std::sync::Mutex;

use super::shared::lock;

/// In this network namespace. One line a queue: its number, the netlink port id of the program that reads it, packets
/// waiting, copy mode, copy range, packets dropped because the queue was full, packets dropped because the socket was
/// full, the last packet's id, 1 (`seq_show` in net/netfilter/nfnetlink_queue.c).
const FILE: &str = "/proc/self/net/netfilter/nfnetlink_queue";

/// A queue that a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Its number.
    pub number: u16,
    /// The program's netlink port id.
    pub port_id: u32,
    /// Packets that wait for a verdict.
    pub waiting: u64,
    /// Packets that found no room.
    pub dropped: u64,
}

impl Bound {
    /// Who reads it, as far as that can be told: the first netlink socket of a process has the process's id, others
    /// have numbers that no process has.
    pub fn reader(&self) -> String {
        match fs::read_to_string(format!("/proc/{}/comm", self.port_id)) {
            Ok(name) => format!("{} (process {})", name.trim_end(), self.port_id),
            Err(_) => "another program".to_owned(),
        }
    }
}

/// All netlink sockets of this network namespace. One line each: an address, the protocol, the port id, groups, bytes
/// received and not read, bytes sent, two numbers, messages dropped for lack of room, the inode (`netlink_native_seq_show` in
/// net/netlink/af_netlink.c).
const SOCKETS: &str = "/proc/self/net/netlink";

/// What a control connection's packet takes of a socket's buffer, in bytes, with the kernel's own data about it.
const PACKET: u64 = 850;

/// A queue of this process.
#[derive(Debug, Clone, Copy)]
struct Own {
    number: u16,
    /// Its socket's.
    inode: u64,
}

static OWN: Mutex<Vec<Own>> = Mutex::new(Vec::new());

/// This process reads queue `number` on the socket with this inode.
pub fn is_own(number: u16, inode: u64) {
    lock(&OWN).push(Own { number, inode });
}

/// All queues that are read, or this process's own if it may not see others'; empty where the kernel does not tell.
pub fn bound() -> Vec<Bound> {
    match fs::read_to_string(FILE) {
        Ok(text) => text.lines().filter_map(parse).collect(),
        // Not permitted; or not there, where proc(5) is mounted with subset=pid (ProcSubset= of the unit).
        Err(_) => by_their_sockets(),
    }
}

/// How many packets wait is an estimate then.
fn by_their_sockets() -> Vec<Bound> {
    let own = lock(&OWN).clone();
    let text = if own.is_empty() { String::new() } else { fs::read_to_string(SOCKETS).unwrap_or_default() };
    let of = |inode, bound| {
        own.iter().find(|own| own.inode == inode).map(|own| Bound { number: own.number, ..bound })
    };
    text.lines().filter_map(parse_socket).filter_map(|(inode, bound)| of(inode, bound)).collect()
}

/// A socket's inode, and what it says of a queue whose number is still to be told.
fn parse_socket(line: &str) -> Option<(u64, Bound)> {
    let columns: Vec<_> = line.split_whitespace().collect();
    let [_, _, port_id, _, unread, _, _, _, dropped, inode] = columns.as_slice() else { return None };
    let waiting = unread.parse::<u64>().ok()?.div_ceil(PACKET);
    let bound = Bound { number: 0, port_id: port_id.parse().ok()?, waiting, dropped: dropped.parse().ok()? };
    Some((inode.parse().ok()?, bound))
}

fn parse(line: &str) -> Option<Bound> {
    let mut columns = line.split_whitespace();
    let number = columns.next()?.parse().ok()?;
    let port_id = columns.next()?.parse().ok()?;
    let waiting = columns.next()?.parse().ok()?;
    let mut dropped = columns.skip(2).map(str::parse::<u64>);
    Some(Bound { number, port_id, waiting, dropped: dropped.next()?.ok()? + dropped.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_s_is_read() {
        let line = " 2121  29918     5 2 65531     3     4     1234  1";
        assert_eq!(parse(line), Some(Bound { number: 2121, port_id: 29918, waiting: 5, dropped: 7 }));
        assert_eq!(parse("something else"), None);
    }

    #[test]
    fn a_socket_says_the_same_of_its_queue() {
        let line =
            "00000000e9dcb0a5 12  29918      00000000 1701     0        0     2        7        123456  ";
        let queue = Bound { number: 0, port_id: 29918, waiting: 3, dropped: 7 };
        assert_eq!(parse_socket(line), Some((123_456, queue)));
        let head = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode";
        assert_eq!(parse_socket(head), None);
    }
}
