//! Tests against the kernel, in network namespaces of their own: they need root and iproute2.

mod bounds;
mod commits;
mod hold;
mod net;
mod pace;
mod pinholes;
mod queue;
mod setup;
mod succession;
mod taps;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Pinhole, PinholeKey};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};

use super::{Firewall, Live};
use crate::config::{ChainName, Config, WhenDown};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own, which runs what it is given. The namespace goes with it.
struct Host {
    thread: Option<JoinHandle<()>>,
    jobs: Option<mpsc::Sender<Job>>,
    tid: Pid,
}

impl Host {
    fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: these tests need root");
            tell.send(gettid()).unwrap();
            for job in inbox {
                job();
            }
        });
        let host = Host { thread: Some(thread), jobs: Some(jobs), tid: told.recv().unwrap() };
        host.sh("ip link set lo up");
        host
    }

    /// Runs something in the namespace and gives its result.
    #[track_caller]
    fn run<R: Send + 'static>(&self, what: impl FnOnce() -> R + Send + 'static) -> R {
        let (tell, told) = mpsc::channel();
        let job = move || tell.send(what()).unwrap();
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        told.recv().expect("the job ended with a result")
    }

    /// Runs a shell command that must succeed and gives what it printed.
    #[track_caller]
    fn sh(&self, command: &str) -> String {
        let (ok, text) = self.try_sh(command);
        assert!(ok, "{command}: {text}");
        text
    }

    fn try_sh(&self, command: &str) -> (bool, String) {
        let command = command.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-ec", &command]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            (output.status.success(), text.into_owned())
        })
    }

    /// The elements of a set as `nft` shows them, a line each; empty if there are none.
    fn elements(&self, set: &str) -> Vec<String> {
        let kind = if ["mark", "dnat", "snat"].iter().any(|m| set.starts_with(m)) { "map" } else { "set" };
        let text = self.sh(&format!("nft list {kind} inet ftpalg {set}"));
        let Some((_, text)) = text.split_once("elements = {") else { return Vec::new() };
        text.split('}').next().unwrap().split(',').map(|line| line.trim().to_owned()).collect()
    }

    /// Puts elements into a set, in one transaction.
    #[track_caller]
    fn add_elements(&self, set: &str, elements: impl Iterator<Item = String>) {
        let file = std::env::temp_dir().join(format!("ftpalg-{}-{set}", self.tid));
        let elements = elements.collect::<Vec<_>>().join(",");
        std::fs::write(&file, format!("add element inet ftpalg {set} {{ {elements} }}")).unwrap();
        let (ok, text) = self.try_sh(&format!("nft -f {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        assert!(ok, "{text}");
    }

    /// A named counter of the table.
    fn counted(&self, counter: &str) -> u64 {
        let text = self.sh(&format!("nft list counter inet ftpalg {counter}"));
        let number = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        number.parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn config() -> Config {
    Config {
        control_ports: vec![21, 2121],
        queue: 2121,
        workers: 1,
        when_down: WhenDown::Pass,
        accept_in: Vec::new(),
        mark: 0x0020_0000,
        state_dir: PathBuf::new(),
        control_socket: PathBuf::new(),
        pinhole_timeout: Duration::from_secs(60),
        pinhole_ports: 1024..=65535,
        require_login: true,
        allow_third_party: Vec::new(),
        metrics_listen: None,
    }
}

fn chain(name: &str) -> ChainName {
    let mut words = name.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap();
    ChainName { family: word(), table: word(), chain: word() }
}

fn tuple(client: &str, server: &str) -> ControlTuple {
    ControlTuple { server: server.parse().unwrap(), client: client.parse().unwrap() }
}

/// A pinhole from `source` to `dialled`, which leads to `to` and comes from `from` there.
fn pinhole(source: &str, dialled: &str, to: &str, from: &str, mark: u32) -> Pinhole {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let dialled: SocketAddr = dialled.parse().unwrap();
    Pinhole {
        key: PinholeKey { source: ip(source), destination: dialled.ip(), port: dialled.port() },
        to: to.parse().unwrap(),
        from: ip(from),
        mark,
        timeout: Duration::from_secs(60),
    }
}

/// libnftables' socket is told by its being the only new one, which it is not where another test opens one just then.
fn open_firewall(configuration: &Config) -> Firewall {
    let mut tries = (0..100).map(|_| Firewall::open(configuration).unwrap());
    tries.find(Firewall::can_hold).expect("one of which the socket can be told")
}

/// Waits until something is so.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "it never came to be");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A host with a firewall installed by `configuration`, nothing live.
fn installed(configuration: &Config) -> (Host, Firewall) {
    let host = Host::new();
    let configuration = configuration.clone();
    let firewall = host.run(move || {
        let mut firewall = open_firewall(&configuration);
        firewall.install(Live::default()).unwrap();
        firewall
    });
    (host, firewall)
}
