//! The socket's file: who may open it, and whose it is.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// How many clients may wait until they are served.
const WAITING: i32 = 16;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon's.
    #[error("{}: another ftpalg answers there; give each its own `control-socket`", .0.display())]
    Taken(PathBuf),
    /// Something else, which is not taken away.
    #[error("{}: this is no socket; remove it, or name another place with `control-socket`", .0.display())]
    Occupied(PathBuf),
    /// The kernel refuses.
    #[error("{}: {source}; `control-socket` must name a place in a directory that ftpalg may write to", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The socket and its file, which goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl Socket {
    /// Makes it, in place of one that nobody listens on any more. Root, the daemon's user and its group may open it.
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let refused = |source| SocketError::Refused { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(refused)?;
        }
        clear_place(path)?;
        let listener = listen_on(path).map_err(|error| refused(error.into()))?;
        let identity = identity(path).map_err(refused)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// Whether nobody has taken its file away.
    pub fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// The listener, which waits for so long.
    pub fn listener(&self, patience: Duration) -> io::Result<UnixListener> {
        set_socket_timeout(&self.listener, Timeout::Recv, Some(patience))?;
        self.listener.try_clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_in_place() {
            // One that stays is replaced by the next daemon.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Takes away the socket of a daemon that was killed.
fn clear_place(path: &Path) -> Result<(), SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(SocketError::Occupied(path.to_owned())),
        Ok(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(|error| refused(error.into()))?;
    let probe = stream().map_err(|error| refused(error.into()))?;
    match connect(&probe, &address) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(refused),
        Err(Errno::NOENT) => Ok(()),
        // Full is not gone.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::Taken(path.to_owned())),
        Err(error) => Err(refused(error.into())),
    }
}

fn stream() -> rustix::io::Result<std::os::fd::OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// The file gets its mode from the socket's own and the umask (unix_bind_bsd): it is never there with another.
fn listen_on(path: &Path) -> rustix::io::Result<UnixListener> {
    let socket = stream()?;
    fchmod(&socket, Mode::from_raw_mode(0o660))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, WAITING)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(UnixListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Directory(PathBuf);
    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ftpalg-control-{}-{name}", std::process::id()));
            fs::remove_dir_all(&path).ok();
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("control.sock")
        }
    }
    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn only_user_and_group_may_open_it_and_it_goes_with_its_daemon() {
        let directory = Directory::new("mode");
        let socket = Socket::open(&directory.socket()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // The umask of whoever runs the tests may take rights away, and can't add any.
        assert_eq!(mode(&directory.socket()) & !0o660, 0);
        assert_eq!(mode(&directory.0) & !0o750, 0);
        assert!(socket.is_in_place());
        drop(socket);
        assert!(!directory.socket().exists());
    }

    #[test]
    fn the_socket_of_a_dead_daemon_is_replaced_and_a_live_one_is_not() {
        let directory = Directory::new("stale");
        let first = Socket::open(&directory.socket()).unwrap();
        assert!(matches!(Socket::open(&directory.socket()), Err(SocketError::Taken(_))));
        assert!(first.is_in_place());
        drop(first);
        drop(UnixListener::bind(directory.socket()).unwrap());
        assert!(UnixStream::connect(directory.socket()).is_err(), "nobody listens");
        let next = Socket::open(&directory.socket()).unwrap();
        assert!(next.is_in_place() && UnixStream::connect(directory.socket()).is_ok());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let directory = Directory::new("file");
        fs::create_dir_all(&directory.0).unwrap();
        fs::write(directory.socket(), "precious").unwrap();
        assert!(matches!(Socket::open(&directory.socket()), Err(SocketError::Occupied(_))));
        assert_eq!(fs::read_to_string(directory.socket()).unwrap(), "precious");
    }

    #[test]
    fn one_that_was_deleted_or_replaced_is_noticed() {
        let directory = Directory::new("deleted");
        let first = Socket::open(&directory.socket()).unwrap();
        fs::remove_file(directory.socket()).unwrap();
        assert!(!first.is_in_place());
        let second = Socket::open(&directory.socket()).unwrap();
        drop(first);
        assert!(second.is_in_place(), "it takes away only its own");
    }
}
