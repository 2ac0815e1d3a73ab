//! Measures ftpalg beside the kernel's FTP helper and a bare queue, in network namespaces, alternating in one run.

mod contender;
mod peer;
mod stand;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use contender::Contender;
use peer::client::{Mode, Work};
use stand::Stand;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One figure of some contenders, in rounds.
    Quick {
        #[arg(long)]
        ftpalg: PathBuf,
        #[arg(long, value_delimiter = ',')]
        contenders: Vec<Contender>,
        #[arg(long, default_value = "session")]
        work: Work,
        #[arg(long, default_value = "pasv")]
        mode: Mode,
        #[arg(long, default_value_t = 16)]
        clients: usize,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 1000)]
        milliseconds: u64,
        #[arg(long, default_value_t = 1024)]
        file: usize,
        #[arg(long, default_value_t = 0)]
        idle: usize,
    },
    /// The load server, inside its host.
    #[command(hide = true)]
    Serve { threads: usize },
    /// The server of the idle crowd, inside its host.
    #[command(hide = true)]
    ServeCrowd,
    /// The load client, inside its host.
    #[command(hide = true)]
    Load(peer::client::Plan),
    /// The idle crowd, inside its host.
    #[command(hide = true)]
    Crowd {
        sessions: usize,
        #[arg(long, value_delimiter = ',')]
        clients: Vec<Ipv4Addr>,
        #[arg(long, value_delimiter = ',')]
        servers: Vec<Ipv4Addr>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve { threads } => peer::server::serve(threads),
        Command::ServeCrowd => peer::crowd::serve(),
        Command::Load(plan) => {
            println!("{}", serde_json::to_string(&peer::client::run(&plan)?)?);
            Ok(())
        }
        Command::Crowd { sessions, clients, servers } => peer::crowd::hold(sessions, &clients, &servers),
        Command::Quick { ftpalg, contenders, work, mode, clients, rounds, milliseconds, file, idle } => {
            let mut stands = Vec::new();
            for contender in contenders {
                stands.push(Stand::new(contender, &ftpalg)?);
            }
            let mut crowds = Vec::new();
            if idle > 0 {
                for stand in &stands {
                    crowds.push(stand.crowd(idle)?);
                }
            }
            let mut results = vec![Vec::new(); stands.len()];
            for _ in 0..rounds {
                for (stand, results) in stands.iter().zip(&mut results) {
                    let before = stand.usage()?;
                    let outcome =
                        stand.load(work, mode, clients, Duration::from_millis(milliseconds), file)?;
                    let after = stand.usage()?;
                    results.push((
                        outcome,
                        (after.cpu - before.cpu) as f64,
                        (after.packets - before.packets) as f64,
                    ));
                }
            }
            let mut base = None;
            for (stand, results) in stands.iter().zip(&mut results) {
                results.sort_by(|a, b| a.0.rate().total_cmp(&b.0.rate()));
                let (outcome, cpu, packets) = &results[results.len() / 2];
                let base = *base.get_or_insert(outcome.rate());
                println!(
                    "{:18} {:9.0}/s  x{:.3}  p50 {:7.1} p99 {:7.1}  {:.2} us/packet {:.1} packets each {:.1} us each",
                    stand.contender.to_string(),
                    outcome.rate(),
                    outcome.rate() / base,
                    outcome.p50,
                    outcome.p99,
                    cpu / packets / 1e3,
                    packets / outcome.times as f64,
                    cpu / 1e3 / outcome.times as f64
                );
            }
            Ok(())
        }
    }
}
