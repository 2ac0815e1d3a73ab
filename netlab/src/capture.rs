//! A packet capture on one interface.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;
use crate::{Host, Process};

/// A running `tcpdump` that writes to a file.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    pub(crate) fn start(host: &Host, interface: &str, filter: &str, file: &Path) -> Result<Capture> {
        let log = file.with_extension("tcpdump.log");
        // -Z root: the directory belongs to root, and tcpdump would give its rights up before it opens the file.
        // -s, -B: 16 MiB have room for a thousand packets of 16 KiB; by default it is 2 MiB, and eight of 256 KiB.
        let args = [
            "-U",
            "--immediate-mode",
            "-s",
            "16384",
            "-B",
            "16384",
            "-n",
            "-Z",
            "root",
            "-i",
            interface,
            "-w",
        ];
        let args = args.map(OsString::from);
        let args = args.into_iter().chain([file.into(), filter.into()]);
        let mut process = host.spawn(&log, "tcpdump", args)?;
        process.wait_for_log("listening on", Duration::from_secs(5))?;
        Ok(Capture { process, file: file.to_owned() })
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// `tcpdump` has failed meanwhile; with what it said.
    pub fn stop(mut self) -> Result<Captured> {
        self.process.terminate(Duration::from_secs(5))?;
        Ok(Captured { file: self.file.clone() })
    }
}

/// A finished capture.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The pcap file.
    pub file: PathBuf,
}

impl Captured {
    /// One line for each packet that matches the pcap-filter(7) expression, as `tcpdump -n` prints them.
    ///
    /// # Errors
    /// The file or the filter is damaged.
    pub fn packets(&self, filter: &str) -> Result<Vec<String>> {
        let file = self.file.to_str().context("the capture's path is not UTF-8")?;
        let text = command::run("tcpdump", ["-n", "-tt", "-r", file, filter])?.success()?.stdout;
        Ok(text.lines().map(str::to_owned).collect())
    }
}
