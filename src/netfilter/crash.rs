//! Whether libnftables lives through reading what other programs have put into the kernel. It reads all sets of the network
//! namespace before each transaction, and releases up to 1.0.9 follow a null pointer where 1.1.3 or later has made one with
//! a key or data of a single `type`: a container with a newer `nft` than its host's is enough.

use tracing::debug;

use super::connection::Connection;
use super::error::{FirewallError, reading};
use super::probe::{connect, tables};
use super::sys::lives_through;

/// The tables that libnftables does not live through reading.
#[derive(Debug, thiserror::Error)]
#[error("libnftables crashes when it reads {0}, where a later nft than this host's has made a set")]
pub struct Crash(pub String);

impl Crash {
    /// What helps.
    pub const MEND: &str = "update libnftables to 1.1.3 or later (1.0.9 and before it crash), or have that table made by \
                            this host's own nft";
}

/// What libnftables reads before a transaction.
const ALL_SETS: &str = "list sets";

/// As [`try_with`], for a daemon, which goes on where nothing can be tried.
///
/// # Errors
/// [`FirewallError::Crash`].
pub fn try_libnftables() -> Result<(), FirewallError> {
    match connect().and_then(|mut connection| try_with(&mut connection)) {
        Err(error @ FirewallError::Crash(_)) => Err(error),
        Err(error) => {
            debug!("{error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Tries it in a process of its own, which costs some milliseconds.
///
/// # Errors
/// [`FirewallError::Crash`] if that process crashed, as this one would; [`FirewallError::Trial`] if that can't be told.
pub fn try_with(connection: &mut Connection) -> Result<(), FirewallError> {
    if lives_through(ALL_SETS).map_err(FirewallError::Trial)? {
        return Ok(());
    }
    let mut places = Vec::new();
    for table in tables(connection).map_err(reading("tables"))? {
        let place = format!("table {} {}", table.family, table.name);
        if !lives_through(&format!("list {place}")).map_err(FirewallError::Trial)? {
            places.push(place);
        }
    }
    Err(FirewallError::Crash(Crash(match places.as_slice() {
        [] => "a table of another family than inet, ip and ip6".to_owned(),
        places => places.join(", "),
    })))
}
