//! What connects hosts: links, a LAN.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::patience::patient;
use crate::{Disorder, Host, Lab, command};

/// A link between two hosts: the interfaces' names, each called after the host at the other end.
#[derive(Debug, Clone)]
pub struct Link {
    /// The first host's interface.
    pub a: String,
    /// The second host's interface.
    pub b: String,
}

/// Hosts on one LAN: an Ethernet switch in a namespace of its own, which goes when this is dropped.
#[must_use = "the switch is gone when this is dropped"]
#[derive(Debug)]
pub struct Lan {
    switch: Host,
}

impl Lab {
    /// Connects two hosts by a virtual Ethernet cable. Addresses are written with their prefix length.
    ///
    /// # Errors
    /// What `ip` says, such as that the two are linked already.
    pub fn link(&self, a: &Host, a_addresses: &[&str], b: &Host, b_addresses: &[&str]) -> Result<Link> {
        let link = cable(a, b)?;
        a.bring_up(&link.a, a_addresses)?;
        b.bring_up(&link.b, b_addresses)?;
        a.wait_for_carrier(&link.a)?;
        b.wait_for_carrier(&link.b)?;
        Ok(link)
    }

    /// Connects hosts by a switch called `name`; in each host the interface has that name.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn lan(&self, name: &str, members: &[(&Host, &[&str])]) -> Result<Lan> {
        let switch = self.host(name)?;
        switch.ip("link add bridge0 type bridge")?;
        switch.ip("link set dev bridge0 up")?;
        for (host, addresses) in members {
            let link = cable(host, &switch)?;
            switch.ip(&format!("link set dev {} master bridge0 up", link.b))?;
            host.bring_up(&link.a, addresses)?;
            host.wait_for_carrier(&link.a)?;
            switch.wait_for_carrier(&link.b)?;
        }
        Ok(Lan { switch })
    }
}

impl Lan {
    /// The host that is the switch.
    #[must_use]
    pub fn switch(&self) -> &Host {
        &self.switch
    }
}

impl Host {
    /// Sets an interface's MTU, in bytes.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn mtu(&self, interface: &str, bytes: u16) -> Result<()> {
        self.ip(&format!("link set dev {interface} mtu {bytes}"))
    }

    /// Limits what leaves by an interface to a rate, such as `20mbit`; what comes faster waits.
    ///
    /// # Errors
    /// What `tc` says.
    pub fn rate(&self, interface: &str, rate: &str) -> Result<()> {
        self.tc(&format!("qdisc add dev {interface} root tbf rate {rate} burst 64k latency 100ms"))
    }

    /// Loses, doubles and holds back what leaves by an interface, late packets by 4 ms, long ones too. For kernels
    /// that have netem (tc-netem(8)); [`Lab::wire`] does without.
    ///
    /// # Errors
    /// What `tc` says; "qdisc kind is unknown" where the kernel does not have it.
    pub fn netem(&self, interface: &str, Disorder { loss, duplicates, late }: Disorder) -> Result<()> {
        // What netem calls reordered is what is sent at once.
        let punctual = 100_u8.saturating_sub(late);
        self.tc(&format!(
            "qdisc add dev {interface} root netem delay 4ms reorder {punctual}% loss {loss}% duplicate {duplicates}%"
        ))
    }

    /// How many packets netem has lost on an interface so far.
    ///
    /// # Errors
    /// What `tc` says, or there is no netem.
    pub fn lost(&self, interface: &str) -> Result<u64> {
        let args = ["-n", self.namespace(), "-s", "qdisc", "show", "dev", interface, "root"];
        let text = command::run("tc", args)?.success()?.stdout;
        let count = text.split_once("(dropped ").and_then(|(_, rest)| rest.split_once(',')?.0.parse().ok());
        count.with_context(|| format!("no packets dropped in: {text}"))
    }

    /// Gives an interface its addresses and sets it up.
    pub(crate) fn bring_up(&self, interface: &str, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            self.ip(&format!("address add {address} dev {interface}{nodad}"))?;
        }
        self.ip(&format!("link set dev {interface} up"))
    }

    /// Waits until the kernel has taken note that the other end of a cable is up too. It does so a little later
    /// than `ip` returns, and IPv6 routes over the link rest until then.
    pub(crate) fn wait_for_carrier(&self, interface: &str) -> Result<()> {
        let end = Instant::now() + patient(Duration::from_secs(5));
        let args = ["-n", self.namespace(), "link", "show", "dev", interface];
        loop {
            let state = command::run("ip", args)?.success()?.stdout;
            if state.contains("state UP") {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} has no carrier on {interface}: {state}", self.name());
            }
            sleep(Duration::from_millis(5));
        }
    }
}

/// A pair of interfaces, one in each host, made where they belong so that they are never seen outside.
pub(crate) fn cable(a: &Host, b: &Host) -> Result<Link> {
    let link = Link { a: b.name().to_owned(), b: a.name().to_owned() };
    a.ip(&format!("link add name {} type veth peer name {} netns {}", link.a, link.b, b.namespace()))?;
    Ok(link)
}
