//! Sessions on a tmpfs: what must outlive the daemon is written there before a packet's verdict is given.
//!
//! Records stand in slots of three sizes, a file each. One is written in place where the kernel does that in one
//! go, inside a page; else to a fresh slot before the old one is cleared. So the daemon, killed at any instant,
//! leaves each session as it was before or after. A damaged record costs its session.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ftpalg::engine::control::ControlTuple;

pub use super::places::Place;
use super::places::Places;
use super::slots::Slots;

/// Slot sizes in bytes: almost every session fits the first, and every session the last.
const SIZES: [usize; 3] = [512, 2048, 8192];

/// Why sessions can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory can't be made, read or written.
    #[error("{}: {error}; {}", path.display(), mend(error))]
    Directory {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Another daemon has it.
    #[error("{}: another ftpalg uses this directory; stop it, or give each its own `state-dir`", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// No slot is large enough.
    #[error("a session of {0} bytes is larger than a slot of the state file")]
    TooLarge(usize),
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the file system that holds it"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "`state-dir` must not be on a file system that is mounted read-only"
        }
        _ => "`state-dir` must name a directory that ftpalg may write to",
    }
}

/// A session that an earlier daemon left.
#[derive(Debug)]
pub struct Saved {
    /// To be given to [`Store::claim`] or [`Store::discard`].
    pub place: Place,
    /// As [`Store::save`] got it; `None` if it is damaged or of another version.
    pub session: Option<Vec<u8>>,
}

/// The state files, locked for as long as the daemon lives.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    classes: Vec<Slots>,
    places: Places,
    revision: u64,
    buffer: Vec<u8>,
}

