//! A net: a topology with the ALG under test on its routers, and what is checked in it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netlab::{Disorder, Host, Lab, Tunnel};

use super::alg::{Alg, Daemon};
use super::client::{self, Client};
use super::server::{Server, ServerKind};
use super::session::{self, Mode, Transfer};
use super::table::{self, Row, Score};
use super::topology::{Layout, Plan, Topology};
use super::{DISORDERLY_LIMIT, SESSION_LIMIT};

/// What net to build.
#[derive(Debug, Clone)]
pub struct Setup {
    topology: Topology,
    plan: Plan,
    alg: Alg,
    ports: Vec<u16>,
    disorder: Option<Disorder>,
    netem: Option<Disorder>,
    tunnel: Tunnel,
    mtu: Option<(u16, u16)>,
    settings: &'static str,
    router_is_this_machine: bool,
}

impl Setup {
    /// The ALG under test in a topology: short addresses inside, control port 21, good links.
    pub fn new(topology: Topology) -> Setup {
        Setup {
            topology,
            plan: Plan::ShortInside,
            alg: Alg::under_test(),
            ports: vec![21],
            disorder: None,
            netem: None,
            tunnel: Tunnel::Vxlan,
            mtu: None,
            settings: "",
            router_is_this_machine: false,
        }
    }

    pub fn alg(self, alg: Alg) -> Setup {
        Setup { alg, ..self }
    }

    pub fn plan(self, plan: Plan) -> Setup {
        Setup { plan, ..self }
    }

    /// The control ports.
    pub fn ports(self, ports: &[u16]) -> Setup {
        Setup { ports: ports.to_vec(), ..self }
    }

    /// The first control port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Bad wires between the hosts.
    pub fn disorder(self, disorder: Disorder) -> Setup {
        Setup { disorder: Some(disorder), ..self }
    }

    /// Disorder on every link that the kernel's netem makes, and no bad wires.
    pub fn netem(self, disorder: Disorder) -> Setup {
        Setup { netem: Some(disorder), ..self }
    }

    /// The kind of [`Topology::Tunnel`].
    pub fn tunnel(self, tunnel: Tunnel) -> Setup {
        Setup { tunnel, ..self }
    }

    /// More lines for ftpalg's configuration.
    pub fn settings(self, settings: &'static str) -> Setup {
        Setup { settings, ..self }
    }

    /// This machine itself as the router, with the ruleset and the ALG that it has.
    pub fn router_is_this_machine(self) -> Setup {
        Setup { router_is_this_machine: true, ..self }
    }

    /// The MTU of the client's link and of the server's.
    pub fn mtu(self, client: u16, server: u16) -> Setup {
        Setup { mtu: Some((client, server)), ..self }
    }

    /// Builds it and starts the ALG.
    pub fn build(self) -> Result<Net> {
        let lab = Lab::new()?;
        let layout = Layout::new(
            &lab,
            self.topology,
            self.plan,
            &self.ports,
            self.disorder,
            self.tunnel,
            self.router_is_this_machine,
        )?;
        let files = lab.dir().join("files");
        session::make_files(&files)?;
        for host in &layout.hosts {
            // Many short connections between few addresses: ports are free again at once.
            host.sysctl("net.ipv4.tcp_max_tw_buckets", "0")?;
        }
        if let (Some((client, server)), [first, .., last]) = (self.mtu, layout.links.as_slice()) {
            for (bytes, ((a, b), link)) in [(client, first), (server, last)] {
                layout.hosts[*a].mtu(&link.a, bytes)?;
                layout.hosts[*b].mtu(&link.b, bytes)?;
            }
        }
        if let Some(disorder) = self.netem {
            for (host, interface) in layout.interfaces() {
                host.netem(interface, disorder)?;
            }
        }
        if self.disorder.or(self.netem).is_some() {
            for end in [layout.client, layout.server] {
                repeat_without_backing_off(&layout.hosts[end])?;
            }
        }
        let mut net = Net { setup: self, layout, daemons: vec![], files, sessions: AtomicU32::new(0), lab };
        net.guard(net.client(), net.layout.dialled)?;
        net.guard(net.server(), net.layout.seen)?;
        for (router, firewall) in &net.layout.routers {
            let router = &net.layout.hosts[*router];
            router.forwarding(true)?;
            if net.setup.router_is_this_machine {
                continue;
            }
            router.nft(&firewall.ruleset(net.setup.alg, &net.setup.ports))?;
            if net.setup.alg == Alg::Ftpalg {
                let settings = format!("control-ports = {:?}\n{}", net.setup.ports, net.setup.settings);
                let daemon = Daemon::start(router, net.lab.dir(), &settings, &firewall.chains())?;
                net.daemons.push(daemon);
            }
        }
        Ok(net)
    }
}

