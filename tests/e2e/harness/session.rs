//! What a session does: the mode in which its data connections are made, and the files that it moves.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// How data connections are negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Port,
    Eprt,
    Pasv,
    Epsv,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Port, Mode::Eprt, Mode::Pasv, Mode::Epsv];
    /// The modes that exist for IPv6 (RFC 2428).
    pub const EXTENDED: [Mode; 2] = [Mode::Eprt, Mode::Epsv];

    /// The FTP command that asks for it.
    pub fn command(self) -> &'static str {
        match self {
            Mode::Port => "PORT",
            Mode::Eprt => "EPRT",
            Mode::Pasv => "PASV",
            Mode::Epsv => "EPSV",
        }
    }

    /// Whether the server makes the data connections.
    pub fn is_active(self) -> bool {
        matches!(self, Mode::Port | Mode::Eprt)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command())
    }
}

/// A file of the harness, by its name: `empty`, `small` (4 KiB) or `large` (3 MiB).
pub type Payload = &'static str;

/// One file moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// From server to client.
    Get(Payload),
    /// From client to server.
    Put(Payload),
}

/// Every size, each way, and then some: twelve transfers.
pub const STANDARD: [Transfer; 12] = [
    Transfer::Get("small"),
    Transfer::Put("small"),
    Transfer::Get("empty"),
    Transfer::Put("empty"),
    Transfer::Get("large"),
    Transfer::Put("large"),
    Transfer::Get("small"),
    Transfer::Get("small"),
    Transfer::Put("small"),
    Transfer::Put("small"),
    Transfer::Get("small"),
    Transfer::Put("small"),
];

/// A large file and a small one: for an emulated machine, which is slow.
pub const FEW: [Transfer; 2] = [Transfer::Get("large"), Transfer::Put("small")];

/// A transfer as a client is told to do it.
#[derive(Debug, Clone)]
pub struct Step {
    /// Which way.
    pub transfer: Transfer,
    /// The client's file: where it is taken from or put.
    pub local: PathBuf,
    /// The server's file, as the client names it.
    pub remote: String,
}

/// The steps of a session; downloads go to `dir`.
pub fn steps(transfers: &[Transfer], files: &Path, dir: &Path) -> Vec<Step> {
    let session = dir.file_name().unwrap_or_default().to_string_lossy();
    let step = |(number, &transfer)| match transfer {
        Transfer::Get(name) => {
            Step { transfer, local: dir.join(format!("{number}-{name}")), remote: format!("pub/{name}") }
        }
        Transfer::Put(name) => {
            Step { transfer, local: files.join(name), remote: format!("up/{session}-{number}-{name}") }
        }
    };
    transfers.iter().enumerate().map(step).collect()
}

/// Compares every file that was moved with its original, byte by byte.
pub fn verify(steps: &[Step], files: &Path, root: &Path) -> Result<()> {
    for step in steps {
        let (original, copy) = match step.transfer {
            Transfer::Get(name) => (files.join(name), step.local.clone()),
            Transfer::Put(_) => (step.local.clone(), root.join(&step.remote)),
        };
        let arrived = fs::read(&copy)
            .with_context(|| format!("{:?}: {} is not there", step.transfer, copy.display()))?;
        let expected = fs::read(&original)?;
        if !expected.starts_with(&arrived) {
            bail!("{:?}: other bytes arrived than were sent", step.transfer);
        }
        if arrived != expected {
            bail!("{:?}: {} of {} bytes arrived", step.transfer, arrived.len(), expected.len());
        }
    }
    Ok(())
}

/// Removes the copies, for tests that make many.
pub fn discard(steps: &[Step], root: &Path, dir: &Path) -> Result<()> {
    for step in steps {
        if let Transfer::Put(_) = step.transfer {
            fs::remove_file(root.join(&step.remote))?;
        }
    }
    Ok(fs::remove_dir_all(dir)?)
}

/// Makes the files to be moved.
pub fn make_files(dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    for (name, length) in [("empty", 0), ("small", 4 << 10), ("large", 3 << 20)] {
        fs::write(dir.join(name), noise(length))?;
    }
    Ok(())
}

/// Bytes without a pattern, always the same (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