impl Store {
    /// Opens the directory, makes it if it is missing, and reads what an earlier daemon left: the older of two
    /// records of one session before the newer.
    pub fn open(directory: &Path) -> Result<(Self, Vec<Saved>), StoreError> {
        let fault = |path: &Path, error| StoreError::Directory { path: path.to_owned(), error };
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .map_err(|error| fault(directory, error))?;
        let (mut classes, mut found) = (Vec::new(), Vec::new());
        for (class, size) in (0..).zip(SIZES) {
            let path = directory.join(format!("sessions-{size}"));
            let (slots, records) = Slots::open(&path, size).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => StoreError::Taken { path: directory.to_owned() },
                _ => fault(&path, error),
            })?;
            classes.push(slots);
            found.extend(records.into_iter().map(|record| (class, record)));
        }
        found.sort_by_key(|(_, record)| record.revision);
        let revision = found.last().map_or(0, |(_, record)| record.revision);
        let directory = directory.to_owned();
        let store = Self { directory, classes, places: Places::default(), revision, buffer: Vec::new() };
        let saved = found.into_iter().map(|(class, record)| Saved {
            place: Place { class, slot: record.slot },
            session: record.content,
        });
        Ok((store, saved.collect()))
    }

    fn fault(&self, error: io::Error) -> StoreError {
        StoreError::Directory { path: self.directory.clone(), error }
    }

    /// What stands in this place is this session's record from now on.
    pub fn claim(&mut self, tuple: ControlTuple, place: Place) -> Result<(), StoreError> {
        match self.places.insert(&tuple, place) {
            Some(older) if older != place => self.discard(older),
            _ => Ok(()),
        }
    }

    /// Whether somebody has deleted what this one writes to.
    pub fn is_deleted(&self) -> bool {
        self.classes.is_empty() || self.classes.iter().any(Slots::is_deleted)
    }

    /// Opens the directory again, with nothing in it that counts.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        // Their locks go with them.
        self.classes.clear();
        let (mut anew, left) = Self::open(&self.directory)?;
        left.into_iter().try_for_each(|saved| anew.discard(saved.place))?;
        *self = anew;
        Ok(())
    }

    /// Clears a place.
    pub fn discard(&mut self, place: Place) -> Result<(), StoreError> {
        let cleared =
            self.classes.get_mut(usize::from(place.class)).map_or(Ok(()), |slots| slots.clear(place.slot));
        cleared.map_err(|error| self.fault(error))
    }

    /// Writes a session's record.
    pub fn save(&mut self, tuple: ControlTuple, session: &[u8]) -> Result<(), StoreError> {
        if self.classes.is_empty() {
            return Err(self.fault(io::ErrorKind::NotFound.into()));
        }
        let fitting = (0..).zip(&mut self.classes).find(|(_, slots)| slots.holds(session.len()));
        let Some((class, slots)) = fitting else { return Err(StoreError::TooLarge(session.len())) };
        let before = self.places.get(&tuple);
        let place = match before {
            Some(place) if place.class == class && slots.lies_in_page() => place,
            _ => Place { class, slot: slots.take() },
        };
        self.revision += 1;
        let written = slots.write(place.slot, self.revision, session, &mut self.buffer);
        if let Err(error) = written {
            if before != Some(place) {
                slots.give_back(place.slot);
            }
            return Err(self.fault(error));
        }
        if before == Some(place) { Ok(()) } else { self.claim(tuple, place) }
    }

    /// Removes a session's record, if there is one.
    pub fn remove(&mut self, tuple: &ControlTuple) -> Result<(), StoreError> {
        let Some(place) = self.places.remove(tuple) else { return Ok(()) };
        self.discard(place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Directory(PathBuf);
    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ftpalg-store-{}-{name}", std::process::id()));
            std::fs::remove_dir_all(&path).ok();
            Self(path)
        }

        /// Another test may start a program at this moment: until it is running, it has the files open as well, and so
        /// keeps their locks.
        fn open(&self) -> (Store, Vec<Saved>) {
            for _ in 0..500 {
                match Store::open(&self.0) {
                    Err(StoreError::Taken { .. }) => std::thread::sleep(Duration::from_millis(10)),
                    other => return other.unwrap(),
                }
            }
            panic!("{} stays locked", self.0.display());
        }

        /// What a daemon that starts now finds, by session, the newest record of each.
        fn sessions(&self) -> Vec<Vec<u8>> {
            self.open().1.into_iter().filter_map(|saved| saved.session).collect()
        }
    }
    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn tuple(port: u16) -> ControlTuple {
        ControlTuple { server: "192.0.2.1:21".parse().unwrap(), client: ([10, 0, 0, 2], port).into() }
    }

    #[test]
    fn what_was_saved_last_is_found_again() {
        let directory = Directory::new("again");
        {
            let (mut store, saved) = directory.open();
            assert!(saved.is_empty());
            store.save(tuple(1), b"first").unwrap();
            store.save(tuple(2), b"second").unwrap();
            store.save(tuple(1), b"first, later").unwrap();
            store.save(tuple(3), b"third").unwrap();
            store.remove(&tuple(3)).unwrap();
        }
        assert_eq!(directory.sessions(), [&b"second"[..], b"first, later"]);
    }

    #[test]
    fn sessions_move_between_the_files_as_they_grow_and_shrink() {
        let directory = Directory::new("move");
        for size in [10, 600, 5000, 5001, 2000, 3] {
            let (mut store, saved) = directory.open();
            for Saved { place, .. } in saved {
                store.claim(tuple(1), place).unwrap();
            }
            store.save(tuple(1), &vec![7; size]).unwrap();
            drop(store);
            assert_eq!(directory.sessions(), [vec![7; size]], "{size} bytes");
        }
    }

    #[test]
    fn files_become_shorter_again_and_free_slots_are_used_first() {
        let directory = Directory::new("shorter");
        let length = || std::fs::metadata(directory.0.join("sessions-512")).unwrap().len();
        let (mut store, _) = directory.open();
        (0..1000).for_each(|port| store.save(tuple(port), b"one of many").unwrap());
        let all = length();
        (0..1000).filter(|port| port % 2 == 0).for_each(|port| store.remove(&tuple(port)).unwrap());
        assert_eq!(length(), all, "the last is still there");
        (1000..1500).for_each(|port| store.save(tuple(port), b"another").unwrap());
        assert_eq!(length(), all, "free slots first");
        drop(store);
        let (mut store, saved) = directory.open();
        assert_eq!(saved.len(), 1000);
        (0..).zip(saved).for_each(|(port, saved)| store.claim(tuple(port), saved.place).unwrap());
        (1..1000).for_each(|port| store.remove(&tuple(port)).unwrap());
        store.remove(&tuple(0)).unwrap();
        assert_eq!((length(), store.places.capacity() < 4000), (0, true));
    }

    #[test]
    fn a_damaged_record_costs_only_its_own_session() {
        let directory = Directory::new("damaged");
        {
            let (mut store, _) = directory.open();
            store.save(tuple(1), b"first").unwrap();
            store.save(tuple(2), b"second").unwrap();
        }
        let file = directory.0.join("sessions-512");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[18] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let (_, saved) = directory.open();
        assert_eq!(saved.len(), 2);
        assert_eq!(saved.into_iter().filter_map(|saved| saved.session).collect::<Vec<_>>(), [b"second"]);
        std::fs::write(&file, b"something else, of no use to anybody").unwrap();
        assert!(directory.sessions().is_empty());
    }

    #[test]
    fn two_daemons_cannot_share_a_directory() {
        let directory = Directory::new("shared");
        let _first = directory.open();
        assert!(matches!(Store::open(&directory.0), Err(StoreError::Taken { .. })));
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let error = Store::open(Path::new("/proc/ftpalg")).unwrap_err().to_string();
        assert!(error.contains("/proc/ftpalg") && error.contains("state-dir"), "{error}");
    }
}
