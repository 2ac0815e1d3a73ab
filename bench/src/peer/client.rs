//! The load client: so many threads, each with one session at a time.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::line::{Control, host_port, six_numbers};

/// How long a session may hang before it counts as broken.
const LIMIT: Duration = Duration::from_secs(10);

/// Who opens the data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Mode {
    /// The server, to the port that PORT names.
    Port,
    /// The client, to the port that 227 names.
    Pasv,
}

/// What is done over and over, and timed each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Work {
    /// A whole session: login, a file, QUIT.
    Session,
    /// NOOP and its reply, in one session.
    Command,
    /// PORT or PASV and its reply, in one session: another pinhole each time.
    Pinhole,
    /// A file, in one session.
    Transfer,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// How often it was done in the time, by all threads together.
    pub times: usize,
    /// How long that was, in seconds.
    pub seconds: f64,
    /// How long one took, in microseconds: the median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// How many failed; they are none of `times`.
    pub failed: usize,
    /// What the first that failed says.
    pub failure: Option<String>,
}

impl Outcome {
    /// How often a second.
    pub fn rate(&self) -> f64 {
        self.times as f64 / self.seconds
    }
}

/// What is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// The server.
    #[arg(long)]
    pub server: SocketAddr,
    /// How many threads.
    #[arg(long)]
    pub clients: usize,
    /// For how long, in milliseconds.
    #[arg(long)]
    pub milliseconds: u64,
    /// Over and over.
    #[arg(long)]
    pub work: Work,
    /// Who opens data connections.
    #[arg(long)]
    pub mode: Mode,
    /// How long a file is, in bytes.
    #[arg(long)]
    pub file: usize,
}

/// Does it.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let is_over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let threads: Vec<_> = (0..plan.clients)
        .map(|_| {
            let (plan, is_over) = (plan.clone(), Arc::clone(&is_over));
            thread::spawn(move || Client::new(&plan)?.work(&plan, &is_over))
        })
        .collect();
    thread::sleep(Duration::from_millis(plan.milliseconds));
    is_over.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    let mut outcome = Outcome { seconds: start.elapsed().as_secs_f64(), ..Outcome::default() };
    for thread in threads {
        let tally = thread.join().map_err(|_| anyhow::anyhow!("a thread of the client is gone"))??;
        took.extend(tally.took);
        outcome.failed += tally.failed;
        outcome.failure = outcome.failure.or(tally.failure);
    }
    if took.is_empty() {
        bail!("nothing was done: {}", outcome.failure.unwrap_or_default());
    }
    took.sort_unstable();
    outcome.times = took.len();
    outcome.p50 = percentile(&took, 0.50);
    outcome.p99 = percentile(&took, 0.99);
    Ok(outcome)
}

/// In microseconds, of what is sorted.
fn percentile(sorted: &[Duration], part: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
}

/// What one thread has seen.
#[derive(Default)]
struct Tally {
    took: Vec<Duration>,
    failed: usize,
    failure: Option<String>,
}

struct Client {
    server: SocketAddr,
    mode: Mode,
    /// For data, where the server calls.
    listener: TcpListener,
    file: usize,
}

impl Client {
    fn new(plan: &Plan) -> Result<Client> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket2::SockRef::from(&listener).set_read_timeout(Some(LIMIT))?;
        Ok(Client { server: plan.server, mode: plan.mode, listener, file: plan.file })
    }

    fn work(&self, plan: &Plan, is_over: &AtomicBool) -> Result<Tally> {
        let mut tally = Tally::default();
        while !is_over.load(Ordering::Relaxed) && tally.failed < 3 {
            if let Err(error) = self.sessions(plan, is_over, &mut tally) {
                tally.failed += 1;
                tally.failure.get_or_insert(format!("{error:#}"));
            }
        }
        Ok(tally)
    }

    /// One session, or as many pieces of work in one session as there is time for.
    fn sessions(&self, plan: &Plan, is_over: &AtomicBool, tally: &mut Tally) -> Result<()> {
        let mut begun = Instant::now();
        let mut control = self.log_in()?;
        match plan.work {
            Work::Session => self.transfer(&mut control)?,
            work => {
                while !is_over.load(Ordering::Relaxed) {
                    begun = Instant::now();
                    match work {
                        Work::Command => drop(say(&mut control, b"NOOP\r\n", b"200")?),
                        Work::Pinhole => drop(self.negotiate(&mut control)?),
                        Work::Transfer | Work::Session => self.transfer(&mut control)?,
                    }
                    tally.took.push(begun.elapsed());
                }
            }
        }
        say(&mut control, b"QUIT\r\n", b"221")?;
        if plan.work == Work::Session {
            tally.took.push(begun.elapsed());
        }
        Ok(())
    }

    fn log_in(&self) -> Result<Control> {
        let stream = TcpStream::connect(self.server).context("the control connection")?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut control = Control::new(stream)?;
        control.expect(b"220")?;
        say(&mut control, b"USER anonymous\r\n", b"331")?;
        say(&mut control, b"PASS bench\r\n", b"230")?;
        Ok(control)
    }

    /// The server's port for data, where it is the server that listens.
    fn negotiate(&self, control: &mut Control) -> Result<Option<u16>> {
        match self.mode {
            Mode::Pasv => {
                let reply = say(control, b"PASV\r\n", b"227")?;
                Ok(Some(reply.get(4..).and_then(host_port).context("a 227 without a port")?))
            }
            Mode::Port => {
                let SocketAddr::V4(own) = control.stream().local_addr()? else { bail!("IPv4 alone") };
                let numbers = six_numbers(*own.ip(), self.listener.local_addr()?.port());
                say(control, format!("PORT {numbers}\r\n").as_bytes(), b"200")?;
                Ok(None)
            }
        }
    }

    fn transfer(&self, control: &mut Control) -> Result<()> {
        let port = self.negotiate(control)?;
        let made = port
            .map(|port| TcpStream::connect((self.server.ip(), port)).context("the data connection"))
            .transpose()?;
        say(control, format!("RETR {}\r\n", self.file).as_bytes(), b"150")?;
        let stream = match made {
            Some(stream) => stream,
            None => self.listener.accept().context("waiting for the server to call")?.0,
        };
        receive(stream, self.file)?;
        control.expect(b"226").map(drop)
    }
}

fn say<'a>(control: &'a mut Control, line: &[u8], code: &[u8]) -> Result<&'a [u8]> {
    control.send(line)?;
    control.expect(code).with_context(|| format!("after {}", line.escape_ascii()))
}

fn receive(mut stream: TcpStream, length: usize) -> Result<()> {
    let mut buffer = vec![0; length.clamp(1, 1 << 18)];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).context("receiving the file")? {
            0 if received == length => return Ok(()),
            0 => bail!("{received} bytes of {length}"),
            more => received += more,
        }
    }
}
