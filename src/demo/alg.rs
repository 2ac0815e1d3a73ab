//! ftpalg itself, on the demo's router, and what it says about its pinholes.

use std::env;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::Process;

use super::net::Net;
use super::wire::Moment;

/// The firewall's chain that data connections must get through.
pub const CHAIN: &str = "inet filter forward";

/// The daemon, running.
#[derive(Debug)]
pub struct Alg {
    process: Process,
    told: usize,
}

/// A pinhole, as the daemon logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinhole {
    /// When it opened.
    pub at: Moment,
    /// What it lets through: `source -> address:port`.
    pub key: String,
    /// Where that leads, `address:port`.
    pub to: String,
}

impl Alg {
    /// Starts this very program as the router's daemon, and waits until it is ready.
    pub fn start(net: &Net) -> Result<Alg> {
        let path = |what: &str| net.dir().join(format!("ftpalg.{what}"));
        let config = path("toml");
        let (state, socket) = (path("state"), path("control"));
        let settings =
            format!("accept-in = [{CHAIN:?}]\nstate-dir = {state:?}\ncontrol-socket = {socket:?}\n");
        fs::write(&config, settings)?;
        let own = env::current_exe().context("this program's own path cannot be found")?;
        // What concerns the caller's log and service manager is none of this daemon's business.
        let mut args =
            ["-u", "JOURNAL_STREAM", "-u", "NOTIFY_SOCKET", "-u", "WATCHDOG_USEC", "FTPALG_LOG=info"]
                .map(Into::into)
                .to_vec();
        args.extend([own.into_os_string(), "run".into(), "--config".into(), config.into_os_string()]);
        let mut process = net.router.spawn(&path("log"), "env", args)?;
        process.wait_for_log("ready", Duration::from_secs(5))?;
        Ok(Alg { process, told: 0 })
    }

    /// The pinholes that were opened since it was last asked.
    pub fn opened(&mut self) -> Vec<Pinhole> {
        let log = self.process.log();
        let pinholes: Vec<_> = log.lines().filter_map(Pinhole::parse).skip(self.told).collect();
        self.told += pinholes.len();
        pinholes
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(Duration::from_secs(5))?;
        ensure!(status.success(), "ftpalg ended with {status}:\n{}", self.process.log());
        Ok(())
    }
}

impl Pinhole {
    /// `TIME INFO passive data port open: KEY, leads to TO, seen from …`
    fn parse(line: &str) -> Option<Pinhole> {
        let (head, tail) = line.split_once(" data port open: ")?;
        let mut parts = tail.split(", ");
        let key = parts.next()?.to_owned();
        let to = parts.next()?.strip_prefix("leads to ")?.to_owned();
        Some(Pinhole { at: Moment::parse(head.split_whitespace().next()?)?, key, to })
    }
}

/// How many data connections have come through a pinhole, by the kernel's own count.
pub fn used(net: &Net) -> Result<u64> {
    net.router.counter("inet ftpalg pinholes_used")
}

/// Whether a pinhole is open.
pub fn any_open(net: &Net) -> Result<bool> {
    let list = net.router.run("nft", ["list", "set", "inet", "ftpalg", "open4"])?.success()?.stdout;
    Ok(list.contains("elements"))
}

#[cfg(test)]
mod tests {
    use ftpalg::engine::event::{Event, Mode};
    use ftpalg::engine::pinhole::{self, PinholeKey};

    use super::*;

    #[test]
    fn the_daemon_s_words_are_understood() {
        let event = Event::Opened(
            Mode::Active,
            pinhole::Pinhole {
                key: PinholeKey {
                    source: "192.0.2.9".parse().unwrap(),
                    destination: "203.0.113.7".parse().unwrap(),
                    port: 46113,
                },
                to: "192.168.100.2:46113".parse().unwrap(),
                from: "192.0.2.9".parse().unwrap(),
                mark: 0,
                timeout: Duration::from_secs(60),
            },
        );
        let line = format!("2026-11-21T10:15:00.000001Z  INFO {event} session=1");
        let pinhole = Pinhole::parse(&line).unwrap();
        assert_eq!(pinhole.key, "192.0.2.9 -> 203.0.113.7:46113");
        assert_eq!(pinhole.to, "192.168.100.2:46113");
        assert_eq!(Pinhole::parse("2026-11-21T10:15:00.000001Z  INFO logged in session=1"), None);
    }
}
