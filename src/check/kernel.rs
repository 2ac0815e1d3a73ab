//! What the kernel must have, and the rights to use it. The daemon's own part of the ruleset is loaded where it can do
//! nothing, which tells more than a list of modules.

use super::finding::{Finding, Id, Mend};
use crate::config::Config;
use crate::netfilter::kernel::Missing;
use crate::netfilter::{Crash, FirewallError, ListingError, Trial, kernel};

/// Whether nftables and the queues may be used at all.
pub fn rights() -> (bool, Finding) {
    if kernel::missing().iter().any(|one| matches!(one, Missing::Capability)) {
        let what = "no permission to look at the firewall, the queues and the daemon's table: what follows is \
                    only what everybody may see";
        (false, Finding::wrong(Id::RightsMissing, what, Mend::command("sudo ftpalg check")))
    } else {
        (
            true,
            Finding::right(
                Id::Rights,
                "CAP_NET_ADMIN is there: the firewall and the queues can be looked at",
            ),
        )
    }
}

/// The kernel's parts, and the table as the daemon would load it.
pub fn look(config: &Config) -> (Option<Trial>, Vec<Finding>) {
    let mut found: Vec<_> = kernel::missing().iter().filter_map(missing).collect();
    let trial = match Trial::run(config) {
        Ok(trial) => Some(trial),
        Err(error) => {
            let failed = failed(&error);
            if found.iter().all(|other| other.id != failed.id) {
                found.push(failed);
            }
            None
        }
    };
    if let Some(trial) = &trial {
        if trial.hold.is_none() {
            let what = "neither kernel nor libnftables know tables that have an owner: a firewall reload may corrupt \
                        FTP sessions whose text was changed, and what begins at that moment may be lost";
            let mend = Mend::advice(
                "use Linux 5.12 and libnftables 1.0 or later; until then reload the firewall when no FTP goes on",
            );
            found.push(Finding::warning(Id::KernelOwnerMissing, what, mend));
        }
        if found.is_empty() {
            let queue = if trial.queues_natively {
                "nftables' own queues"
            } else {
                "xtables' NFQUEUE through nft_compat, for it has no nft_queue"
            };
            let what = format!(
                "the kernel takes the whole table, with connection tracking, NAT, tables that have an owner, and {queue}"
            );
            found.push(Finding::right(Id::Kernel, what));
        }
    }
    (trial, found)
}

/// libnftables does not live through reading the ruleset.
pub fn crash(crash: &Crash) -> Finding {
    let what = format!("{crash}: the daemon does not start, and nothing was looked at in the firewall");
    Finding::wrong(Id::LibnftablesCrashes, what, Mend::advice(Crash::MEND))
}

fn missing(one: &Missing) -> Option<Finding> {
    let (id, module) = match one {
        Missing::Capability => return None,
        Missing::Netlink(_) => (Id::KernelNftablesMissing, "nfnetlink"),
        Missing::Queue(_) => (Id::KernelQueueMissing, "nfnetlink_queue"),
        Missing::ConnTrack(_) => (Id::KernelConntrackMissing, "nf_conntrack_netlink"),
    };
    Some(Finding::wrong(id, one.to_string(), Mend::command(format!("modprobe {module}"))))
}

fn failed(error: &ListingError) -> Finding {
    let what = error.to_string();
    let ListingError::Firewall(firewall) = error else {
        let what = format!("whether the kernel takes ftpalg's table, and what it comes to there: {what}");
        return Finding::unseen(Id::NotLookedAt, what, Mend::command("sudo ftpalg check"));
    };
    match firewall {
        FirewallError::Open(_) | FirewallError::Permission => {
            Finding::wrong(Id::KernelNftablesMissing, what, Mend::command("modprobe nf_tables"))
        }
        FirewallError::Queue { .. } => {
            let mend = Mend::command("modprobe nft_queue || modprobe -a xt_NFQUEUE nft_compat");
            Finding::wrong(Id::KernelQueueMissing, what, mend)
        }
        _ => {
            let mend = Mend::command("modprobe -a nf_tables nf_conntrack nft_ct nft_chain_nat nft_nat");
            Finding::wrong(Id::KernelTableRefused, what, mend)
        }
    }
}
