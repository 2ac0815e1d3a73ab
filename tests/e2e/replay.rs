//! What `ftpalg replay` says of a capture is what the daemon has done.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use serde_json::Value;

use crate::harness::{Alg, Client, Daemon, Mode, Net, Plan, ServerKind, Setup, Topology, Transfer};

const TRANSFERS: [Transfer; 2] = [Transfer::Get("small"), Transfer::Put("small")];

/// The captures of one session: on the client's side of the router, on the server's, and on all of its interfaces.
struct Captures {
    client: PathBuf,
    server: PathBuf,
    router: PathBuf,
    /// What the daemon has logged of data ports.
    opened: Vec<String>,
    /// What the server has logged of commands.
    commands: Vec<String>,
}

/// Control connections, and the SYNs of others: `tcp[tcpflags]` is IPv4's alone.
fn filter(net: &Net) -> String {
    format!("tcp port {} or tcp[tcpflags] & tcp-syn != 0 or ip6[53] & 2 != 0", net.setup.port())
}

/// Runs sessions of curl, one in each mode, with captures of control connections and of the data connections' SYNs.
fn record(net: &Net, modes: &[Mode]) -> Result<Captures> {
    let server = net.serve(ServerKind::Vsftpd)?;
    let path = |what: &str| net.lab.dir().join(format!("{what}.pcap"));
    let filter = filter(net);
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
    let log = net.daemons.iter().map(Daemon::log).collect::<String>();
    let opened = log.lines().filter_map(|line| line.split_once(" data port open: "));
    let opened = opened.map(|(_, what)| what.split(" client=").next().unwrap_or(what).to_owned()).collect();
    let commands = server.commands().into_iter().map(|command| command.line);
    let commands = commands.filter(|line| !line.starts_with("PASS")).collect();
    Ok(Captures { client, server: far, router, opened, commands })
}

/// tcpdump may be a little behind: waits until both FINs of so many control connections are in a capture.
fn wait_for_ends(file: &Path, sessions: usize) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let packets =
            Command::new("tcpdump").args(["-n", "-r"]).arg(file).arg("tcp port 21").output()?.stdout;
        if String::from_utf8_lossy(&packets).matches("Flags [F").count() >= 2 * sessions {
            return Ok(());
        }
        ensure!(Instant::now() < limit, "{} has not both ends of {sessions} sessions", file.display());
        sleep(Duration::from_millis(20));
    }
}

