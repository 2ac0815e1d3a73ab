//! Starts that cannot succeed, and the talk with systemd.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::{Host, Lab, Output, Signal};

use super::hang::stop;
use super::{Session, ruleset, wait_until};
use crate::harness::{ServerKind, Setup, Topology, configuration};

const FTPALG: &str = env!("CARGO_BIN_EXE_ftpalg");
const LIMIT: Duration = Duration::from_secs(5);

/// A host of its own with a configuration file.
fn host(settings: &str) -> Result<(Lab, Host, String)> {
    let lab = Lab::new()?;
    let host = lab.host("router")?;
    let config = write(&host, lab.dir(), "ftpalg.toml", settings)?;
    Ok((lab, host, config))
}

fn write(host: &Host, dir: &Path, name: &str, settings: &str) -> Result<String> {
    let path = dir.join(name);
    fs::write(&path, configuration(host, dir, settings, &["forward"]))?;
    Ok(path.to_str().context("not UTF-8")?.to_owned())
}

/// Starts it and checks that it refuses, with this exit code, and says all of this on standard error.
fn refuses(host: &Host, wrapper: &[&str], config: &str, code: i32, says: &[&str]) -> Result<Output> {
    refuses_as(FTPALG, host, wrapper, config, code, says)
}

/// The same, with a copy of the program.
fn refuses_as(
    program: &str,
    host: &Host,
    wrapper: &[&str],
    config: &str,
    code: i32,
    says: &[&str],
) -> Result<Output> {
    let line = [wrapper, &[program, "run", "--config", config]].concat();
    let output = host.run_within(LIMIT, line[0], &line[1..])?;
    ensure!(output.status.code() == Some(code), "{}: {}", output.status, output.stderr);
    for text in says {
        ensure!(output.stderr.contains(text), "{text:?} is not in: {}", output.stderr);
    }
    Ok(output)
}

#[test]
fn without_rights_it_says_which() -> Result<()> {
    let (lab, host, config) = host("")?;
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755))?;
    // Nobody may be unable to reach the program where it was built.
    let program = lab.dir().join("ftpalg");
    fs::copy(FTPALG, &program)?;
    let program = program.to_str().context("not UTF-8")?;
    let mend = "run as root or with CAP_NET_ADMIN";
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    refuses_as(program, &host, &nobody, &config, 77, &[mend])?;
    let no_capabilities = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    refuses_as(program, &host, &no_capabilities, &config, 77, &[mend])?;
    // All capabilities, over a namespace of its own.
    let elsewhere = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-U", "-r"];
    refuses_as(program, &host, &elsewhere, &config, 77, &[mend])?;
    Ok(())
}

#[test]
fn an_unprivileged_user_with_the_one_capability_can_run_it() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    net.daemon().0.process.terminate(LIMIT)?;
    fs::set_permissions(net.lab.dir(), fs::Permissions::from_mode(0o777))?;
    let state = net.lab.dir().join("router.state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777))?;
    for file in fs::read_dir(&state)? {
        fs::remove_file(file?.path())?;
    }
    let config = net.daemons[0].config.clone();
    let line = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
        FTPALG,
        "run",
        "--config",
        config.to_str().context("not UTF-8")?,
    ];
    let mut process = net.router().spawn(&net.lab.dir().join("nobody.log"), "setpriv", line)?;
    process.wait_for_log("ready", LIMIT)?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;

    // It may not read the list of queues, and knows all the same that packets wait.
    let stopper = stop(&net, &process, 0)?;
    session.begin("fetch PASV 1")?;
    let waiting = || -> Result<u64> {
        let config = config.to_str().context("not UTF-8")?;
        let text = net.router().run(FTPALG, ["status", "--json", "--config", config])?.success()?.stdout;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        status["workers"][0]["waiting"].as_u64().with_context(|| format!("it does not know: {text}"))
    };
    wait_until("a packet waits", || Ok(waiting()? > 0))?;
    drop(stopper);
    session.hear()?;
    wait_until("none waits", || Ok(waiting()? == 0))?;
    session.quit()?;
    process.terminate(LIMIT)?;
    net.finish()
}