/// Loses no time after several losses in a row: Linux otherwise waits 16 s before it repeats a SYN-ACK for the fourth time,
/// and gives up after the fifth, which chance alone brings about every few thousand connections. (Only kernels from 6.15
/// on know the bound of the time-out.)
fn repeat_without_backing_off(end: &Host) -> Result<()> {
    if Path::new("/proc/sys/net/ipv4/tcp_rto_max_ms").exists() {
        end.sysctl("net.ipv4.tcp_rto_max_ms", "1000")?;
        end.sysctl("net.ipv4.tcp_syn_retries", "30")?;
        end.sysctl("net.ipv4.tcp_synack_retries", "30")?;
        end.sysctl("net.ipv4.tcp_retries2", "60")?;
        end.sysctl("net.ipv4.tcp_orphan_retries", "30")?;
    }
    Ok(())
}

/// A topology, running.
#[derive(Debug)]
pub struct Net {
    pub setup: Setup,
    pub layout: Layout,
    /// One for each router, where the ALG is ftpalg.
    pub daemons: Vec<Daemon>,
    /// The files to be moved.
    pub files: PathBuf,
    sessions: AtomicU32,
    pub lab: Lab,
}

impl Net {
    pub fn topology(&self) -> Topology {
        self.setup.topology
    }

    pub fn client(&self) -> &Host {
        &self.layout.hosts[self.layout.client]
    }

    pub fn server(&self) -> &Host {
        &self.layout.hosts[self.layout.server]
    }

    /// The router, the client's where there are two.
    pub fn router(&self) -> &Host {
        &self.layout.hosts[self.layout.routers[0].0]
    }

    /// The first router's ruleset, as its administrator loads it.
    pub fn ruleset(&self) -> String {
        self.ruleset_of(0)
    }

    /// That of any router, by its place in the layout's.
    pub fn ruleset_of(&self, router: usize) -> String {
        self.layout.routers[router].1.ruleset(self.setup.alg, &self.setup.ports)
    }

    /// The first router's daemon, and its host.
    pub fn daemon(&mut self) -> (&mut Daemon, &Host) {
        (&mut self.daemons[0], &self.layout.hosts[self.layout.routers[0].0])
    }

    /// How long a session may take here.
    fn limit(&self) -> Duration {
        let Setup { disorder, netem, .. } = self.setup;
        if disorder.or(netem).is_some() { DISORDERLY_LIMIT } else { SESSION_LIMIT }
    }

    fn v6(&self) -> bool {
        self.layout.dialled.is_ipv6()
    }

