//! FTP servers, each for anonymous users, with files to fetch and a directory to put some.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Host, Process};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerKind {
    Vsftpd,
    /// The same, for clients that ask for TLS.
    VsftpdTls,
    Pyftpdlib,
    Proftpd,
    /// It logs no commands here.
    PureFtpd,
    /// A script of the tests, where no program sends what is to be tested; see peers/handmade_server.py.
    HandMade(&'static str),
}

impl ServerKind {
    /// The programs that others wrote, and that log what they are told.
    pub const ALL: [ServerKind; 3] = [ServerKind::Vsftpd, ServerKind::Pyftpdlib, ServerKind::Proftpd];
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerKind::Vsftpd => "vsftpd",
            ServerKind::VsftpdTls => "vsftpd with TLS",
            ServerKind::Pyftpdlib => "pyftpdlib",
            ServerKind::Proftpd => "ProFTPD",
            ServerKind::PureFtpd => "Pure-FTPd",
            ServerKind::HandMade(style) => return write!(f, "hand-made server ({style})"),
        })
    }
}

/// A running server. All refuse, as they come, a PORT for another address than the client's and data
/// connections from elsewhere.
#[derive(Debug)]
pub struct Server {
    pub kind: ServerKind,
    pub port: u16,
    /// What clients see as `/`: `pub` to read, `up` to write.
    pub root: PathBuf,
    log: PathBuf,
    process: Process,
}

/// A command as a server logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The control connection's other end, as the server sees it.
    pub peer: IpAddr,
    /// The line.
    pub line: String,
}

