//! A Prometheus on the router: what it makes of the page, the dashboard's queries and the alerts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::Process;
use serde_json::Value;

use super::{ADDRESS, LIMIT, SETTINGS, net, page, value, wait_until};
use crate::harness::{Net, ServerKind};
use crate::life::Session;

const MONITORING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/monitoring/ftpalg.rules.yml");
const API: &str = "http://127.0.0.1:9090/api/v1";

/// One that scrapes the daemon each second. It runs as root, in a directory of the test's.
struct Prometheus<'n> {
    net: &'n Net,
    _process: Process,
}

impl Prometheus<'_> {
    fn start(net: &Net) -> Result<Prometheus<'_>> {
        let dir = net.dir("prometheus")?;
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{RULES}]\n\
             scrape_configs:\n\
             - job_name: ftpalg\n  static_configs: [{{targets: [\"{ADDRESS}\"]}}]\n"
        );
        fs::write(&config, text)?;
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            "--web.listen-address=127.0.0.1:9090".to_owned(),
        ];
        let mut process = net.router().spawn(&dir.join("log"), "prometheus", args)?;
        process.wait_for_log("Server is ready", Duration::from_secs(60))?;
        Ok(Prometheus { net, _process: process })
    }

    /// Asks its interface; gives what it answers as `data`.
    fn get(&self, what: &str, query: Option<&str>) -> Result<Value> {
        let url = format!("{API}/{what}");
        let query = query.map(|query| format!("query={query}"));
        let mut args = vec!["-sS", "--get", &url];
        if let Some(query) = &query {
            args.extend(["--data-urlencode", query]);
        }
        let text = self.net.router().run_within(LIMIT, "curl", args)?.success()?.stdout;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer["status"] == "success", "{what} {query:?}: {text}");
        Ok(answer["data"].take())
    }

    /// The series that a query gives now.
    fn query(&self, query: &str) -> Result<Vec<Value>> {
        let mut data = self.get("query", Some(query))?;
        let kind = data["resultType"].as_str().context("no type")?.to_owned();
        ensure!(kind == "vector", "{query}: a {kind}");
        Ok(data["result"].as_array_mut().context("no series")?.drain(..).collect())
    }

    /// The value of the one series that a query gives, if there is one.
    fn value(&self, query: &str) -> Result<Option<f64>> {
        let series = self.query(query)?;
        ensure!(series.len() <= 1, "{query}: {} series", series.len());
        series.first().map(|one| number(&one["value"][1])).transpose()
    }

    /// Waits until a query gives this.
    fn expect(&self, query: &str, expected: f64) -> Result<()> {
        wait_until(|| {
            let found = self.value(query)?;
            Ok(if found == Some(expected) {
                Ok(())
            } else {
                Err(format!("{query}: {found:?}, not {expected}"))
            })
        })
    }
}

/// Prometheus writes numbers as strings.
fn number(value: &Value) -> Result<f64> {
    value.as_str().context("no string")?.parse().context("no number")
}

/// Runs `promtool`, which must find nothing to say.
fn promtool(dir: &Path, args: &[&str]) -> Result<()> {
    let output = std::process::Command::new("promtool").args(args).current_dir(dir).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "promtool {args:?} ended with {}: {text}", output.status);
    Ok(())
}

#[test]
fn the_alerts_are_sound_and_fire_for_what_they_are_for() -> Result<()> {
    promtool(Path::new(MONITORING), &["check", "rules", "--lint=all", "--lint-fatal", "ftpalg.rules.yml"])?;
    promtool(Path::new(MONITORING), &["test", "rules", "ftpalg.rules.test.yml"])?;
    // Each has a test of when it fires and of when it does not, and a line that says what to do.
    let tests = fs::read_to_string(format!("{MONITORING}/ftpalg.rules.test.yml"))?;
    let documentation = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md"))?;
    let rules = fs::read_to_string(RULES)?;
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    ensure!(alerts.len() >= 11, "{alerts:?}");
    for alert in alerts {
        let cases: Vec<_> =
            tests.split("alertname: ").skip(1).filter(|case| case.lines().next() == Some(alert)).collect();
        let quiet = cases.iter().filter(|case| case.contains("exp_alerts: []")).count();
        ensure!(quiet >= 1 && quiet < cases.len(), "{alert}: {} tests, {quiet} of them quiet", cases.len());
        ensure!(documentation.contains(&format!("| `{alert}` |")), "docs/metrics.md has no {alert}");
    }
    Ok(())
}

/// Sessions that do and ask what is to be counted. Returns one that goes on.
fn sessions(net: &Net) -> Result<Session> {
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut first = Session::open(net, &server)?;
    first.step("fetch PORT,EPRT 2")?;
    first.step("say PORT 10,0,0,9,200,1")?;
    first.step("say PORT 10,0,0,9,200,2")?;
    first.step("say PORT 10,0,0,2,0,22")?;
    first.quit()?;
    let mut second = Session::open(net, &server)?;
    second.step("fetch PASV 3")?;
    Ok(second)
}

