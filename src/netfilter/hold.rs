//! The table that no flush takes away (nft-rules/hold.nft), because it belongs to a socket. It lives for as long as
//! anybody has that socket open: also beyond the daemon, where a service manager keeps it for the next one.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use ftpalg::engine::control::ControlTuple;
use tracing::{debug, warn};

use super::connection::Connection;
use super::element::{Element, Set};
use super::error::{FirewallError, reading};
use super::probe::{has_table, tables};
use super::ruleset::{self, Live};
use super::sys::{ElementBatch, Nft, Verb, delete_table, flush_chains, port_id, transact};
use super::transaction::{CommitError, Committer, Step};
use crate::config::Config;

/// The chains that mark what must not pass unseen.
const WATCHING: [&CStr; 6] = [
    c"watch_postrouting",
    c"watch_input",
    c"watch_prerouting",
    c"watch_output",
    c"watch_data_prerouting",
    c"watch_data_output",
];

/// The table, and those of earlier daemons.
pub struct Hold {
    state: State,
    /// Its name, one of [`ruleset::HOLD_NAMES`].
    name: &'static str,
    /// The sockets of earlier daemons, the oldest first. To most of them a table belongs.
    inherited: Vec<OwnedFd>,
    /// Somebody else keeps the socket, too.
    is_kept: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not tried yet.
    Untried,
    /// It is in, for packets with this mark and connections to these ports.
    With(u32, Vec<u16>),
    /// The kernel, or libnftables, does not know tables that have an owner, or the owner can't be told.
    Without,
}

impl Default for Hold {
    fn default() -> Self {
        Self { state: State::Untried, name: ruleset::HOLD_NAMES[0], inherited: Vec::new(), is_kept: false }
    }
}

impl Hold {
    /// Sockets of earlier daemons, the oldest first, and their tables.
    pub fn inherit(&mut self, sockets: Vec<OwnedFd>) {
        self.inherited = sockets;
    }

    /// Whether no daemon but the one that this one succeeds has such a table: where there is an owner, it lives, or its
    /// socket is kept for the next.
    pub fn is_alone(&self, connection: &mut Connection) -> Result<(), FirewallError> {
        let earlier: Vec<_> = self.inherited.iter().filter_map(|socket| port_id(socket.as_fd())).collect();
        for table in tables(connection).map_err(reading("tables"))? {
            let name =
                ruleset::HOLD_NAMES.into_iter().find(|name| table.family == "inet" && table.name == *name);
            let is_strange = table.owner.is_some_and(|owner| !earlier.contains(&owner));
            if let Some(name) = name.filter(|_| is_strange) {
                return Err(FirewallError::Another(name));
            }
        }
        Ok(())
    }

    /// The mark that a translated packet must bear; none where a flush can't be outlived.
    pub fn mark(&self) -> Option<u32> {
        match self.state {
            State::With(mark, _) => Some(mark),
            State::Untried | State::Without => None,
        }
    }

    /// Puts the table in, or one for the configuration as it is now in its place.
    ///
    /// # Errors
    /// Another daemon has been quicker. A kernel that knows no such table is none.
    pub fn put_in(
        &mut self,
        nft: &mut Nft,
        connection: &mut Connection,
        config: &Config,
        live: Live<'_>,
    ) -> Result<(), FirewallError> {
        let before = match &self.state {
            State::With(mark, ports) if (*mark, ports) == (config.mark, &config.control_ports) => {
                return Ok(());
            }
            State::Without => return Ok(()),
            State::With(..) => ruleset::hold_removal(self.name),
            State::Untried => {
                self.is_alone(connection)?;
                let free = ruleset::HOLD_NAMES.into_iter().find(|name| !has_table(connection, name));
                // A daemon that is killed before it has taken its predecessor's table out leaves two.
                self.name = free.or_else(|| self.take_out_oldest()).unwrap_or(self.name);
                String::new()
            }
        };
        let text = format!("{before}{}{}", ruleset::hold(config, self.name), ruleset::held(live, self.name));
        let put_in = match nft.socket() {
            Some(_) => {
                nft.run(&text).map_err(|error| format!("this kernel has no tables with an owner ({error})"))
            }
            // Whose elements are given over that socket alone: translated packets would be held up by an empty set.
            None => Err("it can't be told which socket is libnftables' (is /proc mounted?)".to_owned()),
        };
        self.state = match put_in {
            Ok(()) => State::With(config.mark, config.control_ports.clone()),
            Err(why) => {
                if self.state == State::Untried {
                    self.is_alone(connection)?;
                }
                warn!("a firewall reload may corrupt FTP sessions whose text was changed: {why}");
                State::Without
            }
        };
        Ok(())
    }

