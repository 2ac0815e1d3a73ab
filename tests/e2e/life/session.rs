//! A session that a test leads step by step (peers/stepped_client.py).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netlab::patient;

use crate::harness::{Net, Server};

/// How long a step may take: the script gives up before.
const LIMIT: Duration = Duration::from_secs(40);

/// A client that is logged in and waits for the next step.
pub struct Session {
    child: Child,
    steps: ChildStdin,
    answers: Receiver<String>,
}

impl Session {
    /// Connects and logs in.
    pub fn open(net: &Net, server: &Server) -> Result<Session> {
        Self::from(net, server, &[])
    }

    /// The same, from one of the client's addresses, empty for any, and perhaps from a port.
    pub fn from(net: &Net, server: &Server, source: &[&str]) -> Result<Session> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/stepped_client.py");
        let dialled = net.dialled(server);
        let (address, port) = (dialled.ip().to_string(), dialled.port().to_string());
        let small = net.files.join("small").display().to_string();
        let args = [script, &address, &port, &small].into_iter().chain(source.iter().copied());
        let mut child = net
            .client()
            .command("/usr/bin/python3", args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        let steps = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let session = Session { child, steps, answers };
        session.hear().context("logging in")?;
        Ok(session)
    }

    /// Starts a step.
    pub fn begin(&mut self, step: &str) -> Result<()> {
        writeln!(self.steps, "{step}").with_context(|| format!("the client has ended before {step}"))
    }

    /// Waits for a step's end. Returns what came of it.
    pub fn hear(&self) -> Result<String> {
        let answer = self.answers.recv_timeout(patient(LIMIT)).context("the client does not answer")?;
        match answer.strip_prefix("ok") {
            Some(what) => Ok(what.trim().to_owned()),
            None => bail!("{answer}"),
        }
    }

    /// Whether the step that was begun has come to its end.
    pub fn has_answered(&self) -> Result<bool> {
        match self.answers.try_recv() {
            Ok(answer) if answer.starts_with("ok") => Ok(true),
            Ok(answer) => bail!("{answer}"),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => bail!("the client has ended"),
        }
    }

    /// Makes a step.
    pub fn step(&mut self, step: &str) -> Result<String> {
        self.begin(step)?;
        self.hear().with_context(|| format!("step: {step}"))
    }

    /// Checks that the step that was begun does not come to its end for a while.
    pub fn waits(&self) -> Result<()> {
        match self.answers.recv_timeout(Duration::from_millis(400)) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            other => bail!("{other:?} instead of a pause"),
        }
    }

    /// Fetches the file in every mode that this net has.
    pub fn fetch_in_all_modes(&mut self) -> Result<()> {
        self.step("fetch PORT,PASV,EPRT,EPSV 4").map(drop)
    }

    /// QUIT.
    pub fn quit(mut self) -> Result<()> {
        let goodbye = self.step("say QUIT")?;
        ensure!(goodbye.starts_with("221"), "{goodbye}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
