//! The sessions of an engine, by their names.
//!
//! A session lies by itself, so that the table, which doubles when it is full, holds nothing but addresses; and its name
//! stands in the session alone.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::SPARE;
use super::control::ControlTuple;
use super::session::Session;

/// Sessions, each under its own tuple. The hash has a key that nobody outside knows: names are chosen by strangers.
#[derive(Debug, Default)]
pub struct Sessions {
    table: HashTable<Box<Session>>,
    keys: RandomState,
    /// The name that was hashed last, and its hash: a packet's session is looked up several times.
    hashed: Cell<Option<(ControlTuple, u64)>>,
}

impl Sessions {
    fn hash(&self, tuple: &ControlTuple) -> u64 {
        match self.hashed.get() {
            Some((name, hash)) if name == *tuple => hash,
            _ => {
                let hash = self.keys.hash_one(tuple);
                self.hashed.set(Some((*tuple, hash)));
                hash
            }
        }
    }

    /// The session of this name.
    pub fn get(&self, tuple: &ControlTuple) -> Option<&Session> {
        let hash = self.hash(tuple);
        self.table.find(hash, |session| session.tuple == *tuple).map(|session| &**session)
    }

    /// The same, to be changed, except for its name.
    pub fn get_mut(&mut self, tuple: &ControlTuple) -> Option<&mut Session> {
        let hash = self.hash(tuple);
        self.table.find_mut(hash, |session| session.tuple == *tuple).map(|session| &mut **session)
    }

    /// Whether there is one of this name.
    pub fn contains(&self, tuple: &ControlTuple) -> bool {
        self.get(tuple).is_some()
    }

    /// Puts a session in, and takes out the one that has had its name.
    pub fn insert(&mut self, session: Session) -> &mut Session {
        self.remove(&session.tuple);
        let hash = self.hash(&session.tuple);
        let Self { table, keys, .. } = self;
        table.insert_unique(hash, Box::new(session), |other| keys.hash_one(other.tuple)).into_mut()
    }

    /// Takes the session of this name out.
    pub fn remove(&mut self, tuple: &ControlTuple) -> Option<Box<Session>> {
        let hash = self.keys.hash_one(tuple);
        let found = self.table.find_entry(hash, |session| session.tuple == *tuple).ok()?;
        Some(found.remove().0)
    }

    /// All of them, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Session> {
        self.table.iter().map(|session| &**session)
    }

    /// The same, to be changed, except for their names.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.table.iter_mut().map(|session| &mut **session)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// As [`super::give_back`].
    pub fn give_back(&mut self) {
        let Self { table, keys, .. } = self;
        if table.capacity() > 4 * table.len() + SPARE {
            table.shrink_to(2 * table.len(), |session| keys.hash_one(session.tuple));
        }
    }
}
