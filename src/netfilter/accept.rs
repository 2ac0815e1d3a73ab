//! The rule in each of the administrator's chains (`accept-in`) that lets a pinhole's SYN through. It is known by its
//! comment, so that one left behind by a killed daemon or an older configuration is found again.

use std::fmt;
use std::fmt::Write as _;
use std::io;

use super::connection::Connection;
use super::netlink::{DUMP, Message, Request, nft, subsystem};
use super::probe::owned_tables;
use super::ruleset;
use crate::config::{ChainName, Config};

/// The comment by which the rule is known.
const COMMENT: &str = "ftpalg: negotiated FTP data connections";

/// `NFTNL_UDATA_RULE_COMMENT` (libnftnl/udata.h): the type of a comment in a rule's user data.
const UDATA_COMMENT: u8 = 0;

/// `NFTA_CHAIN_*` and `NFTA_RULE_*` (include/uapi/linux/netfilter/nf_tables.h).
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_USERDATA: u16 = 7;

/// An `accept-in` entry whose chain has no rule: a firewall that drops by default will drop data connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRule {
    /// The entry.
    pub wanted: ChainName,
    /// Why that is so.
    pub why: NoRule,
}

/// Why a chain gets no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRule {
    /// It is not there (yet); these are the base chains that are.
    NoChain(Vec<ChainName>),
    /// Its table has an owner, and the kernel lets nobody else change it (`NFT_TABLE_F_OWNER`).
    Owned,
}

impl fmt::Display for MissingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChainName { family, table, .. } = &self.wanted;
        match &self.why {
            NoRule::NoChain(present) => {
                write!(f, "accept-in: there is no chain \"{}\"; base chains are ", self.wanted)?;
                if present.is_empty() {
                    return f.write_str("none: load the firewall's own ruleset first");
                }
                let names: Vec<_> = present.iter().map(|chain| format!("\"{chain}\"")).collect();
                f.write_str(&names.join(", "))
            }
            NoRule::Owned => write!(
                f,
                "accept-in: no rule can be put into chain \"{}\": table {family} {table} is another program's own \
                 (flags owner), which must give that up (firewalld: NftablesTableOwner=no) or accept the mark itself",
                self.wanted
            ),
        }
    }
}

/// An accept rule that is there.
struct Found {
    chain: ChainName,
    handle: u64,
}

/// What is to be done to have exactly one rule at the top of each chain that exists and may be changed.
pub struct Plan {
    /// The transaction, in nft's language; empty if there is nothing to do.
    pub commands: String,
    /// Entries whose chains get none.
    pub missing: Vec<MissingRule>,
}

/// Plans new rules in place of all that are there: their mark may be another one.
pub fn plan(connection: &mut Connection, config: &Config) -> io::Result<Plan> {
    let chains = chains(connection)?;
    let owned = owned_tables(connection)?;
    let mut plan = Plan { commands: removal(connection)?, missing: Vec::new() };
    for wanted in &config.accept_in {
        let why = if !chains.iter().any(|chain| chain.name == *wanted) {
            let present =
                chains.iter().filter(|c| c.is_base && !ruleset::OWN_TABLES.contains(&c.name.table.as_str()));
            NoRule::NoChain(present.map(|c| c.name.clone()).collect())
        } else if owned.iter().any(|table| table.has(wanted)) {
            NoRule::Owned
        } else {
            // Writing to a String does not fail.
            let _ = writeln!(
                plan.commands,
                "insert rule {wanted} meta mark & {mark:#x} == {mark:#x} counter accept comment \"{COMMENT}\"",
                mark = config.mark,
            );
            continue;
        };
        plan.missing.push(MissingRule { wanted: wanted.clone(), why });
    }
    Ok(plan)
}

