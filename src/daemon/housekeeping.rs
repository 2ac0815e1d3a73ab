//! What happens by the clock: expiry, and the sign of life for systemd's watchdog.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ftpalg::engine::Engine;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Change, PinholeKey};
use ftpalg::engine::tick::Questions;
use tracing::{Level, debug, error, warn};

use super::about::About;
use super::alarms::Alarms;
use super::allowance::Allowances;
use super::clock;
use super::liveness::Liveness;
use super::shared::{Failure, Shared, SharedEngine, lock, take_note_of_used};
use super::store::StoreError;
use crate::netfilter::{CommitError, ConnTrack, Fate, Refused, give_memory_back};

/// How often. Much less than any time-out of the engine's.
const INTERVAL: Duration = Duration::from_secs(1);

/// Of how many pinholes nftables is asked at once: two microseconds each.
const AT_ONCE: usize = 128;

/// How many portions of what has run down are taken out at most at once: what is left is found again, and what else is done by
/// the clock must not wait long.
const PORTIONS: usize = 200;

/// How long packets come first between two of them.
const PAUSE: Duration = Duration::from_millis(2);

/// So many sessions come and go without a trace in the daemon's memory.
const SPARE: usize = 1024;

/// Runs for as long as the daemon.
pub fn run(shared: &Arc<Shared>, mut alarms: Alarms, mut liveness: Liveness, mut conntrack: ConnTrack) -> ! {
    let mut most: usize = 0;
    let mut allowances = Allowances::default();
    loop {
        thread::sleep(INTERVAL);
        let now = clock::now();
        for engine in shared.all_engines() {
            let Questions { silent, open } = lock(engine).look_through(now);
            remember_used(shared, engine, &open, &mut allowances);
            expire(shared, engine, now, &mut allowances);
            ask_about_silent(engine, &mut conntrack, &silent, now);
        }
        let number = shared.all_engines().map(|engine| lock(engine).sessions().count()).sum();
        most = most.max(number);
        if most > SPARE + 4 * number {
            most = number;
            give_memory_back();
        }
        if let Err(error) = shared.keep_store() {
            error!("a restart would lose all sessions, because the state directory was deleted: {error}");
        }
        alarms.look(shared);
        // Without this, systemd starts a new daemon.
        if liveness.all_go_on() {
            if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
                debug!("systemd's watchdog can't be told: {error}");
            }
        }
    }
}

/// Takes out what has run down, some at a time: packets wait meanwhile.
fn expire(shared: &Shared, engine: &SharedEngine, now: Duration, allowances: &mut Allowances) {
    for _ in 0..PORTIONS {
        if !expire_some(shared, engine, now, allowances) {
            break;
        }
        // A lock goes to whoever comes first, and that would be this one again.
        thread::sleep(PAUSE);
    }
}

/// Takes some out. The engine is locked for the while: nothing of an expired session may be handed out before it is taken
/// out. Returns whether there may be more.
fn expire_some(shared: &Shared, engine: &SharedEngine, now: Duration, allowances: &mut Allowances) -> bool {
    let mut engine = lock(engine);
    let Some(changes) = engine.next_portion(now) else { return false };
    if changes.is_empty() {
        return true;
    }
    if let Err(failure) = shared.commit(&changes) {
        not_taken(&mut engine, &failure);
    }
    let seen_to = changes.iter().filter_map(|change| match change {
        // A session has settled, or has given way to another of this name.
        Change::Track(tuple) | Change::Depart(tuple) => Some(*tuple),
        _ => None,
    });
    let mut buffer = Vec::new();
    for tuple in seen_to {
        if let Err(error) = shared.save(&engine, &tuple, &mut buffer) {
            let what = "a restart would find an older state of this name";
            tell_unsaved(shared, allowances, &tuple, what, &error);
        }
    }
    true
}

/// nftables has not taken all of it. Elements run down by themselves, and a queued packet of a connection that nobody follows
/// takes its own out.
fn not_taken(engine: &mut Engine, failure: &Failure) {
    if let Failure::Refused(Refused { undone, error }) = failure {
        engine.not_taken(undone);
        if matches!(error, CommitError::Full) {
            return warn!("sessions are out of sight once their client is silent for a minute: {error}");
        }
    }
    debug!("expired elements stay in nftables until their time-out, live ones are not set anew: {failure}");
}

/// Remembers which pinholes were used. After a flush the kernel can't tell any more, and one that was put back would let
/// a second connection in. Some at a time: packets wait meanwhile.
fn remember_used(shared: &Shared, engine: &SharedEngine, open: &[PinholeKey], allowances: &mut Allowances) {
    let mut buffer = Vec::new();
    for some in open.chunks(AT_ONCE) {
        let mut engine = lock(engine);
        let sessions = take_note_of_used(&mut engine, &mut lock(&shared.firewall), some.iter());
        for tuple in sessions {
            if let Err(error) = shared.save(&engine, &tuple, &mut buffer) {
                let what = "a restart may open a used data port again";
                tell_unsaved(shared, allowances, &tuple, what, &error);
            }
        }
    }
}

fn tell_unsaved(
    shared: &Shared,
    allowances: &mut Allowances,
    tuple: &ControlTuple,
    what: &str,
    error: &StoreError,
) {
    if !allowances.unsaved(About::connection(tuple), Level::WARN, what, error) {
        shared.vitals.lines_left_out.add();
    }
}

/// Asks conntrack what has become of connections of which nothing comes any more. No lock is held meanwhile: what speaks again
/// is not over for the engine.
fn ask_about_silent(
    engine: &SharedEngine,
    conntrack: &mut ConnTrack,
    silent: &[ControlTuple],
    now: Duration,
) {
    for tuple in silent {
        match conntrack.fate(tuple) {
            Fate::Ended => {
                let about = lock(engine).has_ended(tuple, now).map(About::session);
                if let Some(about) = about {
                    about.line(Level::INFO, None, format_args!("ended, as conntrack says"));
                }
            }
            Fate::HalfOpen => lock(engine).is_half_open(tuple, now),
            Fate::Live | Fate::Unknown => {}
        }
    }
}
