//! Changes carried out, as batches of set elements that the kernel has acknowledged.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use ftpalg::engine::pinhole::{Change, PinholeKey};
use nftnl::Batch;

use super::connection::Connection;
use super::element::{Element, MixedFamilies, Set, TABLE};
use super::sys::{ElementBatch, Verb};

/// How many changes go into one batch: what the kernel answers when every message of it fails still fits a socket's
/// default buffer.
const CHANGES_A_BATCH: usize = 32;

/// Of changes that were given together some were not carried out.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Why the first of them was not.
    #[source]
    pub error: CommitError,
    /// Those, in their order. All others were.
    pub undone: Vec<Change>,
}

impl Refused {
    /// Takes those out that were given first, if these are what was.
    pub fn take_of(&mut self, given: &[Change]) -> Vec<Change> {
        let mut undone = self.undone.iter().copied().peekable();
        let taken: Vec<_> = given.iter().filter_map(|change| undone.next_if_eq(change)).collect();
        self.undone.drain(..taken.len());
        taken
    }
}

/// Why a change was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("nftables set full: no room for another session or pinhole")]
    Full,
    #[error("table inet ftpalg is gone or was changed by another program")]
    TableGone,
    #[error("no permission to change nftables: run as root or with CAP_NET_ADMIN")]
    Permission,
    #[error(transparent)]
    Family(#[from] MixedFamilies),
    #[error("nftables refused a change: {0}")]
    Kernel(#[source] io::Error),
}

impl From<io::Error> for CommitError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENFILE | libc::ENOSPC) => CommitError::Full,
            Some(libc::ENOENT) => CommitError::TableGone,
            Some(libc::EPERM) => CommitError::Permission,
            _ => CommitError::Kernel(error),
        }
    }
}

/// One step of a batch.
pub type Step = (Verb, Element);

/// What the kernel is expected to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// What the engine knows of.
    AsTold,
    /// Elements, too, that the engine takes to be gone.
    Anything,
}

/// Carries changes out over one connection.
pub struct Committer {
    connection: Connection,
    batch: ElementBatch,
    /// Whether the kernel knows how to delete what may not be there.
    destroys: bool,
}

impl Committer {
    /// Takes the connection over.
    pub fn new(connection: Connection) -> Self {
        Committer { connection, batch: ElementBatch::default(), destroys: false }
    }

    /// The connection, for requests.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// How an element is deleted of which [`Committer::may_hold`] says that it may be there.
    pub fn removal(&self) -> Verb {
        if self.destroys { Verb::Destroy } else { Verb::Delete }
    }

    /// Whether another table may hold an element, so that a [`Committer::removal`] of it does not fail.
    pub fn may_hold(&mut self, element: &Element, table: &str) -> bool {
        self.destroys || self.is_there_in(element, table)
    }

    /// Finds out what this kernel can do. The table must be there.
    pub fn probe(&mut self) {
        let nobody = PinholeKey {
            source: Ipv4Addr::UNSPECIFIED.into(),
            destination: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
        };
        self.destroys = Element::pinhole(Set::Pending, &nobody, Duration::ZERO)
            .is_ok_and(|element| self.send(&[(Verb::Destroy, element)]).is_ok());
    }