/// Runs the replay and returns what it prints as JSON, line by line.
fn replay(file: &Path, options: &[&str]) -> Result<Vec<Value>> {
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
fn opened(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let opened = events.iter().filter(|event| event["event"] == "opened");
    opened
        .map(|event| {
            let [source, destination, to, seen] =
                ["source", "destination", "to", "seen"].map(|key| text(event, key));
            format!("{source} -> {destination}, leads to {to}, seen from {seen}")
        })
        .collect()
}

/// The lines that the server reads, as the replay says.
fn commands(events: &[Value]) -> Vec<String> {
    let lines = events.iter().filter(|event| event["event"] == "line" && event["from"] == "client");
    lines
        .filter_map(|event| event["rewritten"].as_str().or(event["text"].as_str()))
        .filter(|line| !line.starts_with("PASS"))
        .map(str::to_owned)
        .collect()
}

/// The segments of control connections that carry something, by source and destination: sequence number, what is
/// acknowledged, payload.
type Streams = BTreeMap<(SocketAddr, SocketAddr), Vec<(u32, u32, Vec<u8>)>>;

fn streams(file: &Path, port: u16) -> Result<Streams> {
    let bytes = fs::read(file)?;
    let mut rest = bytes.get(24..).context("no pcap header")?;
    let mut streams = Streams::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        let length = usize::try_from(u32::from_le_bytes(header[8..12].try_into()?))?;
        let (frame, behind) = behind.split_at_checked(length).context("cut off")?;
        rest = behind;
        let sliced = SlicedPacket::from_ethernet(frame)?;
        let (Some(ip), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else { continue };
        let (source, destination): (IpAddr, IpAddr) = match ip {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => continue,
        };
        if tcp.source_port() != port && tcp.destination_port() != port {
            continue;
        }
        let ends = (
            SocketAddr::new(source, tcp.source_port()),
            SocketAddr::new(destination, tcp.destination_port()),
        );
        if !tcp.payload().is_empty() {
            let segment = (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.payload().to_vec());
            streams.entry(ends).or_default().push(segment);
        }
    }
    Ok(streams)
}

/// A replay of what one side of a NAT has sent and got: opens what the daemon has opened, under the same ports; has the
/// server read what it has read; and writes what was captured on the other side, byte for byte, at the same places of
/// the streams.
fn compare(topology: Topology, plan: Plan, modes: &[Mode]) -> Result<()> {
    let net = Setup::new(topology).plan(plan).build()?;
    let captures = record(&net, modes)?;
    ensure!(
        captures.opened.len() == modes.len() * TRANSFERS.len(),
        "the daemon opened {:?}",
        captures.opened
    );
    let is_dnat = topology == Topology::Dnat;
    let inside = match plan {
        Plan::ShortInside => "10.0.0.2",
        Plan::LongInside => "192.168.100.201",
    };
    let nat = format!("{inside}={}", if is_dnat { net.layout.dialled } else { net.layout.seen });
    let (near, far) =
        if is_dnat { (&captures.server, &captures.client) } else { (&captures.client, &captures.server) };
    let out = net.lab.dir().join("replayed.pcap");
    let out_name = out.to_str().context("not UTF-8")?;
    let from_near = replay(near, &["--nat", &nat, "--write", out_name])?;
    let from_router = replay(&captures.router, &[])?;
    for events in [&from_near, &from_router] {
        ensure!(opened(events) == captures.opened, "{:?}\nnot\n{:?}", opened(events), captures.opened);
        ensure!(
            commands(events) == captures.commands,
            "{:?}\nnot\n{:?}",
            commands(events),
            captures.commands
        );
        let data = events.iter().filter(|event| event["event"] == "data");
        let through = data.map(|event| event["pinhole"].as_str().unwrap_or_default()).collect::<Vec<_>>();
        ensure!(through == vec!["open"; captures.opened.len()], "{through:?}");
        let summary = events.last().context("no summary")?;
        for trouble in ["refused", "gaps", "cut", "wrong-checksums"] {
            ensure!(summary[trouble] == 0, "{trouble}: {summary}");
        }
    }
    let rewritten = from_near.iter().filter(|event| event["rewritten"].is_string()).count();
    let expected = modes.iter().filter(|mode| mode.is_active() != is_dnat && **mode != Mode::Epsv).count();
    ensure!(rewritten == expected * TRANSFERS.len(), "{rewritten} lines rewritten");

    let [written, seen] = [streams(&out, net.setup.port())?, streams(far, net.setup.port())?];
    ensure!(seen.len() == 2 * modes.len(), "{} directions", seen.len());
    for (ends, stream) in &seen {
        ensure!(written.get(ends) == Some(stream), "{ends:?}:\n{:?}\nnot\n{stream:?}", written.get(ends));
    }
    ensure!(written.len() == seen.len(), "others were written: {:?}", written.keys());
    net.finish()
}

#[test]
fn commands_that_grow_are_replayed_as_they_were_rewritten() -> Result<()> {
    compare(Topology::Masquerade, Plan::ShortInside, &Mode::ALL)
}

#[test]
fn commands_that_shrink_are_replayed_as_they_were_rewritten() -> Result<()> {
    compare(Topology::Masquerade, Plan::LongInside, &[Mode::Port, Mode::Eprt])
}

#[test]
fn replies_are_replayed_as_they_were_rewritten() -> Result<()> {
    compare(Topology::Dnat, Plan::ShortInside, &Mode::ALL)
}

/// Every command of docs/replay.md, run on this net: its addresses and interfaces are put in place of the manual's.
#[test]
fn the_commands_of_the_manual_do_what_it_says() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let (near, far) = (&net.layout.links[0].1, &net.layout.links[1].1);
    let names = [
        ("eth1", near.b.as_str()),
        ("eth0", far.a.as_str()),
        ("192.168.1.10", "10.0.0.2"),
        ("203.0.113.7", "198.51.100.200"),
    ];
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/replay.md"))?;
    let blocks = manual.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
    let dir = net.dir("manual")?;
    let program = Path::new(env!("CARGO_BIN_EXE_ftpalg")).parent().context("no directory")?.display();
    let (mut captured, mut replayed) = (0, 0);
    for line in blocks.flat_map(str::lines) {
        let line = names.iter().fold(line.to_owned(), |line, (old, new)| line.replace(old, new));
        let script = format!("cd {} && PATH={program}:$PATH && exec {line}", dir.display());
        if line.starts_with("tcpdump ") {
            let log = dir.join(format!("tcpdump.{captured}.log"));
            let mut tcpdump = net.router().spawn(&log, "sh", ["-c", &script])?;
            tcpdump.wait_for_log("listening on", Duration::from_secs(10))?;
            net.session(Client::Curl, Mode::Port, &server, &TRANSFERS)?;
            wait_for_ends(&dir.join("ftp.pcap"), 1)?;
            tcpdump.terminate(Duration::from_secs(5))?;
            captured += 1;
        } else {
            ensure!(line.starts_with("ftpalg replay "), "who runs this: {line}");
            let output = net.router().run("sh", ["-c", &script])?.success()?;
            let expected = ["session from", "\"event\":\"session\""];
            ensure!(
                expected.iter().any(|expected| output.stdout.contains(expected)),
                "{line}: {}",
                output.stdout
            );
            replayed += 1;
        }
    }
    ensure!(captured >= 3 && replayed >= 5, "{captured} captures and {replayed} replays in the manual");
    net.finish()
}

