//! One file fetched by curl, with captures on both sides of the router.

use std::fmt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::net::{FILE, Net, SERVER};
use super::wire::{self, Segment};

/// How long curl waits for a connection, in seconds. Here a connection takes less than a millisecond.
const PATIENCE: &str = "1.6";

/// How data connections are negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// PASV: the server listens.
    Passive,
    /// PORT: the client listens.
    Active,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Passive => "passive",
            Mode::Active => "active",
        })
    }
}

/// What is shown of a transfer: the control connection, and that a data connection begins.
const SHOWN: &str = "tcp port 21 or tcp[tcpflags] & tcp-syn != 0";

/// What came of it.
#[derive(Debug)]
pub struct Transfer {
    /// The client's copy of the file, if curl says that it has it.
    pub copy: Option<PathBuf>,
    /// curl's exit code.
    pub code: i32,
    /// curl's error message.
    pub complaint: String,
    /// What passed on the client's side of the router.
    pub lan: Vec<Segment>,
    /// What passed on the server's side.
    pub wan: Vec<Segment>,
}

impl Transfer {
    /// Fetches the file in a session of its own. `name` is for the files that it leaves in the net's directory.
    pub fn run(net: &Net, mode: Mode, name: &str) -> Result<Transfer> {
        let path = |end: &str| net.dir().join(format!("{name}.{end}"));
        let [lan, wan] = [path("lan.pcap"), path("wan.pcap")];
        // Each interface is called after the host at the other end.
        let captures =
            [net.client.capture("router", SHOWN, &lan)?, net.server.capture("router", SHOWN, &wan)?];

        let mode: &[&str] = match mode {
            Mode::Passive => &["--disable-epsv", "--no-ftp-skip-pasv-ip"],
            Mode::Active => &["--disable-eprt", "--ftp-port", "-"],
        };
        let copy = path("copy");
        let url = format!("ftp://{SERVER}/{FILE}");
        let local = copy.to_str().context("the directory for temporary files is not UTF-8")?;
        let mut args = vec!["-q", "-sS", "--noproxy", "*", "--connect-timeout", PATIENCE, "-o", local];
        args.extend(mode);
        args.push(&url);
        let output = net.client.run_within(Duration::from_secs(5), "curl", args)?;

        wait_until_closed(&[&lan, &wan])?;
        for capture in captures {
            capture.stop()?;
        }
        Ok(Transfer {
            copy: output.status.success().then_some(copy),
            // Ended by a signal it has none; no code of curl's is negative.
            code: output.status.code().unwrap_or(-1),
            complaint: output.stderr.trim().to_owned(),
            lan: wire::segments(&lan)?,
            wan: wire::segments(&wan)?,
        })
    }
}

/// tcpdump may be a little behind. What a failed session leaves open is not waited for long.
fn wait_until_closed(captures: &[&PathBuf]) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(500);
    for capture in captures {
        while !wire::control_closed(&wire::segments(capture)?) && Instant::now() < end {
            sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
