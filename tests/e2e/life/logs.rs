//! What the log says of a session.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use netlab::Lab;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::pty::openpty;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, ttyname};

use super::Session;
use crate::harness::{ServerKind, Setup, Topology};

#[test]
fn a_session_s_events_are_a_line_each_with_its_number() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.step("fetch PORT")?;
    session.step("fetch PASV")?;
    session.step("say PORT 10,0,0,9,200,1")?;
    session.step("say PORT 10,0,0,2,0,22")?;
    session.step("say EPRT |1|10.0.0.2|99999|")?;
    session.quit()?;
    super::wait_until("the end", || Ok(net.daemons[0].log().contains("ended")))?;
    let log = net.daemons[0].log();
    let lines = log.lines().filter(|line| line.ends_with("session=1")).collect::<Vec<_>>();
    let expected = [
        &["INFO session from 198.51.100.200:", " to 198.51.100.201:21"][..],
        &["INFO logged in"],
        &["INFO active data port open: 198.51.100.201 -> 198.51.100.200:", ", leads to 10.0.0.2:"],
        &["INFO passive data port open: 10.0.0.2 -> 198.51.100.201:"],
        // What was asked for, why it is refused, and what would allow it.
        &[
            "WARN",
            "\"PORT 10,0,0,9,200,1\"",
            "not the sender's own; policy.allow-third-party would allow it",
            "reason=third-party",
        ],
        &["WARN", "\"PORT 10,0,0,2,0,22\"", "below 1024; no setting allows it", "reason=privileged-port"],
        &["WARN", "\"EPRT |1|10.0.0.2|99999|\"", "not valid; no setting allows it", "reason=unreadable"],
        &["INFO ended"],
    ];
    ensure!(lines.len() == expected.len(), "{} lines in:\n{log}", lines.len());
    for (line, parts) in lines.iter().zip(expected) {
        ensure!(parts.iter().all(|part| line.contains(part)), "{parts:?} in: {line}");
        // Whose session it is, in every line: the client in front of NAT, the server behind it.
        ensure!(line.contains(" client=10.0.0.2 server=198.51.100.201 session=1"), "{line}");
    }
    net.finish()
}

/// Text of a peer's can't end a line, begin another, steer a terminal or turn its direction; and a password is not told.
#[test]
fn a_hostile_line_is_shown_as_what_it_is() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let _server = net.serve(ServerKind::Vsftpd)?;
    let hostile =
        "PORT \u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r2026-11-25T00:00:00Z  INFO logged in session=9";
    let script = "import socket, sys\n\
        control = socket.create_connection((sys.argv[1], 21), timeout=20)\n\
        replies = control.makefile('rb')\n\
        def say(line):\n\
        \x20   control.sendall(line + b'\\r\\n')\n\
        \x20   return replies.readline()\n\
        replies.readline()\n\
        say(b'USER anonymous'), say(b'PASS s3cret')\n\
        say(sys.argv[2].encode()), say(b'PORT \\xff\\xfe\\xfd\\x00')\n\
        print(say(b'QUIT'))\n";
    let dialled = net.layout.dialled.to_string();
    let output = net.client().run("/usr/bin/python3", ["-c", script, &dialled, hostile])?.success()?;
    ensure!(output.stdout.contains("221"), "{}", output.stdout);
    super::wait_until("the end", || Ok(net.daemons[0].log().contains("INFO ended")))?;
    let log = net.daemons[0].log();
    let shown = r#""PORT \u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r2026-11-25T00:00:00Z  INFO logged in session=9""#;
    ensure!(log.lines().filter(|line| line.contains(shown)).count() == 1, "not {shown} in:\n{log}");
    let is_plain = |letter: char| !letter.is_control() && letter != '\u{202e}';
    ensure!(log.lines().all(|line| line.chars().all(is_plain)), "control characters in {log:?}");
    ensure!(log.lines().all(|line| line.starts_with("20")), "a line that is none of the daemon's:\n{log}");
    ensure!(!log.contains("s3cret"), "a password in:\n{log}");
    net.finish()
}

