//! A worker without its queue and without nftables: what `src/daemon/worker.rs` and `executor.rs` do with a packet, call by
//! call.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ftpalg_engine::engine::control::{ClientView, ControlTuple};
use ftpalg_engine::engine::policy::Policy;
use ftpalg_engine::engine::session::{Session, Tap};
use ftpalg_engine::engine::{Engine, Verdict};

use crate::scratch::Scratch;
use crate::store::Store;

/// The ends of a control connection: both are behind NAT, so that addresses of both are rewritten.
pub const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 168, 77, 121)), 21);
/// The client's own address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The client's address as the server sees it.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The server's address as the client dials it.
pub const DIALLED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// An engine and its state directory.
pub struct Daemon {
    pub engine: Engine,
    store: Store,
    packet: Vec<u8>,
    saved: Vec<u8>,
    now: Duration,
    _directory: Scratch,
}

impl Daemon {
    /// One that has seen nothing yet.
    pub fn new(name: &str) -> Result<Self, String> {
        let policy = Policy {
            require_login: true,
            allow_third_party: Vec::new(),
            ports: 1024..=65535,
            timeout: Duration::from_secs(60),
        };
        let directory = Scratch::new(name);
        let (store, _) = Store::open(directory.path()).map_err(|error| error.to_string())?;
        let (packet, now) = (Vec::with_capacity(2048), Duration::from_secs(1000));
        Ok(Self {
            engine: Engine::new(policy, 1),
            store,
            packet,
            saved: Vec::new(),
            now,
            _directory: directory,
        })
    }

    /// One packet, a millisecond after the last. Returns whether it goes on.
    pub fn take(&mut self, tap: Tap, bytes: &[u8]) -> Result<bool, String> {
        self.now += Duration::from_millis(1);
        self.packet.clear();
        self.packet.extend_from_slice(bytes);
        let mut decision = self.engine.handle(self.now, tap, &mut self.packet);
        if let Verdict::LookUp(tuple) = decision.verdict {
            let seen = tuple.client.ip();
            let client = if seen == PUBLIC { CLIENT.into() } else { seen };
            let view = ClientView { client, dialled: DIALLED.into(), mark: 0 };
            self.engine.learn(tuple, Ok(view));
            decision = self.engine.handle(self.now, tap, &mut self.packet);
        }
        if let Some((tuple, _)) = decision.session {
            std::hint::black_box(self.engine.session(&tuple).map(Session::client));
            std::hint::black_box(self.engine.committed(tuple));
            self.save(&tuple)?;
        }
        Ok(matches!(decision.verdict, Verdict::Pass | Verdict::PassEdited))
    }

    /// Nothing comes for so long.
    pub fn rest(&mut self, time: Duration) {
        self.now += time;
        std::hint::black_box(self.engine.tick(self.now));
    }

    /// Saves a session, as before each verdict.
    pub fn save(&mut self, tuple: &ControlTuple) -> Result<(), String> {
        let saved = match self.engine.save(tuple, &mut self.saved) {
            Some(session) => self.store.save(*tuple, session),
            None => self.store.remove(tuple),
        };
        saved.map_err(|error| error.to_string())
    }
}
