//! Plays the cases of a table over a net, and judges them by what connects.
//!
//! All sessions of a table stay open while their ports are dialled, all at once: from the end that would call, to the
//! listener's public address, to a third party beside it and to the router.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlab::Host;

use super::case::{Arrival, Case, End, Outcome, Port, Step};
use super::inside::inside;
use super::place::{Place, neighbour, third};
use super::witness::{self, Syns, Table};
use crate::harness::{Net, Setup, Topology};

/// The first port that is handed out; ports from 32768 up are the kernel's (ip_local_port_range).
const FIRST_PORT: u16 = 20_100;
/// How long an end waits for what the other has said, or a listener for its connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a dialler waits that must not get through. Its SYN is seen at the router, and not behind it.
const IN_VAIN: Duration = Duration::from_millis(400);
/// Between two segments: so that each is one.
const PAUSE: Duration = Duration::from_millis(2);

/// A net with its witnesses.
pub struct Stage {
    net: Net,
    control: TcpListener,
    next_port: u16,
    /// Control connections so far: sessions are counted in the log.
    sessions: usize,
}

/// A session that has been played.
struct Played<'a> {
    case: &'a Case,
    place: Place,
    /// The port under which the other end knows the listener's.
    public_port: u16,
    number: usize,
    /// SYNs of data connections that were made on the way.
    made: u64,
    _ends: Ends,
}

/// Both ends of a control connection.
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

impl Stage {
    pub fn build(topology: Topology) -> Result<Stage> {
        let net = Setup::new(topology).build()?;
        let port = net.setup.port();
        let any = if net.layout.dialled.is_ipv6() { "[::]" } else { "0.0.0.0" };
        let control = inside(net.server(), || Ok(TcpListener::bind(format!("{any}:{port}"))?))?;
        for end in [net.client(), net.server()] {
            witness::watch_end(end)?;
            end.sysctl("net.ipv4.tcp_autocorking", "0")?;
        }
        witness::watch_router(net.router())?;
        let mut stage = Stage { net, control, next_port: FIRST_PORT, sessions: 0 };
        stage.add_third_parties()?;
        Ok(stage)
    }

    fn add_third_parties(&mut self) -> Result<()> {
        let ends = self.connect()?;
        let own = [ends.client.local_addr()?.ip(), ends.server.local_addr()?.ip()];
        let links = &self.net.layout.links;
        let (Some((_, first)), Some((_, last))) = (links.first(), links.last()) else { bail!("no link") };
        let interfaces = [(self.net.client(), &first.a), (self.net.server(), &last.b)];
        for ((host, interface), own) in interfaces.into_iter().zip(own) {
            // Without a preferred lifetime nothing is sent from there (RFC 4862, section 5.5.4).
            let prefix = if own.is_ipv4() { 24 } else { 64 };
            host.ip(&format!("address add {}/{prefix} dev {interface} preferred_lft 0", third(own)))?;
        }
        Ok(())
    }

    fn host(&self, end: End) -> &Host {
        match end {
            End::Client => self.net.client(),
            End::Server => self.net.server(),
        }
    }

