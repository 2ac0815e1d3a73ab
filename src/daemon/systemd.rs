//! The talk with the service manager (sd_notify(3)), and what it keeps for the next daemon: the socket to which the
//! table belongs that no flush takes away (`FileDescriptorStoreMax=` in the unit).

use std::env;
use std::os::fd::OwnedFd;

use sd_notify::NotifyState;
use tracing::{info, warn};

use crate::netfilter::{Firewall, inherit};

/// Tells it something; nothing happens where there is none.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("systemd can't be told: {error}");
    }
}

/// What systemd calls the socket of ftpalg-metrics.socket (`FileDescriptorName=`).
const METRICS: &str = "metrics";

/// What it has passed to this process.
#[derive(Debug, Default)]
pub struct Passed {
    /// The sockets of earlier daemons.
    pub kept: Kept,
    /// The one on which metrics are asked for.
    pub metrics: Option<OwnedFd>,
}

/// Takes it. Once, and before anything else is opened.
pub fn passed_sockets() -> Passed {
    let sockets = sd_notify::listen_fds_with_names()
        .and_then(|named| named.map(|(fd, name)| Ok((inherit(fd)?, name))).collect::<Result<Vec<_>, _>>());
    let sockets = sockets.unwrap_or_else(|error| {
        warn!("what systemd has passed, or kept of an earlier run, can't be used: {error}");
        Vec::new()
    });
    let (metrics, kept): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|(_, name)| name == METRICS);
    Passed { kept: Kept::new(kept), metrics: metrics.into_iter().map(|(socket, _)| socket).next() }
}

/// The sockets of earlier daemons that it keeps, to which tables belong.
#[derive(Debug, Default)]
pub struct Kept {
    /// The oldest first.
    sockets: Vec<OwnedFd>,
    /// What it calls them, in the same order.
    names: Vec<String>,
}

impl Kept {
    fn new(mut named: Vec<(OwnedFd, String)>) -> Self {
        named.sort_by_key(|(_, name)| number(name));
        let (sockets, names) = named.into_iter().unzip();
        Self { sockets, names }
    }

    /// The sockets, the oldest first.
    pub fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// Gives it this daemon's socket to keep in place of them, whose tables go.
    pub fn replace(mut self, firewall: &mut Firewall) {
        if let Some(socket) = firewall.hold_owner().filter(|_| env::var_os("NOTIFY_SOCKET").is_some()) {
            // Under a name that none of them has, because what goes is told by its name.
            let name = numbered(self.names.last().map_or(0, |name| number(name)).saturating_add(1));
            // The kernel reports an error on a socket that lost messages; that does not end its table's life.
            let states = [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
            match sd_notify::notify_with_fds(&states, &[socket]) {
                Ok(()) => firewall.hold_is_kept(),
                Err(error) => warn!("systemd can't be given a socket to keep: {error}"),
            }
        }
        for table in firewall.take_over() {
            info!("table inet {table}, which outlived the last run, has been replaced");
        }
        self.names.dedup();
        for name in &self.names {
            tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
        }
    }
}

const NUMBERED: &str = "table-";

fn numbered(number: u64) -> String {
    format!("{NUMBERED}{number}")
}

/// 0 for a name that this version does not give.
fn number(name: &str) -> u64 {
    name.strip_prefix(NUMBERED).and_then(|number| number.parse().ok()).unwrap_or(0)
}
