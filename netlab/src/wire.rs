//! A bad wire: packets lost, doubled and overtaken between two hosts, in a namespace of its own.

use anyhow::Result;

use crate::link::cable;
use crate::{Host, Lab, Link};

/// What a wire does to packets, each way, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disorder {
    /// Packets lost.
    pub loss: u8,
    /// Packets that arrive twice; the second may come later.
    pub duplicates: u8,
    /// Short packets that later ones overtake; no SYN, which later ones are not there to overtake.
    pub late: u8,
}

/// A link with a namespace in its middle that forwards whole Ethernet frames, in disorder, until it is dropped.
#[must_use = "the wire is cut when this is dropped"]
#[derive(Debug)]
pub struct Wire {
    /// The two hosts' interfaces.
    pub link: Link,
    middle: Host,
}

impl Lab {
    /// Connects two hosts as [`Lab::link`] does, by a bad wire called `name`, after which both interfaces are
    /// called.
    ///
    /// # Errors
    /// What `ip`, `tc` and `nft` say.
    pub fn wire(
        &self,
        name: &str,
        (a, a_addresses): (&Host, &[&str]),
        (b, b_addresses): (&Host, &[&str]),
        disorder: Disorder,
    ) -> Result<Wire> {
        let middle = self.host(name)?;
        let to_a = cable(a, &middle)?;
        let to_b = cable(b, &middle)?;
        a.bring_up(&to_a.a, a_addresses)?;
        b.bring_up(&to_b.a, b_addresses)?;
        for side in [&to_a.b, &to_b.b] {
            middle.bring_up(side, &[])?;
            middle.wait_for_carrier(side)?;
            hold_back(&middle, side)?;
        }
        middle.nft(&format!(
            "table netdev wire {{
                counter lost {{ }}
                counter doubled {{ }}
                counter late {{ }}
                {}{}
            }}\n",
            direction(&to_a.b, &to_b.b, disorder),
            direction(&to_b.b, &to_a.b, disorder)
        ))?;
        a.wait_for_carrier(&to_a.a)?;
        b.wait_for_carrier(&to_b.a)?;
        Ok(Wire { link: Link { a: to_a.a, b: to_b.a }, middle })
    }
}

impl Wire {
    /// How many packets it has lost, doubled and held back so far, both ways together.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn toll(&self) -> Result<[u64; 3]> {
        let count = |name| self.middle.counter(&format!("netdev wire {name}"));
        Ok([count("lost")?, count("doubled")?, count("late")?])
    }
}

/// The class 1:2 sends so slowly that what it is given waits for what it was given before, some 4 ms for a
/// bare ACK, while packets of the class 1:1 go past.
fn hold_back(host: &Host, interface: &str) -> Result<()> {
    host.tc(&format!("qdisc add dev {interface} root handle 1: htb default 1"))?;
    host.tc(&format!("class add dev {interface} parent 1: classid 1:1 htb rate 10gbit quantum 60000"))?;
    host.tc(&format!(
        "class add dev {interface} parent 1: classid 1:2 htb rate 128kbit burst 1 cburst 1 quantum 1500"
    ))
}

/// The chain for frames that come in by `from` and leave by `to`. The copy of a doubled frame is sent before
/// the frame itself may be held back. A repeated SYN that comes behind a repeated FIN is a new connection for conntrack
/// (TIME_WAIT in `nf_conntrack_tcp_packet`): it forgets the old one, and no router passes the old one's packets any more.
fn direction(from: &str, to: &str, Disorder { loss, duplicates, late }: Disorder) -> String {
    format!(
        "chain from_{from} {{
            type filter hook ingress device \"{from}\" priority 0;
            ether type arp fwd to \"{to}\"
            numgen random mod 100 < {loss} counter name lost drop
            numgen random mod 100 < {duplicates} counter name doubled dup to \"{to}\"
            tcp flags & (syn | ack) == syn fwd to \"{to}\"
            meta length < 200 numgen random mod 100 < {late} counter name late meta priority set 1:2
            fwd to \"{to}\"
        }}\n"
    )
}
