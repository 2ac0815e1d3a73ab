//! The lab: names that no other lab has, and a directory for its files.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use anyhow::{Context, Result};

use crate::Host;
use crate::host::remove_namespace;

/// Every namespace and directory of a lab is called `netlab.PID.NUMBER…`, after the process that made it.
const PREFIX: &str = "netlab.";

/// A number of hosts that belong together, and a directory for their files.
///
/// Labs of one process and of several do not meet, so tests can run side by side. What a process that was
/// killed left behind is removed by the next one that makes a lab.
#[derive(Debug)]
pub struct Lab {
    name: String,
    dir: PathBuf,
}

impl Lab {
    /// An empty lab.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new() -> Result<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);

        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}.{number}", process::id());
        let dir = env::temp_dir().join(&name);
        fs::create_dir(&dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
        Ok(Lab { name, dir })
    }

    /// A new host, its loopback interface up. `name` must be new in this lab; an interface that leads to it is
    /// called after it, so it has at most 13 characters.
    ///
    /// # Errors
    /// No right to make network namespaces, or the name is taken.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(format!("{}.{name}", self.name), name)
    }

    /// This machine itself as one of the lab's hosts: for machines that are thrown away. What runs on it goes on when
    /// this is dropped, and what was set stays set; links go with the hosts that they lead to.
    ///
    /// # Errors
    /// No right to name network namespaces.
    pub fn this_machine(&self, name: &str) -> Result<Host> {
        // Not under a name that a sweep would take for a leftover's.
        Host::this_machine(format!("own-{}.{name}", self.name), name)
    }

    /// The lab's directory, readable by everyone, removed with the lab.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Nobody is left to tell, and the next lab's sweep comes past here again.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes the namespaces and directories of processes that are gone.
fn sweep() {
    for name in leftovers(Path::new("/run/netns")) {
        remove_namespace(&name);
    }
    for name in leftovers(&env::temp_dir()) {
        let _ = fs::remove_dir_all(env::temp_dir().join(name));
    }
}

/// The names in `dir` that a lab gave and whose process is no more.
fn leftovers(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
            pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        })
        .collect()
}
