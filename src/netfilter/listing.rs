//! What `ftpalg check` reads: the ruleset of this network namespace as libnftables lists it, the routing rules that look
//! at marks, and what a daemon would load, tried in a network namespace of its own. Nothing that is there is changed.

use std::collections::HashMap;
use std::io;
use std::thread;

use super::accept;
use super::connection::Connection;
use super::crash::try_with;
use super::error::{FirewallError, reading};
use super::firewall::Firewall;
use super::netlink::{DUMP, Request};
use super::probe::{Table, connect, has_table, owned_tables, tables};
use super::ruleset::{HOLD_NAMES, Live, OWN_TABLES};
use super::sys::{self, ListStyle, Nft};
use crate::config::{ChainName, Config};

/// `RTM_NEWRULE`, `RTM_GETRULE` (linux/rtnetlink.h); bytes of `struct fib_rule_hdr` and `FRA_*` (linux/fib_rules.h).
const NEWRULE: u8 = 32;
const GETRULE: u8 = 34;
const RULE_HEADER: usize = 12;
const FRA_FWMARK: u16 = 10;
const FRA_FWMASK: u16 = 16;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error("libnftables does not list {what}: {error}")]
    List { what: String, error: String },
    #[error("no network namespace can be made to try it in ({0})")]
    Namespace(#[source] io::Error),
    #[error("the trial was broken off")]
    BrokenOff,
}

/// Reads the ruleset.
pub struct Listing {
    nft: Nft,
    connection: Connection,
}

impl Listing {
    /// Opens the sockets, once it is known that libnftables lives through reading what others have made. Closing them stalls
    /// others' transactions for 12 to 24 ms if deletions wait to be carried out.
    pub fn open() -> Result<Self, ListingError> {
        let mut connection = connect()?;
        try_with(&mut connection)?;
        Self::new(connection)
    }

    /// The same where nobody else has made anything.
    fn new(connection: Connection) -> Result<Self, ListingError> {
        Ok(Self { nft: Nft::new().map_err(FirewallError::Open)?, connection })
    }