    /// Carries changes out, all of them in one transaction as long as they are not many. If the kernel refuses that, each
    /// gets its own, so that one that can't be done does not keep the others from being done, except for those behind it
    /// that are about the same connection or pinhole.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), Refused> {
        self.commit_others(changes, |_| false, None)
    }

    /// The same, but for those that are refused already, because of this error.
    pub fn commit_others(
        &mut self,
        changes: &[Change],
        is_refused: impl Fn(&Change) -> bool,
        mut error: Option<CommitError>,
    ) -> Result<(), Refused> {
        let mut undone: Vec<Change> = Vec::new();
        for changes in changes.chunks(CHANGES_A_BATCH) {
            let waits = |undone: &[Change], change: &Change| {
                is_refused(change) || undone.iter().any(|before| before.concerns(change))
            };
            let is_free = !changes.iter().any(|change| waits(&undone, change));
            if is_free && self.carry_out(changes, Expected::AsTold).is_ok() {
                continue;
            }
            for change in changes {
                if !waits(&undone, change) {
                    let Err(refusal) = self.carry_out(&[*change], Expected::Anything) else { continue };
                    error.get_or_insert(refusal);
                }
                undone.push(*change);
            }
        }
        match error {
            Some(error) if !undone.is_empty() => Err(Refused { error, undone }),
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, changes: &[Change], expected: Expected) -> Result<(), CommitError> {
        let mut steps = Vec::with_capacity(changes.len() * 6);
        for change in changes {
            self.plan(change, expected, &mut steps)?;
        }
        Ok(self.send(&steps)?)
    }

    /// The steps of a change. They fit what the kernel holds now: a batch that fails is not only in vain, it makes
    /// the kernel wait until every processor has come to rest (`synchronize_rcu` in `nf_tables_abort`), 16 ms on a
    /// quiet machine, while to look costs two microseconds.
    fn plan(
        &mut self,
        change: &Change,
        expected: Expected,
        steps: &mut Vec<Step>,
    ) -> Result<(), MixedFamilies> {
        match change {
            Change::Track(tuple) => {
                self.add_or_restart(Element::control(Set::Control, tuple)?, steps);
                self.remove(Element::control(Set::ControlNew, tuple)?, steps);
            }
            Change::Shift(tuple) => self.add_or_restart(Element::control(Set::Shifted, tuple)?, steps),
            Change::Unshift(tuple) => self.remove(Element::control(Set::Shifted, tuple)?, steps),
            Change::Expect(key, timeout) => {
                self.add_or_restart(Element::pinhole(Set::Pending, key, *timeout)?, steps);
            }
            Change::Open(pinhole) => {
                let key = &pinhole.key;
                // `spent` is the packet path's, and its keys outlive a daemon: a session that ended in its absence has left
                // its own there, and nothing would pass.
                let left: &[Set] = match expected {
                    Expected::AsTold => &[Set::Spent],
                    Expected::Anything => &Set::PINHOLE,
                };
                for set in left {
                    self.remove(Element::pinhole(*set, key, pinhole.timeout)?, steps);
                }
                steps.extend(Element::open(pinhole)?.into_iter().map(|element| (Verb::AddNew, element)));
                self.remove(Element::pinhole(Set::Pending, key, pinhole.timeout)?, steps);
            }
            Change::Renew(pinhole) => {
                let elements = Element::open(pinhole)?;
                let [open, spent] =
                    [Set::Open, Set::Spent].map(|set| Element::pinhole(set, &pinhole.key, pinhole.timeout));
                // One that was used and lived longer than `spent` remembers could be used again.
                if !self.is_there(&spent?) && self.is_there(&open?) {
                    steps.extend(elements.into_iter().flat_map(|e| [(Verb::Delete, e), (Verb::AddNew, e)]));
                }
            }
            Change::Close(key) => {
                for set in Set::PINHOLE.into_iter().chain([Set::Pending]) {
                    self.remove(Element::pinhole(set, key, Duration::ZERO)?, steps);
                }
            }
            Change::Depart(tuple) => {
                for set in [Set::ControlNew, Set::Control, Set::Shifted] {
                    self.remove(Element::control(set, tuple)?, steps);
                }
            }
        }
        Ok(())
    }

    /// Adds an element, or starts the clock of the one that is there anew (adding it again would not).
    fn add_or_restart(&mut self, element: Element, steps: &mut Vec<Step>) {
        self.remove(element, steps);
        steps.push((Verb::AddNew, element));
    }

    /// Deletes an element that may not be there.
    fn remove(&mut self, element: Element, steps: &mut Vec<Step>) {
        if self.destroys {
            steps.push((Verb::Destroy, element));
        } else if self.will_be_there(&element, steps) {
            steps.push((Verb::Delete, element));
        }
    }

    /// Whether the kernel will hold an element once these steps are carried out.
    fn will_be_there(&mut self, element: &Element, steps: &[Step]) -> bool {
        match steps.iter().rev().find(|(_, other)| other.is_same(element)) {
            Some((verb, _)) => *verb == Verb::AddNew,
            None => self.is_there(element),
        }
    }

    /// Whether the kernel holds an element, whatever its data.
    pub fn is_there(&mut self, element: &Element) -> bool {
        self.is_there_in(element, &TABLE.to_string_lossy())
    }

    /// The same of another table.
    fn is_there_in(&mut self, element: &Element, table: &str) -> bool {
        self.connection.request(element.question_in(table), |_| {}).is_ok()
    }

    /// Sends steps as one batch: all of them are carried out, or none.
    fn send(&mut self, steps: &[Step]) -> io::Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        self.batch.begin();
        for (position, (verb, element)) in steps.iter().enumerate() {
            let is_last = position + 1 == steps.len();
            element.with_message(*verb, is_last, |message| self.batch.add(message));
        }
        let (bytes, last) = self.batch.finish();
        self.connection.transact_briefly(bytes, last)
    }

    /// Sends a batch of rules in one datagram: the kernel takes each datagram for a transaction.
    pub fn send_batch(&mut self, batch: Batch) -> io::Result<()> {
        let batch = batch.finalize();
        let mut pages = batch.iter();
        match (pages.next(), pages.next()) {
            (Some(only), None) => self.connection.transact(only),
            _ => self.connection.transact(&batch.iter().flatten().copied().collect::<Vec<u8>>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_gets_what_of_its_own_was_not_done() {
        let expect = |port| {
            let nobody = Ipv4Addr::UNSPECIFIED.into();
            Change::Expect(PinholeKey { source: nobody, destination: nobody, port }, Duration::ZERO)
        };
        let [one, two, three, four] = [1, 2, 3, 4].map(expect);
        let mut refused = Refused { error: CommitError::Full, undone: vec![two, three, two] };
        assert_eq!(refused.take_of(&[one]), []);
        assert_eq!(refused.take_of(&[two, one, three]), [two, three]);
        assert_eq!(refused.take_of(&[four, two]), [two]);
        assert_eq!(refused.take_of(&[two]), []);
    }
}
