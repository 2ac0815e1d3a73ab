//! What is said of sessions, pinholes and refusals.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{document, says, session, status};
use crate::harness::{Plan, ServerKind, Setup, Topology};
use crate::life::{Session, replace, wait_until};

/// Connects from the client to the address in a 227, and stays for a while.
const DIAL: &str = "
import re, socket, sys
numbers = re.search(r'(\\d+),(\\d+),(\\d+),(\\d+),(\\d+),(\\d+)', sys.argv[1]).groups()
socket.create_connection(('.'.join(numbers[:4]), int(numbers[4]) * 256 + int(numbers[5])), timeout=10)
";

#[test]
fn a_session_shows_as_it_is_and_outlives_the_daemon() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).plan(Plan::LongInside).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    says(&document(&net)?, &[("sessions", json!([])), ("refusals", json!([]))]);
    let mut client = Session::open(&net, &server)?;
    client.step("fetch PORT,PASV 3")?;
    let dialled = net.dialled(&server);
    let own = net.client().run("ip", ["-4", "-br", "-o", "address", "show", "scope", "global"])?.success()?;
    let found = session(&net)?;
    says(
        &found,
        &[
            ("state", json!("ready")),
            ("server", json!(dialled.to_string())),
            ("dialled", json!(dialled.ip().to_string())),
            ("user", json!("anonymous")),
            ("logged-in", json!(true)),
            ("encrypted", json!(false)),
            ("left", Value::Null),
            ("data.mode", json!("active")),
            ("data.command", json!("PORT")),
            ("transfers", json!(3)),
            ("shifted", json!(true)),
            ("queue", json!(2121)),
            ("pinholes", json!([])),
        ],
    );
    let address = found["client"].as_str().context("no client")?;
    ensure!(own.stdout.contains(&format!(" {address}/")), "{address} is not in {}", own.stdout);
    let seen = found["client-seen"].as_str().context("not seen")?;
    ensure!(seen.starts_with(&format!("{}:", net.layout.seen)), "seen as {seen}");
    let by = &found["shifted-by"];
    ensure!(by["to-server"].as_i64().is_some_and(|by| by < 0), "a shorter address: {by}");
    ensure!(by["to-client"] == 0, "{by}");
    ensure!(found["age-seconds"].as_f64() >= found["idle-seconds"].as_f64(), "{found:#}");

    replace(&mut net, 0)?;
    let after = session(&net)?;
    for name in ["id", "client", "client-seen", "server", "user", "logged-in", "transfers", "shifted-by"] {
        ensure!(
            after[name] == found[name],
            "{name} before the daemon was killed: {found:#}\nafter: {after:#}"
        );
    }
    client.quit()?;
    wait_until("it is closed", || Ok(session(&net)?["state"] == "closed"))?;
    net.finish()
}

#[test]
fn a_pinhole_shows_until_it_is_used() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut client = Session::open(&net, &server)?;
    let reply = client.step("say PASV")?;
    let found = session(&net)?;
    let [pinhole] = found["pinholes"].as_array().context("no list")?.as_slice() else {
        panic!("{found:#}");
    };
    says(
        pinhole,
        &[("state", json!("open")), ("mode", json!("passive")), ("source", found["client"].clone())],
    );
    says(
        pinhole,
        &[("to", pinhole["destination"].clone()), ("seen-from", json!(net.layout.seen.to_string()))],
    );
    let left = pinhole["expires-seconds"].as_f64().context("no time")?;
    ensure!((30.0..=60.0).contains(&left), "{left} seconds");
    let table = status(&net, &[])?.success()?.stdout;
    ensure!(table.contains("Pinholes: 1") && table.contains("passive") && table.contains("open "), "{table}");

    net.client().run_within(Duration::from_secs(20), "/usr/bin/python3", ["-c", DIAL, &reply])?.success()?;
    ensure!(session(&net)?["pinholes"][0]["state"] == "used", "{:#}", session(&net)?);
    client.quit()?;
    ensure!(session(&net)?["pinholes"] == json!([]), "{:#}", session(&net)?);
    net.finish()
}

