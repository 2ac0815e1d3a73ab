//! Metrics, as a real Prometheus takes and keeps them.

mod endpoint;
mod prometheus;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netlab::patient;

use crate::harness::{Net, Setup, Topology};

/// Where the daemon answers, on its router.
const ADDRESS: &str = "127.0.0.1:12121";
const SETTINGS: &str = "[metrics]\nlisten = \"127.0.0.1:12121\"";
/// Prometheus itself waits for so long.
const LIMIT: Duration = Duration::from_secs(10);

/// A net whose router talks to itself, as routers do, with these settings for its daemon.
fn net(settings: &'static str) -> Result<Net> {
    let net = Setup::new(Topology::Masquerade).settings(settings).build()?;
    net.router().nft("insert rule inet filter input iifname \"lo\" accept")?;
    Ok(net)
}

/// Asks the daemon for its page.
fn page(net: &Net) -> Result<String> {
    let url = format!("http://{ADDRESS}/metrics");
    Ok(net.router().run_within(LIMIT, "curl", ["-sS", "--fail", &url])?.success()?.stdout)
}

/// A value on a page, by its name with its labels.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until something is so, and says what is not.
fn wait_until(mut is_so: impl FnMut() -> Result<Result<(), String>>) -> Result<()> {
    let end = Instant::now() + patient(Duration::from_secs(30));
    loop {
        match is_so()? {
            Ok(()) => return Ok(()),
            Err(fault) => ensure!(Instant::now() < end, "still: {fault}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
