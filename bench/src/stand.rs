//! A client behind NAT, a router and a server, with one contender on the router.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Host, Lab, Process};

use crate::contender::Contender;
use crate::peer::LOAD_PORT;
use crate::peer::client::{Mode, Outcome, Work};
use crate::program::{PATIENCE, Place};
use crate::ruleset::ruleset;

/// The server's addresses: a pair of addresses has no more than 64,512 ports, and a process no more than 20,000 files on
/// some machines, so idle crowds need several.
pub const SERVERS: [&str; 8] = [
    "192.0.2.9",
    "192.0.2.10",
    "192.0.2.11",
    "192.0.2.12",
    "192.0.2.13",
    "192.0.2.14",
    "192.0.2.15",
    "192.0.2.16",
];
/// How many addresses the client has.
const CLIENTS: u8 = 16;
/// How many sessions the load server serves at a time.
const THREADS: usize = 96;

/// The hosts, and what runs on them.
pub struct Stand {
    pub contender: Contender,
    daemon: Option<Process>,
    _servers: Vec<Process>,
    client: Host,
    router: Host,
    _server: Host,
    /// The daemon's, in memory as on a router.
    state: PathBuf,
    // The last one: it removes the directory in which all of them have their files.
    lab: Lab,
}

/// What the contender's program has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Time on a processor, in nanoseconds.
    pub cpu: u64,
    /// Packets that were queued.
    pub packets: u64,
}

impl Stand {
    /// Builds it; `ftpalg` is the daemon's program.
    pub fn new(contender: Contender, server_kind: Server, ftpalg: &Path) -> Result<Stand> {
        let lab = Lab::new()?;
        let [client, router, server] = [lab.host("client")?, lab.host("router")?, lab.host("server")?];
        let inside: Vec<_> = (0..CLIENTS).map(|host| format!("10.0.0.{}/24", 2 + host)).collect();
        let inside: Vec<_> = inside.iter().map(String::as_str).collect();
        lab.link(&client, &inside, &router, &["10.0.0.1/24"])?;
        let beyond: Vec<_> = SERVERS.iter().map(|server| format!("{server}/32")).collect();
        let beyond: Vec<_> =
            ["203.0.113.1/24"].into_iter().chain(beyond.iter().map(String::as_str)).collect();
        lab.link(&router, &["203.0.113.7/24"], &server, &beyond)?;
        client.route("default via 10.0.0.1")?;
        router.route("default via 203.0.113.1")?;
        router.forwarding(true)?;
        for end in [&client, &server] {
            // Else the search for a free port is what is measured.
            end.sysctl("net.ipv4.tcp_max_tw_buckets", "0")?;
            end.sysctl("net.ipv4.ip_local_port_range", "10000 65000")?;
            end.sysctl("net.core.somaxconn", "4096")?;
        }
        router.nft(&ruleset(contender))?;
        // Else conntrack's table fills up with what has ended.
        router.sysctl("net.netfilter.nf_conntrack_tcp_timeout_time_wait", "1")?;
        router.sysctl("net.netfilter.nf_conntrack_tcp_timeout_close", "1")?;
        let servers = start_servers(&server, server_kind, lab.dir())?;
        let state = Path::new("/dev/shm").join(lab.dir().file_name().unwrap_or_default());
        let mut stand =
            Stand { contender, daemon: None, _servers: servers, client, router, _server: server, state, lab };
        stand.daemon = stand.start(ftpalg)?;
        Ok(stand)
    }

    fn start(&self, ftpalg: &Path) -> Result<Option<Process>> {
        Place { router: &self.router, dir: self.lab.dir(), state: &self.state }.start(self.contender, ftpalg)
    }

    /// Lets a client work for a while.
    pub fn load(
        &self,
        work: Work,
        mode: Mode,
        clients: usize,
        time: Duration,
        file: usize,
    ) -> Result<Outcome> {
        let words = [
            "load".into(),
            format!("--server={}:{LOAD_PORT}", SERVERS[0]),
            format!("--clients={clients}"),
            format!("--milliseconds={}", time.as_millis()),
            format!("--work={work:?}").to_lowercase(),
            format!("--mode={mode:?}").to_lowercase(),
            format!("--file={file}"),
        ];
        let own = env::current_exe()?;
        let output = self.client.run(own.to_str().unwrap_or_default(), words)?.success()?;
        let outcome: Outcome = serde_json::from_str(&output.stdout).context("the client's report")?;
        if let Some(failure) = &outcome.failure {
            eprintln!(
                "{}: {} of {} failed, the first: {failure}",
                self.contender, outcome.failed, outcome.times
            );
        }
        ensure!(
            outcome.failed * 100 <= outcome.times,
            "{}: more than one in a hundred failed",
            self.contender
        );
        Ok(outcome)
    }

