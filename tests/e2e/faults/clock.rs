//! The wall clock steps. That is the whole machine's, so it happens in a machine of its own (scripts/test-in-vm).

use std::fs;

use anyhow::{Result, ensure};

use crate::harness::{Plan, ServerKind, Topology};
use crate::life::{Session, finish, tapped};

#[test]
#[ignore = "sets the machine's clock: scripts/test-in-vm runs it in a virtual one"]
fn sessions_and_data_ports_outlive_steps_of_the_clock() -> Result<()> {
    let is_virtual = fs::read_to_string("/proc/cmdline")?.contains("command=");
    ensure!(is_virtual, "this would set this machine's clock: run scripts/test-in-vm");
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    let mut announced = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    for step in ["+1 hour", "-2 hours", "+1 year", "-2 years"] {
        announced.step("begin PORT 99")?;
        announced.step("reply")?;
        net.router().run("date", ["-s", step])?.success()?;
        announced.step("retrieve")?;
        session.fetch_in_all_modes()?;
        let (daemon, router) = net.daemon();
        daemon.kill()?;
        daemon.start_again(router)?;
        session.fetch_in_all_modes()?;
    }
    for session in [session, announced] {
        session.quit()?;
    }
    finish(net, wiretap)
}