impl Server {
    /// Starts one on `host`, for IPv4 or IPv6, with hard links to `files` in its `pub`.
    pub fn start(
        host: &Host,
        dir: &Path,
        files: &Path,
        kind: ServerKind,
        v6: bool,
        port: u16,
    ) -> Result<Server> {
        let root = dir.join("root");
        fs::create_dir_all(root.join("pub"))?;
        for file in fs::read_dir(files)? {
            let file = file?;
            fs::hard_link(file.path(), root.join("pub").join(file.file_name()))?;
        }
        fs::create_dir(root.join("up"))?;
        fs::set_permissions(root.join("up"), fs::Permissions::from_mode(0o777))?;

        let log = dir.join("commands.log");
        let output = dir.join("server.log");
        let config = dir.join("server.conf");
        let process = match kind {
            ServerKind::Vsftpd => {
                fs::write(&config, vsftpd_config(dir, &root, &log, v6, port))?;
                host.spawn(&output, "vsftpd", [&config])?
            }
            ServerKind::VsftpdTls => {
                fs::write(&config, vsftpd_config(dir, &root, &log, v6, port) + &tls_config(host, dir)?)?;
                host.spawn(&output, "vsftpd", [&config])?
            }
            ServerKind::HandMade(style) => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/handmade_server.py");
                let address = if v6 { "::" } else { "0.0.0.0" };
                let root = root.to_str().context("path is not UTF-8")?;
                host.spawn(&log, "/usr/bin/python3", [script, address, &port.to_string(), root, style])?
            }
            ServerKind::Pyftpdlib => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/pyftpdlib_server.py");
                let address = if v6 { "::" } else { "0.0.0.0" };
                let root = root.to_str().context("path is not UTF-8")?;
                host.spawn(&log, "/usr/bin/python3", [script, address, &port.to_string(), root])?
            }
            ServerKind::Proftpd => {
                let program = unpacked("proftpd-core", "proftpd")?;
                let tools = Path::new(&program).ancestors().nth(2).context("no directory")?;
                fs::write(&config, proftpd_config(dir, tools, &root, &log, v6, port))?;
                let config = config.to_str().context("path is not UTF-8")?;
                host.spawn(&output, &program, ["-n", "-q", "-c", config])?
            }
            ServerKind::PureFtpd => {
                let program = unpacked("pure-ftpd", "pure-ftpd")?;
                // Anonymous users are in the home of the user "ftp", of which this program alone sees another: each has a mount
                // namespace of its own.
                let line = r#"mount --bind "$1" ~ftp && shift && exec "$@""#;
                let root = root.to_str().context("path is not UTF-8")?;
                let (family, port) = (if v6 { "-6" } else { "-4" }, port.to_string());
                let pid_file = dir.join("pure-ftpd.pid");
                let pid_file = pid_file.to_str().context("path is not UTF-8")?;
                let server = [&program, family, "-S", &port, "-e", "-H", "-g", pid_file];
                host.spawn(&output, "sh", ["-c", line, "sh", root].into_iter().chain(server))?
            }
        };
        let server = Server { kind, port, root, log, process };
        host.wait_for_port(port, Duration::from_secs(10))
            .with_context(|| format!("{kind} does not start: {}", server.process.log()))?;
        Ok(server)
    }

    /// All commands that it has logged.
    pub fn commands(&self) -> Vec<Command> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().filter_map(|line| self.command(line)).collect()
    }

    /// The command in one line of its log.
    fn command(&self, line: &str) -> Option<Command> {
        let (peer, line) = match self.kind {
            // Sat Nov 21 10:00:00 2026 [pid 7] [ftp] FTP command: Client "10.0.0.2", "PASV"
            ServerKind::Vsftpd | ServerKind::VsftpdTls => {
                let (peer, line) = line.split_once("FTP command: Client \"")?.1.split_once("\", \"")?;
                (peer, line.strip_suffix('"')?)
            }
            // 10.0.0.2:40000-[anonymous] <- PASV
            ServerKind::Pyftpdlib => {
                let (peer, rest) = line.split_once("-[")?;
                (peer.rsplit_once(':')?.0, rest.split_once("] <- ")?.1)
            }
            // 10.0.0.2 PASV
            ServerKind::Proftpd | ServerKind::HandMade(_) => line.split_once(' ')?,
            ServerKind::PureFtpd => return None,
        };
        let peer = peer.trim_start_matches("::ffff:").parse().ok()?;
        Some(Command { peer, line: line.to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let tail = |text: &str| text.lines().rev().take(60).map(str::to_owned).collect::<Vec<_>>();
        let log = fs::read(&self.log).unwrap_or_default();
        println!("--- {} on port {} (the last lines) ---\n{}", self.kind, self.port, self.process.log());
        for line in tail(&String::from_utf8_lossy(&log)).iter().rev() {
            println!("{line}");
        }
    }
}

/// A server that scripts/unpack-package has unpacked: installed, two exclude each other.
fn unpacked(package: &str, program: &str) -> Result<String> {
    let path = format!("{}/target/test-tools/usr/sbin/{program}", env!("CARGO_MANIFEST_DIR"));
    ensure!(
        Path::new(&path).exists(),
        "{program} is not there: run scripts/unpack-package {package} usr/sbin/{program}"
    );
    Ok(path)
}

fn vsftpd_config(dir: &Path, root: &Path, log: &Path, v6: bool, port: u16) -> String {
    let (dir, root, log) = (dir.display(), root.display(), log.display());
    let [v4, v6] = if v6 { ["NO", "YES"] } else { ["YES", "NO"] };
    format!(
        "background=NO
listen={v4}
listen_ipv6={v6}
listen_port={port}
anonymous_enable=YES
no_anon_password=YES
ftp_username=daemon
nopriv_user=nobody
anon_root={root}
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_umask=022
secure_chroot_dir={dir}
connect_from_port_20=YES
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
log_ftp_protocol=YES
xferlog_enable=YES
xferlog_std_format=NO
vsftpd_log_file={log}
"
    )
}

/// A certificate, and what makes vsftpd use it.
fn tls_config(host: &Host, dir: &Path) -> Result<String> {
    let (key, certificate) = (dir.join("key").display().to_string(), dir.join("cert").display().to_string());
    let request = ["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=server"];
    let files = ["-keyout", &key, "-out", &certificate];
    host.run("openssl", request.iter().chain(&files))?.success()?;
    Ok(format!(
        "ssl_enable=YES
allow_anon_ssl=YES
force_local_logins_ssl=NO
force_local_data_ssl=NO
ssl_ciphers=HIGH
require_ssl_reuse=NO
rsa_cert_file={certificate}
rsa_private_key_file={key}
"
    ))
}

fn proftpd_config(dir: &Path, tools: &Path, root: &Path, log: &Path, v6: bool, port: u16) -> String {
    let modules = tools.join("lib/proftpd");
    // Built in on Debian 12, and not on 13.
    let shared =
        ["mod_delay", "mod_ls", "mod_xfer"].iter().filter(|name| modules.join(format!("{name}.so")).exists());
    let load: String = shared.map(|name| format!("LoadModule {name}.c\n")).collect();
    let modules = modules.display();
    let (dir, root, log) = (dir.display(), root.display(), log.display());
    let (v6, address) = if v6 { ("on", "::") } else { ("off", "0.0.0.0") };
    format!(
        "ServerName test
ServerType standalone
DefaultServer on
UseIPv6 {v6}
DefaultAddress {address}
Port {port}
ModulePath {modules}
{load}
User nobody
Group nogroup
PidFile {dir}/proftpd.pid
ScoreboardFile {dir}/proftpd.scoreboard
ControlsEngine off
DelayEngine off
UseReverseDNS off
UseFtpUsers off
RequireValidShell off
AuthPAM off
WtmpLog off
TransferLog none
SystemLog {dir}/proftpd.system.log
LogFormat commands \"%a %r\"
ExtendedLog {log} ALL commands
AllowOverwrite on
<Anonymous {root}>
  User nobody
  Group nogroup
  UserAlias anonymous nobody
</Anonymous>
"
    )
}
