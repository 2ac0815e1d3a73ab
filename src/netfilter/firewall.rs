//! The daemon's hold on nftables: its table, the queue rules in it, and the accept rules in the administrator's.

use std::collections::HashSet;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Change, Pinhole, PinholeKey};
use nftnl::expr::Expression;
use nftnl::{Batch, Chain, MsgType, ProtoFamily, Rule, Table};
use tracing::{debug, warn};

use super::accept::{self, MissingRule, NoRule};
use super::crash::try_libnftables;
use super::element::{Element, Set, TABLE};
use super::error::{FirewallError, reading};
use super::hold::Hold;
use super::probe::{Counter, Fingerprint, connect, counters, fingerprint, generation};
use super::ruleset::{self, Live, Replace};
use super::sys::{NativeQueue, Nft, Queues, Socket, XtQueue, port_id};
use super::transaction::{Committer, Refused};
use super::watch::NFNLGRP_NFTABLES;
use crate::config::{Config, WhenDown};

/// The hold on nftables. One per process, shared by the workers behind a lock. Its sockets are open for as long as it
/// lives, because closing one stalls other transactions for milliseconds.
pub struct Firewall {
    config: Config,
    nft: Nft,
    committer: Committer,
    hold: Hold,
    /// Whether the kernel knows nftables' own expression for a queue, once it was asked.
    has_native_queue: Option<bool>,
    fingerprint: Option<Fingerprint>,
    /// The `accept-in` entries whose chains had no rule when they were last looked through.
    missing: Vec<MissingRule>,
    /// The ruleset's generation that was last seen to leave everything as it should be.
    verified: Arc<AtomicU32>,
    /// What the kernel tells of changes, where somebody watches.
    watched_with: Weak<Socket>,
    /// When it was last warned of what went wrong with the table that outlives a flush.
    told: Option<Instant>,
}

/// How often it is warned of that.
const TELL: Duration = Duration::from_secs(60);

impl Firewall {
    /// Opens the sockets. Nothing is changed yet.
    pub fn open(config: &Config) -> Result<Self, FirewallError> {
        let connection = connect()?;
        Ok(Firewall {
            config: config.clone(),
            nft: Nft::new().map_err(FirewallError::Open)?,
            committer: Committer::new(connection),
            hold: Hold::default(),
            has_native_queue: None,
            fingerprint: None,
            missing: Vec::new(),
            verified: Arc::default(),
            watched_with: Weak::new(),
            told: None,
        })
    }

    /// The shifted connections of an earlier daemon, as far as the kernel still holds back their packets.
    pub fn held_back(&mut self) -> Result<HashSet<ControlTuple>, FirewallError> {
        let mut tuples = HashSet::new();
        for (table, sets) in ruleset::HOLDING {
            for set in sets {
                match self
                    .committer
                    .connection()
                    .dump(&Element::all(table, set), |message| Some(Element::control_tuples(message)))
                {
                    Ok(found) => tuples.extend(found.into_iter().flatten()),
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => return Err(reading("shifted connections")(error)),
                }
            }
        }
        Ok(tuples)
    }

    /// Takes another configuration; [`Firewall::install`] and [`Firewall::divert`] bring it into force.
    pub fn configure(&mut self, config: &Config) {
        self.config = config.clone();
    }

    /// Puts the table and the accept rules in, with everything that live sessions need, in place of whatever an
    /// earlier daemon left. Nothing is queued before [`Firewall::divert`]. Returns the `accept-in` entries whose
    /// chains have no rule: to be told, but they may get it later ([`Firewall::intact`] will notice).
    pub fn install(&mut self, live: Live<'_>) -> Result<Vec<MissingRule>, FirewallError> {
        let missing = self.load(live)?;
        self.committer.probe();
        self.remember()?;
        Ok(missing)
    }

