//! This machine's packages, and what of ftpalg is in its kernel.

use std::env;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, bail};

use crate::unit::machine::{ruleset, run};

/// The path of the package with this revision, of those that scripts/test-in-vm has made.
pub fn package(revision: u32) -> Result<String> {
    let directory = env::var("FTPALG_TEST_PACKAGES").context("FTPALG_TEST_PACKAGES names no directory")?;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path().display().to_string();
        if path.contains(&format!("-{revision}_")) && path.ends_with(".deb") {
            return Ok(path);
        }
    }
    bail!("no package with revision {revision} in {directory}")
}

/// Runs `dpkg`, without waiting for the disk after each file: the machine is thrown away.
pub fn dpkg(args: &[&str]) -> Result<String> {
    run("dpkg", &[&["--force-unsafe-io"][..], args].concat())
}

/// The version that is installed.
pub fn installed_version() -> Result<String> {
    run("dpkg-query", &["--show", "--showformat=${Version}", "ftpalg"])
}

/// ftpalg's tables, in `nft list ruleset`'s words.
pub fn nft_tables() -> Result<Vec<String>> {
    let ruleset = ruleset()?;
    let own = ruleset.lines().filter(|line| line.starts_with("table inet ftpalg"));
    Ok(own.map(str::to_owned).collect())
}

/// Whether two files are one.
pub fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
