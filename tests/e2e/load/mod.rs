//! Thousands of sessions at the same time through one router, and what they leave: nothing.

mod client;
mod crowd;

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use netlab::Process;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::{Daemon, Footprint, Net, ServerKind, Setup, Topology};
use crate::life::Session;
use crowd::{Plan, Progress, Stage};

/// The control ports, a server on each.
const PORTS: [u16; 2] = [21, 2121];

/// How long the slowest stage of the large crowd may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// An ended session is kept for 30 seconds, a look comes every second, and letting go of thousands takes some.
const LINGER: Duration = Duration::from_secs(36);

/// `used` in nft-rules/ftpalg.nft: what is left of it behind the lingering.
const USED: Duration = Duration::from_secs(120);

/// By how much the daemon's memory may differ after a second crowd like the first, in KiB.
const GROWTH: u64 = 512;

/// What a crowd is like, and what the daemon kept meanwhile.
struct Seen {
    /// All are logged in.
    alive: Footprint,
    /// Half of the transfers are done.
    busy: Footprint,
    /// All transfers are done, and all sessions still alive.
    idle: Footprint,
    /// All have ended, and their time is over.
    after: Footprint,
}

/// A router that masquerades, and many clients behind it.
struct Stand {
    daemon: Mutex<Daemon>,
    /// Another takes its place when all are logged in, and again when half of the transfers are done.
    daemon_dies: bool,
    net: Net,
    sources: Vec<Ipv4Addr>,
    _servers: Vec<Process>,
    /// What was measured, for people: `target/tmp/NAME.txt`.
    report: Mutex<File>,
    begun: Instant,
}

impl Stand {
    fn new(name: &str, addresses: u8) -> Result<Stand> {
        Stand::of(name, addresses, Setup::new(Topology::Masquerade))
    }

    /// With two workers, and deaths of the daemon.
    fn with_deaths(name: &str, addresses: u8) -> Result<Stand> {
        // What is under way while there is no daemon waits for it.
        let setup = Setup::new(Topology::Masquerade).settings("workers = 2\nwhen-down = \"drop\"");
        Ok(Stand { daemon_dies: true, ..Stand::of(name, addresses, setup)? })
    }

