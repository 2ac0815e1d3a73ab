//! What `ftpalg replay` says of a capture is what the daemon has done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Client, Mode, Net, Plan, ServerKind, Setup, Topology, Transfer};

const TRANSFERS: [Transfer; 2] = [Transfer::Get("small"), Transfer::Put("small")];

/// The captures of one session: on the client's side of the router, on the server's, and on all of its interfaces.
struct Captures {
    client: PathBuf,
    server: PathBuf,
    router: PathBuf,
    /// What the daemon has logged of data ports.
    opened: Vec<String>,
}

/// Runs sessions of curl, one in each mode, with captures of control connections and of the data connections' SYNs.
fn record(net: &Net, modes: &[Mode]) -> Result<Captures> {
    let server = net.serve(ServerKind::Vsftpd)?;
    let path = |what: &str| net.lab.dir().join(format!("{what}.pcap"));
    let filter = format!("tcp port {} or tcp[tcpflags] & tcp-syn != 0", net.setup.port());
    let (first, last) = (&net.layout.links[0], &net.layout.links[net.layout.links.len() - 1]);
    let [client, far, router] = [path("client"), path("server"), path("router")];
    let captures = [
        net.client().capture(&first.1.a, &filter, &client)?,
        net.server().capture(&last.1.b, &filter, &far)?,
        net.router().capture("any", &filter, &router)?,
    ];
    for mode in modes {
        net.session(Client::Curl, *mode, &server, &TRANSFERS)?;
    }
    for file in [&client, &far, &router] {
        wait_for_ends(file, modes.len())?;
    }
    for capture in captures {
        capture.stop()?;
    }
    let log = net.daemons.iter().map(crate::harness::Daemon::log).collect::<String>();
    let opened = log.lines().filter_map(|line| line.split_once(" data port open: "));
    let opened = opened.map(|(_, what)| what.split(" session=").next().unwrap_or(what).to_owned()).collect();
    Ok(Captures { client, server: far, router, opened })
}

/// tcpdump may be a little behind: waits until both FINs of so many control connections are in a capture.
fn wait_for_ends(file: &Path, sessions: usize) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let fins = Command::new("tcpdump")
            .args(["-n", "-r"])
            .arg(file)
            .arg("tcp[tcpflags] & tcp-fin != 0")
            .output()?
            .stdout;
        if String::from_utf8_lossy(&fins).lines().count() >= 2 * sessions {
            return Ok(());
        }
        ensure!(Instant::now() < limit, "{} has not both ends of {sessions} sessions", file.display());
        sleep(Duration::from_millis(20));
    }
}

/// Runs the replay and returns what it prints as JSON, line by line.
fn replay(file: &Path, options: &[&str]) -> Result<Vec<serde_json::Value>> {
    let output = Command::new(env!("CARGO_BIN_EXE_ftpalg"))
        .arg("replay")
        .arg(file)
        .args(options)
        .arg("--json")
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    println!("--- replay {} {options:?} ---\n{text}", file.display());
    text.lines().map(|line| serde_json::from_str(line).context("not JSON")).collect()
}

/// The data ports that a replay opens, in the daemon's own words.
fn opened(events: &[serde_json::Value]) -> Vec<String> {
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let opened = events.iter().filter(|event| event["event"] == "opened");
    opened
        .map(|event| {
            let [source, destination, to, seen] =
                ["source", "destination", "to", "seen"].map(|key| text(event, key));
            format!("{source} -> {destination}, leads to {to}, seen from {seen}")
        })
        .collect()
}

#[test]
fn what_a_replay_says_is_what_the_daemon_does() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let captures = record(&net, &Mode::ALL)?;
    if let Some(dir) = std::env::var_os("FTPALG_CAPTURES") {
        for (file, name) in
            [(&captures.client, "client"), (&captures.server, "server"), (&captures.router, "router")]
        {
            fs::copy(file, Path::new(&dir).join(format!("masquerade-{name}.pcap")))?;
        }
    }
    println!("{:?}", captures.opened);
    replay(&captures.client, &["--wan", &net.layout.seen.to_string()])?;
    net.finish()
}
