//! A sample as Prometheus reads it. Names follow its conventions: base units, `_total` behind what only grows.

use std::fmt;
use std::time::Duration;

use ftpalg::engine::counters::{Counters, Tally};
use ftpalg::engine::kind::Kind;
use ftpalg::engine::session::Tap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use strum::VariantArray;
use tracing::error;

use super::super::vitals::BOUNDS;
use super::sample::Sample;

/// The page.
pub fn page(sample: Sample) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    let mut page = String::new();
    if let Err(error) = prometheus_text::encode(&mut page, &registry) {
        // Writing to a string does not fail.
        error!("metrics can't be written: {error}");
    }
    page
}

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.gauge(
            "ftpalg_build_info",
            "The program's version",
            [([("version", env!("CARGO_PKG_VERSION"))], 1)],
        )?;
        self.sessions(&mut page)?;
        self.pinholes(&mut page)?;
        self.packets(&mut page)?;
        self.kernel(&mut page)?;
        self.process(&mut page)
    }
}

impl Sample {
    fn sessions(&self, page: &mut Page<'_>) -> fmt::Result {
        let Counters { connections, greeted, logins, ended, expired, resumed, overflow, .. } = self.counters;
        page.number("ftpalg_sessions", "Control connections that are followed", self.sessions)?;
        page.number(
            "ftpalg_sessions_shifted",
            "Of those, the ones whose packets are translated",
            self.shifted,
        )?;
        page.count(
            "ftpalg_connections",
            "Control connections that began, wherever that has led",
            connections,
        )?;
        page.count("ftpalg_sessions_greeted", "Sessions: the server greeted with 220", greeted)?;
        page.count("ftpalg_logins", "Logins that the server accepted", logins)?;
        page.count("ftpalg_sessions_ended", "Connections closed by both sides, or reset", ended)?;
        page.count(
            "ftpalg_sessions_expired",
            "Connections given up because nothing came for too long",
            expired,
        )?;
        page.tally(
            "ftpalg_departures",
            "Connections that left inspection",
            "reason",
            &self.counters.departed,
        )?;
        page.count("ftpalg_resumptions", "Inspection went on after something had passed unseen", resumed)?;
        page.count(
            "ftpalg_sessions_overflow",
            "Connections not followed because there were too many",
            overflow,
        )
    }

    fn pinholes(&self, page: &mut Page<'_>) -> fmt::Result {
        page.number("ftpalg_pinholes", "Pinholes that wait for their connection", self.pinholes)?;
        page.tally("ftpalg_pinholes_opened", "Pinholes opened", "mode", &self.counters.opened)?;
        page.tally("ftpalg_pinholes_refused", "Pinholes refused", "reason", &self.counters.refused)?;
        page.count("ftpalg_edits", "Addresses rewritten", self.counters.edits)
    }