    fn connect(&mut self) -> Result<Ends> {
        let server = SocketAddr::new(self.net.layout.dialled, self.net.setup.port());
        let client = inside(self.net.client(), || Ok(TcpStream::connect(server)?))?;
        let (server, _) = self.control.accept()?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            end.set_read_timeout(Some(PATIENCE))?;
        }
        self.sessions += 1;
        Ok(Ends { client, server })
    }

    /// Plays a table and returns what went wrong: each case that opened what it should not, or did not open.
    pub fn play(&mut self, table: &str, cases: &[Case]) -> Result<Vec<String>> {
        ensure!(cases.iter().any(|case| case.outcome == Outcome::Opens), "{table} has no honest session");
        let mut played = Vec::new();
        let mut faults = Vec::new();
        for case in cases {
            match self.session(case) {
                Ok(Some(one)) => played.push(one),
                Ok(None) => {}
                Err(error) => faults.push((case, format!("{error:#}"))),
            }
        }
        faults.extend(self.judge(&played)?);
        let is_honest = |one: &&Played<'_>| one.case.outcome == Outcome::Opens;
        let honest = played.iter().filter(is_honest).count();
        println!("{table}: {} tricks, {honest} honest sessions", played.len() - honest);
        let topology = self.net.topology();
        Ok(faults
            .into_iter()
            .map(|(case, what)| format!("{topology}, {table}, {}: {what}", case.name))
            .collect())
    }

    /// Plays one session; `None` if its texts name what this net does not have.
    fn session<'a>(&mut self, case: &'a Case) -> Result<Option<Played<'a>>> {
        let version = if self.net.layout.dialled.is_ipv4() { 4 } else { 6 };
        if case.version.is_some_and(|only| only != version) {
            return Ok(None);
        }
        let port = match case.port {
            Port::Exactly(port) => port,
            Port::Any => self.new_port(),
        };
        let ends = self.connect()?;
        let (client, server) = (ends.client.local_addr()?.ip(), ends.server.local_addr()?.ip());
        let layout = &self.net.layout;
        let (own, public, far) = match case.listener {
            End::Client => (client, layout.seen, server),
            End::Server => (server, layout.dialled, client),
        };
        let place = Place { own, public, far, port };
        let (mut made, mut public_port) = (0, port);
        for step in &case.steps {
            match step {
                Step::Says(end, pieces, arrival) => {
                    let translated = |piece: &Vec<u8>| place.translate(piece);
                    let pieces = if case.is_translated {
                        pieces.iter().map(translated).collect()
                    } else {
                        pieces.clone()
                    };
                    let Some(heard) = ends.say(*end, &pieces, *arrival, &place)? else { return Ok(None) };
                    if *arrival == Arrival::Promised {
                        public_port = announced_port(&heard).context("no PORT arrives")?;
                    }
                }
                Step::Data => {
                    let listener = self.listen(case.listener, &[port])?;
                    let caller = self.host(case.listener.other());
                    inside(caller, || {
                        Ok(TcpStream::connect_timeout(&SocketAddr::new(public, port), PATIENCE)?)
                    })
                    .context("the honest data connection")?;
                    drop(listener);
                    made += 1;
                }
            }
        }
        Ok(Some(Played { case, place, public_port, number: self.sessions, made, _ends: ends }))
    }

    /// A port whose lower byte has three digits, so that one digit more behind it is too much.
    fn new_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port += 1;
        if self.next_port % 256 == 0 {
            self.next_port += 100;
        }
        port
    }

    fn listen(&self, end: End, ports: &[u16]) -> Result<Vec<TcpListener>> {
        let any: IpAddr = if self.net.layout.dialled.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
        inside(self.host(end), || {
            let bind = |port: &u16| {
                TcpListener::bind(SocketAddr::new(any, *port)).with_context(|| format!("listening on {port}"))
            };
            ports.iter().filter(|port| **port != 0).map(bind).collect()
        })
    }

    /// Dials every session's port and compares what happened with what should.
    fn judge<'a>(&self, played: &[Played<'a>]) -> Result<Vec<(&'a Case, String)>> {
        let table = Table::of(self.net.router())?;
        let mut connected = Vec::new();
        for end in [End::Client, End::Server] {
            let called = played.iter().filter(|one| one.case.listener == end).collect::<Vec<_>>();
            let ports = called.iter().map(|one| one.place.port).collect::<BTreeSet<_>>();
            let listeners = self.listen(end, &ports.into_iter().collect::<Vec<_>>())?;
            connected.extend(self.dial(end.other(), &called)?);
            drop(listeners);
        }
        let counts = Counts {
            at_client: witness::syns(self.net.client(), "arrived")?,
            at_server: witness::syns(self.net.server(), "arrived")?,
            at_router: witness::syns(self.net.router(), "arrived")?,
            passed: witness::syns(self.net.router(), "passed")?,
        };
        let log = self.net.daemons[0].log();
        let mut faults = Vec::new();
        for one in played {
            let connections = connected.iter().filter(|(number, _)| *number == one.number);
            let connections = connections.map(|(_, address)| *address).collect::<Vec<_>>();
            if let Err(error) = one.check(&connections, &counts, &table, &log) {
                faults.push((one.case, format!("{error:#}")));
            }
        }
        Ok(faults)
    }

    /// Dials what could have been opened, and returns what connected: the session's number and the address.
    fn dial(&self, from: End, played: &[&Played<'_>]) -> Result<Vec<(usize, SocketAddr)>> {
        inside(self.host(from), || {
            thread::scope(|scope| {
                let attempts = played.iter().flat_map(|one| {
                    let number = one.number;
                    one.targets().into_iter().map(move |(address, patience)| {
                        scope.spawn(move || {
                            let connection = TcpStream::connect_timeout(&address, patience);
                            connection.is_ok().then_some((number, address))
                        })
                    })
                });
                let attempts = attempts.collect::<Vec<_>>();
                Ok(attempts.into_iter().filter_map(|attempt| attempt.join().ok().flatten()).collect())
            })
        })
    }

    /// Checks what must never have happened.
    pub fn finish(self) -> Result<()> {
        self.net.nothing_is_invalid()
    }
}

