//! What was found out of large sets and maps, so that it is found out once and not for each way that packets take.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr;

use serde_json::Value;

use super::packet::{Kind, is_interface, parts};

/// From so many elements on it is worth it.
const MANY: usize = 16;

/// An expression, which stays where it is as long as its ruleset; and of the packets what it may look at.
type Key = (usize, bool, [Option<u16>; 3], (u32, u32), Option<[Option<String>; 2]>);

/// Findings of one sort.
#[derive(Debug)]
pub struct Memo<T>(RefCell<HashMap<Key, T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Clone> Memo<T> {
    /// What an expression that looks `looked_at` up in a list says of packets of a kind.
    pub fn of(
        &self,
        expression: &Value,
        (looked_at, list): (&Value, &[Value]),
        kind: &Kind<'_>,
        find: impl FnOnce() -> T,
    ) -> T {
        if list.len() < MANY {
            return find();
        }
        let key = key(expression, looked_at, kind);
        if let Some(found) = self.0.borrow().get(&key) {
            return found.clone();
        }
        let found = find();
        self.0.borrow_mut().insert(key, found.clone());
        found
    }
}

fn key(expression: &Value, looked_at: &Value, kind: &Kind<'_>) -> Key {
    let interfaces = || [kind.comes_in, kind.goes_out].map(|name| name.map(str::to_owned));
    let by_interface = parts(looked_at).iter().any(is_interface).then(interfaces);
    let ports = [kind.source, kind.destination, kind.dialled];
    (ptr::from_ref(expression).addr(), kind.state == "new", ports, kind.mark, by_interface)
}
