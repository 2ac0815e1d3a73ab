//! What `ftpalg check` reads: the ruleset of this network namespace as libnftables lists it, the routing rules that look
//! at marks, and what a daemon would load, tried in a network namespace of its own. Nothing that is there is changed.

use std::io;
use std::thread;

use super::firewall::{Firewall, FirewallError};
use super::netlink::{Connection, DUMP, Request};
use super::ruleset::{HOLD_NAMES, Live};
use super::sys::{self, ListStyle, Nft};
use crate::config::{ChainName, Config};

/// `RTM_NEWRULE`, `RTM_GETRULE` (linux/rtnetlink.h); bytes of `struct fib_rule_hdr` and `FRA_*` (linux/fib_rules.h).
const NEWRULE: u8 = 32;
const GETRULE: u8 = 34;
const RULE_HEADER: usize = 12;
const FRA_FWMARK: u16 = 10;
const FRA_FWMASK: u16 = 16;

/// Now and then, once in some hundred times, libnftables (seen with 1.0.6, on a busy machine) prints nothing and calls that
/// a success. A new context does better.
const TRIES: usize = 5;

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
pub struct Listing(Nft);

impl Listing {
    /// Opens libnftables. Closing it stalls others' transactions for 12 to 24 ms if deletions wait to be carried out.
    pub fn open() -> Result<Self, ListingError> {
        // Libnftables ends the process where it may not use nftables; this says so before.
        Firewall::open(&Config::default())?;
        Ok(Self(Nft::new().map_err(FirewallError::Open)?))
    }

    /// The whole ruleset (libnftables-json(5)); named sets look empty.
    pub fn ruleset(&mut self) -> Result<String, ListingError> {
        self.list("ruleset", ListStyle::JsonWithoutElements)
    }

    /// A table without what its sets hold; `None` if there is none.
    pub fn table(&mut self, name: &str) -> Result<Option<String>, ListingError> {
        if !super::firewall::has_table(&mut Connection::open().map_err(FirewallError::Open)?, name) {
            return Ok(None);
        }
        self.list(&format!("table inet {name}"), ListStyle::JsonWithoutElements).map(Some)
    }

    /// A set with its elements.
    pub fn set(&mut self, family: &str, table: &str, name: &str) -> Result<String, ListingError> {
        self.list(&format!("set {family} {table} {name}"), ListStyle::Json)
    }

    /// A rule in nft's language.
    pub fn rule(&mut self, chain: &ChainName, handle: u64) -> Result<Option<String>, ListingError> {
        let text = self.list(&format!("chain {chain}"), ListStyle::TextWithHandles)?;
        let ending = format!(" # handle {handle}");
        Ok(text.lines().find_map(|line| line.strip_suffix(&ending)).map(|rule| rule.trim().to_owned()))
    }

    fn list(&mut self, what: &str, style: ListStyle) -> Result<String, ListingError> {
        let fault = |error: String| ListingError::List { what: what.to_owned(), error };
        let command = format!("list {what}");
        for _ in 0..TRIES {
            let text = self.0.list(&command, style).map_err(fault)?;
            if !text.trim().is_empty() {
                return Ok(text);
            }
            self.0 = Nft::new().map_err(FirewallError::Open)?;
        }
        Err(fault("it says nothing".to_owned()))
    }
}

/// What the daemon's part of the ruleset comes to on this kernel.
#[derive(Debug)]
pub struct Trial {
    /// Whether the kernel has nftables' own expression for a queue, and not xtables' NFQUEUE alone.
    pub queues_natively: bool,
    /// Its table, as [`Listing::table`] gives it.
    pub table: String,
    /// What [`Listing::set`] says of its set `control_ports`.
    pub control_ports: String,
    /// The table that outlives a flush; `None` where kernel or libnftables know none that has an owner.
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
        let mut listing = Listing::open()?;
        Ok(Trial {
            queues_natively: firewall.queues_natively().unwrap_or(false),
            table: listing.table("ftpalg")?.ok_or(FirewallError::Vanished)?,
            control_ports: listing.set("inet", "ftpalg", "control_ports")?,
            hold: listing.table(HOLD_NAMES[0])?,
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
