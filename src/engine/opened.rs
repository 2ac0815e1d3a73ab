//! The pinhole that a session has open: how it comes to be, and how it goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialogue::Dialogue;
use super::event::{Event, Mode};
use super::opening::Planner;
use super::outcome::Outcome;
use super::pinhole::{Change, Pinhole, PinholeKey};
use super::ports::Ports;

/// So many time-outs after its opening a pinhole is renewed no more: whoever listened behind it may have gone.
const LONGEST: u32 = 4;

/// A pinhole of this session that is open, as far as the dialogue tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pinhole: Pinhole,
    /// When it was opened (time since boot).
    opened: Duration,
    /// When its clock was started (time since boot).
    since: Duration,
    /// The server has connected to it, but its reply to the PORT has not come yet.
    is_reply_due: bool,
    /// A connection has come through it: it must not be opened again.
    is_used: bool,
}

impl Open {
    /// When it ends (time since boot).
    fn until(&self) -> Duration {
        self.since.saturating_add(self.pinhole.timeout)
    }
}

impl Dialogue {
    /// The server connects to the port that the next command to be answered has named: it has consented.
    pub fn consent(&mut self, key: PinholeKey, now: Duration, ports: &mut Ports, outcome: &mut Outcome) {
        if let Some(pinhole) = self.waiting.come_to(key) {
            self.open(Mode::Active, pinhole, now, ports, outcome);
            self.expect_reply(true);
        }
    }

    pub(super) fn expect_reply(&mut self, is_due: bool) {
        if let Some(open) = &mut self.open {
            open.is_reply_due = is_due;
        }
    }

    /// Whether the server's SYN has opened this pinhole before its reply.
    pub(super) fn has_consented(&self, pinhole: &Pinhole) -> bool {
        self.opened(pinhole).is_some_and(|open| open.is_reply_due)
    }

    fn opened(&self, pinhole: &Pinhole) -> Option<&Open> {
        self.open.as_deref().filter(|open| open.pinhole.key == pinhole.key)
    }

    fn has_open(&self, pinhole: &Pinhole) -> bool {
        self.opened(pinhole).is_some()
    }

    /// Opens a pinhole. RFC 959, section 3.2: a session has one data port at a time, so an older one gives way.
    pub(super) fn open(
        &mut self,
        mode: Mode,
        pinhole: Pinhole,
        now: Duration,
        ports: &mut Ports,
        outcome: &mut Outcome,
    ) {
        if !self.has_open(&pinhole) {
            self.close(ports, outcome);
        }
        if ports.is_others(pinhole.key) {
            return; // another session of the same client has named it since
        }
        if ports.open(pinhole.key, now.saturating_add(pinhole.timeout)) {
            outcome.changes.push(Change::Close(pinhole.key));
        }
        self.open =
            Some(Box::new(Open { pinhole, opened: now, since: now, is_reply_due: false, is_used: false }));
        outcome.changes.push(Change::Open(pinhole));
        outcome.events.push(Event::Opened(mode, pinhole));
    }

    /// Closes what is open: it was used, or is wanted no more.
    pub(super) fn close(&mut self, ports: &mut Ports, outcome: &mut Outcome) {
        if let Some(Open { pinhole, .. }) = self.open.take().map(|open| *open) {
            if ports.release(pinhole.key) {
                outcome.changes.push(Change::Close(pinhole.key));
            }
        }
    }

    /// What was asked for, or offered, does not open. Its key may be in use still: by the same command given
    /// twice, or by what an earlier one opened.
    pub(super) fn withdraw(&self, pinhole: &Pinhole, ports: &mut Ports, outcome: &mut Outcome) {
        if let Some(open) = self.opened(pinhole) {
            ports.open(pinhole.key, open.until());
        } else if self.pinholes().all(|(held, ..)| held.key != pinhole.key) && ports.release(pinhole.key) {
            outcome.changes.push(Change::Close(pinhole.key));
        }
    }

    /// A transfer begins: the open pinhole's clock starts anew, if a good part of it has run down.
    pub(super) fn renew(&mut self, planner: &mut Planner<'_>, outcome: &mut Outcome) {
        let Some(open) = &mut self.open else { return };
        let age = planner.now.saturating_sub(open.since);
        let is_own = !planner.ports.is_others(open.pinhole.key);
        let is_fresh = planner.now.saturating_sub(open.opened) < LONGEST * open.pinhole.timeout;
        if is_own && is_fresh && age > open.pinhole.timeout / 4 && age < open.pinhole.timeout {
            open.since = planner.now;
            planner.ports.extend(open.pinhole.key, planner.now + open.pinhole.timeout);
            outcome.changes.push(Change::Renew(open.pinhole));
        }
    }

    /// A connection has come through the pinhole with this key.
    pub fn used(&mut self, key: PinholeKey) {
        if let Some(open) = self.open.as_mut().filter(|open| open.pinhole.key == key) {
            open.is_used = true;
        }
    }

    /// The pinhole that is open and was not used, as far as is known, and until when (time since boot).
    pub fn unused(&self) -> Option<(Pinhole, Duration)> {
        let open = self.open.as_ref().filter(|open| !open.is_used)?;
        Some((open.pinhole, open.until()))
    }

    /// The key of the pinhole that is open and was used, as far as is known, and until when it could have been (time since
    /// boot).
    pub fn spent(&self) -> Option<(PinholeKey, Duration)> {
        let open = self.open.as_ref().filter(|open| open.is_used)?;
        Some((open.pinhole.key, open.until()))
    }

    /// The pinholes that the session holds or has asked for, whether each is open, and until when (time since
    /// boot; of one that is not open yet, nothing is running).
    pub fn pinholes(&self) -> impl Iterator<Item = (Pinhole, bool, Duration)> {
        let not_open = self
            .waiting
            .asked()
            .chain(self.offered.as_deref().copied())
            .map(|pinhole| (pinhole, false, Duration::ZERO));
        not_open.chain(self.open.as_ref().map(|open| (open.pinhole, true, open.until())))
    }

    /// nftables would not take what was to open: as if it had been refused.
    pub fn abandon(&mut self, pinhole: &Pinhole, ports: &mut Ports) {
        ports.release(pinhole.key);
        if self.has_open(pinhole) {
            self.open = None;
        }
    }
}
