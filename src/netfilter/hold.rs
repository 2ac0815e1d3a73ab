//! The table that no flush takes away (nft-rules/hold.nft), because it belongs to a socket. It lives for as long as
//! anybody has that socket open: also beyond the daemon, where a service manager keeps it for the next one.

use std::os::fd::{BorrowedFd, OwnedFd};

use ftpalg::engine::control::ControlTuple;
use tracing::{debug, warn};

use super::element::{Element, Set};
use super::firewall::{FirewallError, has_table};
use super::netlink::Connection;
use super::ruleset;
use super::sys::{Nft, Owner};
use crate::config::Config;

/// The table, and those of earlier daemons.
pub struct Hold {
    state: State,
    /// Its name, one of [`ruleset::HOLD_NAMES`].
    name: &'static str,
    /// The sockets of earlier daemons, and with each its table.
    inherited: Vec<Owner>,
    /// Somebody else keeps the socket, too.
    is_kept: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried yet.
    Untried,
    /// It is in, for packets with this mark.
    With(u32),
    /// The kernel, or libnftables, does not know tables that have an owner.
    Without,
}

impl Default for Hold {
    fn default() -> Self {
        Self { state: State::Untried, name: ruleset::HOLD_NAMES[0], inherited: Vec::new(), is_kept: false }
    }
}

impl Hold {
    /// Sockets of earlier daemons, and with each its table.
    pub fn inherit(&mut self, sockets: Vec<OwnedFd>) {
        self.inherited = sockets.into_iter().map(Owner::from).collect();
    }

    /// The mark that a translated packet must bear; none where a flush can't be outlived.
    pub fn mark(&self) -> Option<u32> {
        match self.state {
            State::With(mark) => Some(mark),
            State::Untried | State::Without => None,
        }
    }

    /// Puts the table in, or one with the configuration's mark in its place.
    pub fn put_in(
        &mut self,
        nft: &mut Nft,
        connection: &mut Connection,
        config: &Config,
        shifted: &[ControlTuple],
    ) {
        let before = match self.state {
            State::With(current) if current == config.mark => return,
            State::Without => return,
            State::With(_) => ruleset::hold_removal(self.name),
            State::Untried => {
                let is_free = |name: &&str| !has_table(connection, name);
                if !self.inherited.is_empty() {
                    self.name = ruleset::HOLD_NAMES.into_iter().find(is_free).unwrap_or(self.name);
                }
                String::new()
            }
        };
        let text =
            format!("{before}{}{}", ruleset::hold(config, self.name), ruleset::held(shifted, self.name));
        self.state = match nft.run(&text) {
            Ok(()) => State::With(config.mark),
            Err(error) => {
                warn!(
                    "a firewall reload may corrupt FTP sessions whose text was changed: this kernel has no tables with \
                     an owner ({error})"
                );
                State::Without
            }
        };
    }

    /// Connections that have come to their end: packets of theirs are not held up any more.
    pub fn let_pass(
        &self,
        nft: &mut Nft,
        connection: &mut Connection,
        ended: &[ControlTuple],
    ) -> Result<(), FirewallError> {
        if self.mark().is_none() {
            return Ok(());
        }
        let mut commands = String::new();
        for tuple in ended {
            let element = Element::control(Set::Held, tuple)?;
            if connection.request(element.question_in(self.name), |_| {}).is_ok() {
                commands += &element.deletion_in(self.name);
            }
        }
        if commands.is_empty() { Ok(()) } else { nft.run(&commands).map_err(FirewallError::LetPass) }
    }

    /// Takes it out. While `shifted` connections live and somebody else keeps the socket, it stays, for the next daemon.
    pub fn take_out(&mut self, nft: &mut Nft, shifted: &[ControlTuple]) -> Result<(), String> {
        let stays = self.is_kept && !shifted.is_empty();
        match std::mem::replace(&mut self.state, State::Untried) {
            State::With(_) if !stays => nft.run(&ruleset::hold_removal(self.name)),
            _ => Ok(()),
        }
    }

    /// The table's name and the socket that it belongs to, to be kept beyond the daemon.
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
        for owner in self.inherited.drain(..) {
            for name in ruleset::HOLD_NAMES.into_iter().filter(|name| *name != self.name) {
                match owner.delete_table(name) {
                    Ok(()) => names.push(name),
                    Err(error) => debug!("table inet {name} is not taken out: {error}"),
                }
            }
        }
        names
    }
}