    /// Connections whose packets go on with the mark alone from now on.
    pub fn hold_back(
        &self,
        nft: &Nft,
        committer: &mut Committer,
        shifted: &[ControlTuple],
    ) -> Result<(), CommitError> {
        self.set_anew(nft, committer, Set::Held, shifted)
    }

    /// Puts connections into a set, those that are in it for as long as the others.
    fn set_anew(
        &self,
        nft: &Nft,
        committer: &mut Committer,
        set: Set,
        connections: &[ControlTuple],
    ) -> Result<(), CommitError> {
        let Some((name, socket)) = self.owner(nft) else { return Ok(()) };
        let mut steps = Vec::with_capacity(2 * connections.len());
        for tuple in connections {
            let element = Element::control(set, tuple)?;
            if committer.may_hold(&element, name) {
                steps.push((committer.removal(), element));
            }
            steps.push((Verb::AddNew, element));
        }
        Ok(transact_on(socket, name, &steps)?)
    }

    /// Watches connections. What their SYN has put in may have been taken out with another's of the same name, or is about to
    /// run down before the server speaks.
    pub fn watch(
        &self,
        nft: &Nft,
        committer: &mut Committer,
        connections: &[ControlTuple],
    ) -> Result<(), CommitError> {
        self.set_anew(nft, committer, Set::Watched, connections)
    }

    /// Takes connections out of these sets: out of both when they have come to their end, out of one when they are not
    /// shifted after all.
    pub fn let_pass(
        &self,
        nft: &Nft,
        committer: &mut Committer,
        connections: &[ControlTuple],
        sets: &[Set],
    ) -> Result<(), FirewallError> {
        let Some((name, socket)) = self.owner(nft) else { return Ok(()) };
        let mut steps = Vec::with_capacity(sets.len() * connections.len());
        for tuple in connections {
            for set in sets {
                let element = Element::control(*set, tuple)?;
                if committer.may_hold(&element, name) {
                    steps.push((committer.removal(), element));
                }
            }
        }
        transact_on(socket, name, &steps).map_err(FirewallError::LetPass)
    }

    /// Takes it out. While `shifted` connections live and somebody else keeps the socket, it stays for
    /// them, until the next daemon.
    pub fn take_out(&mut self, nft: &Nft, shifted: &[ControlTuple]) -> io::Result<()> {
        let owner = self.owner(nft);
        self.state = State::Untried;
        match owner {
            Some((name, socket)) if self.is_kept && !shifted.is_empty() => {
                flush_chains(socket, name, &WATCHING)
            }
            Some((name, socket)) => delete_table(socket, name),
            None => Ok(()),
        }
    }

    /// Lets connections pass by that are not shifted, where no daemon will read them for a while: in the tables of earlier
    /// ones.
    pub fn stop_watching(&self) {
        for (socket, name) in self.left() {
            match flush_chains(socket, name, &WATCHING) {
                Ok(()) => debug!("table inet {name} watches no more"),
                Err(error) => debug!("table inet {name} may still watch: {error}"),
            }
        }
    }

    /// The tables that earlier daemons may have left, the oldest's first; most of these pairs lead to none.
    fn left(&self) -> impl Iterator<Item = (BorrowedFd<'_>, &'static str)> {
        self.inherited.iter().flat_map(|socket| ruleset::HOLD_NAMES.map(|name| (socket.as_fd(), name)))
    }

    /// Takes out the table of the oldest daemon that has one, and returns its name.
    fn take_out_oldest(&self) -> Option<&'static str> {
        self.left().find(|(socket, name)| delete_table(*socket, name).is_ok()).map(|(_, name)| name)
    }

    /// The table's name and the socket that it belongs to.
    pub fn owner<'a>(&self, nft: &'a Nft) -> Option<(&'static str, BorrowedFd<'a>)> {
        self.mark()?;
        Some((self.name, nft.socket()?))
    }

    /// Somebody else keeps the socket now, too.
    pub fn is_kept(&mut self) {
        self.is_kept = true;
    }

    /// Takes out the tables of earlier daemons, which would hold up what this one has translated. Returns their names.
    pub fn take_over(&mut self) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(name) = self.take_out_oldest() {
            names.push(name);
        }
        self.inherited.clear();
        names
    }
}

/// Carries steps out in a table that belongs to a socket, over that socket.
fn transact_on(socket: BorrowedFd<'_>, table: &str, steps: &[Step]) -> io::Result<()> {
    /// Messages of one batch: what they fail with fits a socket's default buffer.
    const AT_ONCE: usize = 64;
    if steps.is_empty() {
        return Ok(());
    }
    let table = CString::new(table).map_err(io::Error::other)?;
    let mut batch = ElementBatch::default();
    for some in steps.chunks(AT_ONCE) {
        batch.begin();
        for (verb, element) in some {
            element.with_message_to(&table, *verb, false, |message| batch.add(message));
        }
        transact(socket, batch.finish().0)?;
    }
    Ok(())
}