    /// For whoever listens the kernel writes a message of every element, 4 KB each, and keeps all of them until the end of the
    /// transaction (`nf_tables_setelem_notify`). Of many sessions that would be much, and nobody needs it.
    fn load(&mut self, live: Live<'_>) -> Result<Vec<MissingRule>, FirewallError> {
        let socket = self.watched_with.upgrade();
        if let Some(Err(error)) = socket.as_ref().map(|socket| socket.leave(NFNLGRP_NFTABLES)) {
            debug!("the kernel tells of every element: {error}");
        }
        let loaded = self.replace(live);
        if let Some(socket) = socket {
            socket.join(NFNLGRP_NFTABLES).map_err(FirewallError::Watch)?;
        }
        let missing = loaded?;
        self.missing.clone_from(&missing);
        Ok(missing)
    }

    /// Puts everything in that is text, in place of what is there.
    fn replace(&mut self, live: Live<'_>) -> Result<Vec<MissingRule>, FirewallError> {
        self.hold.put_in(&mut self.nft, self.committer.connection(), &self.config, live)?;
        let plan = accept::plan(self.committer.connection(), &self.config).map_err(reading("chains"))?;
        // All at once: a SYN that finds its pinhole but no rule that accepts it might be rejected.
        let rules = ruleset::installation(&self.config, Replace::Rules, live)?;
        if self.nft.run(&(rules + &plan.commands)).is_ok() {
            return Ok(plan.missing);
        }
        let table = ruleset::installation(&self.config, Replace::Table, live)?;
        self.nft.run(&table).map_err(FirewallError::Load)?;
        match self.accept() {
            // Somebody else has changed these chains meanwhile.
            Err(FirewallError::Accept(_)) => self.accept(),
            other => other,
        }
    }

    /// Puts the accept rules in.
    fn accept(&mut self) -> Result<Vec<MissingRule>, FirewallError> {
        let plan = accept::plan(self.committer.connection(), &self.config).map_err(reading("chains"))?;
        self.nft.run(&plan.commands).map_err(FirewallError::Accept)?;
        Ok(plan.missing)
    }

    /// The mark that a translated packet must bear; none where a flush can't be outlived.
    pub fn translated_mark(&self) -> Option<u32> {
        self.hold.mark()
    }

