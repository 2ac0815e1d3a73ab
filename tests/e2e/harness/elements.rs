//! How many elements nftables' sets have. `nft list` begins anew whenever the ruleset changes while it reads, and
//! does not come to its end while a busy daemon changes it all the time.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use mnl::mnl_sys::MNL_SOCKET_AUTOPID;
use mnl::{Bus, Socket};
use netlab::Host;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// `NFNL_SUBSYS_NFTABLES`, `NFT_MSG_GETSETELEM`, and `NLM_F_REQUEST | NLM_F_DUMP`.
const GET_ELEMENTS: u16 = (10 << 8) | 13;
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFTA_SET_ELEM_LIST_*`.
const TABLE: u16 = 1;
const SET: u16 = 2;
const ELEMENTS: u16 = 3;
/// Type without its flags (`NLA_TYPE_MASK`).
const TYPE: u16 = 0x3fff;

/// The sets and maps of nft-rules/ftpalg.nft and of hold.nft that grow with what passes, each for IPv4 and IPv6. Pairs of hosts are left
/// out: they go by themselves.
const SETS: [(&str, &[&str]); 3] = [
    (
        "ftpalg",
        &["control_new", "control", "shifted", "pending", "open", "spent", "mark", "dnat", "snat", "used"],
    ),
    ("ftpalg_hold", HELD),
    ("ftpalg_hold_2", HELD),
];
const HELD: &[&str] = &["held", "watched"];

/// The numbers of a host's elements by set, those that are empty or missing left out.
pub fn count(host: &Host) -> Result<BTreeMap<String, usize>> {
    let namespace = File::open(Path::new("/run/netns").join(host.namespace()))?;
    // A thread of its own, which stays in the host's namespace.
    let count = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the router's namespace")?;
        let socket = Socket::open(Bus::Netfilter)?;
        socket.bind(0, MNL_SOCKET_AUTOPID)?;
        let mut counts = BTreeMap::new();
        for (table, names) in SETS {
            for (name, family) in names.iter().flat_map(|name| [(name, 4), (name, 6)]) {
                let set = format!("{name}{family}");
                let number = elements(&socket, table, &set).with_context(|| set.clone())?;
                if number > 0 {
                    *counts.entry(set).or_default() += number;
                }
            }
        }
        Ok(counts)
    };
    thread::spawn(count).join().map_err(|_| anyhow!("counting panicked"))?
}

fn elements(socket: &Socket, table: &str, set: &str) -> Result<usize> {
    let mut request = vec![0; 4];
    request.extend(GET_ELEMENTS.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend([INET, 0, 0, 0]);
    for (kind, name) in [(TABLE, table), (SET, set)] {
        let length = u16::try_from(4 + name.len() + 1)?;
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(name.bytes());
        request.push(0);
        request.resize(request.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(request.len())?;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    socket.send(&request)?;

    let mut buffer = vec![0; 64 * 1024];
    let mut number = 0;
    loop {
        let length = socket.recv_raw(&mut buffer)?;
        let mut rest = &buffer[..length];
        while let Some((header, message)) = message(&mut rest) {
            match u16_at(header, 4)? {
                DONE => return Ok(number),
                ERROR => {
                    let code = message.first_chunk().map(|code| i32::from_ne_bytes(*code));
                    return match code.map(|code| Errno::from_raw(-code)) {
                        Some(Errno::ENOENT) => Ok(0),
                        other => Err(anyhow!("the kernel says {other:?}")),
                    };
                }
                _ => {
                    let attributes = message.get(4..).unwrap_or_default();
                    let list = self::attributes(attributes).find(|(kind, _)| *kind == ELEMENTS);
                    number += list.map_or(0, |(_, list)| self::attributes(list).count());
                }
            }
        }
    }
}

/// The next netlink message: its header, and what it says.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let (header, message) = rest.get(..length)?.split_at_checked(16)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((header, message))
}

/// Attributes in a row: type and content.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0).ok()?);
        let kind = u16_at(rest, 2).ok()? & TYPE;
        let content = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = bytes.get(at..at + 2).and_then(|bytes| bytes.first_chunk()).context("cut short")?;
    Ok(u16::from_ne_bytes(*bytes))
}