/// On a terminal, lines are in colour; not where they go to a file, and not for who sets NO_COLOR.
#[test]
fn a_terminal_gets_colour() -> Result<()> {
    let mut net = Setup::new(Topology::Firewall).build()?;
    let (daemon, router) = net.daemon();
    ensure!(!daemon.log().contains('\u{1b}'), "colour in a file:\n{}", daemon.log());
    daemon.process.terminate(Duration::from_secs(10))?;
    // `exec`: not every shell becomes its last command, and script ends the shell alone.
    let line = format!("exec {} run --config {}", daemon.program.display(), daemon.config.display());
    for (environment, is_coloured) in [("NO_COLOR=", true), ("NO_COLOR=1", false)] {
        let log = daemon.config.with_extension(environment);
        let words =
            [environment, "SHELL=/bin/sh", "script", "--quiet", "--return", "--command", &line, "/dev/null"];
        let mut terminal = router.spawn(&log, "env", words)?;
        terminal.wait_for_log("ready", Duration::from_secs(10))?;
        // The name of the level is what is coloured.
        let text = terminal.log();
        ensure!(text.contains("\u{1b}[32m INFO\u{1b}[0m") == is_coloured, "{environment}: {text:?}");
        ensure!(text.contains('\u{1b}') == is_coloured, "{environment}: {text:?}");
        terminal.terminate(Duration::from_secs(10))?;
    }
    net.finish()
}

/// A pipe that takes some twenty lines: Linux calls it full once each of its pages holds something.
#[test]
fn a_service_manager_that_no_longer_reads_holds_up_no_packet() -> Result<()> {
    let lab = Lab::new()?;
    let fifo = lab.dir().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU)?;
    // Opened for both, it waits for nobody.
    let pipe = File::from(open(&fifo, OFlag::O_RDWR | OFlag::O_NONBLOCK, Mode::empty())?);
    fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(8192))?;
    who_reads_the_log_holds_up_no_packet(&fifo, pipe)
}

#[test]
fn a_terminal_that_nobody_reads_holds_up_no_packet() -> Result<()> {
    let terminal = openpty(None, None)?;
    let master = File::from(terminal.master);
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    who_reads_the_log_holds_up_no_packet(&ttyname(&terminal.slave)?, master)
}

/// Has the daemon write its log to a file of which `reader` is the other end, and reads nothing during a session. It hears
/// afterwards how much it has missed.
fn who_reads_the_log_holds_up_no_packet(standard_error: &Path, mut reader: File) -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let (daemon, router) = net.daemon();
    daemon.process.terminate(Duration::from_secs(10))?;
    let command = format!(
        "exec {} run --config {} 2> {}",
        daemon.program.display(),
        daemon.config.display(),
        standard_error.display()
    );
    daemon.process = router.spawn(&daemon.config.with_extension("log"), "sh", ["-c", &command])?;
    let mut log = Vec::new();
    let mut read_until = |text: &str| -> Result<String> {
        let found = |log: &[u8]| {
            String::from_utf8_lossy(log).lines().find(|line| line.contains(text)).map(str::to_owned)
        };
        super::wait_until(text, || {
            // Until there is no more for now.
            let _ = reader.read_to_end(&mut log);
            Ok(found(&log).is_some())
        })?;
        Ok(found(&log).unwrap_or_default())
    };
    read_until("ready")?;
    // So many refusals of a session are told.
    for _ in 0..3 {
        let mut session = Session::open(&net, &server)?;
        for _ in 0..100 {
            session.step("say PORT 10,0,0,9,200,1")?;
        }
        session.step("fetch PASV")?;
        session.quit()?;
    }
    read_until("session from")?;
    Session::open(&net, &server)?.quit()?;
    let told = read_until("lost")?;
    let words = "log lines are lost, which standard error did not take";
    let lost = told.split_whitespace().nth(2).and_then(|number| number.parse::<u32>().ok());
    ensure!(told.contains(words) && lost.is_some_and(|lost| (100..320).contains(&lost)), "{told}");
    net.finish()
}
