//! What may open a pinhole.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use strum::{EnumCount, IntoStaticStr, VariantArray};
use thiserror::Error;

use super::ftp::host_port::HostPort;

/// The administrator's choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Open nothing before the server's 230.
    pub require_login: bool,
    /// Networks whose addresses may stand in PORT, EPRT and 227 although they are neither end's own (FXP).
    pub allow_third_party: Vec<IpNet>,
    /// External ports that may be handed out where NAT stands between the ends.
    pub ports: RangeInclusive<u16>,
    /// How long a pinhole waits for its connection.
    pub timeout: Duration,
}

/// How many PORT and EPRT commands of one session may wait for their replies. Clients that send commands ahead
/// have two or three.
pub const MAX_ASKED_PER_SESSION: usize = 8;

/// How many pinholes one client address may have at once. A household of cameras has a few dozen.
pub const MAX_PINHOLES_PER_CLIENT: u32 = 1024;

/// How many the clients of one IPv6 network may have at once ([`network_of`](super::shares::network_of)): a quarter of all, of each
/// worker.
pub const MAX_PINHOLES_PER_NETWORK: u32 = 16_384;

/// Ports below this one belong to services: no client listens there, and a pinhole to one is an attack
/// (RFC 2577, section 3).
const FIRST_PORT: u16 = 1024;

/// Why no pinhole opens.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Error,
    Serialize,
    Deserialize,
    EnumCount,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub enum Refusal {
    /// Before 230.
    #[error("nobody is logged in")]
    NotLoggedIn,
    /// What stands there is no address and port.
    #[error("the address or port is not valid")]
    Unreadable,
    /// The line goes on behind the address, or the address began in a part that had already passed.
    #[error("the line is not well formed")]
    BadLine,
    /// A 227 or 229 that may be part of a file's name.
    #[error("it stands behind a bare LF, so that it may be text of the reply before it")]
    BehindBareLf,
    /// RFC 2577, section 3.
    #[error("the port is below 1024")]
    PrivilegedPort,
    /// An IPv4 address in an IPv6 session or the other way round.
    #[error("the address is of another family than the control connection")]
    OtherFamily,
    /// RFC 2577, section 2 (bounce attack).
    #[error("the address is not the sender's own")]
    ThirdParty,
    /// More PORT commands than replies.
    #[error("the session has too many unanswered PORT commands")]
    TooManyInSession,
    /// The client's cap.
    #[error("the client has too many open pinholes")]
    TooManyOfClient,
    /// No external port left, or the one that is needed is taken by another session.
    #[error("no external port is free")]
    NoPort,
    /// Commands and replies can no longer be matched.
    #[error("too many commands wait for their replies")]
    LostCount,
    /// The port may be another session's by now.
    #[error("the reply came too late")]
    TooLate,
    /// nftables would not take the pinhole.
    #[error("nftables did not take the pinhole")]
    Firewall,
}

/// What an administrator can do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// This key of the configuration decides it; and how.
    Setting(&'static str, &'static str),
    /// No setting does; and why not.
    None(&'static str),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(key, how) => write!(f, "{key} {how}"),
            Self::None(why) => write!(f, "no setting allows it: {why}"),
        }
    }
}

impl Refusal {
    /// What would have let it open.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::NotLoggedIn => Remedy::Setting("policy.require-login", "= false would allow it"),
            Self::ThirdParty => {
                Remedy::Setting("policy.allow-third-party", "would allow it if it named that address")
            }
            Self::NoPort => Remedy::Setting("pinhole.ports", "could name a wider range"),
            Self::TooLate => Remedy::Setting("pinhole.timeout", "could be longer"),
            Self::Unreadable => Remedy::None("it names nothing that could be opened"),
            Self::BadLine => Remedy::None("what the other end reads in such a line is not certain"),
            Self::BehindBareLf => Remedy::None("whoever named that file may have written it"),
            Self::PrivilegedPort => Remedy::None("those ports are services' (RFC 2577)"),
            Self::OtherFamily => Remedy::None("the other end could not reach it"),
            Self::TooManyInSession | Self::TooManyOfClient | Self::LostCount => {
                Remedy::None("the bound keeps one client from taking what all need")
            }
            Self::Firewall => Remedy::None("what nftables said stands in an earlier line"),
        }
    }
}

impl Policy {
    /// Whether a session that is `logged_in` may ask for anything.
    pub fn admits(&self, logged_in: bool) -> Result<(), Refusal> {
        if self.require_login && !logged_in { Err(Refusal::NotLoggedIn) } else { Ok(()) }
    }

    /// Whether the listening end, known by the addresses `own`, may announce `announced`. Returns the third
    /// party, if it is one.
    pub fn judge(&self, announced: HostPort, own: [IpAddr; 2]) -> Result<Option<IpAddr>, Refusal> {
        if announced.port < FIRST_PORT {
            return Err(Refusal::PrivilegedPort);
        }
        let Some(address) = announced.address else { return Ok(None) };
        if own.contains(&address) {
            return Ok(None);
        }
        if own.iter().all(|own| own.is_ipv4() != address.is_ipv4()) {
            return Err(Refusal::OtherFamily);
        }
        if self.allow_third_party.iter().any(|network| network.contains(&address)) {
            return Ok(Some(address));
        }
        Err(Refusal::ThirdParty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            require_login: true,
            allow_third_party: vec!["198.51.100.0/24".parse().unwrap()],
            ports: 1024..=65535,
            timeout: Duration::from_secs(60),
        }
    }

    fn judge(address: &str, port: u16) -> Result<Option<IpAddr>, Refusal> {
        let own = ["10.0.0.2".parse().unwrap(), "203.0.113.1".parse().unwrap()];
        policy().judge(HostPort { address: Some(address.parse().unwrap()), port }, own)
    }

    #[test]
    fn only_the_sender_s_own_addresses_are_taken() {
        assert_eq!(judge("10.0.0.2", 1024), Ok(None));
        assert_eq!(judge("203.0.113.1", 65535), Ok(None));
        assert_eq!(judge("10.0.0.3", 5000), Err(Refusal::ThirdParty));
        assert_eq!(judge("0.0.0.0", 5000), Err(Refusal::ThirdParty));
        assert_eq!(judge("::1", 5000), Err(Refusal::OtherFamily));
        assert_eq!(judge("198.51.100.9", 5000), Ok(Some("198.51.100.9".parse().unwrap())));
    }

    #[test]
    fn services_ports_and_strangers_are_refused() {
        assert_eq!(judge("10.0.0.2", 1023), Err(Refusal::PrivilegedPort));
        assert_eq!(judge("198.51.100.9", 22), Err(Refusal::PrivilegedPort));
        assert_eq!(policy().admits(false), Err(Refusal::NotLoggedIn));
        assert_eq!(policy().admits(true), Ok(()));
    }
}
