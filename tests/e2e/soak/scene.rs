//! A net, its servers, those who use them, and those who disturb them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netlab::Host;

use super::report::Report;
use crate::dice::Dice;
use crate::harness::{Client, Daemon, Footprint, Mode, Net, Server, ServerKind, Setup, Transfer};

/// What may happen to a scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// SIGKILL for a daemon, and another after up to three seconds.
    Kill,
    /// `flush ruleset` and a load, in one transaction, up to three times.
    Reload,
    /// Another WAN address, while no session lives.
    Readdress,
}

/// A server of each kind on one of these.
pub const PORTS: [u16; 3] = [21, 2121, 8021];

/// How many seconds lie between two troubles.
const EVERY: std::ops::Range<u64> = 10..60;

/// By how much the memory of a daemon may grow after the first third of its life, in KiB: what the allocator does with
/// the same load spread differently.
const GROWTH: u64 = 1024;

/// How long the connections of ended sessions are waited for, whose last packets may be lost a few times.
const STRAGGLERS: Duration = Duration::from_secs(30);

/// One topology, running.
pub struct Scene {
    name: &'static str,
    servers: Vec<Server>,
    /// One for each router.
    daemons: Vec<Mutex<Daemon>>,
    troubles: &'static [Trouble],
    /// When firewalls were reloaded; the last reload may go on.
    reloads: Mutex<Vec<(Instant, Option<Instant>)>>,
    /// Sessions that failed.
    failures: AtomicU64,
    /// What every look at every daemon saw, in KiB.
    memory: Mutex<Vec<Vec<u64>>>,
    net: RwLock<Net>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scene {
    /// Builds the net and starts its servers, each on a control port of its own.
    pub fn new(name: &'static str, setup: Setup, troubles: &'static [Trouble]) -> Result<Scene> {
        let mut net = setup.build()?;
        let kinds = ServerKind::ALL.into_iter().zip(PORTS);
        let servers = kinds.map(|(kind, port)| net.serve_on(kind, port)).collect::<Result<_>>()?;
        let daemons: Vec<_> = std::mem::take(&mut net.daemons).into_iter().map(Mutex::new).collect();
        let memory = Mutex::new(vec![Vec::new(); daemons.len()]);
        let net = RwLock::new(net);
        Ok(Scene {
            name,
            servers,
            daemons,
            troubles,
            reloads: Mutex::default(),
            failures: AtomicU64::new(0),
            memory,
            net,
        })
    }

    fn net(&self) -> RwLockReadGuard<'_, Net> {
        self.net.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One session after the other.
    pub fn transfer_until(&self, end: Instant, seed: u64, report: &Report) -> Result<()> {
        let mut dice = Dice::new(seed);
        while Instant::now() < end {
            self.session(&mut dice, report);
        }
        Ok(())
    }

    fn session(&self, dice: &mut Dice, report: &Report) {
        let net = self.net();
        let server = pick(dice, &self.servers);
        let modes: &[Mode] = if net.layout.dialled.is_ipv6() { &Mode::EXTENDED } else { &Mode::ALL };
        let (client, mode) = (*pick(dice, &Client::ALL), *pick(dice, modes));
        if !client.supports(mode, net.layout.dialled.is_ipv6()) || !client.gets_along(server.kind, mode) {
            return;
        }
        let mut transfers: Vec<_> = (0..2 + dice.below(6)).map(|_| transfer(dice)).collect();
        transfers.retain(|transfer| client.copes_with_bad_wires(server.kind, mode, *transfer));
        if transfers.is_empty() {
            return;
        }
        let begun = Instant::now();
        let result = net.unwatched_session(client, mode, server, &transfers);
        let counts = &report.counts;
        counts.sessions.fetch_add(1, Ordering::Relaxed);
        let Err(error) = result else {
            counts.transfers.fetch_add(transfers.len() as u64, Ordering::Relaxed);
            counts.bytes.fetch_add(transfers.iter().map(size).sum(), Ordering::Relaxed);
            return;
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        let is_corrupt = format!("{error:?}").contains("other bytes");
        let in_reload = lock(&self.reloads).iter().any(|&(_, to)| to.is_none_or(|to| to > begun));
        let (kind, counter) = match in_reload && !is_corrupt {
            true => ("casualty", &counts.casualties),
            false => ("fault", &counts.faults),
        };
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let what = format!("{}: {client}, {mode}, {} after {:?}", self.name, server.kind, begun.elapsed());
        report.note(&format!("{kind} {number}: {what}"));
        report.keep(&format!("{kind}-{number}.txt"), &format!("{what}\n{transfers:?}\n{error:?}"));
    }

    /// One trouble after the other.
    pub fn disturb_until(&self, end: Instant, seed: u64, report: &Report) -> Result<()> {
        let mut dice = Dice::new(seed);
        while !self.troubles.is_empty() {
            let pause = Duration::from_secs(EVERY.start + dice.below(EVERY.end - EVERY.start));
            if Instant::now() + pause >= end {
                break;
            }
            sleep(pause);
            let router = usize::try_from(dice.below(self.daemons.len() as u64))?;
            let counter = match pick(&mut dice, self.troubles) {
                Trouble::Kill => {
                    self.kill(router, &mut dice, report).with_context(|| format!("{}: a kill", self.name))?;
                    &report.counts.kills
                }
                Trouble::Reload => {
                    self.reload(router, 1 + dice.below(3), report)?;
                    &report.counts.reloads
                }
                Trouble::Readdress => {
                    self.readdress(report)?;
                    &report.counts.addresses
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn kill(&self, router: usize, dice: &mut Dice, report: &Report) -> Result<()> {
        let net = self.net();
        let host = &net.layout.hosts[net.layout.routers[router].0];
        let mut daemon = lock(&self.daemons[router]);
        daemon.kill()?;
        let away = Duration::from_millis(if dice.happens(500) { 0 } else { dice.below(3000) });
        sleep(away);
        daemon.start_again(host)?;
        report.note(&format!("{}: {} killed, away for {away:?}", self.name, host.name()));
        Ok(())
    }

    fn reload(&self, router: usize, times: u64, report: &Report) -> Result<()> {
        let net = self.net();
        let host = &net.layout.hosts[net.layout.routers[router].0];
        let file = format!("flush ruleset\n{}", net.ruleset_of(router));
        lock(&self.reloads).push((Instant::now(), None));
        for _ in 0..times {
            // A reload begins to count anew.
            self.check_invalid(&net, report)?;
            host.nft(&file)?;
        }
        // A SYN that was lost with the rules comes again within a second.
        if let Some((_, end)) = lock(&self.reloads).last_mut() {
            *end = Some(Instant::now() + Duration::from_secs(1));
        }
        report.note(&format!("{}: {} reloaded {times} times", self.name, host.name()));
        Ok(())
    }

    /// Where no session failed, nothing was INVALID. One that was given up leaves resets and retransmissions behind
    /// that belong to no connection.
    fn check_invalid(&self, net: &Net, report: &Report) -> Result<()> {
        let checked = net.nothing_is_invalid();
        match checked {
            Err(error) if self.failures.load(Ordering::Relaxed) > 0 => {
                report.note(&format!("{}: {error}", self.name));
                Ok(())
            }
            checked => checked.context(self.name),
        }
    }

    fn readdress(&self, report: &Report) -> Result<()> {
        let mut net = self.net.write().unwrap_or_else(PoisonError::into_inner);
        // The kernel forgets what it masqueraded by the old address: the last packets of ended sessions are INVALID then.
        self.check_invalid(&net, report)?;
        for end in [net.client(), net.server()] {
            let wait = Instant::now() + STRAGGLERS;
            while !all_closed(end)? && Instant::now() < wait {
                sleep(Duration::from_millis(100));
            }
        }
        let old = net.layout.seen.to_string();
        let (network, host) = old.rsplit_once('.').context("not an IPv4 address")?;
        let new = format!("{network}.{}", if host == "97" { "98" } else { "97" });
        net.readdress(&old, &new)?;
        sleep(Duration::from_secs(1));
        net.router().run("nft", ["reset", "counters", "table", "inet", "filter"])?.success()?;
        report.note(&format!("{}: {old} becomes {new}", self.name));
        Ok(())
    }

    /// A look at the daemons.
    pub fn look(&self, report: &Report) -> Result<()> {
        let net = self.net();
        for (router, daemon) in self.daemons.iter().enumerate() {
            let host = &net.layout.hosts[net.layout.routers[router].0];
            let footprint = Footprint::of(host, &lock(daemon))?;
            report.note(&format!("{}: {}: {footprint}", self.name, host.name()));
            lock(&self.memory)[router].push(footprint.memory);
        }
        Ok(())
    }

    /// Checks that nothing is left, that memory has not grown where the daemon is still the first, and what every net
    /// checks.
    pub fn finish(self, report: &Report) -> Result<()> {
        self.look(report)?;
        self.check_invalid(&self.net(), report)?;
        let net = self.net.into_inner().unwrap_or_else(PoisonError::into_inner);
        let memory = self.memory.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (router, daemon) in self.daemons.into_iter().enumerate() {
            let daemon = daemon.into_inner().unwrap_or_else(PoisonError::into_inner);
            let host = &net.layout.hosts[net.layout.routers[router].0];
            report.keep(&format!("{}-{}.log", self.name, host.name()), &daemon.log());
            let left = Footprint::of(host, &daemon)?;
            ensure!(left.is_nothing(), "{}: {} has left: {left}", self.name, host.name());
            if !self.troubles.contains(&Trouble::Kill) {
                let (early, late) = memory[router].split_at(memory[router].len() / 3);
                let most = |looks: &[u64]| looks.iter().max().copied().unwrap_or(0);
                ensure!(
                    most(late) <= most(early) + GROWTH,
                    "{}: memory has grown: {:?} KiB",
                    self.name,
                    memory[router]
                );
            }
        }
        net.check_ends().context(self.name)
    }
}

/// Whether a host has no connection that is not over: what is in TIME-WAIT sends nothing by itself.
fn all_closed(host: &Host) -> Result<bool> {
    let states = ["-Htn", "state", "connected", "exclude", "time-wait"];
    Ok(host.run("ss", states)?.success()?.stdout.trim().is_empty())
}

fn pick<'a, T>(dice: &mut Dice, from: &'a [T]) -> &'a T {
    &from[usize::try_from(dice.below(from.len() as u64)).unwrap_or(0)]
}

fn transfer(dice: &mut Dice) -> Transfer {
    let payload = match dice.below(10) {
        0 => "large",
        1 | 2 => "empty",
        _ => "small",
    };
    if dice.happens(500) { Transfer::Get(payload) } else { Transfer::Put(payload) }
}

fn size(transfer: &Transfer) -> u64 {
    match transfer {
        Transfer::Get("large") | Transfer::Put("large") => 3 << 20,
        Transfer::Get("small") | Transfer::Put("small") => 4 << 10,
        _ => 0,
    }
}