    fn of(name: &str, addresses: u8, setup: Setup) -> Result<Stand> {
        let mut net = setup.ports(&PORTS).build()?;
        let daemon = Mutex::new(net.daemons.remove(0));
        // Clients of many addresses: the guard knows one.
        for end in [net.client(), net.server()] {
            end.nft("flush chain inet guard input; flush chain inet guard output")?;
            end.sysctl("net.ipv4.ip_local_port_range", "10000 65000")?;
            end.sysctl("net.core.somaxconn", "4096")?;
        }
        let (_, link) = &net.layout.links[0];
        let sources = (0..addresses).map(|number| Ipv4Addr::new(10, 0, 0, 10 + number)).collect::<Vec<_>>();
        for source in &sources {
            net.client().ip(&format!("address add {source}/24 dev {}", link.a))?;
        }
        let servers = PORTS.map(|port| serve(&net, port)).into_iter().collect::<Result<Vec<_>>>()?;
        let report = File::create(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))?;
        Ok(Stand {
            daemon,
            daemon_dies: false,
            net,
            sources,
            _servers: servers,
            report: Mutex::new(report),
            begun: Instant::now(),
        })
    }

    fn daemon(&self) -> MutexGuard<'_, Daemon> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next daemon learns with each session's first packet to which worker it belongs.
    fn replace_daemon(&self) -> Result<()> {
        let mut daemon = self.daemon();
        daemon.kill()?;
        daemon.start_again(self.net.router())?;
        drop(daemon);
        self.tell("the daemon was killed, and another is ready");
        Ok(())
    }

    fn tell(&self, line: &str) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        // A report that can't be written is no fault of what is tested.
        let _ = writeln!(report, "{:7.1} s  {line}", self.begun.elapsed().as_secs_f64());
    }

    fn look(&self, when: &str) -> Result<Footprint> {
        let footprint = Footprint::of(self.net.router(), &self.daemon())?;
        self.tell(&format!("{when}: {footprint}"));
        Ok(footprint)
    }

    /// A crowd, from its first login to the end of its last session's time, without any failure.
    fn crowd(&self, sessions: usize, transfers: usize, busy: usize) -> Result<Seen> {
        let servers = PORTS.iter().map(|port| SocketAddr::new(self.net.layout.dialled, *port)).collect();
        let plan = Plan { sessions, transfers, busy, sources: self.sources.clone(), servers };
        let progress = Arc::new(Progress::new());
        let seen = thread::scope(|scope| {
            let crowd = scope.spawn(|| crowd::run(self.net.client(), &plan, &progress));
            let seen = self.lead(&plan, &progress);
            // Whatever has become of it, nobody waits any longer.
            progress.enter(Stage::Quit);
            crowd.join().map_err(|_| anyhow!("the crowd panicked"))??;
            seen
        });
        let failed = progress.failed.load(Ordering::Relaxed);
        self.tell(&format!(
            "{} transfers, {failed} sessions failed",
            progress.transfers.load(Ordering::Relaxed)
        ));
        ensure!(failed == 0, "{failed} sessions failed:\n{}", progress.failures());
        let [alive, busy, idle] = seen?;
        self.tell("all have quit");
        sleep(LINGER);
        Ok(Seen { alive, busy, idle, after: self.look("after their time")? })
    }

    /// Leads the crowd from stage to stage. Returns what the daemon kept at each.
    fn lead(&self, plan: &Plan, progress: &Progress) -> Result<[Footprint; 3]> {
        let wait = |counter: &AtomicUsize, number: usize| {
            let begun = Instant::now();
            while counter.load(Ordering::Relaxed) < number && progress.failed.load(Ordering::Relaxed) == 0 {
                ensure!(begun.elapsed() < LIMIT, "{} of {number}", counter.load(Ordering::Relaxed));
                sleep(Duration::from_millis(10));
            }
            Ok(())
        };
        self.tell(&format!("{} sessions, {} transfers", plan.sessions, plan.transfers));
        wait(&progress.logged_in, plan.sessions)?;
        let alive = self.look("all logged in")?;
        if self.daemon_dies {
            self.replace_daemon()?;
        }
        progress.enter(Stage::Transfer);
        wait(&progress.transfers, plan.transfers / 2)?;
        let busy = self.look("half of the transfers done")?;
        if self.daemon_dies {
            self.replace_daemon()?;
        }
        wait(&progress.done, plan.sessions)?;
        let idle = self.look("all transfers done, all sessions alive")?;
        Ok([alive, busy, idle])
    }

    /// Checks what must never have happened.
    fn finish(self) -> Result<()> {
        let dropped = dropped(&self.net)?;
        self.tell(&format!("packets that found the queue full: {dropped}"));
        self.net.finish()
    }
}

fn serve(net: &Net, port: u16) -> Result<Process> {
    let dir = net.dir("server")?;
    let root = dir.join("root");
    fs::create_dir_all(root.join("up"))?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/pyftpdlib_server.py");
    let (port_text, root) = (port.to_string(), root.display().to_string());
    let args = [script, "0.0.0.0", &port_text, &root, "quiet"];
    let server = net.server().spawn(&dir.join("log"), "/usr/bin/python3", args)?;
    net.server().wait_for_port(port, Duration::from_secs(10))?;
    Ok(server)
}

/// Packets that the kernel could not deliver to the daemon: columns 6 and 7 of the kernel's list.
fn dropped(net: &Net) -> Result<u64> {
    let text = net.router().run("cat", ["/proc/net/netfilter/nfnetlink_queue"])?.success()?.stdout;
    let columns = text.lines().flat_map(|line| line.split_whitespace().skip(5).take(2));
    columns.map(|number| Ok(number.parse::<u64>()?)).sum()
}