#[test]
fn prometheus_sees_what_happens() -> Result<()> {
    let net = net(SETTINGS)?;
    let mut session = sessions(&net)?;
    let prometheus = Prometheus::start(&net)?;
    for (query, expected) in [
        ("up{job=\"ftpalg\"}", 1.0),
        ("ftpalg_build_info{version!=\"\"}", 1.0),
        ("ftpalg_sessions_greeted_total", 2.0),
        ("ftpalg_connections_total", 2.0),
        ("ftpalg_logins_total", 2.0),
        ("ftpalg_sessions_ended_total", 1.0),
        ("ftpalg_pinholes_opened_total{mode=\"active\"}", 2.0),
        ("ftpalg_pinholes_opened_total{mode=\"passive\"}", 3.0),
        ("ftpalg_table_packets_total{counter=\"pinholes_used\"}", 5.0),
        ("ftpalg_pinholes_refused_total{reason=\"third-party\"}", 2.0),
        ("ftpalg_pinholes_refused_total{reason=\"privileged-port\"}", 1.0),
        ("sum(ftpalg_pinholes_refused_total)", 3.0),
        ("sum(ftpalg_departures_total)", 0.0),
        // Through masquerade the client's address is rewritten, the server's is not.
        ("ftpalg_edits_total", 2.0),
        ("ftpalg_pinholes", 0.0),
        ("ftpalg_sessions_shifted", 0.0),
        ("ftpalg_nftables_failures_total", 0.0),
        ("ftpalg_queue_waiting_packets{queue=\"2121\"}", 0.0),
        ("ftpalg_queue_dropped_packets_total{queue=\"2121\"}", 0.0),
        // Every packet has got its verdict in some time, and none in more than its share of the test's.
        ("ftpalg_verdict_seconds_count - on() sum(ftpalg_packets_total)", 0.0),
        ("ftpalg_verdict_seconds_bucket{le=\"+Inf\"} - on() ftpalg_verdict_seconds_count", 0.0),
    ] {
        prometheus.expect(query, expected)?;
    }
    for query in [
        "ftpalg_packets_total{direction=\"to-server\",verdict=\"edited\"} > 10",
        "ftpalg_packets_total{direction=\"to-client\",verdict=\"passed\"} > 10",
        "ftpalg_nftables_transactions_total > 5",
        "ftpalg_verdict_seconds_sum > 0",
        "process_resident_memory_bytes > 1e6",
        "process_cpu_seconds_total > 0",
        "time() - process_start_time_seconds < 600",
    ] {
        ensure!(prometheus.query(query)?.len() == 1, "{query}: nothing on\n{}", page(&net)?);
    }
    is_the_same_as_the_page(&net, &prometheus)?;
    let command = format!("curl -sS http://{ADDRESS}/metrics | promtool check metrics 2>&1");
    let said = net.router().run("sh", ["-c", &command])?.success()?;
    ensure!(said.stdout.is_empty(), "promtool check metrics: {}", said.stdout);
    alerts_are_evaluated(&prometheus)?;
    // Rates show what happens while Prometheus looks.
    session.step("say PORT 10,0,0,9,200,3")?;
    prometheus.expect("ftpalg_pinholes_refused_total{reason=\"third-party\"}", 3.0)?;
    dashboard(&prometheus)?;

    session.quit()?;
    prometheus.expect("ftpalg_sessions_ended_total", 2.0)?;
    net.finish()
}

/// Prometheus has kept what stands on the page.
fn is_the_same_as_the_page(net: &Net, prometheus: &Prometheus) -> Result<()> {
    let page = page(net)?;
    for series in [
        "ftpalg_sessions",
        "ftpalg_nftables_transactions_total",
        "ftpalg_packets_total{direction=\"to-client\",verdict=\"dropped\"}",
        "ftpalg_pinholes_refused_total{reason=\"not-logged-in\"}",
    ] {
        let shown = value(&page, series).with_context(|| format!("no {series} on\n{page}"))?;
        prometheus.expect(series, shown)?;
    }
    Ok(())
}

fn alerts_are_evaluated(prometheus: &Prometheus) -> Result<()> {
    wait_until(|| {
        let groups = prometheus.get("rules", None)?;
        let rules = groups["groups"][0]["rules"].as_array().context("no rules")?.clone();
        let unhealthy: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
        Ok(if rules.len() >= 11 && unhealthy.is_empty() {
            // Nothing is wrong here.
            let firing: Vec<_> = rules.iter().filter(|rule| rule["state"] != "inactive").collect();
            ensure!(firing.is_empty(), "{firing:?}");
            Ok(())
        } else {
            Err(format!("{} rules, not healthy {unhealthy:?}", rules.len()))
        })
    })
}

/// What may be empty where all is well: these show what happens seldom.
const MAY_BE_EMPTY: &[&str] = &["ftpalg_departures_total"];

/// Every query of the dashboard works, and has something to show.
fn dashboard(prometheus: &Prometheus) -> Result<()> {
    let text = fs::read_to_string(format!("{MONITORING}/grafana-ftpalg.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == panels.len() && !ids.contains(&None), "panels share a number: {ids:?}");
    let queries = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| target["expr"].as_str().unwrap_or_default())
    });
    let queries: Vec<_> = queries.collect();
    ensure!(queries.len() >= 30, "{} queries", queries.len());
    let annotations = dashboard["annotations"]["list"].as_array().into_iter().flatten();
    let starts: Vec<_> = annotations.filter_map(|one| one["expr"].as_str()).collect();
    for query in queries.iter().chain(&starts) {
        let plain = query.replace("$instance", ".*").replace("$__rate_interval", "1m");
        ensure!(!plain.is_empty() && !plain.contains('$'), "a variable that is none: {query}");
        let may_be_empty = starts.contains(query) || MAY_BE_EMPTY.iter().any(|name| query.contains(name));
        // A rate needs two samples.
        wait_until(|| {
            let series = prometheus.query(&plain)?;
            let is_shown = may_be_empty || !series.is_empty();
            Ok(if is_shown { Ok(()) } else { Err(format!("nothing for {plain}")) })
        })?;
    }
    Ok(())
}
