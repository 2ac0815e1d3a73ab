//! The control socket: whoever may open it is told how the daemon is.
//!
//! None of this can hold up packets: an engine is locked for a few sessions at a time, and nobody's reading or not
//! reading is waited for while anything is locked. Clients are few at a time, and none has long.

mod portrait;
mod report;
mod socket;

use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use tracing::{debug, error, info};

use super::shared::lock;
use crate::status::document::{REQUEST, VERSION};
pub use portrait::portrait;
pub use report::Reporter;
use socket::Socket;

/// How many clients are served at once, each by a thread.
const MAX_CLIENTS: usize = 16;

/// How many of these may be one user's other than root's: nobody keeps the administrator out.
const MAX_OF_USER: usize = 4;

/// How long a client may take to say what it wants.
const ASKING: Duration = Duration::from_secs(2);

/// How long it may take to read the answer.
const READING: Duration = Duration::from_secs(20);

/// How often it is looked whether the socket is still in its place, or can be had by now.
const LOOK: Duration = Duration::from_secs(1);

/// The least time between two clients: who asks again and again gets no more of the processor than this leaves.
const PAUSE: Duration = Duration::from_millis(5);

/// Stacks of the threads, which do little.
const STACK: usize = 256 * 1024;

/// The socket, as long as this lives.
pub struct Control(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    socket: Option<Socket>,
    /// The daemon ends: it is not to be opened again.
    has_ended: bool,
}

impl Control {
    /// Opens the socket and serves it from a thread of its own. Where that fails the daemon does its work all the same:
    /// it is logged, and tried again.
    pub fn start(path: &Path, reporter: Reporter) -> io::Result<Control> {
        let socket =
            Socket::open(path).inspect_err(|error| error!("`ftpalg status` will not work: {error}")).ok();
        let held = Arc::new(Mutex::new(Held { socket, has_ended: false }));
        let server = Server {
            path: path.to_owned(),
            held: Arc::clone(&held),
            reporter: Arc::new(reporter),
            clients: Arc::default(),
        };
        thread::Builder::new().name("control".into()).spawn(move || server.run())?;
        Ok(Control(held))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        *lock(&self.0) = Held { socket: None, has_ended: true };
    }
}

struct Server {
    path: PathBuf,
    held: Arc<Mutex<Held>>,
    reporter: Arc<Reporter>,
    /// The users of the clients that are being served.
    clients: Arc<Mutex<Vec<u32>>>,
}

impl Server {
    fn run(self) {
        loop {
            let Some(listener) = self.listener() else {
                thread::sleep(LOOK);
                continue;
            };
            match listener.accept() {
                Ok((client, _)) => {
                    self.serve(client);
                    thread::sleep(PAUSE);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    debug!("no client can be served: {error}");
                    thread::sleep(LOOK);
                }
            }
        }
    }

    /// The socket, opened anew if it is gone.
    fn listener(&self) -> Option<UnixListener> {
        let mut held = lock(&self.held);
        if !held.has_ended && held.socket.as_ref().is_none_or(|socket| !socket.is_in_place()) {
            held.socket = Socket::open(&self.path).inspect_err(|error| debug!("{error}")).ok();
            if held.socket.is_some() {
                info!("`ftpalg status` works again: {} is there", self.path.display());
            }
        }
        held.socket.as_ref().and_then(|socket| socket.listener(LOOK).ok())
    }

    fn serve(&self, client: UnixStream) {
        let user = match socket_peercred(&client) {
            Ok(peer) => peer.uid.as_raw(),
            Err(error) => return debug!("a client that can't be known is not served: {error}"),
        };
        let Some(place) = Place::take(&self.clients, user) else {
            refuse(&client, "too many clients are being served; try again");
            return;
        };
        let reporter = Arc::clone(&self.reporter);
        let thread = thread::Builder::new().name("status".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            let _place = place;
            if let Err(error) = answer(&client, &reporter) {
                debug!("a client of the user {user} got no whole answer: {error}");
            }
        });
        if let Err(error) = started {
            debug!("no client can be served: {error}");
        }
    }
}

/// A client's place among those that are served.
struct Place {
    clients: Arc<Mutex<Vec<u32>>>,
    user: u32,
}

impl Place {
    fn take(clients: &Arc<Mutex<Vec<u32>>>, user: u32) -> Option<Self> {
        let mut all = lock(clients);
        let own = all.iter().filter(|&&other| other == user).count();
        let is_free = all.len() < MAX_CLIENTS && (user == 0 || own < MAX_OF_USER);
        is_free.then(|| {
            all.push(user);
            Self { clients: Arc::clone(clients), user }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = lock(&self.clients);
        if let Some(index) = all.iter().position(|&user| user == self.user) {
            all.swap_remove(index);
        }
    }
}

/// One request, one answer.
fn answer(client: &UnixStream, reporter: &Reporter) -> io::Result<()> {
    let request = request(client)?;
    if request != REQUEST.as_bytes() {
        refuse(client, "the request is not known to this version");
        return Ok(());
    }
    let mut out = BufWriter::with_capacity(64 * 1024, Timed { client, until: Instant::now() + READING });
    reporter.write(&mut out)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The request's line, without its end.
fn request(client: &UnixStream) -> io::Result<Vec<u8>> {
    const LONGEST: usize = 64;
    let mut timed = Timed { client, until: Instant::now() + ASKING };
    let mut line = Vec::with_capacity(LONGEST);
    let mut buffer = [0; LONGEST];
    while line.len() < LONGEST {
        let room = buffer.get_mut(line.len()..).unwrap_or_default();
        let count = timed.read(room)?;
        line.extend_from_slice(room.get(..count).unwrap_or_default());
        if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
            line.truncate(end);
            return Ok(line.trim_ascii_end().to_vec());
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(line)
}

/// Tells a client why it gets nothing, if that can be done without waiting.
fn refuse(mut client: &UnixStream, why: &str) {
    let answer = format!("{}\n", serde_json::json!({ "version": VERSION, "error": why }));
    let told = client.set_nonblocking(true).and_then(|()| client.write_all(answer.as_bytes()));
    if let Err(error) = told {
        debug!("a client that gets nothing is not told why: {error}");
    }
}

/// A connection on which all must be done by a certain time, however slowly the other end goes on.
struct Timed<'a> {
    client: &'a UnixStream,
    until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.client.set_read_timeout(Some(self.left()?))?;
        Read::read(&mut self.client, buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.client.set_write_timeout(Some(self.left()?))?;
        Write::write(&mut self.client, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
