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

/// The sockets that it has passed to this process.
#[derive(Debug, Default)]
pub struct Passed {
    /// Those of earlier daemons, to which tables belong.
    pub kept: Vec<OwnedFd>,
    /// The one on which metrics are asked for.
    pub metrics: Option<OwnedFd>,
}

/// Takes them. Once, and before anything else is opened.
pub fn passed_sockets() -> Passed {
    let sockets = sd_notify::listen_fds_with_names()
        .and_then(|named| named.map(|(fd, name)| Ok((inherit(fd)?, name))).collect::<Result<Vec<_>, _>>());
    let sockets = sockets.unwrap_or_else(|error| {
        warn!("what systemd has passed, or kept of an earlier run, can't be used: {error}");
        Vec::new()
    });
    let (metrics, kept): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|(_, name)| name == METRICS);
    Passed {
        kept: kept.into_iter().map(|(socket, _)| socket).collect(),
        metrics: metrics.into_iter().map(|(socket, _)| socket).next(),
    }
}

/// Gives it this daemon's socket to keep. What it has kept of earlier ones goes, with their tables.
pub fn keep_socket(firewall: &mut Firewall) {
    if let Some((name, socket)) = firewall.hold_owner().filter(|_| env::var_os("NOTIFY_SOCKET").is_some()) {
        // The kernel reports an error on a socket that lost messages; that does not end its table's life.
        let states = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
        match sd_notify::notify_with_fds(&states, &[socket]) {
            Ok(()) => firewall.hold_is_kept(),
            Err(error) => warn!("systemd can't be given a socket to keep: {error}"),
        }
    }
    for name in firewall.take_over() {
        info!("table inet {name}, which outlived the last run, has been replaced");
        tell(&[NotifyState::Custom("FDSTOREREMOVE=1"), NotifyState::FdName(name)]);
    }
}
