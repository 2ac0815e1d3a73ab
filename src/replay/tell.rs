//! What a replay tells: a line an event, for people or as JSON.

use std::io::{self, StdoutLock, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use ftpalg::engine::event::Mode;
use ftpalg::engine::session::Tap;
use serde::Serialize;

use super::nat::Views;
use crate::terminal::{Style, Terminal, arrow, difference};

/// A packet, and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub packet: u64,
    pub at: Duration,
}

/// Who sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sender {
    Client,
    Server,
}

impl From<Tap> for Sender {
    fn from(tap: Tap) -> Self {
        match tap {
            Tap::ToServer => Sender::Client,
            Tap::ToClient => Sender::Server,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// A control connection begins.
    Session {
        client: SocketAddr,
        dialled: SocketAddr,
        seen: SocketAddr,
        server: SocketAddr,
        nat: String,
    },
    /// A line, and what the other end reads if that is another.
    Line {
        from: Sender,
        text: String,
        rewritten: Option<String>,
    },
    LoggedIn,
    /// A data port would open: what the SYN looks like, where it leads, and from where it is seen to come.
    Opened {
        mode: &'static str,
        source: IpAddr,
        destination: SocketAddr,
        to: SocketAddr,
        seen: IpAddr,
        seconds: u64,
    },
    /// It would not.
    Refused {
        mode: &'static str,
        line: String,
        reason: String,
        remedy: String,
    },
    /// A data connection, and what lets it through.
    Data {
        source: SocketAddr,
        destination: SocketAddr,
        pinhole: Pinhole,
    },
    /// The connection leaves inspection.
    Left {
        reason: String,
    },
    Ended,
    /// The capture lacks bytes.
    Gap {
        from: Sender,
        bytes: u32,
    },
    /// ftpalg would drop the packet.
    Dropped {
        from: Sender,
    },
    /// Anything else that the reader should know.
    Note {
        text: String,
    },
}

/// What a data connection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinhole {
    /// One that is open.
    Open,
    /// One that waits for the server's reply to PORT: the SYN is held back until then.
    Waiting,
    /// None.
    None,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Totals {
    /// Packets in the file.
    pub packets: u64,
    /// Those of control connections, without copies.
    pub control_packets: u64,
    pub sessions: u64,
    pub rewritten_lines: u64,
    pub pinholes: u64,
    pub refused: u64,
    pub gaps: u64,
    /// Packets that were seen a second time, the other side of NAT included.
    pub copies: u64,
    pub cut: u64,
    pub fragments: u64,
    pub unfinished_checksums: u64,
    pub wrong_checksums: u64,
    /// Packets written to the other file.
    pub written: u64,
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    packet: u64,
    time: String,
    #[serde(flatten)]
    what: &'a What,
}

#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    #[serde(flatten)]
    totals: &'a Totals,
}

/// Where it is told.
#[derive(Debug)]
enum Ear {
    People(Terminal),
    Machine(StdoutLock<'static>),
}

/// Tells.
#[derive(Debug)]
pub struct Teller {
    ear: Ear,
    /// The only session that is asked for.
    only: Option<u64>,
    start: Option<Duration>,
    pub totals: Totals,
}

/// The place of a line's text: behind the session, the packet and the seconds.
const INDENT: &str = "                              ";

impl Teller {
    /// To standard output.
    pub fn new(json: bool, only: Option<u64>) -> Teller {
        let ear = if json { Ear::Machine(io::stdout().lock()) } else { Ear::People(Terminal::new()) };
        Teller { ear, only, start: None, totals: Totals::default() }
    }

    /// Tells what happened in a session, or in none, with a packet.
    pub fn tell(&mut self, session: Option<u64>, moment: Moment, what: &What) -> io::Result<()> {
        match what {
            What::Session { .. } => self.totals.sessions += 1,
            What::Line { rewritten: Some(_), .. } => self.totals.rewritten_lines += 1,
            What::Opened { .. } => self.totals.pinholes += 1,
            What::Refused { .. } => self.totals.refused += 1,
            What::Gap { .. } => self.totals.gaps += 1,
            _ => {}
        }
        if session.is_some() && self.only.is_some_and(|only| Some(only) != session) {
            return Ok(());
        }
        let start = *self.start.get_or_insert(moment.at);
        match &mut self.ear {
            Ear::Machine(out) => {
                let record = Record { session, packet: moment.packet, time: stamp(moment.at), what };
                serde_json::to_writer(&mut *out, &record)?;
                writeln!(out)
            }
            Ear::People(terminal) => {
                let seconds = moment.at.saturating_sub(start).as_secs_f64();
                let number = session.map(|number| number.to_string()).unwrap_or_default();
                let head = format!("{number:>3} {:>7} {seconds:>12.6}  ", moment.packet);
                people(terminal, &head, moment, what)
            }
        }
    }

