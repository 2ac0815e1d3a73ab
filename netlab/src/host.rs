//! One host: a network namespace and what is done in it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::{self, Output};
use crate::patience::patient;
use crate::{Capture, Process};

/// A host: a network namespace of its own. Dropping it kills what runs in it and removes it. Or this machine, which
/// stays as it is; see [`crate::Lab::this_machine`].
#[derive(Debug)]
pub struct Host {
    namespace: String,
    name: String,
    is_this_machine: bool,
}

impl Host {
    pub(crate) fn new(namespace: String, name: &str) -> Result<Host> {
        command::run("ip", ["netns", "add", &namespace])?.success().context(
            "cannot make a network namespace: run as root or with CAP_SYS_ADMIN and CAP_NET_ADMIN",
        )?;
        let host = Host { namespace, name: name.to_owned(), is_this_machine: false };
        host.ip("link set dev lo up")?;
        // Addresses serve at once instead of after duplicate address detection (RFC 4862, 5.4).
        host.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
        host.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(host)
    }

    /// The network namespace that this process is in, under a name.
    pub(crate) fn this_machine(namespace: String, name: &str) -> Result<Host> {
        let own = std::process::id().to_string();
        command::run("ip", ["netns", "attach", &namespace, &own])?.success()?;
        Ok(Host { namespace, name: name.to_owned(), is_this_machine: true })
    }

    /// The name that the lab gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its namespace, as `ip netns` knows it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A command that will run inside this host when started.
    pub fn command<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(args);
        command
    }

    /// Runs a program inside this host, to its end.
    ///
    /// # Errors
    /// The program cannot be started. How it ended stands in the output; see [`Output::success`].
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<Output> {
        command::finish(self.command(program, args), b"")
    }

    /// Like [`Host::run`], but ends the program (status 124) when it takes longer than `limit`.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn run_within<S: AsRef<OsStr>>(
        &self,
        limit: Duration,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        let limit = patient(limit).as_secs_f32();
        let mut command = self.command("timeout", ["-k", "1", &limit.to_string(), program]);
        command.args(args);
        command::finish(command, b"")
    }

    /// Starts a program inside this host; what it writes goes to the file `log`.
    ///
    /// # Errors
    /// The program cannot be started or the file cannot be made.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        log: &Path,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Process> {
        Process::start(self.command(program, args), log)
    }

    /// Runs `ip` in this host; `args` is split at white space.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, args: &str) -> Result<()> {
        let words = ["-n", &self.namespace].into_iter().chain(args.split_whitespace());
        command::run("ip", words)?.success().map(drop)
    }

    /// Runs `tc` in this host; `args` is split at white space.
    ///
    /// # Errors
    /// What `tc` says.
    pub fn tc(&self, args: &str) -> Result<()> {
        let words = ["-n", &self.namespace].into_iter().chain(args.split_whitespace());
        command::run("tc", words)?.success().map(drop)
    }

    /// Adds a route, written as for `ip route add` (or `ip -6 route add`, where a word of it has a colon).
    ///
    /// # Errors
    /// What `ip` says.
    pub fn route(&self, route: &str) -> Result<()> {
        let family = if route.contains(':') { "-6 " } else { "" };
        self.ip(&format!("{family}route add {route}"))
    }

    /// Whether packets for others are forwarded, IPv4 and IPv6.
    ///
    /// # Errors
    /// What `sysctl` says.
    pub fn forwarding(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.sysctl("net.ipv4.ip_forward", value)?;
        self.sysctl("net.ipv6.conf.all.forwarding", value)
    }

    /// Sets a kernel parameter of this namespace.
    ///
    /// # Errors
    /// What `sysctl` says.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run("sysctl", ["-qw", &format!("{key}={value}")])?.success().map(drop)
    }

    /// Has what this host's bridges pass on come to the hooks of IPv4 and IPv6 (br_netfilter). Where the kernel has that as a
    /// module, it is loaded, and the bridges of the machine itself go on as before.
    ///
    /// # Errors
    /// There is no such module, or what `sysctl` says.
    pub fn filter_on_bridges(&self) -> Result<()> {
        let switches =
            ["iptables", "ip6tables", "arptables"].map(|tables| format!("bridge-nf-call-{tables}"));
        let directory = Path::new("/proc/sys/net/bridge");
        if !directory.exists() {
            command::run("modprobe", ["br_netfilter"])?.success()?;
            switches.iter().try_for_each(|switch| fs::write(directory.join(switch), "0"))?;
        }
        switches.iter().try_for_each(|switch| self.sysctl(&format!("net.bridge.{switch}"), "1"))
    }

    /// Loads a ruleset, in one transaction.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        command::finish(self.command("nft", ["-f", "-"]), ruleset.as_bytes())?
            .success()
            .with_context(|| format!("{} refuses the ruleset\n{ruleset}", self.name))
            .map(drop)
    }

    /// The packets that a named counter has seen, such as `inet filter invalid`.
    ///
    /// # Errors
    /// There is no such counter.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let words = ["list", "counter"].into_iter().chain(name.split_whitespace());
        let text = self.run("nft", words)?.success()?.stdout;
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        let packets = words.nth(1).with_context(|| format!("no packets in the counter {name}: {text}"))?;
        packets.parse().with_context(|| format!("the counter {name} shows {packets} packets"))
    }

    /// Waits until something listens on a TCP port.
    ///
    /// # Errors
    /// Nothing does after `limit`.
    pub fn wait_for_port(&self, port: u16, limit: Duration) -> Result<()> {
        let limit = patient(limit);
        let end = Instant::now() + limit;
        loop {
            let filter = format!("sport = :{port}");
            if !self.run("ss", ["-Hltn", &filter])?.success()?.stdout.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} does not listen on TCP port {port} after {limit:?}", self.name);
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Sends `signal` to this host's own process `pid`, such as one that a spawned program started.
    ///
    /// # Errors
    /// There is no such process in this host.
    pub fn signal(&self, pid: i32, signal: Signal) -> Result<()> {
        if !pids(&self.namespace)?.contains(&pid) {
            bail!("no process {pid} runs in {}", self.name);
        }
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal process {pid}"))
    }

    /// Writes what passes an interface to the file, until the capture is stopped. `filter` is a pcap-filter(7)
    /// expression; empty takes everything.
    ///
    /// # Errors
    /// `tcpdump` does not start to listen.
    pub fn capture(&self, interface: &str, filter: &str, file: &Path) -> Result<Capture> {
        Capture::start(self, interface, filter, file)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.is_this_machine {
            // Takes the name away, nothing else. An error has nobody to go to.
            let _ = command::run("ip", ["netns", "del", &self.namespace]);
        } else {
            remove_namespace(&self.namespace);
        }
    }
}

/// Kills what runs in a namespace and removes it. Errors have nobody to go to; the next lab tries again.
pub(crate) fn remove_namespace(namespace: &str) {
    for pid in pids(namespace).unwrap_or_default() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = command::run("ip", ["netns", "del", namespace]);
}

/// The processes that run in a namespace.
fn pids(namespace: &str) -> Result<Vec<i32>> {
    let text = command::run("ip", ["netns", "pids", namespace])?.success()?.stdout;
    text.lines().map(|line| line.trim().parse().with_context(|| format!("`ip netns pids`: {line}"))).collect()
}
