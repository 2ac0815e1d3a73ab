//! Those who ask: who may, and that none of them holds up packets or keeps others from asking.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{document, ran, session, status};
use crate::harness::{Net, ServerKind, Setup, Topology};
use crate::life::{Session, wait_until};

/// Who is nobody (Debian's nobody and nogroup).
const NOBODY: u32 = 65534;

/// Connects as nobody, in one more group, and tells what comes of it.
const KNOCK: &str = "
import os, socket, sys
os.setgroups([int(group) for group in sys.argv[2:]])
os.setgid(65534)
os.setuid(65534)
knock = socket.socket(socket.AF_UNIX)
try:
    knock.connect(sys.argv[1])
    knock.sendall(b'status\\n')
    print(knock.makefile('rb').read(12))
except PermissionError:
    print('no permission')
";

#[test]
fn only_root_and_the_group_may_ask() -> Result<()> {
    let net = Setup::new(Topology::Firewall).build()?;
    let socket = net.daemons[0].control_socket();
    let file = fs::metadata(&socket)?;
    ensure!(file.mode() & 0o7777 == 0o660, "mode {:o}", file.mode());
    // What the directories on the way allow is another matter, which the unit decides.
    fs::set_permissions(net.lab.dir(), Permissions::from_mode(0o755))?;
    let knock = |groups: &[&str]| -> Result<String> {
        let path = socket.display().to_string();
        let args = ["-c", KNOCK, &path].into_iter().chain(groups.iter().copied());
        Ok(net.router().run("/usr/bin/python3", args)?.success()?.stdout)
    };
    ensure!(knock(&[])?.trim() == "no permission", "a stranger: {}", knock(&[])?);
    let group = file.gid().to_string();
    ensure!(knock(&[&group])?.contains(r#"{"version":1"#), "a member of the group: {}", knock(&[&group])?);

    // Root itself, without the right to pass by files' modes.
    chown(&socket, Some(NOBODY), Some(NOBODY))?;
    let program = net.daemons[0].program.display().to_string();
    let socket = socket.display().to_string();
    let ask = ["--bounding-set", "-all", &program, "status", "--socket", &socket];
    let (code, text) = ran(&mut net.router().command("setpriv", ask))?;
    ensure!(
        code == Some(77) && text.contains("no permission") && text.contains("group nogroup"),
        "{code:?}: {text}"
    );
    net.finish()
}

#[test]
fn whoever_asks_badly_harms_nobody() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut client = Session::open(&net, &server)?;
    let socket = net.daemons[0].control_socket();
    let threads = || threads_of(&net);
    let before = threads()?;
    let connect = || UnixStream::connect(&socket).context("the socket");

    let silent = (0..12).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    let mut rude = connect()?;
    // It may be refused before all of it is there.
    rude.write_all(&vec![b'x'; 1 << 20]).ok();
    let mut deaf = connect()?;
    deaf.write_all(b"status\n")?;
    client.step("fetch PORT,PASV,EPRT,EPSV 8")?;
    ensure!(threads()? <= before + 16, "{} threads", threads()?);
    // However many there are, they are not served for long.
    wait_until("others are served again", || Ok(status(&net, &[])?.status.success()))?;
    drop((silent, rude, deaf));

    let mut strange = connect()?;
    strange.write_all(b"GET / HTTP/1.1\n")?;
    let mut answer = String::new();
    strange.read_to_string(&mut answer)?;
    ensure!(answer == "{\"error\":\"the request is not known to this version\",\"version\":1}\n", "{answer}");
    let mut whole = connect()?;
    whole.write_all(b"sta")?;
    std::thread::sleep(Duration::from_millis(50));
    whole.write_all(b"tus\r\n")?;
    answer.clear();
    whole.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("{\"version\":1,") && answer.ends_with("]}\n"), "in two pieces: {answer}");
    wait_until("their threads are gone", || Ok(threads()? == before))?;
    client.quit()?;
    net.finish()
}

fn threads_of(net: &Net) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/task", net.daemons[0].process.id()))?.count())
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_that_is_deleted_comes_back() -> Result<()> {
    let mut net = Setup::new(Topology::Firewall).build()?;
    let socket = net.daemons[0].control_socket();
    let (daemon, router) = net.daemon();
    daemon.kill()?;
    ensure!(fs::metadata(&socket).is_ok(), "a daemon that is killed leaves it behind");
    let failed = |net: &Net| -> Result<()> {
        let output = status(net, &[])?;
        ensure!(output.status.code() == Some(1), "{}", output.status);
        ensure!(output.stderr.contains("no daemon answers at") && output.stderr.contains("systemctl start"));
        Ok(())
    };
    daemon.start_again(router)?;
    document(&net)?;
    fs::remove_file(&socket)?;
    wait_until("it is back", || Ok(status(&net, &[])?.status.success()))?;

    // Somebody else's is left alone, until it is nobody's any more.
    let elsewhere = socket.with_extension("other");
    let other = UnixListener::bind(&elsewhere)?;
    fs::rename(&elsewhere, &socket)?;
    let (daemon, router) = net.daemon();
    daemon.process.terminate(Duration::from_secs(10))?;
    ensure!(fs::metadata(&socket).is_ok(), "the other's socket");
    daemon.start_again(router)?;
    ensure!(daemon.log().contains("another ftpalg answers there"), "{}", daemon.log());
    drop(other);
    wait_until("it is the daemon's", || Ok(status(&net, &[])?.status.success()))?;

    let (daemon, _) = net.daemon();
    daemon.process.terminate(Duration::from_secs(10))?;
    ensure!(fs::metadata(&socket).is_err(), "one that ends takes it away");
    failed(&net)?;
    Ok(())
}

#[test]
fn another_place_for_the_socket_counts_from_the_next_start_on() -> Result<()> {
    let mut net = Setup::new(Topology::Firewall).build()?;
    let (daemon, _) = net.daemon();
    let elsewhere = daemon.config.with_extension("elsewhere");
    daemon.reload(&format!("control-socket = {elsewhere:?}"), "configuration read anew")?;
    ensure!(
        daemon.log().contains("changed, and in effect from the next start on: control-socket"),
        "{}",
        daemon.log()
    );
    ensure!(!elsewhere.exists());
    document(&net).map(drop)?;
    ensure!(session(&net).is_err(), "there is none");
    net.finish()
}