    /// The end of it.
    pub fn summary(&mut self, file: &str) -> io::Result<()> {
        let totals = &self.totals;
        match &mut self.ear {
            Ear::Machine(out) => {
                serde_json::to_writer(&mut *out, &Summary { event: "summary", totals })?;
                writeln!(out)?;
                out.flush()
            }
            Ear::People(terminal) => {
                terminal.line(Style::Heading, &format!("{file}: {}", counted(totals)))?;
                terminal.flush()
            }
        }
    }
}

fn counted(totals: &Totals) -> String {
    let some =
        |number: u64, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let mut text = format!(
        "{} in {}; {} rewritten, {} opened, {} refused",
        some(totals.sessions, "session", "sessions"),
        some(totals.packets, "packet", "packets"),
        some(totals.rewritten_lines, "line", "lines"),
        some(totals.pinholes, "data port", "data ports"),
        totals.refused,
    );
    let troubles = [
        (totals.gaps, "gap", "gaps"),
        (totals.cut, "packet that the capture has cut", "packets that the capture has cut"),
        (totals.fragments, "fragment", "fragments"),
        (totals.wrong_checksums, "wrong checksum", "wrong checksums"),
        (totals.unfinished_checksums, "unfinished checksum", "unfinished checksums"),
        (totals.copies, "copy left out", "copies left out"),
        (totals.written, "packet written", "packets written"),
    ];
    for (number, one, many) in troubles.into_iter().filter(|(number, ..)| *number > 0) {
        text += &format!("; {}", some(number, one, many));
    }
    text
}

/// A moment as RFC 3339 writes it.
fn stamp(at: Duration) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + at).to_string()
}

fn people(terminal: &mut Terminal, head: &str, moment: Moment, what: &What) -> io::Result<()> {
    let mut line = |style, text: &str| terminal.line(style, &format!("{head}{text}"));
    match what {
        What::Session { client, dialled, seen, server, nat } => {
            line(
                Style::Heading,
                &format!(
                    "session from {client} to {dialled}, {}",
                    humantime::format_rfc3339_micros(UNIX_EPOCH + moment.at)
                ),
            )?;
            if (client, dialled) != (seen, server) {
                terminal.line(Style::Plain, &format!("{INDENT}the server {server} sees {seen}"))?;
            }
            terminal.line(Style::Faint, &format!("{INDENT}{nat}"))
        }
        What::Line { from, text, rewritten } => {
            let arrow = arrow(match from {
                Sender::Client => Tap::ToServer,
                Sender::Server => Tap::ToClient,
            });
            let Some(new) = rewritten else { return line(Style::Plain, &format!("{arrow} {text}")) };
            let [old, new] = difference(text, new);
            let [old, new] = [terminal.mark(old), terminal.mark(new)];
            terminal.line(Style::Plain, &format!("{head}{arrow} {old}"))?;
            terminal.line(Style::Plain, &format!("{INDENT}⇒ {new}"))
        }
        What::LoggedIn => line(Style::Faint, "  logged in"),
        What::Opened { mode, source, destination, to, seen, seconds } => {
            let leads = if to == destination { String::new() } else { format!(", leads to {to}") };
            let from = if seen == source { String::new() } else { format!(", seen from {seen}") };
            line(
                Style::Pinhole,
                &format!("○ {mode} data port opens: {source} → {destination}{leads}{from}, for {seconds} s"),
            )
        }
        What::Refused { mode, line: asked, reason, remedy } => {
            line(Style::Bad, &format!("✗ {mode} data port not opened for {asked:?}: {reason}; {remedy}"))
        }
        What::Data { source, destination, pinhole } => {
            let (style, means) = match pinhole {
                Pinhole::Open => (Style::Pinhole, "through the pinhole"),
                Pinhole::Waiting => (Style::Pinhole, "held back until the server has answered"),
                Pinhole::None => (Style::Bad, "no pinhole is open for it: your own rules decide"),
            };
            line(style, &format!("● data connection {source} → {destination}: {means}"))
        }
        What::Left { reason } => line(Style::Bad, &format!("■ no longer inspected: {reason}")),
        What::Ended => line(Style::Faint, "■ ended"),
        What::Gap { from, bytes } => {
            let from = match from {
                Sender::Client => "the client",
                Sender::Server => "the server",
            };
            line(
                Style::Bad,
                &format!("! the capture lacks {bytes} bytes from {from}: packets are missing before this"),
            )
        }
        What::Dropped { .. } => line(
            Style::Bad,
            "! ftpalg would drop this packet: it contradicts what went before, or does not fit in",
        ),
        What::Note { text } => line(Style::Changed, &format!("! {text}")),
    }
}

/// A mode's name.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Active => "active",
        Mode::Passive => "passive",
    }
}

/// The first thing that is told of a session.
pub fn session(views: &Views, nat: String) -> What {
    What::Session {
        client: views.inner.client,
        dialled: views.inner.server,
        seen: views.outer.client,
        server: views.outer.server,
        nat,
    }
}
