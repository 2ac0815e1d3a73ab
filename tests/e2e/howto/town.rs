//! The machines of the how-tos, and how a page is followed on them.

use std::fs;
use std::path::PathBuf;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlab::{Host, Lab, Lan, patient};

use super::machine::{self, Machine};
use super::page::{Page, Step, missing};
use crate::docker::Docker;
use crate::harness::{Client, Mode, Server, ServerKind, Transfer, session};

/// Commands that look and change nothing: they are repeated until they print what the page shows.
const LOOKS: [&str; 7] = [
    "journalctl ",
    "nft list ",
    "ftpalg check",
    "ftpalg status",
    "conntrack -L",
    "iptables -S",
    "firewall-cmd --state",
];

/// Names that every machine knows.
const NAMES: &str = "127.0.0.1 localhost\n203.0.113.9 ftp.example.org\n203.0.113.2 ftp.example.net\n203.0.113.7 cloud.example.net\n";

/// Machines, linked and addressed.
#[derive(Debug)]
pub struct Town {
    machines: Vec<Machine>,
    servers: Vec<Server>,
    files: PathBuf,
    _lans: Vec<Lan>,
    lab: Lab,
}

impl Town {
    /// `pc` and `server` in the LAN 192.168.1.0/24 (.20, .21) of a `router` whose WAN address is 203.0.113.2; `outside`,
    /// also `ftp.example.org`, is 203.0.113.9. eth0 leads to the WAN, eth1 to the LAN.
    pub fn home() -> Result<Town> {
        let lab = Lab::new()?;
        let [router, pc, server, outside] = hosts(&lab, ["router", "pc", "server", "outside"])?;
        let wan = lab.lan("eth0", &[(&router, &["203.0.113.2/24"]), (&outside, &["203.0.113.9/24"])])?;
        let lan = lab.lan(
            "eth1",
            &[(&router, &["192.168.1.1/24"]), (&pc, &["192.168.1.20/24"]), (&server, &["192.168.1.21/24"])],
        )?;
        for inside in [&pc, &server] {
            inside.route("default via 192.168.1.1")?;
        }
        router.forwarding(true)?;
        Town::new(lab, vec![router, pc, server, outside], vec![wan, lan])
    }

