//! What goes wrong with nftables, and the mend.

use std::io;

use super::crash::Crash;
use super::element::MixedFamilies;

/// Why the firewall could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("no permission to use nftables: run as root or with CAP_NET_ADMIN")]
    Permission,
    #[error("nftables can't be used: the kernel needs CONFIG_NF_TABLES (modprobe nf_tables)")]
    Open(#[source] io::Error),
    #[error("{0}: {mend}", mend = Crash::MEND)]
    Crash(Crash),
    #[error("libnftables can't be tried in a child: {0}")]
    Trial(#[source] io::Error),
    #[error("the kernel did not take table inet ftpalg: {0}")]
    Load(String),
    #[error(
        "another ftpalg serves this network namespace (table inet {0} is its own), and there is room for one: stop it, or do \
         not start a second"
    )]
    Another(&'static str),
    #[error("changes of the ruleset can't be watched any more: {0}")]
    Watch(#[source] io::Error),
    #[error("ended connections stay in table inet ftpalg_hold: {0}")]
    LetPass(#[source] io::Error),
    #[error("ftpalg's tables could not be taken out: {0}")]
    TakeOut(#[source] io::Error),
    #[error("the accept rules of accept-in could not be put in or taken out: {0}")]
    Accept(String),
    #[error(
        "no way to queue packets: neither the queue expression ({native}) nor xtables' NFQUEUE target ({xt}); \
         the kernel needs CONFIG_NFT_QUEUE, or CONFIG_NETFILTER_XT_TARGET_NFQUEUE with CONFIG_NFT_COMPAT"
    )]
    Queue { native: io::Error, xt: io::Error },
    #[error("{what} could not be read from nftables: {error}")]
    Read { what: &'static str, error: io::Error },
    #[error("table inet ftpalg vanished while it was being set up")]
    Vanished,
    #[error(transparent)]
    Family(#[from] MixedFamilies),
}

/// What could not be read, and why.
pub fn reading(what: &'static str) -> impl Fn(io::Error) -> FirewallError {
    move |error| match error.raw_os_error() {
        Some(libc::EPERM) => FirewallError::Permission,
        _ => FirewallError::Read { what, error },
    }
}
