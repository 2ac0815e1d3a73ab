//! Measures ftpalg beside the kernel's FTP helper and a bare queue, in network namespaces, alternating in one run.

mod contender;
mod figure;
mod peer;
mod plot;
mod program;
mod report;
mod ruleset;
mod stand;
mod suite;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use contender::Contender;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peer::client::{Mode, Work};
use stand::{Crowd, Server};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All figures, written to the page.
    All {
        /// ftpalg's program.
        #[arg(long)]
        ftpalg: PathBuf,
        /// The page with the marks between which the figures stand.
        #[arg(long, default_value_os_t = suite::default_page())]
        page: PathBuf,
        /// Rounds of each figure.
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// How long a round is.
        #[arg(long, default_value_t = 800)]
        milliseconds: u64,
        /// The largest crowd of idle sessions.
        #[arg(long, default_value_t = 100_000)]
        crowd: usize,
        /// What `emulated` has printed in a virtual machine: it goes onto the page as it is.
        #[arg(long)]
        emulated: Option<PathBuf>,
    },
    /// The figures with conntrackd's helper, which needs a kernel with native `queue`, to standard output
    /// (scripts/bench-in-vm).
    Emulated {
        #[arg(long)]
        ftpalg: PathBuf,
    },
    /// One figure of some contenders, to the terminal.
    One {
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
        #[arg(long, default_value = "own")]
        server: Server,
    },
    /// The load server, inside its host.
    #[command(hide = true)]
    Serve { threads: usize },
    /// The server of the idle crowd, inside its host.
    #[command(hide = true)]
    ServeCrowd { address: Ipv4Addr },
    /// The load client, inside its host.
    #[command(hide = true)]
    Load(peer::client::Plan),
    /// The idle crowd, inside its host.
    #[command(hide = true)]
    Crowd {
        sessions: usize,
        #[arg(long, value_delimiter = ',')]
        clients: Vec<Ipv4Addr>,
        #[arg(long)]
        server: Ipv4Addr,
        /// Each session asks for a data connection, and makes none.
        #[arg(long)]
        pasv: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve { threads } => peer::server::serve(threads),
        Command::ServeCrowd { address } => peer::crowd::serve(address),
        Command::Load(plan) => {
            println!("{}", serde_json::to_string(&peer::client::run(&plan)?)?);
            Ok(())
        }
        Command::Crowd { sessions, clients, server, pasv } => {
            peer::crowd::hold(sessions, &clients, server, pasv)
        }
        Command::All { ftpalg, page, rounds, milliseconds, crowd, emulated } => {
            open_files()?;
            let read = |path: PathBuf| {
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
            };
            let emulated = emulated.map(read).transpose()?.unwrap_or_default();
            let time = Duration::from_millis(milliseconds);
            suite::Suite { ftpalg, page, rounds, time, crowd }.run(&emulated)
        }
        Command::Emulated { ftpalg } => {
            print!("{}", suite::emulated(&ftpalg)?);
            Ok(())
        }
        Command::One {
            ftpalg,
            contenders,
            work,
            mode,
            clients,
            rounds,
            milliseconds,
            file,
            idle,
            server,
        } => {
            open_files()?;
            let stands = figure::stands(&contenders, server, &ftpalg)?;
            let crowds = stands.iter().filter(|_| idle > 0).map(|stand| stand.crowd(idle, Crowd::LoggedIn));
            let _crowds = crowds.collect::<Result<Vec<_>>>()?;
            let time = Duration::from_millis(milliseconds);
            let task = figure::Task { work, mode, clients, file, time, rounds };
            for row in figure::measure(&stands, task)? {
                println!(
                    "{:32} {:>8}/s  x{:.3}  p50 {:>6} µs  p99 {:>6} µs  {:.1} packets, {:.2} µs each",
                    row.contender.to_string(),
                    report::whole(row.rate),
                    row.ratio,
                    report::whole(row.p50),
                    report::whole(row.p99),
                    row.packets,
                    row.cpu
                );
            }
            Ok(())
        }
    }
}

/// Lets the programs that are started hold a crowd's connections.
fn open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
            .context("raising the limit of open files (ulimit -n)")?;
    }
    Ok(())
}
