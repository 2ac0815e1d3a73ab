//! What a session's log says: one line an event.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::control::ControlTuple;
use super::ftp::host_port::Notation;
use super::kind::Kind;
use super::pinhole::Pinhole;
use super::policy::Refusal;

/// Who listens for the data connection.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, EnumCount, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Mode {
    /// The client: PORT, EPRT.
    Active,
    /// The server: 227, 229.
    Passive,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Passive => "passive",
        })
    }
}

/// Why a connection left inspection for good.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, EnumCount, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Departure {
    /// AUTH got its 234 (RFC 4217).
    Encrypted,
    /// The server's first reply was not 220.
    NoGreeting,
    /// The client's first line, or another before it was logged in, was no FTP command.
    NotFtp,
    /// Its segments are signed (RFC 2385, RFC 5925).
    Signed,
    /// Its beginning was not seen.
    Unseen,
    /// conntrack has no entry for it.
    NotTracked,
    /// conntrack itself changes its sequence numbers, behind the tap.
    Resequenced,
    /// Its client has as many sessions as one may have.
    TooManySessions,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypted => "the dialogue is encrypted from here on, so its data ports cannot be opened",
            Self::NoGreeting => "the server's first reply was not 220",
            Self::NotFtp => "the client said what is no FTP command before it was logged in",
            Self::Signed => "its segments are signed (TCP MD5 or AO) and must not be changed",
            Self::Unseen => "its beginning was not seen",
            Self::NotTracked => "conntrack has no entry for it",
            Self::Resequenced => {
                "conntrack changes its sequence numbers (synproxy, or a helper of the kernel's), so it must not be changed"
            }
            Self::TooManySessions => "its client has too many sessions",
        })
    }
}

/// What happened in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server greeted.
    Started(ControlTuple),
    /// The login was completed.
    LoggedIn,
    /// A pinhole opens.
    Opened(Mode, Pinhole),
    /// A pinhole does not open.
    Refused {
        /// Who would have listened.
        mode: Mode,
        /// The line, as far as it is kept, without its end.
        line: String,
        /// Why not.
        reason: Refusal,
    },
    /// There were so many of those that no more are told.
    Muted,
    /// The lengths in the stream change from here on.
    Edited(Notation),
    /// Data passed while nobody looked; inspection goes on at the next line.
    Resumed,
    /// The connection leaves inspection.
    Departed(Departure),
    /// The connection is over.
    Ended,
}

impl Event {
    /// Why, for machines; `None` where it needs no reason.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Refused { reason, .. } => Some(reason.name()),
            Self::Departed(why) => Some(why.name()),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(tuple) => write!(f, "session from {} to {}", tuple.client, tuple.server),
            Self::LoggedIn => f.write_str("logged in"),
            Self::Opened(mode, Pinhole { key, to, from, .. }) => {
                write!(f, "{mode} data port open: {key}, leads to {to}, seen from {from}")
            }
            Self::Refused { mode, line, reason } => {
                write!(f, "{mode} data port not opened for {line:?}: {reason}; {}", reason.remedy())
            }
            Self::Muted => {
                f.write_str("what else is not opened for this session is counted and no longer told")
            }
            Self::Edited(_) => f.write_str("an address is rewritten"),
            Self::Resumed => f.write_str("goes on after a gap"),
            Self::Departed(why) => write!(f, "no longer inspected: {why}"),
            Self::Ended => f.write_str("ended"),
        }
    }
}
