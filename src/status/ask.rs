//! Asks the daemon.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::document::{Document, REQUEST, VERSION};

/// How long the daemon may be silent. It answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

fn who_may(group: &str) -> String {
    match group {
        "root" => "only root may".to_owned(),
        _ => format!("only root and the group {group} may (usermod -aG {group} USER, and log in anew)"),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no daemon answers at {}: start it (systemctl start ftpalg), or name its configuration with --config",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// Not for this user.
    #[error("no permission to ask at {}: {}", path.display(), who_may(group))]
    Permission {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        group: String,
    },
    /// Something went wrong on the way.
    #[error("{}: {source}", path.display())]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
    /// The daemon refuses.
    #[error("the daemon does not answer: {0}")]
    Refused(String),
    /// One of the two was upgraded.
    #[error(
        "the daemon (ftpalg {daemon}) answers in version {theirs}, and this program (ftpalg {}) reads version \
         {VERSION}: restart the daemon (systemctl restart ftpalg), or use the program that belongs to it",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// The daemon's version.
        daemon: String,
        /// The document's.
        theirs: u64,
    },
    /// No daemon says that.
    #[error("{}: what answers there is no ftpalg: {source}", path.display())]
    Nonsense {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// What all versions of the answer have.
#[derive(Debug, Deserialize)]
struct Header {
    version: u64,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    daemon: Option<AnyDaemon>,
}

#[derive(Debug, Deserialize)]
struct AnyDaemon {
    version: String,
}

/// The daemon's answer, as it sent it.
pub fn ask(path: &Path) -> Result<String, AskError> {
    let failed = |source| AskError::Failed { path: path.to_owned(), source };
    let mut socket = UnixStream::connect(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning(path.to_owned()),
        io::ErrorKind::PermissionDenied => {
            AskError::Permission { path: path.to_owned(), group: group_of(path) }
        }
        _ => failed(source),
    })?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    // A daemon that has no time refuses before it has read this.
    let asked = socket.write_all(format!("{REQUEST}\n").as_bytes());
    let mut answer = String::new();
    let read = BufReader::with_capacity(64 * 1024, socket).read_to_string(&mut answer);
    if answer.is_empty() {
        asked.map_err(failed)?;
    }
    read.map_err(failed)?;
    match serde_json::from_str(&answer) {
        Err(source) => Err(AskError::Nonsense { path: path.to_owned(), source }),
        Ok(Header { error: Some(why), .. }) => Err(AskError::Refused(why)),
        Ok(Header { version, daemon, .. }) if version != u64::from(VERSION) => Err(AskError::Version {
            daemon: daemon.map_or_else(|| "of another version".to_owned(), |daemon| daemon.version),
            theirs: version,
        }),
        Ok(_) => Ok(answer),
    }
}

/// The same, read.
pub fn ask_and_read(path: &Path) -> Result<Document, AskError> {
    let answer = ask(path)?;
    serde_json::from_str(&answer).map_err(|source| AskError::Nonsense { path: path.to_owned(), source })
}

/// The group whose members may open the socket: its own, or where that can't be seen, its directory's.
fn group_of(path: &Path) -> String {
    let found = [Some(path), path.parent()].into_iter().flatten().find_map(|path| fs::metadata(path).ok());
    let Some(id) = found.map(|file| file.gid()) else { return "ftpalg".to_owned() };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    group_name(&groups, id).unwrap_or_else(|| id.to_string())
}

/// A group's name in a file as group(5) has it.
fn group_name(groups: &str, id: u32) -> Option<String> {
    let mut entries = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let id = id.to_string();
    entries.find_map(|entry| match *entry.as_slice() {
        [name, _, number, ..] if number == id => Some(name.to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What comes of an answer.
    fn answered(name: &str, answer: &'static str) -> Result<String, AskError> {
        let path = std::env::temp_dir().join(format!("ftpalg-ask-{}-{name}", std::process::id()));
        fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 7];
            client.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"status\n");
            client.write_all(answer.as_bytes()).unwrap();
        });
        let result = ask(&path);
        server.join().unwrap();
        fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        let error = answered("newer", r#"{"version":7,"daemon":{"version":"9.1","x":1}}"#).unwrap_err();
        assert!(matches!(&error, AskError::Version { daemon, theirs: 7 } if daemon == "9.1"), "{error:?}");
        assert!(error.to_string().contains("systemctl restart ftpalg"), "{error}");
        assert!(matches!(answered("html", "<html>"), Err(AskError::Nonsense { .. })));
        let refused = answered("refused", r#"{"version":1,"error":"too many"}"#).unwrap_err();
        assert_eq!(refused.to_string(), "the daemon does not answer: too many");
    }

    #[test]
    fn nobody_there() {
        for path in ["/nonexistent/control.sock", "/run/ftpalg-test-nobody.sock"] {
            assert!(matches!(ask(Path::new(path)), Err(AskError::NotRunning(_))));
        }
    }

    #[test]
    fn groups_have_names() {
        let groups = "root:x:0:\nftpalg:x:993:alice,bob\n";
        assert_eq!(group_name(groups, 993).as_deref(), Some("ftpalg"));
        assert_eq!(group_name(groups, 99), None);
    }
}
