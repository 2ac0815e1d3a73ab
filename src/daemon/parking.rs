//! Sessions of the last daemon that no worker has seen a packet of yet: which worker a session belongs to is the kernel's
//! choice, and shows with its first packet.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ftpalg::engine::Engine;
use ftpalg::engine::control::Hosts;

use super::shared::{SharedEngine, lock};

/// Empty where there is one worker.
pub struct Parking {
    engine: SharedEngine,
    /// Between whom something may be parked: the packets of all others need not wait for the engine.
    hosts: RwLock<HashSet<Hosts>>,
    /// There are no such hosts: packets need not even ask for theirs.
    is_empty: AtomicBool,
}

impl Parking {
    /// An engine whose sessions [`Parking::open`] will offer.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine: Arc::new(Mutex::new(engine)),
            hosts: RwLock::default(),
            is_empty: AtomicBool::new(true),
        }
    }

    /// What is parked: it expires here, as it would with a worker.
    pub fn engine(&self) -> &SharedEngine {
        &self.engine
    }

    /// Offers what the engine has by now.
    pub fn open(&self) {
        let engine = lock(&self.engine);
        let names = engine.sessions().map(|session| session.tuple).chain(engine.doomed());
        let found: HashSet<_> = names.map(|tuple| tuple.hosts()).collect();
        self.change_hosts(|hosts| *hosts = found);
    }

    /// Whether nothing is parked.
    pub fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Relaxed)
    }

    /// Gives all that is parked between two hosts to the worker whose queue brings their packets.
    pub fn hand_over(&self, hosts: Hosts, to: &mut Engine) {
        if self.hosts.read().unwrap_or_else(PoisonError::into_inner).contains(&hosts) {
            lock(&self.engine).hand_over(hosts, to);
            self.change_hosts(|parked| _ = parked.remove(&hosts));
        }
    }

    fn change_hosts(&self, change: impl FnOnce(&mut HashSet<Hosts>)) {
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut hosts);
        self.is_empty.store(hosts.is_empty(), Ordering::Relaxed);
    }
}
