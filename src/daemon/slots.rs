//! A file of records in slots of one size.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use ftpalg::engine::MAX_SESSIONS;
use rustix::fs::{FlockOperation, flock};

/// Records of at most this size lie in one page.
const PAGE: usize = 4096;

/// Length and checksum of the content, and a revision: in little-endian order before it.
const HEADER: usize = 16;

/// How many slots a file can have: one for each of the engine's sessions, and one while a record moves.
const MOST: usize = MAX_SESSIONS + 1;

/// Part of every checksum: a record of another layout is no record. Counts up when the engine's `Session` changes.
const LAYOUT: &[u8] = b"ftpalg 7";

/// A record that was found in a file.
#[derive(Debug)]
pub struct Found {
    /// Its slot's number.
    pub slot: u32,
    /// Counts up over all records of a state directory.
    pub revision: u64,
    /// What was written; `None` if it is damaged or of another layout.
    pub content: Option<Vec<u8>>,
}

/// A file of records. Slots that are not in use begin with a length of 0. The file ends with the last that is in use,
/// for it takes memory (tmpfs).
#[derive(Debug)]
pub struct Slots {
    file: File,
    size: usize,
    count: u32,
    free: BTreeSet<u32>,
}

impl Slots {
    /// Opens the file, or makes it, locks it for as long as it is open, and reads what is in it.
    ///
    /// # Errors
    /// `WouldBlock` if another process has locked it, and whatever else the kernel says.
    pub fn open(path: &Path, size: usize) -> io::Result<(Self, Vec<Found>)> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // First: who has it now may still be writing.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // What lies behind the last session that can have been saved is not this program's.
        let length = file.metadata()?.len().min((MOST * size) as u64);
        file.set_len(length)?;
        let count = u32::try_from(length.div_ceil(size as u64)).unwrap_or(0);
        let mut slots = Self { file, size, count, free: BTreeSet::new() };
        let (mut found, mut bytes) = (Vec::new(), Vec::with_capacity(size));
        for slot in 0..count {
            bytes.clear();
            Read::by_ref(&mut slots.file).take(size as u64).read_to_end(&mut bytes)?;
            match record(&bytes) {
                None => drop(slots.free.insert(slot)),
                Some((revision, content)) => found.push(Found { slot, revision, content }),
            }
        }
        Ok((slots, found))
    }

    /// Whether somebody has deleted the file.
    pub fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// Whether content of this length fits a slot.
    pub fn holds(&self, length: usize) -> bool {
        HEADER + length <= self.size
    }

    /// Whether each of its records lies in one page.
    pub fn lies_in_page(&self) -> bool {
        self.size <= PAGE
    }

    /// The first slot that is not in use.
    pub fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    /// Writes a record; `buffer` is scratch space.
    pub fn write(&self, slot: u32, revision: u64, content: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.extend_from_slice(&u32::try_from(content.len()).unwrap_or(0).to_le_bytes());
        buffer.extend_from_slice(&checksum(content).to_le_bytes());
        buffer.extend_from_slice(&revision.to_le_bytes());
        buffer.extend_from_slice(content);
        self.file.write_all_at(buffer, self.offset(slot))
    }

    /// A slot is not in use that was taken, and to which nothing could be written.
    pub fn give_back(&mut self, slot: u32) {
        self.free.insert(slot);
        while self.count > 0 && self.free.remove(&(self.count - 1)) {
            self.count -= 1;
        }
    }

    /// Puts a slot out of use.
    pub fn clear(&mut self, slot: u32) -> io::Result<()> {
        let before = self.count;
        self.give_back(slot);
        if self.count < before {
            self.file.set_len(self.offset(self.count))
        } else {
            self.file.write_all_at(&[0; HEADER], self.offset(slot))
        }
    }

    fn offset(&self, slot: u32) -> u64 {
        u64::from(slot) * self.size as u64
    }
}

/// The revision and content of the record at the beginning of these bytes, if a slot that begins so is in use.
fn record(bytes: &[u8]) -> Option<(u64, Option<Vec<u8>>)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, revision @ ..] = *header;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length == 0 {
        return None;
    }
    let content =
        rest.get(..length).filter(|content| checksum(content) == u32::from_le_bytes([c0, c1, c2, c3]));
    Some((u64::from_le_bytes(revision), content.map(<[u8]>::to_vec)))
}

fn checksum(content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(LAYOUT);
    hasher.update(content);
    hasher.finalize()
}