    /// The socket that the table belongs to which outlives a flush: whoever keeps it keeps the table, also beyond the
    /// daemon.
    pub fn hold_owner(&self) -> Option<BorrowedFd<'_>> {
        self.hold.owner(&self.nft).map(|(_, socket)| socket)
    }

    /// Whether libnftables' socket could be told, without which no table outlives a flush.
    #[cfg(test)]
    pub fn can_hold(&self) -> bool {
        self.nft.socket().is_some()
    }

    /// As where libnftables' socket can't be told.
    #[cfg(test)]
    pub fn forget_socket(&mut self) {
        self.nft.forget_socket();
    }

    /// Sockets of earlier daemons, the oldest first, to which such tables belong.
    pub fn inherit(&mut self, sockets: Vec<OwnedFd>) {
        self.hold.inherit(sockets);
    }

    /// Whether no other daemon serves this network namespace, as far as the kernel has tables with an owner. One that was
    /// killed a moment ago may still seem to.
    pub fn is_alone(&mut self) -> Result<(), FirewallError> {
        self.hold.is_alone(self.committer.connection())
    }

    /// Somebody else keeps that socket now, too.
    pub fn hold_is_kept(&mut self) {
        self.hold.is_kept();
    }

    /// Has such tables of earlier daemons let all pass but shifted connections, where no daemon will read them for a while.
    pub fn stop_watching(&self) {
        self.hold.stop_watching();
    }

    /// Takes out such tables of earlier daemons: before [`Firewall::divert`], and when this one's is kept. Returns the
    /// names that they may have had.
    pub fn take_over(&mut self) -> Vec<&'static str> {
        self.hold.take_over()
    }

    /// Fills the chains that queue; a program must listen to every queue by now.
    pub fn divert(&mut self) -> Result<(), FirewallError> {
        self.fill_chains()?;
        self.remember()
    }

    fn fill_chains(&mut self) -> Result<(), FirewallError> {
        let bypass = self.config.when_down == WhenDown::Pass;
        let queues = Queues { first: self.config.queue, total: self.config.workers.max(1), bypass };
        let strict = Queues { bypass: false, ..queues };
        // What the kernel does not know it refuses slowly (see Committer), and it is not asked twice.
        let native = match self.has_native_queue {
            Some(false) => Err(io::ErrorKind::Unsupported.into()),
            _ => self.fill_divert(&NativeQueue(queues), &NativeQueue(strict)),
        };
        match native {
            Ok(()) => self.has_native_queue = Some(true),
            Err(native) => {
                let xt = self.fill_divert(&XtQueue(queues), &XtQueue(strict));
                xt.map_err(|xt| FirewallError::Queue { native, xt })?;
                self.has_native_queue = Some(false);
            }
        }
        Ok(())
    }

    /// Replaces what stands in `divert` and `divert_shifted`, both in one transaction.
    fn fill_divert(&mut self, divert: &impl Expression, shifted: &impl Expression) -> io::Result<()> {
        let table = Table::new(TABLE, ProtoFamily::Inet);
        let divert_chain = Chain::new(c"divert", &table);
        let shifted_chain = Chain::new(c"divert_shifted", &table);
        let mut batch = Batch::new();
        // Deleting a rule without saying which empties the chain.
        batch.add(&Rule::new(&divert_chain), MsgType::Del);
        batch.add(&Rule::new(&shifted_chain), MsgType::Del);
        let mut rule = Rule::new(&divert_chain);
        rule.add_expr(divert);
        batch.add(&rule, MsgType::Add);
        let mut rule = Rule::new(&shifted_chain);
        rule.add_expr(shifted);
        batch.add(&rule, MsgType::Add);
        self.committer.send_batch(batch)
    }

    /// Carries out what the engine asks for, which the kernel has acknowledged when this returns; in one transaction, unless it
    /// is much. Shifted connections are held back before that, by the other table, and what departs is let pass behind it. No
    /// connection of the same names may begin meanwhile.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Refused> {
        let tracked = tuples(changes, |change| matches!(change, Change::Track(_)));
        if let Err(error) = self.hold.watch(&self.nft, &mut self.committer, &tracked) {
            let number = tracked.len();
            self.tell(format_args!(
                "what {number} control connections say while a firewall is reloaded may pass unseen: {error}"
            ));
        }
        let is_shift = |change: &Change| matches!(change, Change::Shift(_));
        let result = match self.hold.hold_back(&self.nft, &mut self.committer, &tuples(changes, is_shift)) {
            Ok(()) => self.committer.commit(changes),
            // What others ask for does not suffer by it.
            Err(error) => self.committer.commit_others(changes, is_shift, Some(error)),
        };
        let mut free = tuples(changes, |change| matches!(change, Change::Unshift(_)));
        if let Err(Refused { undone, .. }) = &result {
            let mut unshifted = tuples(undone, is_shift);
            // One that was shifted before stays so.
            unshifted.retain(|tuple| {
                let element = Element::control(Set::Shifted, tuple);
                !element.is_ok_and(|element| self.committer.is_there(&element))
            });
            free.append(&mut unshifted);
        }
        for (tuples, sets) in [(free, &[Set::Held][..]), (departed(changes), &[Set::Held, Set::Watched])] {
            if let Err(error) = self.hold.let_pass(&self.nft, &mut self.committer, &tuples, sets) {
                self.tell(format_args!("{error}"));
            }
        }
        result
    }

    /// Warns, unless it has done so a short while ago.
    fn tell(&mut self, text: fmt::Arguments<'_>) {
        if self.told.is_some_and(|told| told.elapsed() < TELL) {
            return debug!("{text}");
        }
        self.told = Some(Instant::now());
        warn!("{text}");
    }

    /// Whether everything that was put in is still there, whole and unchanged. A chain of `accept-in` that does not
    /// exist or is another program's own is no loss; one that appears without its rule is.
    pub fn intact(&mut self) -> bool {
        self.check_intact().unwrap_or(false)
    }

    fn check_intact(&mut self) -> io::Result<bool> {
        let connection = self.committer.connection();
        let current = generation(connection)?;
        // That a table has lost its owner raises no generation.
        let awaits_owner = self.missing.iter().any(|rule| rule.why == NoRule::Owned);
        if current == self.verified.load(Ordering::Relaxed) && !awaits_owner {
            return Ok(true);
        }
        let intact = self.fingerprint.is_some()
            && fingerprint(connection)? == self.fingerprint
            && accept::intact(connection, &self.config, &self.missing)?;
        if intact {
            self.verified.store(current, Ordering::Relaxed);
        }
        Ok(intact)
    }

    /// Whether packets may have passed that should have been queued. Not while the table is away, if another one holds
    /// them back; only where somebody has changed it by hand.
    pub fn may_have_missed(&mut self) -> bool {
        match fingerprint(self.committer.connection()) {
            Ok(None) => self.hold.mark().is_none(),
            Ok(found) => found != self.fingerprint,
            Err(_) => true,
        }
    }

    /// Whether this is in the sets. What has run down by itself, or is about to, tells nothing.
    pub fn holds(&mut self, live: Live<'_>) -> bool {
        const ABOUT_TO: Duration = Duration::from_secs(1);
        let mut wanted = Vec::new();
        for tuple in live.lasting {
            wanted.push([Element::control(Set::Control, tuple), Element::control(Set::ControlNew, tuple)]);
        }
        for tuple in live.shifted {
            wanted.push([Set::Shifted; 2].map(|set| Element::control(set, tuple)));
        }
        let pinholes = live.pinholes.iter().filter(|pinhole| pinhole.timeout > ABOUT_TO);
        for Pinhole { key, timeout, .. } in pinholes {
            for set in [Set::Dnat, Set::Snat] {
                wanted.push([set; 2].map(|set| Element::pinhole(set, key, *timeout)));
            }
        }
        let lasts = |(_, timeout): &&(PinholeKey, Duration)| *timeout > ABOUT_TO;
        for (key, timeout) in live.spent.iter().filter(lasts) {
            wanted.push([Set::Spent; 2].map(|set| Element::pinhole(set, key, *timeout)));
        }
        for (key, timeout) in live.expected.iter().filter(lasts) {
            wanted.push([Set::Pending; 2].map(|set| Element::pinhole(set, key, *timeout)));
        }
        wanted.iter().all(|either| either.iter().flatten().any(|element| self.committer.is_there(element)))
    }

    /// Whether a connection has come through a pinhole that was opened: the packet path has put it into `spent`. Where
    /// that was full, it has deleted its element of `open`, and those of the maps stay. (Asked in this order, a table that
    /// vanishes meanwhile tells nothing.)
    pub fn was_used(&mut self, key: &PinholeKey) -> bool {
        let [spent, open, dnat] =
            [Set::Spent, Set::Open, Set::Dnat].map(|set| Element::pinhole(set, key, Duration::ZERO));
        let (Ok(spent), Ok(open), Ok(dnat)) = (spent, open, dnat) else { return false };
        if self.committer.is_there(&spent) {
            return true;
        }
        let is_missing = match self.committer.connection().request(open.question(), |_| {}) {
            Ok(()) => false,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        is_missing && self.committer.is_there(&dnat)
    }

    /// Puts everything back, as [`Firewall::install`] and [`Firewall::divert`] do. In between nothing passes,
    /// whatever `when-down` says: the daemon is there, and would not see it.
    pub fn repair(&mut self, live: Live<'_>) -> Result<Vec<MissingRule>, FirewallError> {
        let when_down = std::mem::replace(&mut self.config.when_down, WhenDown::Drop);
        let loaded = self.load(live);
        self.config.when_down = when_down;
        let missing = loaded?;
        self.divert()?;
        Ok(missing)
    }

    /// Takes everything out. While shifted connections live, a table stays that drops their packets, because nothing
    /// will translate them.
    ///
    /// # Errors
    /// Something stays. Where libnftables would crash, the accept rules do.
    pub fn remove(&mut self, shifted: &[ControlTuple]) -> Result<(), FirewallError> {
        self.fingerprint = None;
        self.hold.take_out(&self.nft, shifted).map_err(FirewallError::TakeOut)?;
        if let Err(crash) = try_libnftables() {
            self.remove_table(shifted).map_err(FirewallError::TakeOut)?;
            return Err(crash);
        }
        let rules = accept::removal(self.committer.connection()).map_err(reading("rules"))?;
        let accept = self.nft.run(&rules).map_err(FirewallError::Accept);
        self.nft.run(&ruleset::removal(shifted)?).map_err(FirewallError::Load)?;
        accept
    }

    /// Takes the table out without libnftables. While shifted connections live, it stays as it was before
    /// [`Firewall::divert`] but for their packets, which no queue takes any more.
    pub(super) fn remove_table(&mut self, shifted: &[ControlTuple]) -> io::Result<()> {
        let table = Table::new(TABLE, ProtoFamily::Inet);
        let mut batch = Batch::new();
        if shifted.is_empty() {
            batch.add(&table, MsgType::Del);
        } else {
            batch.add(&Rule::new(&Chain::new(c"divert", &table)), MsgType::Del);
        }
        self.committer.send_batch(batch)
    }

    /// The table's counters.
    pub fn counters(&mut self) -> Result<Vec<Counter>, FirewallError> {
        counters(self.committer.connection()).map_err(reading("counters"))
    }

    /// Whether packets are queued by nftables' own expression, and not by xtables' NFQUEUE; known after
    /// [`Firewall::divert`].
    pub fn queues_natively(&self) -> Option<bool> {
        self.has_native_queue
    }

    /// For [`super::watch::Watch`], which listens with this socket: whose changes are this one's own, and which are known to
    /// have done no harm.
    pub(super) fn watched_with(&mut self, socket: &Arc<Socket>) -> ([u32; 2], Arc<AtomicU32>) {
        self.watched_with = Arc::downgrade(socket);
        let own = self.committer.connection().port_id();
        let libnftables = self.nft.socket().and_then(port_id);
        ([own, libnftables.unwrap_or(own)], Arc::clone(&self.verified))
    }

    /// Remembers what is there now as what is to stay.
    fn remember(&mut self) -> Result<(), FirewallError> {
        let connection = self.committer.connection();
        let current = generation(connection).map_err(reading("generation"))?;
        let fingerprint = fingerprint(connection).map_err(reading("rules"))?;
        self.fingerprint = Some(fingerprint.ok_or(FirewallError::Vanished)?);
        // A chain may have come while the accept rules were put in: that generation is not one to be content with.
        if accept::intact(connection, &self.config, &self.missing).map_err(reading("rules"))? {
            self.verified.store(current, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The connections that these changes of some kind are about.
fn tuples(changes: &[Change], is_wanted: impl Fn(&Change) -> bool) -> Vec<ControlTuple> {
    changes.iter().filter(|change| is_wanted(change)).filter_map(Change::connection).collect()
}

/// The connections that these changes leave to themselves, and do not begin anew.
fn departed(changes: &[Change]) -> Vec<ControlTuple> {
    let mut seen = HashSet::new();
    // The last word on each counts.
    let last =
        changes.iter().rev().filter(|change| change.connection().is_some_and(|tuple| seen.insert(tuple)));
    last.filter(|change| matches!(change, Change::Depart(_))).filter_map(Change::connection).collect()
}
