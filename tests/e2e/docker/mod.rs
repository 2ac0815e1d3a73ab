//! Docker's rules for a container, 172.17.0.2 behind `docker0`, whose port 21 is published, as its versions write them. Of
//! 20.10 they were taken from a host on which it ran; of 28 and 29 they follow what Docker documents of them.

use anyhow::Result;
use netlab::Host;

/// Who wrote the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Docker {
    /// Docker 20.10, by iptables: FORWARD drops by default.
    V20,
    /// Docker 28, by iptables, where it found forwarding switched on: FORWARD accepts by default.
    V28,
    /// Docker 29, the same.
    V29,
    /// Docker 29, by nftables.
    V29Nftables,
}

impl Docker {
    /// Loads them, in place of the host's rules of these tables.
    pub fn load(self, host: &Host) -> Result<()> {
        let (program, rules) = match self {
            Docker::V20 => ("iptables-nft-restore", "version-20.10.iptables"),
            Docker::V28 => ("iptables-nft-restore", "version-28.iptables"),
            Docker::V29 => ("iptables-nft-restore", "version-29.iptables"),
            Docker::V29Nftables => ("nft -f", "version-29.nft"),
        };
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/docker/");
        host.run("sh", ["-ec", &format!("{program} {file}{rules}")])?.success().map(drop)
    }

    /// What version 29 writes besides by nftables if `bridge-accept-fwmark` is ftpalg's mark.
    pub fn accept_the_mark(host: &Host) -> Result<()> {
        host.nft("insert rule ip docker-bridges filter-forward-in__docker0 meta mark & 0x200000 == 0x200000 accept")
    }
}