    /// A new directory for one server's or one session's files.
    pub fn dir(&self, what: &str) -> Result<PathBuf> {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let dir = self.lab.dir().join(format!("{what}{number}"));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Starts a server on the net's first control port.
    pub fn serve(&self, kind: ServerKind) -> Result<Server> {
        self.serve_on(kind, self.setup.ports[0])
    }

    /// Starts a server on a port.
    pub fn serve_on(&self, kind: ServerKind, port: u16) -> Result<Server> {
        Server::start(self.server(), &self.dir("server")?, &self.files, kind, self.v6(), port)
    }

    /// Where clients find a server.
    pub fn dialled(&self, server: &Server) -> SocketAddr {
        SocketAddr::new(self.layout.dialled, server.port)
    }

    /// Runs one session and checks that every file arrived whole, that every transfer was made in that mode, and
    /// that the server saw the client under the address that it should. Nobody else may use the server meanwhile.
    pub fn session(&self, client: Client, mode: Mode, server: &Server, transfers: &[Transfer]) -> Result<()> {
        let before = server.commands().len();
        let result = self.unwatched_session(client, mode, server, transfers).and_then(|()| {
            let commands = server.commands().split_off(before);
            let used = |mode: Mode| {
                let is = |line: &str| line.to_ascii_uppercase().starts_with(mode.command());
                commands.iter().filter(|command| is(&command.line)).count()
            };
            for other in Mode::ALL {
                let wanted = if other == mode { transfers.len() } else { 0 };
                ensure!(used(other) == wanted, "{} {other} instead of {wanted}", used(other));
            }
            for command in commands {
                ensure!(
                    command.peer == self.layout.seen,
                    "the server saw {} instead of {}: {}",
                    command.peer,
                    self.layout.seen,
                    command.line
                );
            }
            Ok(())
        });
        result.with_context(|| format!("{}: {client}, {mode}, {}", self.setup.topology, server.kind))
    }

    /// Runs one session and checks that every file arrived whole.
    pub fn unwatched_session(
        &self,
        client: Client,
        mode: Mode,
        server: &Server,
        transfers: &[Transfer],
    ) -> Result<()> {
        let dir = self.dir("session")?;
        let steps = session::steps(transfers, &self.files, &dir);
        let output = client.run(self.limit(), self.client(), self.dialled(server), mode, &steps, &dir)?;
        let dialogue = format!("{}\n{}", output.stdout, output.stderr);
        output
            .success()
            .map(drop)
            .and_then(|()| session::verify(&steps, &self.files, &server.root))
            .with_context(|| format!("the client said:\n{dialogue}"))?;
        session::discard(&steps, &server.root, &dir)
    }

    /// Runs one session of ftplib in which every transfer is made in the next of these modes, and checks that
    /// every file arrived whole.
    pub fn mixed_session(&self, modes: &[Mode], server: &Server, transfers: &[Transfer]) -> Result<()> {
        let dir = self.dir("session")?;
        let steps = session::steps(transfers, &self.files, &dir);
        let output =
            client::ftplib(self.limit(), self.client(), self.dialled(server), modes, &steps)?.success();
        output.map(drop).and_then(|()| session::verify(&steps, &self.files, &server.root))
    }

    /// Runs a scenario of peers/handmade_client.py.
    pub fn scenario(&self, scenario: &str, mode: &str, server: &Server, delay: &str) -> Result<()> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/handmade_client.py");
        let (address, port) = (self.layout.dialled.to_string(), server.port.to_string());
        let file = self.files.join("small").display().to_string();
        let args = [script, &address, &port, scenario, mode, delay, &file];
        let output = self.client().run_within(self.limit(), "/usr/bin/python3", args)?;
        output
            .success()
            .map(drop)
            .with_context(|| format!("{}: {scenario}, {mode}, {delay}, {}", self.setup.topology, server.kind))
    }

    /// Runs a session as [`Net::session`] does and enters it in the table.
    pub fn tabled_session(
        &self,
        client: Client,
        mode: Mode,
        server: &Server,
        transfers: &[Transfer],
    ) -> Result<()> {
        let result = self.session(client, mode, server, transfers);
        let Setup { topology, plan, alg, .. } = self.setup;
        let whole = if result.is_ok() { transfers.len() } else { 0 };
        let row = Row { topology, mode, plan, client, server: server.kind };
        table::record(alg, row, Score { whole, of: transfers.len() });
        result
    }

    /// Shows that in each of these modes a client logs in and then gets no file: curl, one download each, all at
    /// the same time.
    pub fn transfers_nothing(&self, modes: &[Mode], server: &Server) -> Result<()> {
        let attempt = |mode| {
            let dir = self.dir("session")?;
            let get = [Transfer::Get("small")];
            let steps = session::steps(&get, &self.files, &dir);
            let limit = Duration::from_secs(3);
            let output = Client::Curl.run(limit, self.client(), self.dialled(server), mode, &steps, &dir)?;
            let arrived = session::verify(&steps, &self.files, &server.root).is_ok();
            let Setup { topology, plan, alg, .. } = self.setup;
            let row = Row { topology, mode, plan, client: Client::Curl, server: server.kind };
            table::record(alg, row, Score { whole: usize::from(arrived), of: 1 });
            if arrived {
                bail!("{topology}: {mode} works without an ALG");
            }
            ensure!(
                output.stderr.contains("< 230 "),
                "{topology}: {mode} does not even log in:\n{}",
                output.stderr
            );
            Ok(())
        };
        thread::scope(|scope| {
            let attempts = modes.iter().map(|mode| scope.spawn(|| attempt(*mode))).collect::<Vec<_>>();
            for attempt in attempts {
                attempt.join().map_err(|_| anyhow::anyhow!("an attempt panicked"))??;
            }
            Ok(())
        })
    }

