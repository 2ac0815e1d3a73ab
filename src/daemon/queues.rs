//! The kernel's queues as proc(5) shows them: who has bound one, and what it could not deliver.

use std::fs;

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

/// All queues that are read; empty where the kernel does not tell.
pub fn bound() -> Vec<Bound> {
    fs::read_to_string(FILE).map(|text| text.lines().filter_map(parse).collect()).unwrap_or_default()
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
}