    /// The tables that routed packets may meet, without ftpalg's own and those that are switched off, in one listing or
    /// several (libnftables-json(5)). Named sets look empty.
    pub fn ruleset(&mut self) -> Result<Vec<String>, ListingError> {
        let mut listings = Vec::new();
        for table in tables(&mut self.connection).map_err(reading("tables"))? {
            let is_own = table.family == "inet" && OWN_TABLES.contains(&table.name.as_str());
            if is_own || table.is_dormant() {
                continue;
            }
            let place = format!("{} {}", table.family, table.name);
            let wanted = if table.flags == 0 {
                vec![format!("table {place}")]
            } else {
                // libnftables 1.0.6 frees a table's only flag before it writes it as JSON (`table_flags_json`).
                let chains = accept::chain_names(&mut self.connection).map_err(reading("chains"))?;
                let chains =
                    chains.iter().filter(|chain| table.has(chain)).map(|chain| format!("chain {chain}"));
                chains.chain([format!("ct helpers table {place}")]).collect()
            };
            for what in wanted {
                match self.list(&what, ListStyle::JsonWithoutElements) {
                    Ok(listing) => listings.push(listing),
                    // It has gone meanwhile.
                    Err(_) if !is_there(&mut self.connection, &table)? => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(listings)
    }

    /// The tables that only the program that has made them may change.
    pub fn owned_tables(&mut self) -> Result<Vec<Table>, ListingError> {
        Ok(owned_tables(&mut self.connection).map_err(reading("tables"))?)
    }

    /// A table of ftpalg's, without what its sets hold; `None` if there is none.
    pub fn own_table(&mut self) -> Result<Option<OwnTable>, ListingError> {
        let mut tables = tables(&mut self.connection).map_err(reading("tables"))?.into_iter();
        let Some(table) = tables.find(|table| table.family == "inet" && table.name == OWN_TABLES[0]) else {
            return Ok(None);
        };
        let is_dormant = table.is_dormant();
        // With a flag its text will do (see above): there is nothing to be compared.
        let style = if table.flags == 0 { ListStyle::JsonWithoutElements } else { ListStyle::Text };
        let listing = self.list(&format!("table inet {}", table.name), style)?;
        Ok(Some(OwnTable { listing, is_dormant }))
    }

    /// The table that outlives a flush, in nft's language, under the first of its two names; `None` if there is none.
    pub fn hold(&mut self) -> Result<Option<String>, ListingError> {
        let Some(name) = HOLD_NAMES.into_iter().find(|name| has_table(&mut self.connection, name)) else {
            return Ok(None);
        };
        let text = self.list(&format!("table inet {name}"), ListStyle::Text)?;
        // Behind a comment's sign stands who owns it, or a warning.
        let code = |line: &str| line.split('#').next().unwrap_or_default().trim_end().to_owned();
        let first = format!("table inet {name} ");
        let lines = text.lines().map(code).filter(|line| !line.is_empty());
        let lines = lines.map(|line| line.replacen(&first, &format!("table inet {} ", HOLD_NAMES[0]), 1));
        Ok(Some(lines.collect::<Vec<_>>().join("\n")))
    }

    /// A set with its elements.
    pub fn set(&mut self, family: &str, table: &str, name: &str) -> Result<String, ListingError> {
        self.list(&format!("set {family} {table} {name}"), ListStyle::Json)
    }

    /// A map with its elements.
    pub fn map(&mut self, family: &str, table: &str, name: &str) -> Result<String, ListingError> {
        self.list(&format!("map {family} {table} {name}"), ListStyle::Json)
    }

    /// A rule in nft's language.
    pub fn rule(&mut self, chain: &ChainName, handle: u64) -> Result<Option<String>, ListingError> {
        Ok(self.rules(chain)?.remove(&handle))
    }

    /// The rules of a chain in nft's language, by their handles. Where nftables was built with xtables, those of iptables as
    /// well, as far as they can be said in it.
    pub fn rules(&mut self, chain: &ChainName) -> Result<HashMap<u64, String>, ListingError> {
        let text = self.list(&format!("chain {chain}"), ListStyle::TextWithHandles)?;
        let rule = |line: &str| {
            let (rule, handle) = line.rsplit_once(" # handle ")?;
            Some((handle.parse().ok()?, rule.trim().to_owned()))
        };
        Ok(text.lines().filter_map(rule).collect())
    }

    fn list(&mut self, what: &str, style: ListStyle) -> Result<String, ListingError> {
        let listed = self.nft.list(&format!("list {what}"), style);
        listed.map_err(|error| ListingError::List { what: what.to_owned(), error })
    }
}

/// ftpalg's table as it is.
#[derive(Debug)]
pub struct OwnTable {
    /// As JSON, without what its sets hold.
    pub listing: String,
    /// Whether somebody has switched it off (`flags dormant`).
    pub is_dormant: bool,
}

fn is_there(connection: &mut Connection, table: &Table) -> Result<bool, ListingError> {
    let all = tables(connection).map_err(reading("tables"))?;
    Ok(all.iter().any(|other| (other.family, &other.name) == (table.family, &table.name)))
}

/// What the daemon's part of the ruleset comes to on this kernel.
#[derive(Debug)]
pub struct Trial {
    /// Whether the kernel has nftables' own expression for a queue, and not xtables' NFQUEUE alone.
    pub queues_natively: bool,
    /// Its table, as [`Listing::own_table`] gives it.
    pub table: String,
    /// What [`Listing::set`] says of its set `control_ports`.
    pub control_ports: String,
    /// The table that outlives a flush, as [`Listing::hold`] gives it; `None` where kernel or libnftables know none that has an owner.
    pub hold: Option<String>,
}

impl Trial {
    /// Loads everything as a daemon with this configuration would, into a network namespace that ends with this call.
    pub fn run(config: &Config) -> Result<Trial, ListingError> {
        // There are no chains of the administrator's in there.
        let config = Config { accept_in: Vec::new(), ..config.clone() };
        let trial = thread::Builder::new().spawn(move || {
            sys::leave_network().map_err(ListingError::Namespace)?;
            Self::load(&config)
        });
        trial.map_err(ListingError::Namespace)?.join().unwrap_or(Err(ListingError::BrokenOff))
    }

    fn load(config: &Config) -> Result<Trial, ListingError> {
        let mut firewall = Firewall::open(config)?;
        firewall.install(Live::default())?;
        firewall.divert()?;
        let mut listing = Listing::new(connect()?)?;
        Ok(Trial {
            queues_natively: firewall.queues_natively().unwrap_or(false),
            table: listing.own_table()?.ok_or(FirewallError::Vanished)?.listing,
            control_ports: listing.set("inet", "ftpalg", "control_ports")?,
            hold: listing.hold()?,
        })
    }
}

/// A routing rule that looks at the packet mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedRoute {
    /// The mark.
    pub mark: u32,
    /// The bits of it that count.
    pub mask: u32,
    /// `AF_INET` or `AF_INET6`.
    pub is_v4: bool,
}

/// The routing rules (ip-rule(8)) that look at the packet mark.
pub fn marked_routes() -> io::Result<Vec<MarkedRoute>> {
    let request = Request::new(0, GETRULE, 0, DUMP);
    Connection::open_to_routing()?.dump(&request, |message| {
        let attributes = message.is(0, NEWRULE).then(|| message.attributes_behind(RULE_HEADER))?;
        let number = |kind| Some(u32::from_ne_bytes(attributes.value(kind)?.try_into().ok()?));
        let is_v4 = i32::from(message.family()) == libc::AF_INET;
        let mask = number(FRA_FWMASK).unwrap_or(u32::MAX);
        let mark = number(FRA_FWMARK)?;
        (mark != 0 || mask != u32::MAX).then_some(MarkedRoute { mark, mask, is_v4 })
    })
}

impl MarkedRoute {
    /// The bits of the mark that it is about: those of a mask, and where the whole mark counts those that are set.
    pub fn bits(&self) -> u32 {
        if self.mask == u32::MAX { self.mark } else { self.mask }
    }
}