/// What the witnesses have counted.
struct Counts {
    at_client: Syns,
    at_server: Syns,
    at_router: Syns,
    passed: Syns,
}

impl Played<'_> {
    /// Where to dial, and how long to wait there.
    fn targets(&self) -> Vec<(SocketAddr, Duration)> {
        let (Place { own, public, .. }, port) = (self.place, self.public_port);
        let targets = match self.case.outcome {
            Outcome::Opens => vec![(public, PATIENCE)],
            Outcome::Shut(_) => {
                let others = [third(own), third(public), neighbour(own, -1), neighbour(public, -1)];
                [public].into_iter().chain(others).map(|address| (address, IN_VAIN)).collect()
            }
        };
        targets.into_iter().map(|(address, patience)| (SocketAddr::new(address, port), patience)).collect()
    }

    fn check(&self, connected: &[SocketAddr], counts: &Counts, table: &Table, log: &str) -> Result<()> {
        let port = self.place.port;
        let count = |counts: &Syns, port| counts.get(&port).copied().unwrap_or(0);
        let at = |counts: &Syns| count(counts, port);
        let listener = match self.case.listener {
            End::Client => &counts.at_client,
            End::Server => &counts.at_server,
        };
        ensure!(
            count(&counts.at_router, self.public_port) > 0,
            "nobody dialled {port}: no SYN came to the router"
        );
        let held = table.holds(self.public_port);
        let lines = log.lines().filter(|line| line.split_whitespace().last() == Some(&self.label()));
        let lines = lines.collect::<Vec<_>>();
        let opened = lines.iter().filter(|line| line.contains("data port open")).count();
        let made = usize::try_from(self.made)?;
        let explained = match self.case.outcome {
            Outcome::Opens => {
                ensure!(connected.len() == 1, "the honest session's port {port} does not open: {lines:#?}");
                ensure!(at(listener) > self.made, "connected, but not to its listener");
                let is_ready = if self.case.waits {
                    table.is_pending(self.public_port)
                } else {
                    table.is_open(self.public_port)
                };
                ensure!(is_ready, "it connects, but its pinhole was in no set");
                ensure!(opened == made + 1 + self.case.others, "{opened} ports opened: {lines:#?}");
                return Ok(());
            }
            Outcome::Shut(reason) => reason,
        };
        ensure!(connected.is_empty(), "OPENED: {connected:?} connects; {lines:#?}");
        let arrived = at(listener);
        ensure!(arrived == self.made, "OPENED: {arrived} SYNs arrived on port {port}; {lines:#?}");
        let passed = at(&counts.passed);
        ensure!(passed == self.made, "OPENED: the filter passed {passed} SYNs to port {port}; {lines:#?}");
        // What led a connection that has been made stays until its pinhole is closed.
        let is_shut = if made == 0 { held.is_empty() } else { !table.is_open(self.public_port) };
        ensure!(is_shut, "OPENED: port {port} stands in {held:?}; {lines:#?}");
        ensure!(table.is_pending(port) == self.case.waits, "port {port} waits, or does not");
        let rightly = made + self.case.others + usize::from(self.case.opened_before);
        ensure!(opened == rightly, "{opened} ports opened: {lines:#?}");
        if let Some(reason) = explained {
            let told = lines.iter().filter(|line| line.contains(reason)).count();
            ensure!(told == 1, "the log says {told} times \"{reason}\": {lines:#?}");
        } else {
            ensure!(!lines.iter().any(|line| line.contains("WARN")), "a warning for no fault: {lines:#?}");
        }
        Ok(())
    }

    /// What ends the session's lines in the log.
    fn label(&self) -> String {
        format!("session={}", self.number)
    }
}