#[test]
fn a_refusal_shows_with_its_reason() -> Result<()> {
    let net = Setup::new(Topology::Firewall).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut client = Session::open(&net, &server)?;
    let reply = client.step("say PORT 198,51,100,99,8,1")?;
    ensure!(reply.starts_with('5'), "{reply}");
    let document = document(&net)?;
    let found = session(&net)?;
    says(
        &document["refusals"][0],
        &[
            ("reason.code", json!("third-party")),
            ("line", json!("PORT 198,51,100,99,8,1")),
            ("mode", json!("active")),
            ("user", json!("anonymous")),
            ("client", found["client"].clone()),
            ("server", found["server"].clone()),
            ("session", found["id"].clone()),
        ],
    );
    says(&document, &[("counters.refused.third-party", json!(1)), ("counters.logins", json!(1))]);
    let table = status(&net, &[])?.success()?.stdout;
    ensure!(table.contains("Refusals of late: 1") && table.contains("allow-third-party"), "{table}");
    client.quit()?;
    net.finish()
}

/// A client that says USER with whatever bytes, and waits.
const CLAIM: &str = r"
import socket, sys
control = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
lines = control.makefile('rb')
lines.readline()
control.sendall(b'USER \x1b]0;owned\x07\x1b[2J\xe2\x80\xaeevil\xc2\x9b31m\r\n')
print(lines.readline(), flush=True)
lines.readline()
";

#[test]
fn a_name_that_would_do_something_to_a_terminal_is_shown_harmlessly() -> Result<()> {
    let net = Setup::new(Topology::Firewall).build()?;
    let server = net.serve(ServerKind::Pyftpdlib)?;
    let dialled = net.dialled(&server);
    let args = ["-c", CLAIM, &dialled.ip().to_string(), &dialled.port().to_string()];
    let log = net.lab.dir().join("claim.log");
    let mut client = net.client().spawn(&log, "/usr/bin/python3", args)?;
    client.wait_for_log("331", Duration::from_secs(20))?;
    let name = r"\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}evil\u{9b}31m";
    says(&session(&net)?, &[("user", json!(name)), ("logged-in", json!(false)), ("state", json!("login"))]);
    for view in [&["--json"][..], &[]] {
        let text = status(&net, view)?.success()?.stdout;
        ensure!(text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{text:?}");
        ensure!(text.contains("evil"), "{text}");
    }
    net.finish()
}

/// Logs in over TLS, and stays.
const SECRET: &str = "
import ftplib, ssl, sys, time
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with ftplib.FTP_TLS(context=context, timeout=20) as ftp:
    ftp.connect(sys.argv[1], int(sys.argv[2]))
    ftp.auth()
    print('encrypted', ftp.login('anonymous', 'nobody'), flush=True)
    time.sleep(600)
";

#[test]
fn an_encrypted_session_shows_as_long_as_it_lives() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::VsftpdTls)?;
    let dialled = net.dialled(&server);
    let args = ["-c", SECRET, &dialled.ip().to_string(), &dialled.port().to_string()];
    let log = net.lab.dir().join("secret.log");
    let mut client = net.client().spawn(&log, "/usr/bin/python3", args)?;
    client.wait_for_log("encrypted 230", Duration::from_secs(20))?;
    says(
        &session(&net)?,
        &[
            ("state", json!("left")),
            ("encrypted", json!(true)),
            ("left.code", json!("encrypted")),
            ("server", json!(dialled.to_string())),
            ("logged-in", json!(false)),
        ],
    );
    let table = status(&net, &[])?.success()?.stdout;
    ensure!(table.contains("1 encrypted") && table.contains("  encrypted"), "{table}");
    drop(client);
    wait_until("it is gone", || Ok(document(&net)?["sessions"] == json!([])))?;
    net.finish()
}
