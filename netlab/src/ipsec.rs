//! IPsec (RFC 4301) between two hosts: ESP (RFC 4303) with keys that never change.

use anyhow::Result;

use crate::{Host, Lab};

/// What is encrypted of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipsec {
    /// The whole, which goes in another packet between the two hosts.
    Tunnel,
    /// What stands behind the IP header: the two hosts' own packets.
    Transport,
}

/// One side: the host, its address, and the network that it speaks for, which may be that address.
pub type Side<'a> = (&'a Host, &'a str, &'a str);

impl Lab {
    /// Has what passes from one side's network to the other's go encrypted between the two hosts.
    ///
    /// # Errors
    /// What `ip xfrm` says.
    pub fn ipsec(&self, mode: Ipsec, a: Side<'_>, b: Side<'_>) -> Result<()> {
        associate(mode, "", a, b)
    }
}

/// The security associations and policies of both sides (ip-xfrm(8)), for packets that bear this mark or come by this
/// interface.
pub(crate) fn associate(mode: Ipsec, whose: &str, a: Side<'_>, b: Side<'_>) -> Result<()> {
    let how = match mode {
        Ipsec::Tunnel => "mode tunnel",
        Ipsec::Transport => "mode transport",
    };
    let key = "2a".repeat(20);
    for ((host, own, near), (_, peer, far)) in [(a, b), (b, a)] {
        // Each direction has its number (SPI), the same on both hosts.
        for (from, to, spi) in [(a.1, b.1, "0x1001"), (b.1, a.1, "0x1002")] {
            host.ip(&format!(
                "xfrm state add src {from} dst {to} proto esp spi {spi} {how} {whose} aead rfc4106(gcm(aes)) 0x{key} 128"
            ))?;
        }
        let policy = |direction: &str, [from, to]: [&str; 2], [source, destination]: [&str; 2]| {
            host.ip(&format!(
                "xfrm policy add src {source} dst {destination} dir {direction} {whose} tmpl src {from} dst {to} \
                 proto esp {how}"
            ))
        };
        policy("out", [own, peer], [near, far])?;
        policy("in", [peer, own], [far, near])?;
        if mode == Ipsec::Tunnel {
            policy("fwd", [peer, own], [far, near])?;
        }
    }
    Ok(())
}
