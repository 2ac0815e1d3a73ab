//! The state directory, and the room that connection tracking has.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::finding::{Finding, Id, Mend};
use super::proc::{self, Process};
use crate::config::{self, Config};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` (linux/magic.h).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// From how many of a hundred on the connection tracking's table counts as nearly full.
const NEARLY_FULL: u64 = 90;

/// The directory for what must survive a restart.
pub fn directory(config: &Config, file: &str, daemon: Option<&Process>) -> Finding {
    let path = config.state_dir.as_path();
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound && daemon.is_none() => {
            return Finding::right(Id::StateDir, format!("{shown} is not there yet; the daemon makes it"));
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!("whether the state directory {shown} can be used ({error})");
            return Finding::unseen(Id::NotLookedAt, what, Mend::command("sudo ftpalg check"));
        }
        Err(error) => {
            return unusable(path, &error.to_string(), Mend::command(format!("mkdir -p '{shown}'")));
        }
    };
    if !metadata.is_dir() {
        let mend = Mend::command(format!("mv '{shown}' '{shown}.old'"));
        return unusable(path, "it is no directory", mend);
    }
    if let Some(daemon) = daemon {
        // Whoever is not root and does not own it could still be in its group, or the directory be open to all.
        let owns = daemon.user == 0 || daemon.user == metadata.uid();
        if !owns && metadata.mode() & 0o022 == 0 {
            let what = format!("the daemon runs as user {} and can't write to it", daemon.user);
            let mend = Mend::command(format!("chown -R {} '{shown}'", daemon.user));
            return unusable(path, &what, mend);
        }
    }
    match rustix::fs::statfs(path) {
        Ok(system) if IN_MEMORY.iter().any(|magic| i128::from(system.f_type) == i128::from(*magic)) => {
            Finding::right(Id::StateDir, format!("{shown} is kept in memory"))
        }
        Ok(_) => {
            let what = format!(
                "the state directory {shown} is on a disk: each packet of a session waits for the file system, and what \
                 a reboot leaves there is of no use"
            );
            let line = format!("state-dir = {:?}", config::Config::default().state_dir);
            Finding::warning(Id::StateDirOnDisk, what, Mend::Setting { file: file.to_owned(), line })
        }
        Err(error) => unusable(path, &error.to_string(), Mend::advice("name another with `state-dir`")),
    }
}

fn unusable(path: &Path, why: &str, mend: Mend) -> Finding {
    let what = format!(
        "the state directory {} can't be used: {why}; sessions would not survive a restart",
        path.display()
    );
    Finding::wrong(Id::StateDirUnusable, what, mend)
}

/// Whether connection tracking has room for more.
pub fn conntrack() -> Option<Finding> {
    let count = proc::sysctl("net.netfilter.nf_conntrack_count")?;
    let most = proc::sysctl("net.netfilter.nf_conntrack_max")?;
    Some(room(count, most))
}

fn room(count: u64, most: u64) -> Finding {
    // 0 stands for no bound.
    if most == 0 || count * 100 < most * NEARLY_FULL {
        return Finding::right(Id::ConntrackRoom, format!("{count} of {most} connections are tracked"));
    }
    let what = format!("{count} of {most} connections are tracked: when none is left, new ones are dropped");
    // A bound that somebody has lowered can lie below the count.
    let mend = Mend::command(format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.max(count) * 2));
    Finding::warning(Id::ConntrackNearlyFull, what, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_are_nearly_full() {
        assert_eq!(room(89, 100).id, Id::ConntrackRoom);
        assert_eq!(room(7, 0).id, Id::ConntrackRoom);
        let full = room(90, 100);
        assert_eq!(full.id, Id::ConntrackNearlyFull);
        assert_eq!(full.mend, Some(Mend::command("sysctl -w net.netfilter.nf_conntrack_max=200")));
        let fuller = room(150, 100);
        assert_eq!(fuller.mend, Some(Mend::command("sysctl -w net.netfilter.nf_conntrack_max=300")));
    }
}