impl End {
    fn other(self) -> End {
        match self {
            End::Client => End::Server,
            End::Server => End::Client,
        }
    }
}

impl Ends {
    /// One end says something. Returns what the other hears; nothing if it names what is not there.
    fn say(&self, end: End, pieces: &[Vec<u8>], arrival: Arrival, place: &Place) -> Result<Option<Vec<u8>>> {
        let (mut from, to) = match end {
            End::Client => (&self.client, &self.server),
            End::Server => (&self.server, &self.client),
        };
        let fill =
            |announced| pieces.iter().map(|piece| place.fill(piece, announced)).collect::<Option<Vec<_>>>();
        let (Some(said), Some(announced)) = (fill(false), fill(true)) else { return Ok(None) };
        for (number, piece) in said.iter().enumerate() {
            if number > 0 {
                sleep(PAUSE);
            }
            from.write_all(piece)?;
        }
        let said = said.concat();
        let lines = said.iter().filter(|byte| **byte == b'\n').count();
        match arrival {
            Arrival::AsSent => hear(to, &said),
            Arrival::Announced => hear(to, &announced.concat()),
            Arrival::Promised | Arrival::Spoiled => hear_lines(to, lines),
        }
        .map(Some)
    }
}

/// The port that a PORT or EPRT names.
fn announced_port(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    if let Some(fields) = text.strip_suffix('|') {
        return fields.rsplit('|').next()?.parse().ok();
    }
    let mut numbers = text.rsplit(',').map(str::parse::<u8>);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(u16::from_be_bytes([high, low]))
}

/// Reads what must come.
fn hear(mut from: &TcpStream, expected: &[u8]) -> Result<Vec<u8>> {
    let mut got = vec![0; expected.len()];
    let mut length = 0;
    let start = Instant::now();
    while length < got.len() && got[..length] == expected[..length] && start.elapsed() < PATIENCE {
        match from.read(&mut got[length..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    got.truncate(length);
    let tail = |text: &[u8]| text[text.len().saturating_sub(300)..].escape_ascii().to_string();
    ensure!(got == expected, "the other end hears \"{}\" instead of \"{}\"", tail(&got), tail(expected));
    Ok(got)
}

/// Reads to the end of so many lines, or a byte where there is none.
fn hear_lines(mut from: &TcpStream, lines: usize) -> Result<Vec<u8>> {
    let mut got = Vec::new();
    let mut byte = [0];
    loop {
        from.read_exact(&mut byte)?;
        got.push(byte[0]);
        if got.iter().filter(|byte| **byte == b'\n').count() == lines {
            return Ok(got);
        }
    }
}