/// The transaction that takes all of the rules out, as far as that is allowed; empty if there is none.
pub fn removal(connection: &mut Connection) -> io::Result<String> {
    let rules = dump_rules(connection, &Request::new(subsystem::NFTABLES, nft::GETRULE, 0, DUMP))?;
    let owned = owned_tables(connection)?;
    let removable = rules.iter().filter(|rule| !owned.iter().any(|table| table.has(&rule.chain)));
    let delete = |rule: &Found| format!("delete rule {} handle {}\n", rule.chain, rule.handle);
    Ok(removable.map(delete).collect::<Vec<_>>().concat())
}

/// Whether each chain of the configuration that exists has its rule, but for those that are `known` to be in a table with an
/// owner, and still are.
pub fn intact(connection: &mut Connection, config: &Config, known: &[MissingRule]) -> io::Result<bool> {
    for wanted in &config.accept_in {
        let request = Request::new(subsystem::NFTABLES, nft::GETRULE, family_number(&wanted.family), DUMP)
            .string(RULE_TABLE, &wanted.table)
            .string(RULE_CHAIN, &wanted.chain);
        let rules = dump_rules(connection, &request)?;
        if rules.iter().all(|rule| rule.chain != *wanted)
            && chains(connection)?.iter().any(|chain| chain.name == *wanted)
            && !(known.iter().any(|rule| rule.wanted == *wanted && rule.why == NoRule::Owned)
                && owned_tables(connection)?.iter().any(|table| table.has(wanted)))
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn dump_rules(connection: &mut Connection, request: &Request) -> io::Result<Vec<Found>> {
    connection.dump(request, |message| {
        let attributes = message.attributes();
        let ours = message.is(subsystem::NFTABLES, nft::NEWRULE)
            && attributes.value(RULE_USERDATA).and_then(comment) == Some(COMMENT.as_bytes());
        let chain = ours.then(|| chain_name(&message, RULE_TABLE, RULE_CHAIN))??;
        Some(Found { chain, handle: attributes.be64(RULE_HANDLE)? })
    })
}

/// The comment in a rule's user data: a row of type, length and value, a byte each for the first two.
fn comment(userdata: &[u8]) -> Option<&[u8]> {
    let mut rest = userdata;
    while let [kind, length, values @ ..] = rest {
        let (value, behind) = values.split_at_checked(usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(value.strip_suffix(&[0]).unwrap_or(value));
        }
        rest = behind;
    }
    None
}

/// The names of all chains of routed packets.
pub fn chain_names(connection: &mut Connection) -> io::Result<Vec<ChainName>> {
    Ok(chains(connection)?.into_iter().map(|chain| chain.name).collect())
}

struct Chain {
    name: ChainName,
    is_base: bool,
}

fn chains(connection: &mut Connection) -> io::Result<Vec<Chain>> {
    let request = Request::new(subsystem::NFTABLES, nft::GETCHAIN, 0, DUMP);
    connection.dump(&request, |message| {
        let known = message.is(subsystem::NFTABLES, nft::NEWCHAIN);
        let name = known.then(|| chain_name(&message, CHAIN_TABLE, CHAIN_NAME))??;
        Some(Chain { name, is_base: message.attributes().value(CHAIN_HOOK).is_some() })
    })
}

fn chain_name(message: &Message<'_>, table: u16, chain: u16) -> Option<ChainName> {
    let family = FAMILIES.iter().find(|(_, number)| *number == message.family())?.0.to_owned();
    let attributes = message.attributes();
    Some(ChainName { family, table: attributes.string(table)?, chain: attributes.string(chain)? })
}

/// The families whose chains see routed packets, and their `NFPROTO_*`.
pub const FAMILIES: [(&str, u8); 3] = [("inet", 1), ("ip", 2), ("ip6", 10)];

fn family_number(name: &str) -> u8 {
    FAMILIES.iter().find(|(known, _)| *known == name).map_or(0, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_is_found_among_other_user_data() {
        assert_eq!(comment(&[1, 2, 9, 9, 0, 3, b'h', b'i', 0]), Some(&b"hi"[..]));
        assert_eq!(comment(&[0, 9, b'h']), None);
        assert_eq!(comment(&[7]), None);
    }
}