    /// `vm` is 10.0.0.5; its provider translates 203.0.113.7 to that and back, one to one; `outside` is 203.0.113.9.
    pub fn cloud() -> Result<Town> {
        let lab = Lab::new()?;
        let [vm, provider, outside] = hosts(&lab, ["vm", "provider", "outside"])?;
        let near = lab.lan("eth0", &[(&vm, &["10.0.0.5/24"]), (&provider, &["10.0.0.1/24"])])?;
        let far = lab.lan("eth1", &[(&provider, &["203.0.113.7/24"]), (&outside, &["203.0.113.9/24"])])?;
        vm.route("default via 10.0.0.1")?;
        provider.forwarding(true)?;
        provider.nft(
            "table ip one_to_one {
                chain in { type nat hook prerouting priority dstnat; ip daddr 203.0.113.7 dnat to 10.0.0.5; }
                chain out { type nat hook postrouting priority srcnat; ip saddr 10.0.0.5 snat to 203.0.113.7; }
            }",
        )?;
        Town::new(lab, vec![vm, provider, outside], vec![near, far])
    }

    /// `host`, 203.0.113.2, has a `container`, 172.17.0.2, behind `docker0`; `outside`, also `ftp.example.org`, is 203.0.113.9.
    pub fn docker() -> Result<Town> {
        let lab = Lab::new()?;
        let [host, container, outside] = hosts(&lab, ["host", "container", "outside"])?;
        let wan = lab.lan("eth0", &[(&host, &["203.0.113.2/24"]), (&outside, &["203.0.113.9/24"])])?;
        let bridge = lab.lan("docker0", &[(&host, &["172.17.0.1/16"]), (&container, &["172.17.0.2/16"])])?;
        container.route("default via 172.17.0.1")?;
        host.forwarding(true)?;
        Town::new(lab, vec![host, container, outside], vec![wan, bridge])
    }

    /// Does what Docker does with the firewall when it starts.
    pub fn start(&self, docker: Docker) -> Result<()> {
        let host = &self.machine("host")?.host;
        docker.load(host)?;
        if docker == Docker::V29Nftables { Docker::accept_the_mark(host) } else { Ok(()) }
    }

    fn new(lab: Lab, hosts: Vec<Host>, lans: Vec<Lan>) -> Result<Town> {
        let installed = lab.dir().join("installed");
        machine::install(&installed)?;
        let files = lab.dir().join("files");
        session::make_files(&files)?;
        let machines = hosts
            .into_iter()
            .map(|host| Machine::new(host, &installed, lab.dir()))
            .collect::<Result<Vec<_>>>()?;
        for machine in &machines {
            machine.write("/etc/hosts", NAMES)?;
        }
        Ok(Town { machines, servers: vec![], files, _lans: lans, lab })
    }

    /// A machine by its name.
    pub fn machine(&self, name: &str) -> Result<&Machine> {
        let found = self.machines.iter().find(|machine| machine.host.name() == name);
        found.with_context(|| format!("there is no machine {name} here"))
    }

    /// Starts an FTP server, for anonymous users, on a machine.
    pub fn serve(&mut self, name: &str, kind: ServerKind) -> Result<()> {
        let dir = self.lab.dir().join(format!("server{}", self.servers.len()));
        fs::create_dir(&dir)?;
        let server = Server::start(&self.machine(name)?.host, &dir, &self.files, kind, false, 21)?;
        self.servers.push(server);
        Ok(())
    }

    /// Does what a page says that has one part, from its first line to its last.
    pub fn follow(&self, name: &str) -> Result<()> {
        ensure!(Page::read(name)?.parts.len() == 1, "docs/{name} has several parts");
        self.follow_part(name, 0)
    }

    /// Does what one part of a page says.
    pub fn follow_part(&self, name: &str, part: usize) -> Result<()> {
        let page = Page::read(name)?;
        for (line, step) in page.parts.get(part).context("the page has no such part")? {
            self.take(step).with_context(|| format!("docs/{name}, line {line}"))?;
        }
        Ok(())
    }

    fn take(&self, step: &Step) -> Result<()> {
        match step {
            Step::Write { machine, path, text } => self.machine(machine)?.write(path, text),
            Step::Run { machine, command, shown, fails } => {
                let machine = self.machine(machine)?;
                let looks = LOOKS.iter().any(|look| command.starts_with(look));
                let end = Instant::now() + patient(Duration::from_secs(if looks { 10 } else { 0 }));
                loop {
                    let result = run(machine, command, shown, *fails);
                    if result.is_ok() || Instant::now() > end {
                        return result.with_context(|| format!("{}: {command}", machine.host.name()));
                    }
                    sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// Runs a line of shell on a machine, which must succeed; what it printed.
    pub fn shell(&self, machine: &str, line: &str) -> Result<String> {
        Ok(self.machine(machine)?.shell(line)?.success()?.stdout)
    }

    /// Shows that a client on `from` gets and puts files whole, at `address`, in each of these modes.
    pub fn transfers(&self, from: &str, address: [u8; 4], modes: &[Mode]) -> Result<()> {
        let server = self.servers.last().context("no server runs")?;
        let clients = [Client::Curl, Client::Tnftp, Client::Lftp, Client::Ftplib];
        for (number, &mode) in modes.iter().enumerate() {
            let able = clients.iter().cycle().skip(number).find(|client| client.supports(mode, false));
            let client = *able.context("no client")?;
            let dir = self.lab.dir().join(format!("session-{from}-{number}"));
            fs::create_dir(&dir)?;
            let transfers = [Transfer::Get("large"), Transfer::Put("small")];
            let steps = session::steps(&transfers, &self.files, &dir);
            let limit = Duration::from_secs(20);
            let output =
                client.run(limit, &self.machine(from)?.host, (address, 21).into(), mode, &steps, &dir)?;
            output
                .success()
                .and_then(|_| session::verify(&steps, &self.files, &server.root))
                .with_context(|| format!("{client}, {mode}, from {from}"))?;
            session::discard(&steps, &server.root, &dir)?;
        }
        Ok(())
    }

    /// Shows that a client on `from` logs in at `address` and then gets no file, in any of these modes.
    pub fn transfers_nothing(&self, from: &str, address: [u8; 4], modes: &[Mode]) -> Result<()> {
        let host = &self.machine(from)?.host;
        let attempt = |mode: &Mode| {
            let dir = self.lab.dir().join(format!("nothing-{from}-{mode}"));
            fs::create_dir(&dir)?;
            let steps = session::steps(&[Transfer::Get("small")], &self.files, &dir);
            // A client that can do it has its file within a fraction of this.
            let limit = Duration::from_secs(3);
            let output = Client::Curl.run(limit, host, (address, 21).into(), *mode, &steps, &dir)?;
            ensure!(!output.status.success(), "{mode} works without ftpalg");
            ensure!(output.stderr.contains("< 230 "), "{mode} does not even log in:\n{}", output.stderr);
            fs::remove_dir_all(&dir).map_err(Into::into)
        };
        thread::scope(|scope| {
            let attempts = modes.iter().map(|mode| scope.spawn(|| attempt(mode))).collect::<Vec<_>>();
            for attempt in attempts {
                attempt.join().map_err(|_| anyhow::anyhow!("an attempt panicked"))??;
            }
            Ok(())
        })
    }
}

impl Drop for Town {
    /// Prints what units have written, which `cargo test` shows where the test fails.
    fn drop(&mut self) {
        for machine in &self.machines {
            if let Ok(logs) = machine.shell("tail -n 60 /run/units/*.log 2>/dev/null") {
                println!("--- units on {} ---\n{}", machine.host.name(), logs.stdout);
            }
        }
    }
}

fn hosts<const N: usize>(lab: &Lab, names: [&str; N]) -> Result<[Host; N]> {
    let hosts = names.iter().map(|name| lab.host(name)).collect::<Result<Vec<_>>>()?;
    hosts.try_into().map_err(|_| anyhow::anyhow!("as many hosts as names"))
}

fn run(machine: &Machine, command: &str, shown: &[String], fails: bool) -> Result<()> {
    let output = machine.shell(command)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    if output.status.success() == fails {
        bail!("ended with {}: {said}", output.status);
    }
    if let Some(line) = missing(shown, &said) {
        bail!("does not print \"{line}\", but: {said}");
    }
    ensure!(output.status.code() != Some(124), "takes too long: {said}");
    Ok(())
}
