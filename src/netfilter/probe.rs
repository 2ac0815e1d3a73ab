//! Questions to nftables: the ruleset's generation, its tables, the daemon's table as it is, its counters.

use std::io;

use super::accept::FAMILIES;
use super::connection::Connection;
use super::element::INET;
use super::error::FirewallError;
use super::netlink::{DUMP, Request, nft, subsystem};
use crate::config::ChainName;

/// `NFTA_*` and `NFT_TABLE_F_*` (include/uapi/linux/netfilter/nf_tables.h).
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_HANDLE: u16 = 4;
const TABLE_OWNER: u16 = 7;
const DORMANT: u32 = 1;
const OWNED: u32 = 2;
const RULE_TABLE: u16 = 1;
const RULE_HANDLE: u16 = 3;
const GEN_ID: u16 = 1;
const OBJ_TABLE: u16 = 1;
const OBJ_NAME: u16 = 2;
const OBJ_TYPE: u16 = 3;
const OBJ_DATA: u16 = 4;
const COUNTER_PACKETS: u16 = 2;
/// `NFT_OBJECT_COUNTER`.
const OBJECT_COUNTER: u32 = 1;

/// One of the table's named counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Its name in nft-rules/ftpalg.nft, which says what it counts.
    pub name: String,
    /// What it has counted since the table was first put in.
    pub packets: u64,
}

/// By what the table is known to be the one that was put in, whole: handles are never given out twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub table: u64,
    pub rules: Vec<u64>,
}

/// A table of routed packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `inet`, `ip` or `ip6`.
    pub family: &'static str,
    /// Its name.
    pub name: String,
    /// `NFT_TABLE_F_*`.
    pub flags: u32,
    /// The netlink port id of its owner's socket, where it has an owner.
    pub owner: Option<u32>,
}

impl Table {
    /// Whether it is switched off.
    pub fn is_dormant(&self) -> bool {
        self.flags & DORMANT != 0
    }

    /// Whether only the program that has made it may change it.
    fn is_owned(&self) -> bool {
        self.flags & OWNED != 0
    }

    /// Whether this chain, if there is such a one, is in it.
    pub fn has(&self, chain: &ChainName) -> bool {
        (self.family, &self.name) == (chain.family.as_str(), &chain.table)
    }
}

/// The tables of routed packets.
pub fn tables(connection: &mut Connection) -> io::Result<Vec<Table>> {
    let request = Request::new(subsystem::NFTABLES, nft::GETTABLE, 0, DUMP);
    connection.dump(&request, |message| {
        let attributes = message.is(subsystem::NFTABLES, nft::NEWTABLE).then(|| message.attributes())?;
        let (family, _) = FAMILIES.iter().find(|(_, number)| *number == message.family())?;
        let flags = attributes.be32(TABLE_FLAGS).unwrap_or_default();
        let name = attributes.string(TABLE_NAME)?;
        Some(Table { family, name, flags, owner: attributes.be32(TABLE_OWNER) })
    })
}

/// Those that only the program that has made them may change.
pub fn owned_tables(connection: &mut Connection) -> io::Result<Vec<Table>> {
    Ok(tables(connection)?.into_iter().filter(Table::is_owned).collect())
}

/// The counters of the daemon's table.
pub fn counters(connection: &mut Connection) -> io::Result<Vec<Counter>> {
    let request = Request::new(subsystem::NFTABLES, nft::GETOBJ, INET, DUMP)
        .string(OBJ_TABLE, "ftpalg")
        .attribute(OBJ_TYPE, &OBJECT_COUNTER.to_be_bytes());
    connection.dump(&request, |message| {
        let attributes = message.attributes();
        message.is(subsystem::NFTABLES, nft::NEWOBJ).then_some(())?;
        Some(Counter {
            name: attributes.string(OBJ_NAME)?,
            packets: attributes.nest(OBJ_DATA)?.be64(COUNTER_PACKETS)?,
        })
    })
}

/// A socket to nftables, where it may be used. libnftables ends the process where it may not, so this comes first.
pub fn connect() -> Result<Connection, FirewallError> {
    let mut connection = Connection::open().map_err(FirewallError::Open)?;
    match generation(&mut connection) {
        Ok(_) => Ok(connection),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(FirewallError::Permission),
        Err(error) => Err(FirewallError::Open(error)),
    }
}

/// The ruleset's generation, which every transaction in this network namespace raises by one.
pub fn generation(connection: &mut Connection) -> io::Result<u32> {
    let mut id = None;
    connection.request(Request::new(subsystem::NFTABLES, nft::GETGEN, 0, 0), |message| {
        if message.is(subsystem::NFTABLES, nft::NEWGEN) {
            id = message.attributes().be32(GEN_ID);
        }
    })?;
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether a table of the family inet has this name, as far as the kernel says.
pub fn has_table(connection: &mut Connection, name: &str) -> bool {
    let request = Request::new(subsystem::NFTABLES, nft::GETTABLE, INET, 0).string(TABLE_NAME, name);
    connection.request(request, |_| {}).is_ok()
}

/// The fingerprint of the table as it is; `None` if there is none.
pub fn fingerprint(connection: &mut Connection) -> io::Result<Option<Fingerprint>> {
    let name = "ftpalg";
    let mut table = None;
    let request = Request::new(subsystem::NFTABLES, nft::GETTABLE, INET, 0).string(TABLE_NAME, name);
    let found = connection.request(request, |message| {
        if message.is(subsystem::NFTABLES, nft::NEWTABLE) {
            table = message.attributes().be64(TABLE_HANDLE);
        }
    });
    match found {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        other => other?,
    }
    let request = Request::new(subsystem::NFTABLES, nft::GETRULE, INET, DUMP).string(RULE_TABLE, name);
    let rules = connection.dump(&request, |message| {
        let rule = message.is(subsystem::NFTABLES, nft::NEWRULE);
        rule.then(|| message.attributes().be64(RULE_HANDLE))?
    })?;
    Ok(table.map(|table| Fingerprint { table, rules }))
}