    /// What the contender has used so far; nothing, where it is no program.
    pub fn usage(&self) -> Result<Usage> {
        let Some(daemon) = &self.daemon else { return Ok(Usage::default()) };
        let mut cpu = 0;
        for task in fs::read_dir(format!("/proc/{}/task", daemon.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let spent = text.split_whitespace().next().context("an empty schedstat")?;
            cpu += spent.parse::<u64>()?;
        }
        // The packets' numbers count up: column 8 (nfnetlink_queue.c, seq_show).
        let queues = self.router.run("cat", ["/proc/net/netfilter/nfnetlink_queue"])?.success()?.stdout;
        let numbers = queues.lines().filter_map(|queue| queue.split_whitespace().nth(7));
        let packets = numbers.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Usage { cpu, packets })
    }

    /// The daemon's memory, in KiB.
    pub fn memory(&self) -> Result<u64> {
        let daemon = self.daemon.as_ref().context("no program, no memory")?;
        let text = fs::read_to_string(format!("/proc/{}/status", daemon.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim_end_matches("kB").trim().parse()?)
    }

    /// Logs so many sessions in, which stay until the value is dropped: a process for each of the server's addresses.
    pub fn crowd(&self, sessions: usize, what: Crowd) -> Result<Vec<Process>> {
        let own = env::current_exe()?;
        let own = own.to_str().context("the program's path is no UTF-8")?;
        let clients: Vec<_> = (0..CLIENTS).map(|host| format!("10.0.0.{}", 2 + host)).collect();
        let mut crowds = Vec::new();
        for server in SERVERS {
            let words = [
                "crowd".into(),
                sessions.div_ceil(SERVERS.len()).to_string(),
                format!("--clients={}", clients.join(",")),
                format!("--server={server}"),
            ];
            let words = words.into_iter().chain((what == Crowd::WithPinholes).then(|| "--pasv".into()));
            crowds.push(self.client.spawn(&self.lab.dir().join(format!("crowd.{server}")), own, words)?);
        }
        for crowd in &mut crowds {
            crowd.wait_for_log("ready", PATIENCE * 10)?;
        }
        Ok(crowds)
    }

    /// How many pinholes are open.
    pub fn open_pinholes(&self) -> Result<usize> {
        let set = self.router.run("nft", ["list", "set", "inet", "ftpalg", "open4"])?.success()?.stdout;
        Ok(set.matches(" expires ").count())
    }

    /// Kills the daemon and starts it again. Returns how long it takes until it is ready.
    pub fn restart(&mut self, ftpalg: &Path) -> Result<Duration> {
        let mut daemon = self.daemon.take().context("no program to start again")?;
        daemon.signal(netlab::Signal::SIGKILL)?;
        daemon.wait(PATIENCE)?;
        let start = std::time::Instant::now();
        self.daemon = self.start(ftpalg)?;
        Ok(start.elapsed())
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // Of no use to anybody; and nobody is left to tell.
        fs::remove_dir_all(&self.state).ok();
    }
}

/// What the sessions of a crowd have done before they fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    LoggedIn,
    /// Asked for a data connection as well, of which none comes: each has an open pinhole.
    WithPinholes,
}

/// What serves files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Server {
    /// This program, which costs little, so that what stands between shows.
    Own,
    /// vsftpd, a process a session, as in the world.
    Vsftpd,
}

/// Starts the servers of one session after the other, and of the idle crowd.
fn start_servers(host: &Host, kind: Server, dir: &Path) -> Result<Vec<Process>> {
    let own = env::current_exe()?;
    let own = own.to_str().context("the program's path is no UTF-8")?;
    let log = |name: &str| dir.join(name).with_extension("log");
    let files = match kind {
        Server::Own => host.spawn(&log("serve"), own, ["serve", &THREADS.to_string()])?,
        Server::Vsftpd => {
            let root = dir.join("files");
            fs::create_dir(&root)?;
            fs::write(root.join("1024"), [0; 1024])?;
            let config = dir.join("vsftpd.conf");
            fs::write(
                &config,
                format!(
                    "listen=YES\nlisten_port={LOAD_PORT}\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\n\
                     anon_root={}\nsecure_chroot_dir={}\nxferlog_enable=NO\nsyslog_enable=NO\n\
                     seccomp_sandbox=NO\nmax_per_ip=0\nmax_clients=0\n",
                    root.display(),
                    root.display()
                ),
            )?;
            host.spawn(&log("vsftpd"), "vsftpd", [config])?
        }
    };
    let mut servers = vec![files];
    for address in SERVERS {
        let mut crowd = host.spawn(&log(address), own, ["serve-crowd", address])?;
        crowd.wait_for_log("ready", PATIENCE)?;
        servers.push(crowd);
    }
    host.wait_for_port(LOAD_PORT, PATIENCE)?;
    Ok(servers)
}
