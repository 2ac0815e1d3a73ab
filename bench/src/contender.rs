//! What stands on the router.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of those that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
pub enum Contender {
    /// NAT and a firewall that lets every connection of the LAN's out: what is possible at all. Without PORT.
    Bare,
    /// The kernel's own helper, nf_conntrack_ftp and nf_nat_ftp.
    Kernel,
    /// A program that accepts every packet of every control connection, in a queue, and does nothing. The kernel's
    /// helper does the work.
    AcceptAll,
    /// ftpalg.
    Ftpalg,
    /// ftpalg with two workers, each with its own queue.
    TwoWorkers,
    /// conntrackd's helper in userspace. In the same kernel it can't be there together with the kernel's own: both have the
    /// name "ftp" (net/netfilter/nf_conntrack_helper.c, nf_conntrack_helper_register).
    Conntrackd,
    /// The kernel's helper, and ftpalg for another port beside it: what its rules cost packets that are none of its own.
    Beside,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Contender::Bare => "no ALG",
            Contender::Kernel => "kernel's helper",
            Contender::AcceptAll => "accept-all queue",
            Contender::Ftpalg => "ftpalg",
            Contender::TwoWorkers => "ftpalg, two workers",
            Contender::Conntrackd => "conntrackd's helper",
            Contender::Beside => "kernel's helper, ftpalg beside it",
        })
    }
}
