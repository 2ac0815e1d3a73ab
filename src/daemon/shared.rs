//! What all threads of the daemon share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ftpalg::engine::Engine;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Change, PinholeKey};
use ftpalg::engine::session::Session;
use tracing::{Level, debug, info, warn};

use super::about::About;
use super::clock;
use super::living::Living;
use super::parking::Parking;
use super::recent::Recent;
use super::store::{Saved, Store, StoreError};
use super::vitals::Vitals;
use crate::netfilter::{CommitError, ConnTrack, Fate, Firewall, Live, Refused};

/// An engine. Housekeeping and a repair of the ruleset reach in between packets.
pub type SharedEngine = Arc<Mutex<Engine>>;

/// Locks, whatever became of another holder: a panic ends the daemon anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes that the kernel did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Their table is away, and the guard is about to put it back: that is no refusal.
    #[error("ftpalg's part of the ruleset is away")]
    Away,
    /// The kernel refused them.
    #[error(transparent)]
    Refused(Refused),
}

/// Shared by the workers, housekeeping and the watch over the ruleset. Locks are taken in this order: engines, the
/// parking engine, firewall, store.
pub struct Shared {
    /// One a worker.
    pub engines: Vec<SharedEngine>,
    /// What no worker has yet.
    pub parking: Parking,
    /// nftables.
    pub firewall: Mutex<Firewall>,
    /// The state directory.
    pub store: Mutex<Store>,
    /// What happened of late. Nothing else is locked while this is.
    pub recent: Mutex<Recent>,
    /// What is counted beside the engines.
    pub vitals: Vitals,
    /// The bits of the mark that a translated packet leaves with, so that it is known as one; 0 where nobody asks.
    translated_mark: AtomicU32,
    /// Set under the firewall's lock: everything has been taken out, and nothing is put back any more.
    has_ended: AtomicBool,
}

impl Shared {
    /// Everything, with nothing left by an earlier daemon.
    pub fn new(engines: Vec<SharedEngine>, parking: Engine, firewall: Firewall, store: Store) -> Self {
        Self {
            engines,
            parking: Parking::new(parking),
            firewall: Mutex::new(firewall),
            store: Mutex::new(store),
            recent: Mutex::default(),
            vitals: Vitals::default(),
            translated_mark: AtomicU32::new(0),
            has_ended: AtomicBool::new(false),
        }
    }

    /// All engines, in the order in which they are locked.
    pub fn all_engines(&self) -> impl Iterator<Item = &SharedEngine> {
        self.engines.iter().chain([self.parking.engine()])
    }

    /// Takes up what an earlier daemon left: sessions whose connections conntrack still knows, and those in need of
    /// translation unless it knows that they are over. What is `held_back` and has no state is given up.
    pub fn take_up(
        &self,
        saved: Vec<Saved>,
        held_back: HashSet<ControlTuple>,
        conntrack: &mut ConnTrack,
    ) -> Result<(), StoreError> {
        let home = match self.engines.as_slice() {
            [only] => only,
            _ => self.parking.engine(),
        };
        let mut engine = lock(home);
        let mut store = lock(&self.store);
        let (mut gone, mut damaged) = (0, 0);
        let mut searched = HashSet::new();
        // What is in a zone must not be taken for gone.
        let mut fate = |tuple: &ControlTuple| {
            let (is_v4, port) = (tuple.server.is_ipv4(), tuple.server.port());
            match conntrack.fate(tuple) {
                Fate::Unknown if searched.insert((is_v4, port)) => {
                    if let Err(error) = conntrack.learn_zones(is_v4, port) {
                        debug!("conntrack does not tell its zones: {error}");
                    }
                    conntrack.fate(tuple)
                }
                known => known,
            }
        };
        for Saved { place, session } in saved {
            let Some(tuple) =
                session.and_then(|session| engine.restore(&session, |tuple| held_back.contains(tuple)).ok())
            else {
                damaged += 1;
                store.discard(place)?;
                continue;
            };
            store.claim(tuple, place)?;
            let is_needed = engine.session(&tuple).is_some_and(Session::needs_translation);
            let is_gone = match fate(&tuple) {
                Fate::Live | Fate::HalfOpen => false,
                Fate::Ended => true,
                // conntrack picks up again what it has been made to forget.
                Fate::Unknown => !is_needed,
            };
            if is_gone {
                gone += 1;
                engine.forget(&tuple);
                store.remove(&tuple)?;
            }
        }
        let lost = held_back.into_iter().filter(|tuple| engine.session(tuple).is_none());
        let lost: Vec<_> = lost.filter(|tuple| fate(tuple) == Fate::Live).collect();
        for tuple in &lost {
            let state = if damaged > 0 { "damaged, of another version or missing" } else { "missing" };
            About::connection(tuple).line(
                Level::WARN,
                Some("state-lost"),
                format_args!("{tuple} is cut off: its text was changed, and its state is {state}"),
            );
            engine.doom(clock::now(), *tuple);
        }
        let last_id = engine.sessions().map(|session| session.id).max().unwrap_or(0);
        let alive = engine.sessions().count();
        drop(engine);
        self.parking.open();
        for engine in &self.engines {
            lock(engine).number_sessions_from(last_id);
        }
        if damaged > 0 {
            warn!("{damaged} saved sessions are damaged or of another version, and are lost");
        }
        if alive + gone > 0 {
            info!("{alive} sessions of the last run go on, {gone} have ended meanwhile");
        }
        Ok(())
    }

