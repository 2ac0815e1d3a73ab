//! kill -9 at random instants, again and again, under sessions in every state.

use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::Signal;

use super::dice::Dice;
use super::{Session, finish, tapped_net};
use crate::harness::{Net, Plan, Server, ServerKind, Setup, Topology};

/// How often each test kills: `FTPALG_TEST_KILLS` asks for more.
fn kills() -> usize {
    env::var("FTPALG_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// Sessions that need translation from the beginning, but for one that only talks.
struct Sessions {
    /// Each with the step that it makes again and again.
    busy: Vec<(Session, &'static str)>,
    idle: Session,
    /// In the middle of a PORT.
    cut: Session,
    cuts: usize,
    steps: usize,
}

impl Sessions {
    fn open(net: &Net, server: &Server) -> Result<Sessions> {
        // Of either kind one: what needs an edit is not the same in every topology.
        let shifted = || -> Result<Session> {
            let mut session = Session::open(net, server)?;
            session.step("fetch PORT,PASV 2")?;
            Ok(session)
        };
        let steps = ["fetch PORT,EPRT 6", "fetch PASV,EPSV 6", "fetch EPRT,PASV,PORT,EPSV 8", "chat 10"];
        let mut sessions =
            Sessions { busy: Vec::new(), idle: shifted()?, cut: shifted()?, cuts: 0, steps: 0 };
        for step in steps.into_iter().chain(["say NOOP"]) {
            let mut session = if step == "say NOOP" { Session::open(net, server)? } else { shifted()? };
            session.begin(step)?;
            sessions.busy.push((session, step));
        }
        Ok(sessions)
    }

    /// What has come to its end begins anew.
    fn go_on(&mut self) -> Result<()> {
        for (session, step) in &mut self.busy {
            if session.has_answered().with_context(|| (*step).to_owned())? {
                self.steps += 1;
                session.begin(step)?;
            }
        }
        Ok(())
    }

    /// Sends the first bytes of a line, or its rest.
    fn cut(&mut self, at: u64) -> Result<()> {
        self.cuts += 1;
        if self.cuts % 2 == 1 {
            let mode = if self.cuts % 4 == 1 { "PORT" } else { "EPRT" };
            return self.cut.step(&format!("begin {mode} {}", 1 + at)).map(drop);
        }
        self.cut.step("finish")?;
        self.cut.step("reply")?;
        self.cut.step("retrieve").map(drop)
    }

    fn end(mut self) -> Result<usize> {
        for (session, _) in &mut self.busy {
            session.hear()?;
            self.steps += 1;
        }
        if self.cuts % 2 == 1 {
            self.cut(0)?;
        }
        let rest = [self.idle, self.cut];
        for mut session in self.busy.into_iter().map(|(session, _)| session).chain(rest) {
            session.fetch_in_all_modes()?;
            session.quit()?;
        }
        Ok(self.steps)
    }
}

fn killed(topology: Topology, plan: Plan, settings: &'static str, seed: u64) -> Result<()> {
    let setup = Setup::new(topology).plan(plan).settings(settings);
    let (mut net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
    let mut sessions = Sessions::open(&net, &server)?;
    let mut dice = Dice(seed);
    let start = Instant::now();
    for round in 0..kills() {
        // TCP waits twice as long each time: now and then a daemon lives longer than that, or somebody waits for ever.
        let longest = if round % 4 == 3 { 3_000_000 } else { 350_000 };
        sleep(Duration::from_micros(dice.below(longest)));
        let (daemon, router) = net.daemon();
        daemon.kill()?;
        sleep(Duration::from_millis(dice.below(3) * dice.below(80)));
        // Some are killed before they are ready.
        if dice.below(4) == 0 {
            daemon.launch_again(router)?;
            sleep(Duration::from_micros(dice.below(60_000)));
            daemon.kill()?;
        }
        daemon.start_again(router)?;
        sessions.go_on().with_context(|| format!("after {round} kills"))?;
        if round % 3 == 0 {
            sessions.cut(dice.below(16))?;
        }
    }
    let took = start.elapsed();
    let steps = sessions.end()?;
    println!(
        "{} kills in {took:.1?}, {steps} steps of busy sessions: {topology}, {plan:?}, {settings}",
        kills()
    );
    finish(net, wiretap)
}

#[test]
fn killed_at_random_under_commands_that_grow() -> Result<()> {
    killed(Topology::Masquerade, Plan::ShortInside, "when-down = \"pass\"", 1)
}

#[test]
fn killed_at_random_under_commands_that_shrink() -> Result<()> {
    killed(Topology::Masquerade, Plan::LongInside, "when-down = \"drop\"", 2)
}

#[test]
fn killed_at_random_under_replies_that_grow() -> Result<()> {
    killed(Topology::Dnat, Plan::ShortInside, "when-down = \"drop\"", 3)
}

#[test]
fn killed_at_random_under_replies_that_shrink() -> Result<()> {
    killed(Topology::Dnat, Plan::LongInside, "when-down = \"pass\"", 4)
}

#[test]
fn killed_at_random_under_commands_that_grow_over_ipv6() -> Result<()> {
    killed(Topology::Masquerade6, Plan::ShortInside, "when-down = \"drop\"", 5)
}

/// SIGHUP with another configuration, and with one that is none, and SIGTERM and a new start, possibly of another
/// program: with sessions idle, in the middle of a line, and with a data port that is announced and not used yet.
#[test]
fn other_ends_under_sessions_in_every_state() -> Result<()> {
    for (topology, plan) in [(Topology::Masquerade, Plan::ShortInside), (Topology::Dnat, Plan::LongInside)] {
        let (mut net, server, wiretap) = tapped_net(Setup::new(topology).plan(plan), ServerKind::Vsftpd)?;
        let mut idle = Session::open(&net, &server)?;
        let mut active = Session::open(&net, &server)?;
        let mut passive = Session::open(&net, &server)?;
        for session in [&mut idle, &mut active, &mut passive] {
            session.fetch_in_all_modes()?;
        }
        let upgraded = net.lab.dir().join("ftpalg-of-tomorrow");
        for what in ["a good file", "a bad file", "a restart", "an upgrade"] {
            active.step("begin PORT 9")?;
            passive.step("offer PASV")?;
            let (daemon, router) = net.daemon();
            match what {
                "a good file" => daemon.reload("control-ports = [21, 2121]", "read anew")?,
                "a bad file" => daemon.reload("control-ports = \"all\"", "stays as it was")?,
                _ => {
                    daemon.process.signal(Signal::SIGTERM)?;
                    daemon.process.wait(Duration::from_secs(5))?;
                    if what == "an upgrade" {
                        std::fs::copy(&daemon.program, &upgraded)?;
                        daemon.program.clone_from(&upgraded);
                    }
                    active.begin("finish")?;
                    sleep(Duration::from_millis(100));
                    daemon.start_again(router)?;
                    active.hear()?;
                    active.begin("say NOOP")?; // its answer is the PORT's
                    active.hear()?;
                }
            }
            if what.ends_with("file") {
                active.step("finish").context(what)?;
                active.step("reply").context(what)?;
                active.step("retrieve").context(what)?;
            } else {
                active.step("reply").context(what)?;
            }
            passive.step("collect").context(what)?;
            for session in [&mut idle, &mut active, &mut passive] {
                session.fetch_in_all_modes().context(what)?;
            }
        }
        ensure!(net.daemons[0].log().contains("stays as it was"), "no bad file");
        for session in [idle, active, passive] {
            session.quit()?;
        }
        finish(net, wiretap)?;
    }
    Ok(())
}
