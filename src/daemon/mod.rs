//! The daemon: starts everything in the order in which nothing is lost, and ends it.

mod about;
mod alarms;
mod allowance;
mod clock;
mod control;
mod executor;
mod guard;
mod housekeeping;
mod liveness;
mod living;
mod metrics;
mod parking;
mod places;
pub mod queues;
mod recent;
mod shared;
mod slots;
mod store;
mod systemd;
mod vitals;
mod worker;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use std::{panic, process, thread};

use anyhow::{Context, Result};
use ftpalg::engine::Engine;
use ftpalg::engine::policy::Policy;
use rustix::fs::Mode;
use rustix::process::umask;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::config::{Config, DEFAULT_PATH};
use crate::netfilter::{ConnTrack, Firewall, FirewallError, Watch, keep_no_memory, try_libnftables};
use alarms::Alarms;
use control::{Control, Reporter};
use guard::Guard;
use liveness::Liveness;
use metrics::Metrics;
use shared::{Shared, lock};
use store::{Store, StoreError};
use systemd::{Passed, tell as tell_systemd};
use worker::{QueueError, Worker};

/// How long another daemon's state directory and queues are waited for.
const LETTING_GO: Duration = Duration::from_secs(2);

/// What may open in one worker's sessions. Each worker hands out a part of the external ports of its own: passive
/// pinholes of one client may fall to several workers where several servers stand behind one address.
pub fn policy(config: &Config, worker: u16) -> Policy {
    Policy {
        require_login: config.require_login,
        allow_third_party: config.allow_third_party.clone(),
        ports: part(&config.pinhole_ports, worker, config.workers),
        timeout: config.pinhole_timeout,
    }
}

/// One of several equal parts of a range; all of it where it has not enough.
fn part(range: &RangeInclusive<u16>, number: u16, of: u16) -> RangeInclusive<u16> {
    let size = (range.end() - range.start()) / of.max(1);
    let low = range.start() + number * size;
    match size {
        0 => range.clone(),
        _ if number + 1 >= of => low..=*range.end(),
        _ => low..=low + (size - 1),
    }
}

/// Runs until it is told to end.
pub fn run(config: Config, path: Option<&Path>) -> Result<()> {
    abort_on_panic();
    let mut passed = systemd::passed_sockets();
    keep_no_memory();
    // Files are made with modes of their own; the control socket is the group's, too.
    umask(Mode::RWXO);
    let open_store = || Store::open(&config.state_dir);
    let (store, saved) = when_free(open_store, |error| matches!(error, StoreError::Taken { .. }))?;
    let queues = config.queue..config.queue.saturating_add(config.workers);
    when_free(|| worker::are_free(queues.clone()), |error| matches!(error, QueueError::Taken { .. }))?;
    let mut firewall = Firewall::open(&config)?;
    firewall.inherit(passed.kept.take_sockets());
    // Not before the mend will a daemon read what these tables hold up.
    try_libnftables().inspect_err(|_| firewall.stop_watching())?;
    when_free(|| firewall.is_alone(), |error| matches!(error, FirewallError::Another(_)))?;
    let held_back = firewall.held_back()?;
    let mut conntrack = ConnTrack::open().context("conntrack can't be asked")?;
    let watch = Watch::open(&mut firewall).context("changes of the ruleset can't be watched")?;

    // Several share the log with what waits for them.
    let sharing = if config.workers > 1 { config.workers + 1 } else { 1 };
    let engines = (0..config.workers).map(|worker| {
        let mut engine = Engine::new(policy(&config, worker), seed());
        engine.share_numbers(worker, sharing);
        engine.share_room(config.workers);
        Arc::new(Mutex::new(engine))
    });
    let mut parking = Engine::new(policy(&config, 0), seed());
    parking.share_numbers(config.workers, sharing);
    let shared = Arc::new(Shared::new(engines.collect(), parking, firewall, store));
    shared.take_up(saved, held_back, &mut conntrack)?;
    match serve(&shared, &config, watch, conntrack, passed) {
        Ok((wishes, _control)) => attend(&shared, config, path, &wishes),
        Err(error) => {
            if let Err(error) = end(&shared) {
                error!("{error:#}");
            }
            Err(error)
        }
    }
}

/// Tries again for a while what another daemon has: one that has just been killed lets go of it a moment later than it
/// can be seen to be gone, for the kernel takes some time to close its sockets.
fn when_free<T, E>(mut attempt: impl FnMut() -> Result<T, E>, is_taken: impl Fn(&E) -> bool) -> Result<T, E> {
    let end = Instant::now() + LETTING_GO;
    loop {
        match attempt() {
            Err(error) if is_taken(&error) && Instant::now() < end => thread::sleep(LETTING_GO / 100),
            result => return result,
        }
    }
}

/// A thread that is gone would go unnoticed: its lock is free, and its packets wait for ever.
fn abort_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        process::abort();
    }));
}

