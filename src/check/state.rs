//! The state directory: whether sessions can be kept there.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfs, StatVfsMountFlags};

use super::finding::{Finding, Id, Mend};
use super::proc::Process;
use crate::config::Config;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` (linux/magic.h).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// With less than this to spare, in bytes, it is soon full: a session takes half a KiB or two.
const LITTLE: u64 = 256 * 1024;

/// With less than this, in bytes, there is no room at all: files grow by pages.
const NONE: u64 = 4096;

/// The directory for what must survive a restart.
pub fn directory(config: &Config, file: &str, daemon: Option<&Process>) -> Finding {
    let path = config.state_dir.as_path();
    let shown = path.display();
    let seen = seen_by(daemon, path);
    let metadata = match fs::metadata(&seen) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && daemon.is_none() => {
            return Finding::right(Id::StateDir, format!("{shown} is not there yet; the daemon makes it"));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!("whether the state directory {shown} can be used ({error})");
            return Finding::unseen(Id::NotLookedAt, what, Mend::command("sudo ftpalg check"));
        }
        Err(error) if seen != path && path.exists() => {
            return unusable(path, &format!("the daemon does not see it ({error})"), let_in(path));
        }
        Err(error) => {
            return unusable(path, &error.to_string(), Mend::command(format!("mkdir -p '{shown}'")));
        }
    };
    if !metadata.is_dir() {
        let mend = Mend::command(format!("mv '{shown}' '{shown}.old'"));
        return unusable(path, "it is no directory", mend);
    }
    belongs_to_another(path, &metadata, daemon)
        .or_else(|| takes_nothing(path, &seen))
        .unwrap_or_else(|| file_system(path, &seen, file))
}

fn belongs_to_another(path: &Path, metadata: &Metadata, daemon: Option<&Process>) -> Option<Finding> {
    let user = daemon?.user;
    // Whoever is not root and does not own it could still be in its group, or the directory be open to all.
    if user == 0 || user == metadata.uid() || metadata.mode() & 0o022 != 0 {
        return None;
    }
    let what = format!("the daemon runs as user {user} and can't write to it");
    Some(unusable(path, &what, Mend::command(format!("chown -R {user} '{}'", path.display()))))
}

/// Read-only, or full.
fn takes_nothing(path: &Path, seen: &Path) -> Option<Finding> {
    let system = match rustix::fs::statvfs(seen) {
        Ok(system) => system,
        Err(error) => {
            return Some(unusable(path, &error.to_string(), Mend::advice("name another with `state-dir`")));
        }
    };
    let is_read_only = |system: &StatVfs| system.f_flag.contains(StatVfsMountFlags::RDONLY);
    if is_read_only(&system) {
        let mend = match rustix::fs::statvfs(path) {
            Ok(outside) if !is_read_only(&outside) => let_in(path),
            _ => Mend::command(format!(
                "mount -o remount,rw \"$(findmnt -n -o TARGET -T '{}')\"",
                path.display()
            )),
        };
        return Some(unusable(path, "it is mounted read-only", mend));
    }
    let left = system.f_bavail * system.f_frsize;
    // File systems without a bound have no blocks.
    (system.f_blocks > 0 && left < LITTLE).then(|| full(path, left))
}

/// In memory, or on a disk.
fn file_system(path: &Path, seen: &Path, file: &str) -> Finding {
    let shown = path.display();
    match rustix::fs::statfs(seen) {
        Ok(system) if IN_MEMORY.iter().any(|magic| i128::from(system.f_type) == i128::from(*magic)) => {
            Finding::right(Id::StateDir, format!("{shown} is kept in memory"))
        }
        Ok(_) => {
            let what = format!(
                "the state directory {shown} is on a disk: each packet of a session waits for the file system, and what \
                 a reboot leaves there is of no use"
            );
            let default = Config::default().state_dir;
            let mend = if path == default {
                Mend::advice("mount a tmpfs at /run")
            } else {
                Mend::Setting { file: file.to_owned(), line: format!("state-dir = {default:?}") }
            };
            Finding::warning(Id::StateDirOnDisk, what, mend)
        }
        Err(error) => unusable(path, &error.to_string(), Mend::advice("name another with `state-dir`")),
    }
}

/// A path as the daemon has it: its unit lets it write to few.
fn seen_by(daemon: Option<&Process>, path: &Path) -> PathBuf {
    let Some(daemon) = daemon else { return path.to_owned() };
    // A link in it would lead from there to this program's root.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let root = Path::new("/proc").join(daemon.pid.to_string()).join("root");
    root.join(real.strip_prefix("/").unwrap_or(&real))
}

fn let_in(path: &Path) -> Mend {
    Mend::advice(format!(
        "the unit keeps it from the daemon: `systemctl edit ftpalg` with `[Service]` and `ReadWritePaths={}`, then `systemctl \
         restart ftpalg`",
        path.display()
    ))
}

fn full(path: &Path, left: u64) -> Finding {
    let (path, kib) = (path.display(), left / 1024);
    let mend = Mend::advice(format!("make room on the file system that holds it: `df '{path}'`"));
    if left < NONE {
        let what = format!(
            "there is no room in the state directory {path}: what would be rewritten waits, and other sessions would not \
             survive a restart"
        );
        return Finding::wrong(Id::StateDirFull, what, mend);
    }
    let what = format!(
        "there is room for {kib} KiB in the state directory {path}: soon sessions can't be kept there"
    );
    Finding::warning(Id::StateDirFull, what, mend)
}

fn unusable(path: &Path, why: &str, mend: Mend) -> Finding {
    let what = format!(
        "the state directory {} can't be used: {why}; sessions would not survive a restart",
        path.display()
    );
    Finding::wrong(Id::StateDirUnusable, what, mend)
}