    /// Gives the router another WAN address in place of one; its routes over that interface go on.
    pub fn readdress(&mut self, old: &str, new: &str) -> Result<()> {
        let ((router, _), link) = self.layout.links.last().context("no link")?;
        let router = &self.layout.hosts[*router];
        let prefix = if new.contains(':') { 64 } else { 24 };
        router.ip(&format!("address del {old}/{prefix} dev {}", link.a))?;
        router.ip(&format!("address add {new}/{prefix} dev {}", link.a))?;
        self.layout.seen = new.parse()?;
        self.guard(self.server(), self.layout.seen)
    }

    /// Counts, on an end, connections from or to anybody but its peer.
    fn guard(&self, end: &Host, peer: std::net::IpAddr) -> Result<()> {
        let family = if peer.is_ipv6() { "ip6" } else { "ip" };
        end.nft(&format!(
            "table inet guard
            delete table inet guard
            table inet guard {{
                counter strangers {{ }}
                chain input {{ type filter hook input priority -400;
                    tcp flags & (syn|ack) == syn {family} saddr != {peer} counter name strangers
                }}
                chain output {{ type filter hook output priority 400;
                    tcp flags & (syn|ack) == syn {family} daddr != {peer} counter name strangers
                }}
            }}"
        ))
    }

    /// Checks that conntrack has called no packet INVALID, in any filter chain of any router.
    pub fn nothing_is_invalid(&self) -> Result<()> {
        let disorderly = self.setup.disorder.or(self.setup.netem).is_some();
        let has_own_ruleset = self.setup.router_is_this_machine;
        for (router, firewall) in self.layout.routers.iter().filter(|_| !has_own_ruleset) {
            let router = &self.layout.hosts[*router];
            for chain in firewall.chains() {
                let count = |what| router.counter(&format!("inet filter {what}_{chain}"));
                let (invalid, beside) = (count("invalid")?, count("invalid_beside")?);
                ensure!(invalid == 0, "{invalid} packets INVALID in {chain} of {}", router.name());
                // What a bad wire delivers after a connection's end is none of the router's fault: an end that has closed
                // answers it with an RST, which conntrack does not like if it lies behind what it saw acknowledged
                // (nf_conntrack_tcp_packet); and data connections do not pass the ALG.
                ensure!(
                    beside == 0 || disorderly,
                    "{beside} resets or packets of data connections INVALID in {chain} of {}",
                    router.name()
                );
            }
        }
        Ok(())
    }

    /// Checks what must never have happened: a packet that conntrack calls INVALID, or a connection of the ends with
    /// an address that is not their peer's.
    pub fn finish(self) -> Result<()> {
        self.nothing_is_invalid()?;
        self.check_ends()
    }

    /// Checks that no end had to do with a stranger, and that bad wires were bad.
    pub fn check_ends(&self) -> Result<()> {
        for wire in &self.layout.wires {
            let toll = wire.toll()?;
            ensure!(toll.iter().all(|packets| *packets > 0), "a wire lost, doubled, held back {toll:?}");
            println!("lost, doubled, held back: {toll:?}");
        }
        if self.setup.netem.is_some() {
            for (host, interface) in self.layout.interfaces() {
                ensure!(host.lost(interface)? > 0, "netem lost nothing on {interface} of {}", host.name());
            }
        }
        // Without an ALG, ends do dial what they are told.
        let ends = if self.setup.alg == Alg::None { vec![] } else { vec![self.client(), self.server()] };
        for end in ends {
            let strangers = end.counter("inet guard strangers")?;
            ensure!(strangers == 0, "{strangers} connections of {} with another than its peer", end.name());
        }
        Ok(())
    }
}