/// State is loaded by now. The ruleset comes next, with everything in it that live sessions need, then the queues, and
/// only then the rules that send packets there.
fn serve(
    shared: &Arc<Shared>,
    config: &Config,
    watch: Watch,
    conntrack: ConnTrack,
    passed: Passed,
) -> Result<(mpsc::Receiver<Stop>, Control)> {
    let missing = shared.with_all(Firewall::install)?;
    guard::tell_missing(&missing);
    let mut workers = Vec::new();
    for (number, engine) in (config.queue..).zip(&shared.engines) {
        workers.push(Worker::new(number, Arc::clone(engine), Arc::clone(shared))?);
    }
    shared.with_all(|firewall, _| {
        passed.kept.replace(firewall);
        firewall.divert()
    })?;

    let queues = config.queue..config.queue.saturating_add(config.workers);
    let latencies = workers.iter().map(Worker::latency).collect();
    Metrics::new(Arc::clone(shared), queues.clone(), latencies).serve(passed.metrics, config.metrics_listen);
    let progress: Vec<_> = queues.clone().zip(workers.iter().map(Worker::progress)).collect();
    let liveness = Liveness::new(progress.iter().cloned());
    let reporter = Reporter::new(Arc::clone(shared), progress).context("the kernel can't be asked")?;
    let control = Control::start(&config.control_socket, reporter)?;

    let (stop, wishes) = mpsc::channel();
    for (index, worker) in workers.into_iter().enumerate() {
        let stop = stop.clone();
        thread::Builder::new().name(format!("queue-{index}")).spawn(move || {
            let error = worker.run();
            stop.send(Stop::Failed(anyhow::Error::new(error).context("a queue can't be read any more"))).ok();
        })?;
    }
    let guard = Guard::new(Arc::clone(shared), watch);
    thread::Builder::new().name("guard".into()).spawn(move || guard.run())?;
    let alarms = Alarms::new(queues);
    let for_housekeeping = Arc::clone(shared);
    thread::Builder::new()
        .name("housekeeping".into())
        .spawn(move || housekeeping::run(&for_housekeeping, alarms, liveness, conntrack))?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in &mut signals {
            stop.send(if signal == SIGHUP { Stop::Reload } else { Stop::Asked }).ok();
        }
    })?;

    let summary = summary(config);
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&summary)]);
    info!("ready: {summary}");
    Ok((wishes, control))
}

/// What the main thread waits for.
enum Stop {
    Reload,
    Asked,
    Failed(anyhow::Error),
}

fn attend(
    shared: &Shared,
    mut config: Config,
    path: Option<&Path>,
    wishes: &mpsc::Receiver<Stop>,
) -> Result<()> {
    loop {
        match wishes.recv()? {
            Stop::Reload => {
                tell_systemd(&[NotifyState::Reloading]);
                reload(shared, &mut config, path);
                tell_systemd(&[NotifyState::Ready, NotifyState::Status(&summary(&config))]);
            }
            Stop::Asked => {
                tell_systemd(&[NotifyState::Stopping]);
                return end(shared);
            }
            Stop::Failed(error) => {
                if let Err(error) = end(shared) {
                    error!("{error:#}");
                }
                return Err(error);
            }
        }
    }
}

/// SIGHUP: the configuration is read anew. Live sessions go on; a bad file changes nothing, and neither does one that has
/// gone.
fn reload(shared: &Shared, config: &mut Config, path: Option<&Path>) {
    let mut new = match Config::read(path) {
        Ok(Some(new)) => new,
        Ok(None) => {
            if *config != Config::default() {
                warn!(
                    "the configuration stays as it was until the next start: there is no {DEFAULT_PATH} any more"
                );
            }
            config.clone()
        }
        Err(error) => return error!("the configuration stays as it was:\n{error}"),
    };
    let waiting = new.keep_fixed(config);
    if !waiting.is_empty() {
        warn!("changed, and in effect from the next start on: {}", waiting.join(", "));
    }
    if let Err(error) = try_libnftables() {
        return error!("the configuration stays as it was: {error}");
    }
    let repaired = shared.with_all(|firewall, live| {
        firewall.configure(&new);
        firewall.repair(live).inspect_err(|_| {
            firewall.configure(config);
            if let Err(error) = firewall.repair(live) {
                error!("ftpalg's part of the ruleset can't be put back: {error}");
            }
        })
    });
    match repaired {
        Ok(missing) => guard::tell_missing(&missing),
        Err(error) => return error!("the configuration stays as it was: {error}"),
    }
    for (worker, engine) in (0..).zip(&shared.engines) {
        lock(engine).set_policy(policy(&new, worker));
    }
    info!("configuration read anew: {}", summary(&new));
    *config = new;
}

/// Takes everything out of the kernel. While shifted connections live, what remains is a table that keeps their
/// packets from passing untranslated; their state waits for the next daemon.
fn end(shared: &Shared) -> Result<()> {
    let waiting = shared.with_all_at_the_end(|firewall, live| {
        firewall.remove(live.unfinished).map(|()| live.unfinished.len())
    })?;
    match waiting {
        0 => info!("ended; nothing of ftpalg is left in the ruleset"),
        number => warn!(
            "ended; {number} connections in mid-translation wait until ftpalg is back \
             (`nft delete table inet ftpalg` gives them up)"
        ),
    }
    Ok(())
}

fn summary(config: &Config) -> String {
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let ports = list(config.control_ports.iter().map(u16::to_string).collect());
    let chains = list(config.accept_in.iter().map(ToString::to_string).collect());
    format!(
        "control ports {ports}; queue {}, workers {}; data connections accepted in {chains}",
        config.queue, config.workers
    )
}

/// A number that nobody outside can foresee: the standard library's hasher is keyed by the operating system.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[ignore = "the test below runs it in a process of its own, which it ends"]
    fn a_thread_panics() {
        abort_on_panic();
        thread::spawn(|| panic!("on purpose")).join().ok();
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_process() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "daemon::tests::a_thread_panics", "--ignored"]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    }

    #[test]
    fn the_parts_of_the_port_range_do_not_meet() {
        assert_eq!(part(&(1024..=2047), 0, 2), 1024..=1534);
        assert_eq!(part(&(1024..=2047), 1, 2), 1535..=2047);
        assert_eq!(part(&(1024..=1024), 1, 2), 1024..=1024);
    }
}
