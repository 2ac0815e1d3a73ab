//! FTP clients that others wrote.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use netlab::{Host, Output};

use super::session::{Mode, Step, Transfer};
use super::{Alg, ServerKind};

/// Which program, and how it talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    Curl,
    Lftp,
    /// lftp with `ftp:sync-mode no`: commands go out before the replies to earlier ones are there.
    LftpPipelined,
    Tnftp,
    Ftplib,
}

impl Client {
    pub const ALL: [Client; 5] =
        [Client::Curl, Client::Lftp, Client::Tnftp, Client::Ftplib, Client::LftpPipelined];

    /// Whether the program can be told to use this mode.
    pub fn supports(self, mode: Mode, v6: bool) -> bool {
        match self {
            Client::Curl | Client::Tnftp => true,
            // These use EPRT over IPv6 only.
            Client::Lftp | Client::LftpPipelined | Client::Ftplib => v6 || mode != Mode::Eprt,
        }
    }

    /// Whether the two can do it without any router between them. pyftpdlib answers PORT only once it has connected,
    /// and so after the 150 of a RETR that was sent ahead: lftp then waits for ever.
    pub fn gets_along(self, server: ServerKind, mode: Mode) -> bool {
        !(self == Client::LftpPipelined && server == ServerKind::Pyftpdlib && mode.is_active())
    }

    /// Whether the two can do it without any router between them, where packets are lost or late: the last acknowledgment
    /// of the data connection's handshake among them.
    pub fn copes_with_bad_wires(self, server: ServerKind, mode: Mode, transfer: Transfer) -> bool {
        match (self, server, transfer) {
            // The 226 comes before the data connection is there, and curl gives up (CURLE_WEIRD_SERVER_REPLY): after an
            // empty file with all servers; after others, one in some ten thousand, with vsftpd, which waits until all has
            // arrived only if its parent process has closed the connection by then.
            (Client::Curl, _, Transfer::Get("empty")) => !mode.is_active(),
            (Client::Curl, ServerKind::Vsftpd, Transfer::Get(_)) => !mode.is_active(),
            // pyftpdlib closes a connection that has sent all its data before it is accepted, and replies nothing.
            (_, ServerKind::Pyftpdlib, Transfer::Put(_)) => mode.is_active(),
            _ => true,
        }
    }

    /// Whether an ALG can be expected to cope: the kernel's helper does not see a PORT that stands behind another
    /// command in its segment.
    pub fn suits(self, alg: Alg) -> bool {
        !(alg == Alg::Kernel && self == Client::LftpPipelined)
    }

    /// Runs one session with all the steps on one control connection, for no longer than `limit`.
    pub fn run(
        self,
        limit: Duration,
        host: &Host,
        server: SocketAddr,
        mode: Mode,
        steps: &[Step],
        dir: &Path,
    ) -> Result<Output> {
        let script = dir.join("commands");
        match self {
            Client::Curl => {
                fs::write(&script, curl_config(server, mode, steps))?;
                host.run_within(limit, "curl", ["-q".as_ref(), "-K".as_ref(), script.as_os_str()])
            }
            Client::Lftp | Client::LftpPipelined => {
                fs::write(&script, lftp_script(server, mode, steps, self == Client::LftpPipelined))?;
                let home = format!("HOME={}", dir.display());
                let script = script.display().to_string();
                host.run_within(limit, "env", [&home, "lftp", "--norc", "-d", "-f", &script])
            }
            Client::Tnftp => {
                fs::write(&script, tnftp_script(mode, steps))?;
                let kind = if mode.is_active() { "-A" } else { "-p" };
                let (address, port) = (server.ip(), server.port());
                let line = format!("exec tnftp -n -v -q 20 {kind} {address} {port} < {}", script.display());
                host.run_within(limit, "sh", ["-c", &line])
            }
            Client::Ftplib => ftplib(limit, host, server, &[mode], steps),
        }
    }
}

/// A session of ftplib in which every step is made in the next of these modes.
pub fn ftplib(
    limit: Duration,
    host: &Host,
    server: SocketAddr,
    modes: &[Mode],
    steps: &[Step],
) -> Result<Output> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/ftplib_session.py");
    let modes = modes.iter().map(Mode::to_string).collect::<Vec<_>>().join(",");
    let mut args = vec![script.to_owned(), server.ip().to_string(), server.port().to_string(), modes];
    for step in steps {
        let verb = if matches!(step.transfer, Transfer::Get(_)) { "get" } else { "put" };
        args.extend([verb.to_owned(), step.remote.clone(), step.local.display().to_string()]);
    }
    host.run_within(limit, "/usr/bin/python3", args)
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::Curl => "curl",
            Client::Lftp => "lftp",
            Client::LftpPipelined => "lftp, pipelined",
            Client::Tnftp => "tnftp",
            Client::Ftplib => "ftplib",
        })
    }
}

/// One transfer each paragraph; curl keeps the control connection over all of them.
fn curl_config(server: SocketAddr, mode: Mode, steps: &[Step]) -> String {
    let mode = match mode {
        Mode::Port => "ftp-port = -\ndisable-eprt",
        Mode::Eprt => "ftp-port = -",
        Mode::Pasv => "disable-epsv\nno-ftp-skip-pasv-ip",
        Mode::Epsv => "ftp-pasv",
    };
    let paragraphs = steps.iter().map(|step| {
        let local = step.local.display();
        let file = match step.transfer {
            Transfer::Get(_) => format!("output = \"{local}\""),
            Transfer::Put(_) => format!("upload-file = \"{local}\""),
        };
        let url = format!("url = \"ftp://{server}/{}\"", step.remote);
        format!("silent\nshow-error\nverbose\nfail-early\nconnect-timeout = 60\n{mode}\n{url}\n{file}\n")
    });
    paragraphs.collect::<Vec<_>>().join("next\n")
}

fn lftp_script(server: SocketAddr, mode: Mode, steps: &[Step], pipelined: bool) -> String {
    let passive = if mode.is_active() { "no" } else { "yes" };
    let epsv = if mode == Mode::Epsv { "yes" } else { "no" };
    let sync = if pipelined { "no" } else { "yes" };
    let mut script = format!(
        "set cmd:fail-exit yes
set net:max-retries 2
set net:timeout 60
set net:reconnect-interval-base 1
set net:persist-retries 0
set ftp:ssl-allow no
set ftp:passive-mode {passive}
set ftp:prefer-epsv {epsv}
set ftp:sync-mode {sync}
set ftp:auto-sync-mode \"\"
set ftp:fix-pasv-address no
set ftp:verify-address yes
set xfer:clobber yes
open -u anonymous,nobody ftp://{server}
"
    );
    for step in steps {
        let local = step.local.display();
        script += &match step.transfer {
            Transfer::Get(_) => format!("get {} -o {local}\n", step.remote),
            Transfer::Put(_) => format!("put {local} -o {}\n", step.remote),
        };
    }
    script + "bye\n"
}

/// tnftp has EPRT and EPSV on over IPv4, unless `epsv4` turns them off.
fn tnftp_script(mode: Mode, steps: &[Step]) -> String {
    let mut script = String::from("user anonymous nobody\nbinary\n");
    if matches!(mode, Mode::Port | Mode::Pasv) {
        script += "epsv4 off\n";
    }
    for step in steps {
        let local = step.local.display();
        script += &match step.transfer {
            Transfer::Get(_) => format!("get {} {local}\n", step.remote),
            Transfer::Put(_) => format!("put {local} {}\n", step.remote),
        };
    }
    script + "bye\n"
}
