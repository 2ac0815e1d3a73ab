//! Many sessions that live at the same time, in one thread of one host.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::Host;
use nix::sched::{CloneFlags, setns};
use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::client::Client;
use crate::harness::Mode;

/// How long a login, or a transfer, may take once it has begun. Longer than any pause of TCP's.
const LIMIT: Duration = Duration::from_secs(120);

/// How many failures are told in words.
const TOLD: usize = 10;

/// What a crowd does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many sessions live at the same time.
    pub sessions: usize,
    /// How many transfers all of them make together: the same number each.
    pub transfers: usize,
    /// How many log in, and how many transfer, at the same moment.
    pub busy: usize,
    /// The client's addresses, in turn.
    pub sources: Vec<Ipv4Addr>,
    /// The servers, in turn.
    pub servers: Vec<SocketAddr>,
}

/// How far all are: nobody goes on to the next stage before the crowd is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    LogIn,
    Transfer,
    Quit,
}

/// How far the crowd has come.
#[derive(Debug)]
pub struct Progress {
    stage: watch::Sender<Stage>,
    pub logged_in: AtomicUsize,
    pub transfers: AtomicUsize,
    /// Sessions that have done all their transfers.
    pub done: AtomicUsize,
    pub failed: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Progress {
    /// Nothing done.
    pub fn new() -> Progress {
        Progress {
            stage: watch::Sender::new(Stage::LogIn),
            logged_in: AtomicUsize::default(),
            transfers: AtomicUsize::default(),
            done: AtomicUsize::default(),
            failed: AtomicUsize::default(),
            failures: Mutex::default(),
        }
    }

    /// Lets all go on to this stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// The first failures in words.
    pub fn failures(&self) -> String {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn fail(&self, what: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD {
            failures.push(what);
        }
    }

    async fn reaches(&self, stage: Stage) -> Result<()> {
        self.stage.subscribe().wait_for(|now| *now >= stage).await?;
        Ok(())
    }
}

/// Runs a crowd on a host, to its end. For a thread of its own: it stays in the host's namespace.
pub fn run(host: &Host, plan: &Plan, progress: &Arc<Progress>) -> Result<()> {
    let namespace = File::open(Path::new("/run/netns").join(host.namespace()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("entering the client's namespace")?;
    ensure!(plan.transfers % plan.sessions == 0, "not the same number of transfers each");
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let turn = Arc::new(Semaphore::new(plan.busy));
        let sessions = (0..plan.sessions).map(|number| {
            let (plan, progress, turn) = (plan.clone(), Arc::clone(progress), Arc::clone(&turn));
            tokio::task::spawn_local(async move {
                if let Err(error) = session(number, &plan, &progress, &turn).await {
                    progress.fail(format!("session {number}: {error:#}"));
                }
            })
        });
        for session in sessions.collect::<Vec<_>>() {
            session.await?;
        }
        Ok(())
    })
}

async fn session(number: usize, plan: &Plan, progress: &Progress, turn: &Semaphore) -> Result<()> {
    let source = plan.sources[number % plan.sources.len()];
    let server = plan.servers[number % plan.servers.len()];
    let mut client = {
        let _turn = turn.acquire().await?;
        timeout(LIMIT, Client::log_in(source, server)).await.context("logging in takes too long")??
    };
    progress.logged_in.fetch_add(1, Ordering::Relaxed);
    progress.reaches(Stage::Transfer).await?;
    let name = format!("up/{number}");
    let mut there = Vec::new();
    for round in 0..plan.transfers / plan.sessions {
        // Others have their turn before this one has its next.
        let _turn = turn.acquire().await?;
        let mode = Mode::ALL[(number + round / 2) % Mode::ALL.len()];
        let transfer = async {
            if round % 2 == 0 {
                there = content(number, round);
                client.put(mode, &name, &there).await
            } else {
                ensure!(client.get(mode, &name).await? == there, "not the file that was sent");
                Ok(())
            }
        };
        let done = async { timeout(LIMIT, transfer).await.context("takes too long")? }.await;
        done.with_context(|| format!("transfer {round}, {mode}"))?;
        progress.transfers.fetch_add(1, Ordering::Relaxed);
    }
    progress.done.fetch_add(1, Ordering::Relaxed);
    progress.reaches(Stage::Quit).await?;
    let _turn = turn.acquire().await?;
    timeout(LIMIT, client.quit()).await.context("quitting takes too long")?
}

/// Up to 4 KiB that no other transfer has.
fn content(number: usize, round: usize) -> Vec<u8> {
    let line = format!("session {number}, transfer {round}\n");
    line.bytes().cycle().take(line.len() + (number * 37 + round * 501) % 4000).collect()
}