/// Lets this process, and the servers that it starts, have so many files open.
fn open_files(number: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < number {
        setrlimit(Resource::RLIMIT_NOFILE, number, hard.max(number))
            .with_context(|| format!("{number} files can't be open at once: raise the limit (ulimit -n)"))?;
    }
    Ok(())
}

impl Seen {
    /// Checks that everybody was followed while there, and that nothing is left but connections that `used` remembers.
    fn check(&self, sessions: usize) -> Result<()> {
        for seen in [&self.alive, &self.busy, &self.idle] {
            ensure!(seen.records == sessions, "{} of {sessions} sessions are saved", seen.records);
            let (young, old) = (seen.elements_of("control_new"), seen.elements_of("control"));
            // One that has gone from one set to the other is among both for up to a minute.
            let is_complete = young.max(old) <= sessions && young + old >= sessions;
            let is_complete = is_complete && seen.elements_of("watched") == sessions;
            ensure!(is_complete, "not all sessions are queued: {seen}");
        }
        let left = self.after.elements.keys().filter(|set| !set.starts_with("used")).collect::<Vec<_>>();
        ensure!(left.is_empty() && self.after.records == 0, "left: {}", self.after);
        Ok(())
    }
}

#[test]
fn a_crowd_leaves_nothing() -> Result<()> {
    open_files(2_000)?;
    let stand = Stand::new("small-load.txt", 30)?;
    stand.crowd(300, 3_000, 32)?.check(300)?;
    stand.finish()
}

#[test]
fn a_crowd_finds_its_workers_again() -> Result<()> {
    open_files(2_000)?;
    let stand = Stand::with_deaths("small-load-with-deaths.txt", 30)?;
    stand.crowd(300, 3_000, 32)?.check(300)?;
    stand.finish()
}

/// The set of live control connections is full: for a minute from its client's last word on a session is among the new
/// ones, and does all that others do.
#[test]
fn a_session_gets_through_where_no_more_can_be_followed() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let others =
        (0..131_072).map(|port| format!("192.0.2.{} . 21 . 192.0.2.9 . {}", port >> 14, port & 0x3fff));
    let others = others.collect::<Vec<_>>().join(", ");
    net.router().nft(&format!("add element inet ftpalg control4 {{ {others} }}"))?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    let begun = Instant::now();
    while !net.daemons[0].log().contains("nftables set full") {
        ensure!(begun.elapsed() < LINGER, "the log does not say so");
        sleep(Duration::from_millis(50));
    }
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

#[test]
#[ignore = "minutes: make load"]
fn ten_thousand_sessions_leave_nothing() -> Result<()> {
    open_files(12_000)?;
    let stand = Stand::new("load.txt", 200)?;
    let before = stand.look("before")?;
    ensure!(before.is_nothing(), "from the start: {before}");
    let transfers = env::var("FTPALG_LOAD_TRANSFERS").ok().and_then(|number| number.parse().ok());
    let transfers = transfers.unwrap_or(100_000);
    let first = stand.crowd(10_000, transfers, 128)?;
    first.check(10_000)?;
    let second = stand.crowd(10_000, transfers, 128)?;
    second.check(10_000)?;
    ensure!(
        second.after.memory <= first.after.memory + GROWTH,
        "memory grows from crowd to crowd: {} and then {} KiB",
        first.after.memory,
        second.after.memory
    );
    sleep(USED);
    let left = stand.look("in the end")?;
    ensure!(left.is_nothing(), "left: {left}");
    stand.finish()
}

#[test]
#[ignore = "minutes: make load"]
fn ten_thousand_sessions_find_their_workers_again() -> Result<()> {
    open_files(12_000)?;
    let stand = Stand::with_deaths("load-with-deaths.txt", 200)?;
    stand.crowd(10_000, 50_000, 128)?.check(10_000)?;
    stand.finish()
}
