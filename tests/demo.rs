//! `ftpalg demo` as its user sees it. Needs root.

#![cfg(test)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A demo in a process group of its own, as a shell would start it.
struct Demo {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Demo {
    fn start() -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ftpalg"))
            .arg("demo")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Demo { child, output }
    }

    fn read_until(&mut self, what: &str) {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the demo ended before it said {what:?}"
            );
        }
    }

    /// Waits for its end; its exit status, the rest of its output, and what it said on standard error.
    #[track_caller]
    fn end(mut self) -> (ExitStatus, String, String) {
        let [mut output, mut errors] = [String::new(), String::new()];
        self.output.read_to_string(&mut output).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = self.child.wait().unwrap();
        nothing_is_left(self.child.id());
        (status, output, errors)
    }
}

/// Every namespace, file and command line of a demo has its process id in it.
#[track_caller]
fn nothing_is_left(pid: u32) {
    let name = format!("netlab.{pid}.");
    for dir in [Path::new("/run/netns"), &std::env::temp_dir()] {
        let entries =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left = entries.filter(|entry| entry.starts_with(&name)).collect::<Vec<_>>();
        assert!(left.is_empty(), "left in {}: {left:?}", dir.display());
    }
    for process in fs::read_dir("/proc").unwrap() {
        let command = fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        assert!(!command.contains(&name), "still runs: {command}");
    }
}

#[test]
fn it_goes_as_it_should_and_leaves_nothing_behind() {
    let start = Instant::now();
    let (status, output, errors) = Demo::start().end();
    assert!(status.success(), "{status}\n{output}\n{errors}");
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    assert!(!output.contains('\x1b'), "colours in a pipe");
    let wide = output.lines().find(|line| line.chars().count() > 100);
    assert_eq!(wide, None, "wider than 100 columns");

    let [without, with] = output.split_once("2. With ftpalg").map(<[&str; 2]>::from).unwrap();
    assert_eq!((without.matches("✗ no file").count(), without.matches("✓").count()), (2, 0), "{without}");
    assert_eq!(
        (with.matches("✗").count(), with.matches("is the same at both ends").count()),
        (0, 2),
        "{with}"
    );
    assert_eq!(with.matches("pinhole opens").count(), 2);
    assert_eq!(with.matches("pinhole closed").count(), 2);
    let port = with.lines().find(|line| line.contains("PORT 192,168,100,2,")).unwrap();
    assert!(port.contains("→ PORT 203,0,113,7,"), "{port}");
    assert!(output.trim_end().lines().last().unwrap().starts_with('✓'), "{output}");
}

/// Ctrl-C at a terminal reaches the demo's programs as well, `kill` the demo alone.
#[test]
fn an_interrupted_one_leaves_nothing_behind() {
    for (signal, alone, moment) in [
        (Signal::SIGINT, false, "passive mode"),
        (Signal::SIGINT, false, "ftpalg run"),
        (Signal::SIGTERM, true, "passive mode"),
    ] {
        let mut demo = Demo::start();
        demo.read_until(moment);
        let pid = Pid::from_raw(demo.child.id().try_into().unwrap());
        if alone { kill(pid, signal) } else { killpg(pid, signal) }.unwrap();
        let (status, _, errors) = demo.end();
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.contains("interrupted"), "{errors}");
    }
}

#[test]
fn one_that_nobody_reads_leaves_nothing_behind() {
    let mut demo = Demo::start();
    demo.read_until("1. Without");
    let Demo { child, output } = demo;
    drop(output);
    let pid = child.id();
    let ended = child.wait_with_output().unwrap();
    nothing_is_left(pid);
    assert_eq!((ended.status.code(), ended.stderr), (Some(1), vec![]));
}

#[test]
fn what_is_missing_is_named() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ftpalg")).arg("demo").env("PATH", "/nowhere").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors.contains("vsftpd") && errors.contains("apt install") && errors.contains("make demo"),
        "{errors}"
    );
}
