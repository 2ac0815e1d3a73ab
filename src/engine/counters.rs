//! What the engine counts: plain numbers that begin at 0 with each engine and only grow.

use std::iter::Sum;
use std::marker::PhantomData;
use std::ops::AddAssign;

use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::decision::Verdict;
use super::event::{Departure, Mode};
use super::kind::Kind;
use super::policy::Refusal;
use super::session::Tap;

/// Makes enumerations without fields countable.
macro_rules! kinds {
    ($($kind:ty),*) => {
        $(impl Kind for $kind {
            fn place(self) -> usize {
                self as usize
            }
        })*
    };
}

kinds!(Treatment, Departure, Mode, Refusal, Tap);

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Treatment {
    /// It went on as it came.
    Passed,
    /// It went on changed: an address in it was rewritten, or its positions translated.
    Edited,
    /// It was dropped for its sender to send again.
    Dropped,
    /// It was dropped, for no receiver would take it.
    Malformed,
    /// It was dropped for its sender to send again, because what belongs to it could not be done first: nftables did
    /// not take a change, or the session could not be saved.
    HeldUp,
}

impl Treatment {
    /// What a verdict amounts to; `None` while there is none.
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Pass => Some(Self::Passed),
            Verdict::PassEdited => Some(Self::Edited),
            Verdict::Drop => Some(Self::Dropped),
            Verdict::LookUp(_) => None,
        }
    }
}

/// One count for each of `N` kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally<K, const N: usize> {
    counts: [u64; N],
    kind: PhantomData<K>,
}

impl<K, const N: usize> Default for Tally<K, N> {
    fn default() -> Self {
        Self { counts: [0; N], kind: PhantomData }
    }
}

impl<K: Kind, const N: usize> Tally<K, N> {
    /// One more of this kind.
    pub fn add(&mut self, kind: K) {
        if let Some(count) = self.counts.get_mut(kind.place()) {
            *count += 1;
        }
    }

    /// One that was counted as another kind is of this one.
    fn change(&mut self, from: K, to: K) {
        if let Some(count) = self.counts.get_mut(from.place()) {
            *count = count.saturating_sub(1);
        }
        self.add(to);
    }

    /// How many of this kind.
    pub fn of(&self, kind: K) -> u64 {
        self.counts.get(kind.place()).copied().unwrap_or(0)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every kind with its count, those without any too.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        K::VARIANTS.iter().copied().zip(self.counts.iter().copied())
    }
}

impl<K, const N: usize> AddAssign for Tally<K, N> {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }
}

/// Packets of one direction.
pub type Packets = Tally<Treatment, { Treatment::COUNT }>;

/// What was counted since the engine was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets to servers.
    pub to_server: Packets,
    /// Packets to clients.
    pub to_client: Packets,
    /// Control connections that began: each with a SYN of its own, wherever that has led.
    pub connections: u64,
    /// Sessions: the server greeted.
    pub greeted: u64,
    /// Logins that the server accepted. A session may have several.
    pub logins: u64,
    /// Connections that ended: both sides had closed, or one reset it.
    pub ended: u64,
    /// Connections that were given up because nothing came for too long: no answer, no greeting, or a peer that went
    /// away without a word.
    pub expired: u64,
    /// Connections that left inspection, by the reason.
    pub departed: Tally<Departure, { Departure::COUNT }>,
    /// How often inspection went on after something had passed unseen.
    pub resumed: u64,
    /// Pinholes opened, by who listens.
    pub opened: Tally<Mode, { Mode::COUNT }>,
    /// Pinholes refused, by the reason. All are counted, also those that the log is not told of.
    pub refused: Tally<Refusal, { Refusal::COUNT }>,
    /// Addresses rewritten.
    pub edits: u64,
    /// Connections that were not followed because there were too many.
    pub overflow: u64,
}

impl Counters {
    /// Packets of one direction.
    pub fn packets(&self, tap: Tap) -> &Packets {
        match tap {
            Tap::ToServer => &self.to_server,
            Tap::ToClient => &self.to_client,
        }
    }

    fn packets_mut(&mut self, tap: Tap) -> &mut Packets {
        match tap {
            Tap::ToServer => &mut self.to_server,
            Tap::ToClient => &mut self.to_client,
        }
    }

    /// One more packet.
    pub(super) fn packet(&mut self, tap: Tap, treatment: Treatment) {
        self.packets_mut(tap).add(treatment);
    }

    /// A packet that was to get this verdict is dropped instead.
    pub(super) fn held_up(&mut self, tap: Tap, verdict: Verdict) {
        if let Some(treatment) = Treatment::of(verdict) {
            self.packets_mut(tap).change(treatment, Treatment::HeldUp);
        }
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        // Taken apart, so that none can be forgotten.
        let Self {
            to_server,
            to_client,
            connections,
            greeted,
            logins,
            ended,
            expired,
            departed,
            resumed,
            opened,
            refused,
            edits,
            overflow,
        } = other;
        self.to_server += to_server;
        self.to_client += to_client;
        self.connections += connections;
        self.greeted += greeted;
        self.logins += logins;
        self.ended += ended;
        self.expired += expired;
        self.departed += departed;
        self.resumed += resumed;
        self.opened += opened;
        self.refused += refused;
        self.edits += edits;
        self.overflow += overflow;
    }
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_place_and_name() {
        fn check<K: Kind>() {
            let places: Vec<_> = K::VARIANTS.iter().map(|kind| kind.place()).collect();
            assert_eq!(places, (0..K::COUNT).collect::<Vec<_>>());
            let names: std::collections::HashSet<_> = K::VARIANTS.iter().map(|kind| kind.name()).collect();
            assert_eq!(names.len(), K::COUNT, "{names:?}");
            let is_plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            assert!(names.iter().all(is_plain), "{names:?}");
        }
        check::<Treatment>();
        check::<Departure>();
        check::<Mode>();
        check::<Refusal>();
        check::<Tap>();
        assert_eq!(Refusal::BehindBareLf.name(), "behind-bare-lf");
    }

    #[test]
    fn sums_leave_nothing_out() {
        let mut one = Counters { connections: 1, greeted: 2, logins: 3, ended: 4, ..Counters::default() };
        (one.expired, one.resumed, one.edits, one.overflow) = (5, 6, 7, 8);
        one.packet(Tap::ToServer, Treatment::Passed);
        one.packet(Tap::ToClient, Treatment::Malformed);
        one.held_up(Tap::ToServer, Verdict::Pass);
        one.departed.add(Departure::Encrypted);
        one.opened.add(Mode::Passive);
        one.refused.add(Refusal::Firewall);
        let sum: Counters = [one, one].into_iter().sum();
        assert_eq!((sum.connections, sum.greeted, sum.logins, sum.ended), (2, 4, 6, 8));
        assert_eq!((sum.expired, sum.resumed, sum.edits, sum.overflow), (10, 12, 14, 16));
        assert_eq!(sum.packets(Tap::ToServer).of(Treatment::HeldUp), 2);
        assert_eq!(sum.packets(Tap::ToServer).total(), 2);
        assert_eq!(sum.packets(Tap::ToClient).of(Treatment::Malformed), 2);
        assert_eq!((sum.departed.of(Departure::Encrypted), sum.departed.total()), (2, 2));
        assert_eq!((sum.opened.of(Mode::Passive), sum.opened.total()), (2, 2));
        assert_eq!((sum.refused.of(Refusal::Firewall), sum.refused.total()), (2, 2));
    }
}
