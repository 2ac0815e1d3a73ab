//! A directory that goes with its owner.

use std::path::PathBuf;

/// A directory for state files.
pub struct Scratch(PathBuf);

impl Scratch {
    /// One that nobody else has; nothing is in it yet.
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ftpalg-cost-{}-{name}", std::process::id())))
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
