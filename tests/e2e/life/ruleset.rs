//! Firewall reloads while sessions transfer.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::{Session, finish, replace, ruleset, tapped, wait_until};
use crate::harness::{Net, Plan, ServerKind, Topology};

/// Whether everything of ftpalg's is there, and at the top of the administrator's chains.
fn is_whole(net: &Net) -> Result<bool> {
    let text = ruleset(net.router())?;
    let at_the_top = ["forward", "input"].iter().all(|chain| {
        let rules = text.split(&format!("chain {chain} {{")).nth(1).unwrap_or_default();
        rules.lines().nth(2).is_some_and(|rule| rule.contains("ftpalg: negotiated FTP data connections"))
    });
    // nft shows a target of xtables' as an empty line.
    let queues = ["divert", "divert_shifted"].iter().all(|chain| {
        let rules = text.split(&format!("chain {chain} {{")).nth(1).unwrap_or_default();
        rules.lines().nth(1).is_some_and(|rule| rule != "\t}" && !rule.contains("drop"))
    });
    Ok(at_the_top && queues)
}

/// `nft -f FILE` of a file that begins with `flush ruleset`, as distributions have it, so many times.
fn reloads(net: &Net, times: u32) -> Result<()> {
    let file = format!("flush ruleset\n{}", net.ruleset());
    for _ in 0..times {
        net.router().nft(&file)?;
    }
    wait_until("ftpalg's part is back", || is_whole(net))
}

/// Sessions with a data port that is open and not used yet, with a data connection, and with neither.
fn reloaded(topology: Topology, plan: Plan) -> Result<()> {
    let (net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
    ensure!(is_whole(&net)?, "not whole from the start:\n{}", ruleset(net.router())?);
    let mut announced = Session::open(&net, &server)?;
    let mut connected = Session::open(&net, &server)?;
    let mut idle = Session::open(&net, &server)?;
    for session in [&mut announced, &mut connected, &mut idle] {
        session.fetch_in_all_modes()?;
    }
    for times in [1, 10] {
        announced.step("begin PORT 99")?;
        announced.step("reply")?;
        connected.step("offer PASV")?;
        reloads(&net, times)?;
        announced.step("retrieve")?;
        connected.step("collect")?;
        idle.fetch_in_all_modes()?;
    }
    // With a pause in which there is no firewall at all, and whole again before the session goes on.
    for _ in 0..10 {
        for part in ["flush ruleset", &net.ruleset()] {
            net.router().nft(part)?;
        }
        wait_until("ftpalg's part is back", || is_whole(&net))?;
        idle.fetch_in_all_modes()?;
    }
    for session in [announced, connected, idle] {
        session.quit()?;
    }
    finish(net, wiretap)
}

/// While the control connection itself is busy. A data connection that begins at the very moment may be lost; of what
/// is shifted, no byte is.
fn reloaded_in_the_middle(topology: Topology, plan: Plan) -> Result<()> {
    let (net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    for _ in 0..5 {
        session.begin("chat 40")?;
        reloads(&net, 4)?;
        session.hear()?;
        session.fetch_in_all_modes()?;
    }
    session.quit()?;
    finish(net, wiretap)
}

/// The same with no firewall for a while, as `systemctl restart nftables` has it. Without a chain of the type nat the
/// kernel translates no address, of established connections either.
#[test]
fn restarts_in_the_middle_of_commands() -> Result<()> {
    let (net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    for _ in 0..5 {
        session.begin("chat 40")?;
        for _ in 0..4 {
            net.router().nft("flush ruleset")?;
            net.router().nft(&net.ruleset())?;
        }
        wait_until("ftpalg's part is back", || is_whole(&net))?;
        session.hear()?;
        session.fetch_in_all_modes()?;
    }
    session.quit()?;
    finish(net, wiretap)
}

/// One pinhole, one connection, also over reloads and restarts: what was used is not opened again.
#[test]
fn a_used_data_port_is_not_opened_again() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut connected = Session::open(&net, &server)?;
    let mut announced = Session::open(&net, &server)?;
    let keys = |net: &Net, set: &str| -> Result<BTreeSet<String>> {
        let text = net.router().run("nft", ["list", "set", "inet", "ftpalg", set])?.success()?.stdout;
        let elements = text.split_once("elements = {").map_or("", |(_, elements)| elements).split(',');
        let key = |element: &str| element.split_whitespace().take(5).collect::<Vec<_>>().join(" ");
        Ok(elements.map(key).filter(|key| !key.is_empty()).collect())
    };
    let open = |net: &Net| -> Result<usize> { Ok((&keys(net, "open4")? - &keys(net, "spent4")?).len()) };
    // What tells that one of the two was used is the kernel's table, and whoever has taken that away has told nobody.
    connected.step("offer PASV")?;
    announced.step("begin PORT 99")?;
    announced.step("reply")?;
    ensure!(open(&net)? == 1, "{} data ports are open", open(&net)?);
    replace(&mut net, 0)?;
    ensure!(open(&net)? == 1, "{} data ports are open after a restart", open(&net)?);
    // A second after its use at the latest the daemon knows.
    wait_until("the used one stays closed", || {
        reloads(&net, 1)?;
        Ok(open(&net)? == 1)
    })?;
    net.router().nft("flush set inet ftpalg spent4")?;
    wait_until("it is marked as used again", || Ok(!keys(&net, "spent4")?.is_empty()))?;
    connected.step("collect")?;
    announced.step("retrieve")?;
    for session in [connected, announced] {
        session.quit()?;
    }
    finish(net, wiretap)
}

#[test]
fn reloads_in_the_middle_of_commands_that_grow() -> Result<()> {
    reloaded_in_the_middle(Topology::Masquerade, Plan::ShortInside)
}

#[test]
fn reloads_in_the_middle_of_commands_that_shrink() -> Result<()> {
    reloaded_in_the_middle(Topology::Masquerade, Plan::LongInside)
}

#[test]
fn reloads_in_the_middle_of_replies_that_grow() -> Result<()> {
    reloaded_in_the_middle(Topology::Dnat, Plan::ShortInside)
}

#[test]
fn reloads_in_the_middle_of_replies_that_shrink() -> Result<()> {
    reloaded_in_the_middle(Topology::Dnat, Plan::LongInside)
}

#[test]
fn reloads_in_the_middle_of_commands_that_grow_over_ipv6() -> Result<()> {
    reloaded_in_the_middle(Topology::Masquerade6, Plan::ShortInside)
}

#[test]
fn a_reload_under_commands_that_grow_over_ipv6() -> Result<()> {
    reloaded(Topology::Masquerade6, Plan::ShortInside)
}

#[test]
fn a_reload_under_commands_that_grow() -> Result<()> {
    reloaded(Topology::Masquerade, Plan::ShortInside)
}

#[test]
fn a_reload_under_replies_that_shrink() -> Result<()> {
    reloaded(Topology::Dnat, Plan::LongInside)
}

#[test]
fn a_reload_under_a_stateful_firewall() -> Result<()> {
    reloaded(Topology::Firewall, Plan::ShortInside)
}
