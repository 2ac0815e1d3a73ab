//! Docker's rules for a container, 172.17.0.2 behind `docker0`, whose port 21 is published, as its versions write them. Of
//! 20.10 they were taken from a host on which it ran; of 28, and of 29 with its nftables backend, they follow what Docker
//! documents of them.

use anyhow::Result;
use netlab::Host;

/// Who wrote the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Docker {
    /// Docker 20.10, by iptables: FORWARD drops by default.
    V20,
    /// Docker 28, by iptables, where it found forwarding switched on: FORWARD accepts by default.
    V28,
    /// Docker 29, by nftables.
    V29,
}

impl Docker {
    /// Loads them, in place of the host's rules of these tables.
    pub fn load(self, host: &Host) -> Result<()> {
        let (program, rules) = match self {
            Docker::V20 => ("iptables-nft-restore", "version-20.10.iptables"),
            Docker::V28 => ("iptables-nft-restore", "version-28.iptables"),
            Docker::V29 => ("nft -f", "version-29.nft"),
        };
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/docker/");
        host.run("sh", ["-ec", &format!("{program} {file}{rules}")])?.success().map(drop)
    }
}