/// Captures for tests/replay.rs; it is no test.
#[test]
#[ignore = "makes files: FTPALG_CAPTURES=tests/captures cargo test --test e2e replay:: -- --ignored"]
fn captures_of_real_sessions() -> Result<()> {
    // In the virtual machine all tests run that are ignored elsewhere.
    let Some(dir) = std::env::var_os("FTPALG_CAPTURES").map(PathBuf::from) else { return Ok(()) };
    let cases = [
        (Topology::Masquerade, Alg::None, Mode::Port, "masquerade-port"),
        (Topology::Dnat, Alg::Ftpalg, Mode::Pasv, "forwarded-pasv"),
        (Topology::Firewall6, Alg::Ftpalg, Mode::Epsv, "firewall-epsv-ipv6"),
    ];
    for (topology, alg, mode, name) in cases {
        let net = Setup::new(topology).alg(alg).build()?;
        let server = net.serve(ServerKind::Vsftpd)?;
        let filter = filter(&net);
        let files = ["client", "router"].map(|side| dir.join(format!("{name}-{side}.pcap")));
        let link = &net.layout.links[0].1.a;
        let captures = [
            net.client().capture(link, &filter, &files[0])?,
            net.router().capture("any", &filter, &files[1])?,
        ];
        let went_well = net.unwatched_session(Client::Curl, mode, &server, &[Transfer::Get("small")]).is_ok();
        ensure!(went_well == (alg != Alg::None), "{name}");
        for file in &files {
            wait_for_ends(file, 1)?;
        }
        for capture in captures {
            capture.stop()?;
        }
        for file in &files {
            fs::remove_file(file.with_extension("tcpdump.log"))?;
        }
    }
    Ok(())
}