    /// Has the kernel carry out what sessions ask for.
    ///
    /// # Errors
    /// It did not carry all of it out.
    pub fn commit(&self, changes: &[Change]) -> Result<(), Failure> {
        self.vitals.transactions.add();
        let mut firewall = lock(&self.firewall);
        let Err(refused) = firewall.commit(changes) else { return Ok(()) };
        if matches!(refused.error, CommitError::TableGone) && !firewall.intact() {
            return Err(Failure::Away);
        }
        self.vitals.transactions_failed.add();
        Err(Failure::Refused(refused))
    }

    /// Saves a session as it is now, or removes the record of one that is gone; `buffer` is scratch space.
    ///
    /// # Errors
    /// The state directory does not take it.
    pub fn save(
        &self,
        engine: &Engine,
        tuple: &ControlTuple,
        buffer: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let mut store = lock(&self.store);
        let saved = match engine.save(tuple, buffer) {
            Some(session) => store.save(*tuple, session),
            None => store.remove(tuple),
        };
        saved.inspect_err(|_| self.vitals.unsaved.add())
    }

    /// Makes the state directory anew, if somebody has deleted it, and saves all sessions there. A session that can't be
    /// saved is as one that could not be saved before.
    pub fn keep_store(&self) -> Result<(), StoreError> {
        if !lock(&self.store).is_deleted() {
            return Ok(());
        }
        let engines: Vec<_> = self.all_engines().map(|engine| lock(engine)).collect();
        let mut store = lock(&self.store);
        store.reopen()?;
        let mut buffer = Vec::new();
        for engine in &engines {
            for tuple in engine.sessions().map(|session| session.tuple) {
                if let Some(session) = engine.save(&tuple, &mut buffer) {
                    store.save(tuple, session)?;
                }
            }
        }
        warn!("the state directory, which somebody had deleted, has been made anew");
        Ok(())
    }

    /// Stops all workers between two packets and does something with the firewall and what it must hold.
    pub fn with_all<T>(&self, act: impl FnOnce(&mut Firewall, Live<'_>) -> T) -> T {
        let mut engines: Vec<_> = self.all_engines().map(|engine| lock(engine)).collect();
        let mut firewall = lock(&self.firewall);
        let now = clock::now();
        for engine in &mut engines {
            let open = engine.open_pinholes(now);
            take_note_of_used(engine, &mut firewall, open.iter().map(|pinhole| &pinhole.key));
        }
        let living = Living::all(engines.iter().map(|engine| &**engine), now);
        let done = act(&mut firewall, living.live());
        self.translated_mark.store(firewall.translated_mark().unwrap_or(0), Ordering::Relaxed);
        done
    }

    /// Whether the kernel holds what lives, as far as a few of each kind in each engine show: a set that somebody has
    /// flushed holds none of them. One worker stops at a time.
    pub fn holds_some(&self) -> bool {
        const ENOUGH: usize = 16;
        self.all_engines().all(|engine| {
            let engine = lock(engine);
            let some = Living::some(&engine, clock::now(), ENOUGH);
            lock(&self.firewall).holds(some.live())
        })
    }

    /// The bits of the mark that a translated packet leaves with.
    pub fn translated_mark(&self) -> u32 {
        self.translated_mark.load(Ordering::Relaxed)
    }

    /// As [`Shared::with_all`], unless the daemon is about to end.
    pub fn with_all_unless_ended<T>(&self, act: impl FnOnce(&mut Firewall, Live<'_>) -> T) -> Option<T> {
        self.with_all(|firewall, live| (!self.has_ended.load(Ordering::Relaxed)).then(|| act(firewall, live)))
    }

    /// As [`Shared::with_all`], for the last time.
    pub fn with_all_at_the_end<T>(&self, act: impl FnOnce(&mut Firewall, Live<'_>) -> T) -> T {
        self.with_all(|firewall, live| {
            self.has_ended.store(true, Ordering::Relaxed);
            act(firewall, live)
        })
    }
}

/// Asks the kernel which of these pinholes were used, so that none of them is opened again. Returns their sessions.
pub fn take_note_of_used<'a>(
    engine: &mut Engine,
    firewall: &mut Firewall,
    keys: impl Iterator<Item = &'a PinholeKey>,
) -> Vec<ControlTuple> {
    keys.filter(|key| firewall.was_used(key)).filter_map(|key| engine.used(*key)).collect()
}
