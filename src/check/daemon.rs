//! The queues, and who reads them: the running daemon, somebody else, nobody.

use super::finding::{Finding, Id, Mend};
use super::proc::Process;
use crate::config::Config;
use crate::daemon::queues::{self, Bound};

/// Who reads the configuration's queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// The daemon.
    Ftpalg(Process),
    /// The daemon reads others: it has not been started anew since they were named.
    OfOthers(Process),
    /// Somebody, and it can't be told who.
    Unknown,
    /// No daemon, as far as the configuration's queues go.
    Nobody,
}

impl Reader {
    /// The daemon, where it is known.
    pub fn daemon(&self) -> Option<&Process> {
        match self {
            Reader::Ftpalg(process) | Reader::OfOthers(process) => Some(process),
            Reader::Unknown | Reader::Nobody => None,
        }
    }
}

/// Who reads the queues, and what is to be said of it.
pub fn look(config: &Config, file: &str) -> (Reader, Vec<Finding>) {
    let bound = queues::bound();
    let wanted = config.queue..=config.queue.saturating_add(config.workers.max(1) - 1);
    let mut found = Vec::new();
    let mut daemon = None;
    let mut is_unknown = false;
    let mut unread = Vec::new();
    for number in wanted.clone() {
        let Some(queue) = bound.iter().find(|queue| queue.number == number) else {
            unread.push(number);
            continue;
        };
        match Process::of_port_id(queue.port_id) {
            Some(process) if process.is_ftpalg() => daemon = Some(process),
            Some(other) => found.push(taken(config, file, number, &other, &bound)),
            None => {
                is_unknown = true;
                let what = format!("not looked at: who reads queue {number} (it needs CAP_SYS_PTRACE)");
                found.push(Finding::unseen(Id::NotLookedAt, what, Mend::command("sudo ftpalg check")));
            }
        }
    }
    let elsewhere = || bound.iter().filter_map(|queue| Process::of_port_id(queue.port_id));
    let other = if daemon.is_none() { elsewhere().find(Process::is_ftpalg) } else { None };
    match daemon.as_ref().or(other.as_ref()) {
        Some(process) if process.is_stopped() => found.push(stopped(process)),
        Some(process) if !unread.is_empty() => found.push(restart_needed(process, &unread)),
        Some(process) if found.is_empty() => {
            let what = format!("ftpalg runs (process {}) and reads {}", process.pid, queues_named(&wanted));
            found.push(Finding::right(Id::Daemon, what));
        }
        None if found.is_empty() => found.push(not_running(&queues_named(&wanted))),
        _ => {}
    }
    let reader = match (daemon, other) {
        (Some(process), _) => Reader::Ftpalg(process),
        (None, Some(process)) => Reader::OfOthers(process),
        (None, None) if is_unknown => Reader::Unknown,
        (None, None) => Reader::Nobody,
    };
    (reader, found)
}

fn queues_named(numbers: &std::ops::RangeInclusive<u16>) -> String {
    let (first, last) = (numbers.start(), numbers.end());
    if first == last { format!("queue {first}") } else { format!("the queues {first} to {last}") }
}

fn not_running(queues: &str) -> Finding {
    let what = format!(
        "ftpalg does not run: nobody reads {queues}, so no address is rewritten and no data port opens"
    );
    Finding::wrong(Id::DaemonNotRunning, what, Mend::command("systemctl start ftpalg"))
}

fn stopped(process: &Process) -> Finding {
    let what = format!(
        "ftpalg (process {}) stands still ({}): control connections wait until it goes on",
        process.pid, process.state
    );
    Finding::wrong(Id::DaemonStopped, what, Mend::command(format!("kill -CONT {}", process.pid)))
}

fn restart_needed(process: &Process, unread: &[u16]) -> Finding {
    let unread = unread.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let what = format!(
        "ftpalg (process {}) does not read queue {unread}, which the configuration names: `queue` and `workers` \
         take effect at its next start",
        process.pid
    );
    Finding::wrong(Id::DaemonRestartNeeded, what, Mend::command("systemctl restart ftpalg"))
}

fn taken(config: &Config, file: &str, number: u16, reader: &Process, bound: &[Bound]) -> Finding {
    let Process { name, pid, .. } = reader;
    let what = format!("queue {number} is read by {name} (process {pid}), not by ftpalg, which can't start");
    let is_free = |first: &u16| {
        let mut numbers = *first..first.saturating_add(config.workers);
        numbers.all(|number| bound.iter().all(|queue| queue.number != number))
    };
    let free = (config.queue..u16::MAX - config.workers).find(is_free);
    let mend = match free {
        Some(free) => Mend::Setting { file: file.to_owned(), line: format!("queue = {free}") },
        None => Mend::advice("stop that program"),
    };
    Finding::wrong(Id::QueueTaken, what, mend)
}