#[test]
fn a_configuration_error_names_its_place() -> Result<()> {
    let (_lab, host, config) = host("queue = 70000")?;
    refuses(&host, &[], &config, 78, &["ftpalg.toml:4:9: queue: ", "0 to 65535"])?;
    let missing = format!("{config}.missing");
    refuses(&host, &[], &missing, 78, &["ftpalg.toml.missing: no such file"])?;
    // Where nobody can be told.
    refuses(&host, &["sh", "-c", "exec \"$0\" \"$@\" 2> /dev/full"], &config, 78, &[])?;
    Ok(())
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() -> Result<()> {
    let (lab, host, config) = host("")?;
    let state = lab.dir().join("router.state");
    fs::write(&state, "a file")?;
    refuses(&host, &[], &config, 1, &["router.state: ", "state-dir"])?;
    fs::remove_file(&state)?;
    fs::write(lab.dir().join("other.toml"), "state-dir = \"/proc/nothing/here\"\n")?;
    let other = lab.dir().join("other.toml");
    refuses(&host, &[], other.to_str().context("not UTF-8")?, 1, &["/proc/nothing/here: ", "state-dir"])?;
    ensure!(ruleset(&host)?.is_empty(), "something was loaded");
    Ok(())
}

/// The first goes on, with its table untouched, and its session.
#[test]
fn a_second_ftpalg_does_no_harm_to_the_first() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.step("fetch PORT")?;
    let (daemon, router) = net.daemon();
    let config = daemon.config.to_str().context("not UTF-8")?.to_owned();
    refuses(router, &[], &config, 1, &["router.state: another ftpalg uses this directory"])?;
    let second = |name: &str, queue: &str| -> Result<String> {
        let path = net.lab.dir().join(name);
        let text = fs::read_to_string(&config)?.replace("router.state", "second.state");
        fs::write(&path, format!("{queue}\n{text}"))?;
        Ok(path.to_str().context("not UTF-8")?.to_owned())
    };
    let says = ["queue 2121 is read by ", "`queue`"];
    refuses(net.router(), &[], &second("second.toml", "")?, 1, &says)?;
    ensure!(!net.daemons[0].log().contains("is back"), "the first one's table was touched");
    let says = ["another ftpalg serves this network namespace (table inet ftpalg_hold"];
    refuses(net.router(), &[], &second("third.toml", "queue = 2200")?, 1, &says)?;
    ensure!(!net.daemons[0].log().contains("is back"), "the first one's table was touched");
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

#[test]
fn a_queue_that_another_program_reads_is_told() -> Result<()> {
    let (lab, host, config) = host("workers = 2")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/peers/queue_holder.py");
    let mut holder = host.spawn(&lab.dir().join("holder.log"), "/usr/bin/python3", [script, "2122"])?;
    holder.wait_for_log("bound", LIMIT)?;
    let pid = holder.id().to_string();
    refuses(&host, &[], &config, 1, &["queue 2122 is read by python3 (process ", &pid])?;
    ensure!(ruleset(&host)?.is_empty(), "something was loaded");
    Ok(())
}

#[test]
fn the_accept_rule_goes_into_a_chain_that_comes_later() -> Result<()> {
    let (lab, host, config) = host("")?;
    let mut process = host.spawn(&lab.dir().join("log"), FTPALG, ["run", "--config", &config])?;
    process.wait_for_log("ready", LIMIT)?;
    ensure!(process.log().contains("accept-in: there is no chain \"inet filter forward\""), "no warning");
    host.nft(
        "table inet filter { chain forward { type filter hook forward priority filter; policy drop; }; }",
    )?;
    wait_until("the rule is there", || Ok(ruleset(&host)?.contains("negotiated FTP")))?;
    process.terminate(LIMIT)?;
    ensure!(!ruleset(&host)?.contains("FTP"), "something is left");
    Ok(())
}

#[test]
fn systemd_is_told() -> Result<()> {
    let (lab, host, config) = host("")?;
    let path = lab.dir().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let hear = |what: &str| -> Result<()> {
        let mut buffer = [0; 512];
        loop {
            // With a time-out, recv(2) is not taken up again after a signal (signal(7)).
            let length = match socket.recv(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received.with_context(|| format!("no {what}"))?,
            };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == what) {
                return Ok(());
            }
            ensure!(text.contains("WATCHDOG=1"), "{text} instead of {what}");
        }
    };
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let line = [&notify, FTPALG, "run", "--config", &config];
    let mut process = host.spawn(&lab.dir().join("log"), "env", line)?;
    hear("FDSTORE=1")?;
    hear("READY=1")?;
    hear("WATCHDOG=1")?;
    process.signal(Signal::SIGHUP)?;
    hear("RELOADING=1")?;
    hear("READY=1")?;
    process.signal(Signal::SIGTERM)?;
    hear("STOPPING=1")?;
    ensure!(process.wait(LIMIT)?.success(), "{}", process.log());
    Ok(())
}
