//! `ftpalg replay`: a capture through the engine. Nothing of this host is touched, and no rights are needed.

mod beginning;
mod doors;
mod flow;
mod lines;
mod nat;
mod order;
mod performance;
mod player;
mod stage;
mod survey;
mod tell;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use ftpalg::engine::Engine;

use crate::capture::{File, Writer};
use crate::cli::exit;
use crate::cli::with_config::WithConfig;
use crate::config::Config;
use crate::daemon::policy;
use crate::terminal::{complain, is_closed_pipe};
use nat::{Rule, Side};
use player::Player;
use survey::Survey;
use tell::{Moment, Teller, What};

/// What the user asks for.
#[derive(Debug, Args)]
pub struct Options {
    /// A capture, as tcpdump -w or Wireshark writes it (pcap or pcapng)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    pub config: WithConfig,
    /// A control port besides those of the configuration; may be given more than once
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// An address, or a network, and the address by which the router's other side knows it, as in
    /// 192.168.1.10=203.0.113.7; may be given more than once. Not needed where the capture has both sides
    #[arg(long, value_name = "INSIDE=PUBLIC")]
    nat: Vec<Rule>,
    /// The router's public address: private addresses are known by it
    #[arg(long, value_name = "ADDRESS")]
    wan: Vec<IpAddr>,
    /// Write the control connections as they would be on the router's other side
    #[arg(long, value_name = "OUT.pcap")]
    write: Option<PathBuf>,
    /// Which side --write writes [default: the one that sees rewritten lines]
    #[arg(long, value_name = "SIDE", requires = "write")]
    side: Option<Side>,
    /// Tell, and write, this session only
    #[arg(long, value_name = "NUMBER")]
    session: Option<u64>,
    /// One JSON object an event, a line each
    #[arg(long)]
    json: bool,
    /// Show the argument of PASS
    #[arg(long)]
    show_passwords: bool,
}

impl Options {
    fn rules(&self) -> Vec<Rule> {
        self.nat.iter().cloned().chain(self.wan.iter().flat_map(|public| Rule::wan(*public))).collect()
    }
}

/// Replays a capture and returns the exit code.
pub fn run(options: &Options, config: &Config) -> u8 {
    match replay(options, config) {
        Ok(()) => exit::OK,
        Err(error) => {
            if !is_closed_pipe(&error) {
                complain(&format_args!("{error:#}"));
            }
            exit::FAILURE
        }
    }
}

fn replay(options: &Options, config: &Config) -> Result<()> {
    let mut ports = config.control_ports.clone();
    ports.extend(&options.ports);
    // What is damaged is told when its turn comes.
    let mut file = File::open(&options.file)?;
    let survey = Survey::of(&mut file, &ports);
    let mut file = File::open(&options.file)?;
    let writer = options.write.as_deref().map(|out| create(out, &options.file)).transpose()?;
    let engine = Engine::new(policy(config, 0), 0);
    let teller = Teller::new(options.json, options.session);
    let mut player = Player::new(options, ports.clone(), survey.unwrap_or_default(), engine, teller, writer);
    let mut last = Moment { packet: 0, at: Duration::ZERO };
    let damage = loop {
        match file.next() {
            Ok(Some(frame)) => {
                last = Moment { packet: frame.number, at: frame.at };
                player.frame(frame, file.resolution())?;
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let mut teller = player.finish()?;
    let mut note = |text: String| teller.tell(None, last, &What::Note { text });
    if file.ends_early() {
        note(
            "the file ends within the packet behind this one: was the capture still running, or a disk full?"
                .to_owned(),
        )?;
    }
    if last.packet > 0 && teller_is_silent(&teller) {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let text = format!("no control connection to port {ports}: name another port with --port");
        teller.tell(None, last, &What::Note { text })?;
    }
    teller.summary(&options.file.display().to_string())?;
    damage.map_or(Ok(()), |error| Err(error.into()))
}

fn teller_is_silent(teller: &Teller) -> bool {
    teller.totals.sessions == 0
}

/// The file to be written, unless it is the one that is read.
fn create(out: &Path, from: &Path) -> Result<Writer> {
    use std::os::unix::fs::MetadataExt;
    if let (Ok(out_is), Ok(from_is)) = (fs::metadata(out), fs::metadata(from)) {
        let is_same = (out_is.dev(), out_is.ino()) == (from_is.dev(), from_is.ino());
        ensure!(!is_same, "{}: it is the capture that is read: write to another file", out.display());
    }
    Ok(Writer::create(out)?)
}
