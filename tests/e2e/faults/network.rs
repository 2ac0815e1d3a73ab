//! conntrack flushed, links that go down and come up again.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Net, Plan, ServerKind, Topology};
use crate::life::{Session, tapped};

/// What happens to the network.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `conntrack -F`, as administrators do to have new NAT rules take effect. Without any ALG a control connection goes
    /// on as well: conntrack picks it up in the middle (`nf_conntrack_tcp_loose`), and masquerades it again.
    ConntrackFlushed,
    /// The client's link goes down.
    InnerLink,
    /// The link on the server's side goes down. With it go the entries of what is masqueraded there
    /// (`masq_device_event` in net/netfilter/nf_nat_masquerade.c).
    OuterLink,
}

impl Fault {
    /// A reply to an address that conntrack has forgotten goes nowhere until the client has spoken again, which it will
    /// not do while it waits for that: as without any ALG.
    fn is_harmless_to_replies(self) -> bool {
        self != Fault::ConntrackFlushed
    }

    fn happen(self, net: &Net) -> Result<()> {
        let ends = (net.layout.links.first(), net.layout.links.last());
        let ((_, inner), (_, outer)) = ends.0.zip(ends.1).context("no links")?;
        match self {
            Fault::ConntrackFlushed => net.router().run("conntrack", ["-F"])?.success().map(drop),
            Fault::InnerLink => link_down(net, &inner.b),
            Fault::OuterLink => link_down(net, &outer.a),
        }
    }
}

/// Sets one of the router's interfaces down for a while.
fn link_down(net: &Net, interface: &str) -> Result<()> {
    for (state, millis) in [("down", 400), ("up", 300)] {
        net.router().ip(&format!("link set dev {interface} {state}"))?;
        sleep(Duration::from_millis(millis));
    }
    Ok(())
}

/// A shifted session that is idle, one in the middle of a line, one with a data port announced and one that talks
/// while something happens to the network. All of them go on afterwards, and no byte is wrong.
fn survives(topology: Topology, plan: Plan, fault: Fault) -> Result<()> {
    let (net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        let mut session = Session::open(&net, &server)?;
        session.fetch_in_all_modes()?;
        sessions.push(session);
    }
    let [idle, cut, announced, talks] = sessions.as_mut_slice() else { unreachable!() };
    for _ in 0..2 {
        cut.step("begin PORT 9")?;
        announced.step("begin EPRT 99")?;
        announced.step("reply")?;
        talks.begin("chat 25")?;
        if fault.is_harmless_to_replies() {
            fault.happen(&net)?;
            talks.hear()?;
        } else {
            talks.hear()?;
            fault.happen(&net)?;
        }
        for step in ["finish", "reply", "retrieve"] {
            cut.step(step)?;
        }
        announced.step("retrieve")?;
        idle.fetch_in_all_modes()?;
    }
    for mut session in sessions {
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    let log = net.daemons[0].log();
    ensure!(!log.contains("ERROR") && log.matches("ready").count() == 1, "{log}");
    // What conntrack has forgotten it may call INVALID, so the rest of what a net is checked for is left out.
    wiretap.check(&net)
}

#[test]
fn sessions_with_commands_that_grow_outlive_a_flush_of_conntrack() -> Result<()> {
    survives(Topology::Masquerade, Plan::ShortInside, Fault::ConntrackFlushed)
}

#[test]
fn sessions_with_replies_that_shrink_outlive_a_flush_of_conntrack() -> Result<()> {
    survives(Topology::Dnat, Plan::LongInside, Fault::ConntrackFlushed)
}

#[test]
fn sessions_outlive_the_client_s_link_going_down() -> Result<()> {
    survives(Topology::Masquerade, Plan::LongInside, Fault::InnerLink)
}

#[test]
fn sessions_outlive_the_wan_link_going_down() -> Result<()> {
    survives(Topology::Masquerade, Plan::ShortInside, Fault::OuterLink)
}

#[test]
fn sessions_outlive_the_link_of_a_server_behind_dnat_going_down() -> Result<()> {
    survives(Topology::Dnat, Plan::ShortInside, Fault::OuterLink)
}
