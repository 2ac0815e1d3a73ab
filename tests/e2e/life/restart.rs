//! kill -9 and a new start, while sessions live.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::{Session, finish, replace, tapped, tapped_net};
use crate::harness::{Plan, ServerKind, Setup, Topology};

/// Sessions in every state that lasts: logged in and no more, after transfers, idle over two daemons, with an open
/// passive data connection.
fn go_on(topology: Topology, plan: Plan) -> Result<()> {
    let (mut net, server, wiretap) = tapped(topology, plan, ServerKind::Vsftpd)?;
    let mut fresh = Session::open(&net, &server)?;
    let mut used = Session::open(&net, &server)?;
    let mut idle = Session::open(&net, &server)?;
    let mut connected = Session::open(&net, &server)?;
    used.fetch_in_all_modes()?;
    idle.fetch_in_all_modes()?;
    connected.step("fetch PORT")?;
    connected.step("offer PASV")?;
    replace(&mut net, 0)?;
    connected.step("collect")?;
    fresh.fetch_in_all_modes()?;
    used.fetch_in_all_modes()?;
    used.step("store PORT after")?;
    replace(&mut net, 300)?;
    for session in [&mut fresh, &mut used, &mut idle, &mut connected] {
        session.fetch_in_all_modes()?;
    }
    for session in [fresh, used, idle, connected] {
        session.quit()?;
    }
    finish(net, wiretap)
}

#[test]
fn sessions_with_commands_that_grow_outlive_the_daemon() -> Result<()> {
    go_on(Topology::Masquerade, Plan::ShortInside)
}

#[test]
fn sessions_with_commands_that_shrink_outlive_the_daemon() -> Result<()> {
    go_on(Topology::Masquerade, Plan::LongInside)
}

#[test]
fn sessions_with_replies_that_grow_outlive_the_daemon() -> Result<()> {
    go_on(Topology::Dnat, Plan::ShortInside)
}

#[test]
fn sessions_with_replies_that_shrink_outlive_the_daemon() -> Result<()> {
    go_on(Topology::Dnat, Plan::LongInside)
}

#[test]
fn sessions_through_a_stateful_firewall_outlive_the_daemon() -> Result<()> {
    go_on(Topology::Firewall, Plan::ShortInside)
}

#[test]
fn sessions_of_the_router_itself_outlive_the_daemon() -> Result<()> {
    go_on(Topology::ClientOnRouter, Plan::ShortInside)?;
    go_on(Topology::ServerOnRouter, Plan::ShortInside)
}

/// `PORT 10,0,…`: cut in the verb, before the address, inside it, behind it, before the last byte.
#[test]
fn a_line_cut_while_the_daemon_is_replaced() -> Result<()> {
    for plan in [Plan::ShortInside, Plan::LongInside] {
        // What is cut before anything was edited must not pass unseen.
        let setup = Setup::new(Topology::Masquerade).plan(plan).settings("when-down = \"drop\"");
        let (mut net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
        let mut session = Session::open(&net, &server)?;
        for (mode, cut) in [("PORT", 3), ("PORT", 5), ("PORT", 6), ("EPRT", 11), ("PORT", -2), ("PORT", -1)] {
            session.step(&format!("begin {mode} {cut}"))?;
            replace(&mut net, 0)?;
            session.step("finish")?;
            session.step("reply")?;
            session.step("retrieve")?;
        }
        session.quit()?;
        finish(net, wiretap)?;
    }
    Ok(())
}

/// The server takes its time, so that the daemon goes between a command and its reply, and the reply comes while there
/// is a new one or while there is none.
#[test]
fn a_command_outstanding_while_the_daemon_is_replaced() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Dnat, Topology::Firewall] {
        let setup = Setup::new(topology).settings("when-down = \"drop\"");
        let (mut net, server, wiretap) = tapped_net(setup, ServerKind::HandMade("slow-nodelay"))?;
        let mut session = Session::open(&net, &server)?;
        for (mode, away) in [("PORT", 0), ("EPRT", 1000)] {
            session.step(&format!("begin {mode} 99"))?;
            sleep(Duration::from_millis(50));
            replace(&mut net, away)?;
            session.step("reply")?;
            session.step("retrieve")?;
        }
        for (mode, away) in [("PASV", 0), ("EPSV", 1000)] {
            session.begin(&format!("offer {mode}"))?;
            sleep(Duration::from_millis(50));
            replace(&mut net, away)?;
            session.hear()?;
            session.step("collect")?;
        }
        session.quit()?;
        finish(net, wiretap)?;
    }
    Ok(())
}

/// Fifteen daemons for one session that never rests.
#[test]
fn a_busy_session_outlives_many_daemons() -> Result<()> {
    for (plan, modes) in [(Plan::ShortInside, "PORT,EPRT,PASV"), (Plan::LongInside, "EPRT,EPSV,PORT,PASV")] {
        let (mut net, server, wiretap) = tapped(Topology::Masquerade, plan, ServerKind::Vsftpd)?;
        let mut session = Session::open(&net, &server)?;
        session.step("fetch PORT")?;
        for round in 0..15 {
            session.begin(&format!("fetch {modes} 30"))?;
            sleep(Duration::from_millis(3 + 7 * round));
            replace(&mut net, 10 * (round % 3))?;
            session.hear()?;
        }
        session.quit()?;
        finish(net, wiretap)?;
    }
    Ok(())
}
