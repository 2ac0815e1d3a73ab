//! `ftpalg status --watch` on a terminal (tmux's).

use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netlab::patient;

use super::{ran, status};
use crate::harness::{Net, ServerKind, Setup, Topology};
use crate::life::Session;

/// A terminal of tmux's, with a shell in the router.
struct Terminal {
    server: String,
}

impl Terminal {
    fn open(net: &Net, term: &str) -> Result<Terminal> {
        let terminal = Terminal { server: format!("{}-{term}", net.router().namespace()) };
        let shell = ["ip", "netns", "exec", net.router().namespace(), "env", "PS1=ready> ", "sh"];
        let start =
            ["-f", "/dev/null", "start-server", ";", "set-option", "-g", "default-terminal", term, ";"];
        let new = ["new-session", "-d", "-x", "100", "-y", "30"];
        terminal.tmux(&[&start[..], &new, &shell].concat())?;
        terminal.shows("ready>")?;
        Ok(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.server]).args(args).env_remove("TMUX");
        let (code, text) = ran(&mut command)?;
        ensure!(code == Some(0), "tmux {args:?}: {text}");
        Ok(text)
    }

    fn keys(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen contains a text; returns the screen.
    fn shows(&self, text: &str) -> Result<String> {
        self.becomes(text, |screen| screen.contains(text))
    }

    fn becomes(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let limit = Instant::now() + patient(Duration::from_secs(20));
        loop {
            let screen = self.screen()?;
            if is_so(&screen) {
                return Ok(screen);
            }
            ensure!(Instant::now() < limit, "{what:?} is not on the screen:\n{screen}");
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone already.
        self.tmux(&["kill-server"]).ok();
    }
}

#[test]
fn it_shows_what_happens_and_gives_the_terminal_back() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let daemon = &net.daemons[0];
    let watch =
        format!("{} status --config {} --watch; stty -a", daemon.program.display(), daemon.config.display());
    for (number, term) in [(1, "screen-256color"), (2, "vt100")] {
        let terminal = Terminal::open(&net, term)?;
        let begin = |keys: &str| -> Result<()> {
            terminal.keys(&["clear", "Enter"])?;
            terminal.keys(&[keys, "Enter"])?;
            terminal.shows("Packets/s").map(drop)
        };
        // Whatever ends it, the shell can be used again, and the picture is gone.
        let is_given_back = || -> Result<()> {
            let screen = terminal.becomes("the shell's terminal", |screen| {
                screen.contains(" icanon ") && screen.contains(" echo ")
            })?;
            ensure!(!screen.contains("Packets/s") && !screen.contains("-icanon"), "{screen}");
            Ok(())
        };
        begin(&watch)?;
        let mut client = Session::open(&net, &server)?;
        client.step("fetch PASV 2")?;
        client.step("say PORT 192,0,2,1,8,1")?;
        terminal.becomes("the session, and what it was refused", |screen| {
            screen.contains(&format!("Sessions: {number}"))
                && screen.contains(" PORT ")
                && screen.contains("not the sender's own")
        })?;
        client.step("say EPSV")?;
        terminal.shows("open ")?;
        terminal.tmux(&["resize-window", "-x", "60", "-y", "16"])?;
        terminal.becomes("the smaller picture", |screen| {
            screen.contains("q quits") && screen.contains("anonymous") && !screen.contains("Packets/s")
        })?;
        terminal.tmux(&["resize-window", "-x", "120", "-y", "40"])?;
        terminal.shows("Packets/s")?;
        client.quit()?;
        terminal.keys(&["q"])?;
        is_given_back()?;

        begin(&watch)?;
        terminal.keys(&["C-c"])?;
        is_given_back()?;
    }
    net.finish()
}

#[test]
fn a_daemon_that_goes_and_comes_is_told_of_and_a_signal_gives_the_terminal_back() -> Result<()> {
    let mut net = Setup::new(Topology::Firewall).build()?;
    let daemon = &net.daemons[0];
    let terminal = Terminal::open(&net, "xterm-256color")?;
    let program = daemon.program.display();
    let watch =
        format!("{program} status --config {} --watch & echo $! > pid; fg; stty -a", daemon.config.display());
    let directory = net.lab.dir().display().to_string();
    terminal.keys(&[&format!("set -m; cd {directory}"), "Enter", &watch, "Enter"])?;
    terminal.shows("Packets/s")?;
    let (daemon, _) = net.daemon();
    daemon.kill()?;
    terminal.shows("OLD NEWS: no daemon answers")?;
    let (daemon, router) = net.daemon();
    daemon.start_again(router)?;
    terminal.becomes("news", |screen| !screen.contains("OLD NEWS") && screen.contains("ftpalg "))?;
    let pid: i32 = std::fs::read_to_string(net.lab.dir().join("pid"))?.trim().parse()?;
    net.router().signal(pid, netlab::Signal::SIGTERM)?;
    let screen = terminal.becomes("the shell's terminal", |screen| screen.contains(" icanon "))?;
    ensure!(!screen.contains("Packets/s") && screen.contains(" echo "), "{screen}");
    net.finish()
}

#[test]
fn without_a_terminal_it_says_what_to_do_instead() -> Result<()> {
    let net = Setup::new(Topology::Firewall).build()?;
    let output = status(&net, &["--watch"])?;
    ensure!(output.status.code() == Some(1) && output.stderr.contains("--json"), "{}", output.stderr);
    net.finish()
}