    fn packets(&self, page: &mut Page<'_>) -> fmt::Result {
        let packets = Tap::VARIANTS.iter().flat_map(|tap| {
            let packets = self.counters.packets(*tap).iter();
            packets.map(|(what, count)| ([("direction", tap.name()), ("verdict", what.name())], count))
        });
        page.counter("ftpalg_packets", "Packets of control connections, by what became of them", packets)?;
        let count = self.latencies.buckets.iter().sum();
        let bounds = BOUNDS.iter().map(|bound| seconds(Duration::from_nanos(*bound))).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.latencies.buckets).collect();
        let sum = seconds(Duration::from_nanos(self.latencies.nanoseconds));
        page.0
            .encode_descriptor(
                "ftpalg_verdict_seconds",
                "From when a worker has a packet until the kernel has its verdict",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn kernel(&self, page: &mut Page<'_>) -> fmt::Result {
        let names: Vec<_> = self.queues.iter().map(|queue| queue.number.to_string()).collect();
        let queues = || self.queues.iter().zip(&names);
        page.gauge(
            "ftpalg_queue_waiting_packets",
            "Packets that wait in a queue for their verdict",
            queues().map(|(queue, name)| ([("queue", name.as_str())], integer(queue.waiting))),
        )?;
        page.counter(
            "ftpalg_queue_dropped_packets",
            "Packets that found no room in a queue",
            queues().map(|(queue, name)| ([("queue", name.as_str())], queue.dropped)),
        )?;
        page.count("ftpalg_nftables_transactions", "What nftables was asked to change", self.transactions)?;
        page.count("ftpalg_nftables_failures", "Of those, what it did not take", self.transactions_failed)?;
        page.count("ftpalg_ruleset_repairs", "Somebody's changes to the ruleset put right", self.repairs)?;
        page.count("ftpalg_state_failures", "Sessions that could not be saved", self.unsaved)?;
        page.count("ftpalg_log_lines_left_out", "Lines that the log was spared", self.lines_left_out)?;
        page.counter(
            "ftpalg_table_packets",
            "The counters of table inet ftpalg, as of the last ten seconds",
            self.table.iter().map(|counter| ([("counter", counter.name.as_str())], counter.packets)),
        )
    }

    /// Under the names that Prometheus' own libraries give them.
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let cpu = ConstCounter::new(seconds(self.process.cpu));
        let encoder = page.0.encode_descriptor(
            "process_cpu_seconds",
            "User and system time",
            None,
            cpu.metric_type(),
        )?;
        cpu.encode(encoder)?;
        if let Some(bytes) = self.process.resident_memory {
            page.number("process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Some(started) = self.process.started {
            let started = ConstGauge::new(seconds(started));
            let help = "When the daemon was started, since the Unix epoch";
            let name = "process_start_time_seconds";
            let encoder = page.0.encode_descriptor(name, help, None, started.metric_type())?;
            started.encode(encoder)?;
        }
        Ok(())
    }
}

/// A page that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    /// What goes up and down.
    fn number(&mut self, name: &str, help: &str, value: impl TryInto<i64>) -> fmt::Result {
        self.gauge(name, help, [([], integer(value))])
    }

    /// What only grows; `name` without its `_total`.
    fn count(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counter(name, help, [([], value)])
    }

    /// What only grows, by its kind: every kind is there from the beginning, so that the first one is seen as a step.
    fn tally<K: Kind, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        tally: &Tally<K, N>,
    ) -> fmt::Result {
        self.counter(name, help, tally.iter().map(|(kind, count)| ([(label, kind.name())], count)))
    }

    fn gauge<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], i64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// As Prometheus has times.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// As its library takes gauges.
fn integer(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names that a page declares.
    fn names(page: &str) -> BTreeSet<&str> {
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_whitespace().next()).collect()
    }

    #[test]
    fn the_documentation_has_every_metric_and_no_other() {
        let mut sample = Sample::default();
        sample.process.resident_memory = Some(1);
        sample.process.started = Some(Duration::from_secs(1));
        let page = page(sample);
        let documented: BTreeSet<_> = include_str!("../../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`')?.0.into())
            .filter(|name: &&str| name.starts_with("ftpalg_") || name.starts_with("process_"))
            .collect();
        assert_eq!(names(&page), documented);
    }

    #[test]
    fn labels_and_buckets_are_as_prometheus_has_them() {
        let mut sample = Sample::default();
        (sample.latencies.buckets[0], sample.latencies.nanoseconds) = (3, 1500);
        sample.queues.push(crate::daemon::queues::Bound { number: 7, port_id: 1, waiting: 2, dropped: 4 });
        let page = page(sample);
        for line in [
            "ftpalg_pinholes_refused_total{reason=\"third-party\"} 0",
            "ftpalg_packets_total{direction=\"to-client\",verdict=\"held-up\"} 0",
            "ftpalg_verdict_seconds_bucket{le=\"5e-06\"} 3",
            "ftpalg_verdict_seconds_bucket{le=\"0.25\"} 3",
            "ftpalg_verdict_seconds_bucket{le=\"+Inf\"} 3",
            "ftpalg_verdict_seconds_sum 0.0000015",
            "ftpalg_queue_waiting_packets{queue=\"7\"} 2",
            "ftpalg_queue_dropped_packets_total{queue=\"7\"} 4",
            "ftpalg_sessions 0",
        ] {
            assert!(page.lines().any(|written| written == line), "no {line} in\n{page}");
        }
    }
}
