//! Metrics for Prometheus (docs/metrics.md): off unless a socket is there for it, or the configuration names an address.

mod exposition;
mod http;
mod sample;

use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::shared::{Shared, lock};
use super::vitals::SharedLatency;
use sample::{Process, Sample};

/// How old an answer may be. Whoever asks more often costs the packets nothing more.
const MAX_AGE: Duration = Duration::from_secs(1);

/// What metrics are gathered from.
pub struct Metrics {
    shared: Arc<Shared>,
    /// The daemon's.
    queues: Range<u16>,
    /// One a worker.
    latencies: Vec<SharedLatency>,
    /// This one, as it was at the beginning.
    process: Process,
    /// The last answer, and when it was made.
    last: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Metrics {
    /// Of a daemon that reads these queues.
    pub fn new(shared: Arc<Shared>, queues: Range<u16>, latencies: Vec<SharedLatency>) -> Self {
        Self { shared, queues, latencies, process: Process::own(), last: Mutex::new(None) }
    }

    /// The page in Prometheus' text format.
    fn page(&self) -> Arc<str> {
        let mut last = lock(&self.last);
        if let Some((made, page)) = last.as_ref() {
            if made.elapsed() < MAX_AGE {
                return Arc::clone(page);
            }
        }
        let process = self.process.now();
        let sample = Sample::take(&self.shared, self.queues.clone(), &self.latencies, process);
        let page: Arc<str> = exposition::page(sample).into();
        *last = Some((Instant::now(), Arc::clone(&page)));
        page
    }

    /// Answers on the socket that systemd has passed, else on the configured address, if there is either. A daemon
    /// without metrics is better than none: what goes wrong is told, and nothing else.
    pub fn serve(self, passed: Option<OwnedFd>, configured: Option<SocketAddr>) {
        let (listener, whence) = match (passed, configured) {
            (Some(socket), _) => {
                (Ok(TcpListener::from(socket)), "the socket that systemd has passed".to_owned())
            }
            (None, Some(address)) => (TcpListener::bind(address), format!("metrics.listen = \"{address}\"")),
            (None, None) => return,
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                return error!(
                    "no metrics: {whence} can't be used: {error}; under systemd, enable ftpalg-metrics.socket instead"
                );
            }
        };
        match listener.local_addr() {
            Ok(address) if !address.ip().is_loopback() => {
                warn!("metrics on http://{address}/metrics, which others than this host may reach");
            }
            Ok(address) => info!("metrics on http://{address}/metrics"),
            Err(error) => return error!("no metrics: {whence} is no TCP socket: {error}"),
        }
        if let Err(error) = http::serve(listener, move || self.page()) {
            error!("no metrics: {error}");
        }
    }
}
