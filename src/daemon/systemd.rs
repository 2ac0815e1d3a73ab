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

/// The sockets of earlier daemons that it has kept. Once, and before anything else is opened.
pub fn kept_sockets() -> Vec<OwnedFd> {
    let kept = sd_notify::listen_fds().map(|fds| fds.map(inherit).collect::<Result<Vec<_>, _>>());
    match kept {
        Ok(Ok(sockets)) => sockets,
        Ok(Err(error)) | Err(error) => {
            warn!("what systemd has kept of an earlier run can't be used: {error}");
            Vec::new()
        }
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
