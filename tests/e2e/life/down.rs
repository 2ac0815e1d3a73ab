//! What becomes of sessions while there is no daemon (`when-down`).

use anyhow::{Result, ensure};

use super::{Session, finish, tapped_net};
use crate::harness::{Plan, ServerKind, Setup, Topology};

fn says(session: &mut Session, command: &str, code: &str) -> Result<()> {
    let reply = session.step(&format!("say {command}"))?;
    ensure!(reply.starts_with(code), "{reply}");
    Ok(())
}

/// One session that was edited, one that was not.
fn without_daemon(settings: &'static str, unshifted_talks: bool) -> Result<()> {
    for plan in [Plan::ShortInside, Plan::LongInside] {
        let setup = Setup::new(Topology::Masquerade).plan(plan).settings(settings);
        let (mut net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
        let mut unshifted = Session::open(&net, &server)?;
        let mut shifted = Session::open(&net, &server)?;
        unshifted.step("fetch PASV")?;
        shifted.step("fetch PORT")?;
        net.daemon().0.kill()?;
        shifted.begin("say NOOP")?;
        if unshifted_talks {
            for _ in 0..3 {
                says(&mut unshifted, "PWD", "257")?;
                says(&mut unshifted, "NOOP", "200")?;
            }
        }
        unshifted.begin("say NOOP")?;
        if !unshifted_talks {
            unshifted.waits()?;
        }
        shifted.waits()?;
        let (daemon, router) = net.daemon();
        daemon.start_again(router)?;
        shifted.hear()?;
        unshifted.hear()?;
        // What passed meanwhile may have ended in the middle of a line: inspection goes on at the next.
        says(&mut unshifted, "NOOP", "200")?;
        for session in [&mut shifted, &mut unshifted] {
            session.fetch_in_all_modes()?;
        }
        shifted.quit()?;
        unshifted.quit()?;
        finish(net, wiretap)?;
    }
    Ok(())
}

#[test]
fn while_it_is_down_only_what_needs_no_translation_passes() -> Result<()> {
    without_daemon("", true)
}

#[test]
fn while_it_is_down_nothing_passes_if_so_configured() -> Result<()> {
    without_daemon("when-down = \"drop\"", false)
}
