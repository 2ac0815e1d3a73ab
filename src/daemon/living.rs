//! What lives in the engines, for which nftables must hold something.

use std::time::Duration;

use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::pinhole::{Pinhole, PinholeKey};
use ftpalg::engine::{Engine, MAX_PINHOLES, MAX_SESSIONS};

use crate::netfilter::Live;

/// What [`Live`] borrows: no more than the sets take, for with one element too many they take none of them.
pub struct Living {
    most_sessions: usize,
    most_pinholes: usize,
    sessions: Vec<ControlTuple>,
    lasting: Vec<ControlTuple>,
    shifted: Vec<ControlTuple>,
    unfinished: Vec<ControlTuple>,
    watched: Vec<ControlTuple>,
    pinholes: Vec<Pinhole>,
    expected: Vec<(PinholeKey, Duration)>,
    spent: Vec<(PinholeKey, Duration)>,
}

impl Living {
    /// All that lives in these engines.
    pub fn all<'a>(engines: impl IntoIterator<Item = &'a Engine>, now: Duration) -> Self {
        let mut all = Self::at_most(MAX_SESSIONS, MAX_PINHOLES);
        engines.into_iter().for_each(|engine| all.gather(engine, now));
        all
    }

    /// Of what lives in this engine, so many of each kind.
    pub fn some(engine: &Engine, now: Duration, number: usize) -> Self {
        let mut some = Self::at_most(number, number);
        some.gather(engine, now);
        some
    }

    fn at_most(most_sessions: usize, most_pinholes: usize) -> Self {
        Self {
            most_sessions,
            most_pinholes,
            sessions: Vec::new(),
            lasting: Vec::new(),
            shifted: Vec::new(),
            unfinished: Vec::new(),
            watched: Vec::new(),
            pinholes: Vec::new(),
            expected: Vec::new(),
            spent: Vec::new(),
        }
    }

    fn gather(&mut self, engine: &Engine, now: Duration) {
        let most = self.most_sessions;
        for session in engine.sessions().filter(|session| session.is_taken()) {
            let add = |list: &mut Vec<_>, is_one: bool| fill(list, is_one.then_some(session.tuple), most);
            add(&mut self.sessions, true);
            add(&mut self.lasting, session.is_surely_held(now));
            add(&mut self.shifted, session.is_shifted);
            add(&mut self.watched, !session.is_shifted && session.is_watched());
            add(&mut self.unfinished, session.needs_translation());
        }
        fill(&mut self.shifted, engine.doomed(), most);
        fill(&mut self.unfinished, engine.doomed(), most);
        let most = self.most_pinholes;
        fill(&mut self.pinholes, engine.open_pinholes(now), most);
        fill(&mut self.expected, engine.expected_pinholes(now), most);
        fill(&mut self.spent, engine.spent_pinholes(now), most);
    }

    /// For the firewall.
    pub fn live(&self) -> Live<'_> {
        // Both come into one set.
        let watched = self.watched.len().min(self.most_sessions - self.shifted.len());
        Live {
            sessions: &self.sessions,
            lasting: &self.lasting,
            shifted: &self.shifted,
            unfinished: &self.unfinished,
            watched: self.watched.get(..watched).unwrap_or_default(),
            pinholes: &self.pinholes,
            expected: &self.expected,
            spent: &self.spent,
        }
    }
}

/// Adds as many as there is room for.
fn fill<T>(list: &mut Vec<T>, more: impl IntoIterator<Item = T>, most: usize) {
    let room = most.saturating_sub(list.len());
    list.extend(more.into_iter().take(room));
}
