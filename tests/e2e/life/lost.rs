//! Shifted sessions whose state is lost: both ends learn of it, and no byte passes untranslated.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Session, wait_until};
use crate::harness::{Net, Plan, Server, ServerKind, Setup, Topology};

/// How long ends of a lost connection may take to notice: some retransmissions.
const SOON: Duration = Duration::from_secs(20);

/// Bytes of a record's header (src/daemon/slots.rs).
const HEADER: usize = 16;

/// What happens to the state directory while there is no daemon.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A byte of each record is another.
    Damaged,
    /// The records are whole, and of another version.
    OtherVersion,
    /// The directory is empty.
    Wiped,
    /// There is no directory.
    Missing,
}

impl Fault {
    fn strikes(self, state: &Path) -> Result<()> {
        match self {
            Fault::Missing => return Ok(fs::remove_dir_all(state)?),
            Fault::Wiped => {
                for file in fs::read_dir(state)? {
                    fs::remove_file(file?.path())?;
                }
                return Ok(());
            }
            Fault::Damaged | Fault::OtherVersion => {}
        }
        let mut records = 0;
        for size in [512, 2048, 8192] {
            let path = state.join(format!("sessions-{size}"));
            let mut bytes = fs::read(&path)?;
            for slot in bytes.chunks_mut(size).filter(|slot| slot.len() > HEADER) {
                let (header, content) = slot.split_at_mut(HEADER);
                let length = usize::try_from(u32::from_le_bytes(header[..4].try_into()?))?;
                if length == 0 {
                    continue;
                }
                records += 1;
                if let Fault::Damaged = self {
                    content[length / 2] ^= 0x10;
                } else {
                    let mut checksum = crc32fast::Hasher::new();
                    checksum.update(b"ftpalg 0");
                    checksum.update(&content[..length]);
                    header[4..8].copy_from_slice(&checksum.finalize().to_le_bytes());
                }
            }
            fs::write(path, bytes)?;
        }
        ensure!(records > 0, "no record to strike");
        Ok(())
    }
}

/// Control connections that the server has open.
fn open_at_the_server(net: &Net) -> Result<usize> {
    let filter = "( sport = :21 )";
    let text = net.server().run("ss", ["-Hnt", "state", "established", filter])?.success()?.stdout;
    Ok(text.lines().count())
}

fn commands(server: &Server) -> Vec<String> {
    server.commands().into_iter().map(|command| command.line).collect()
}

/// The client speaks first.
fn lost(topology: Topology, plan: Plan, fault: Fault) -> Result<()> {
    // With several workers it shows with the first packet whose it is.
    let settings = if plan == Plan::LongInside { "workers = 2" } else { "" };
    let mut net = Setup::new(topology).plan(plan).settings(settings).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut lost = Session::open(&net, &server)?;
    let mut silent = Session::open(&net, &server)?;
    for session in [&mut lost, &mut silent] {
        session.step("fetch PORT,PASV,EPRT 12")?;
    }
    let before = commands(&server);
    net.daemon().0.kill()?;
    fault.strikes(&net.lab.dir().join("router.state"))?;
    let (daemon, router) = net.daemon();
    daemon.start_again(router)?;
    let log = daemon.log();
    ensure!(log.matches("is cut off: its text was changed").count() == 2, "the log says:\n{log}");

    let start = Instant::now();
    lost.begin("say NOOP")?;
    let answer = lost.hear().err().context("an answer came through")?.to_string();
    ensure!(answer.contains("ConnectionResetError"), "{answer}");
    let client = start.elapsed();
    ensure!(client < SOON, "after {client:?}");
    wait_until("the server has noticed", || Ok(open_at_the_server(&net)? == 1))?;
    println!("{topology}, {fault:?}: reset after {client:.1?}");
    ensure!(commands(&server) == before, "the server read {:?}", &commands(&server)[before.len()..]);

    // The other is held back for as long as it takes, whatever becomes of the daemon, and new ones go on.
    super::replace(&mut net, 0)?;
    let mut new = Session::open(&net, &server)?;
    new.fetch_in_all_modes()?;
    let before = commands(&server).len();
    silent.begin("say NOOP")?;
    let answer = silent.hear().err().context("an answer came through")?.to_string();
    ensure!(answer.contains("ConnectionResetError"), "{answer}");
    ensure!(commands(&server).len() == before, "the server read more");
    new.fetch_in_all_modes()?;
    new.quit()?;
    net.finish()
}

#[test]
fn damaged_state_under_commands_that_grow() -> Result<()> {
    lost(Topology::Masquerade, Plan::ShortInside, Fault::Damaged)
}

#[test]
fn another_version_s_state_under_commands_that_shrink() -> Result<()> {
    lost(Topology::Masquerade, Plan::LongInside, Fault::OtherVersion)
}

#[test]
fn a_wiped_directory_under_replies_that_grow() -> Result<()> {
    lost(Topology::Dnat, Plan::ShortInside, Fault::Wiped)
}

#[test]
fn no_directory_under_replies_that_shrink() -> Result<()> {
    lost(Topology::Dnat, Plan::LongInside, Fault::Missing)
}

/// The client waits for a reply that is under way when the daemon goes: the server speaks first.
#[test]
fn a_client_that_waits_for_a_reply_is_reset() -> Result<()> {
    for (topology, plan) in [(Topology::Masquerade, Plan::ShortInside), (Topology::Dnat, Plan::LongInside)] {
        let mut net = Setup::new(topology).plan(plan).build()?;
        let server = net.serve(ServerKind::HandMade("slow"))?;
        let mut session = Session::open(&net, &server)?;
        session.step("fetch PORT,PASV 4")?;
        session.begin("offer PASV")?;
        wait_until("the server has the command", || {
            Ok(commands(&server).last().is_some_and(|line| line == "PASV"))
        })?;
        net.daemon().0.kill()?;
        Fault::Wiped.strikes(&net.lab.dir().join("router.state"))?;
        let (daemon, router) = net.daemon();
        daemon.start_again(router)?;
        let start = Instant::now();
        let answer = session.hear().err().context("an answer came through")?.to_string();
        ensure!(answer.contains("ConnectionResetError"), "{answer}");
        wait_until("the server has noticed", || Ok(open_at_the_server(&net)? == 0))?;
        println!("{topology}: both reset after {:.1?}", start.elapsed());
        net.finish()?;
    }
    Ok(())
}

/// A daemon that does not come back: what it has left in the kernel goes by itself, and the sessions that end meanwhile
/// leave nothing to the next one.
#[test]
fn nothing_stays_for_ever() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.step("fetch PORT,PASV 2")?;
    session.step("begin PORT 99")?;
    session.step("reply")?;
    net.daemon().0.kill()?;
    let table = net.router().run("nft", ["list", "table", "inet", "ftpalg"])?.success()?.stdout;
    let mut elements = 0;
    let sets = table.split("elements = {").skip(1).filter_map(|part| part.split('}').next());
    // All but the control ports, which are no connection's.
    for element in sets.flat_map(|elements| elements.split(',')).filter(|element| element.contains(" . ")) {
        elements += 1;
        ensure!(element.contains("expires"), "stays for ever: {element}");
    }
    ensure!(elements > 3, "{elements} elements in:\n{table}");
    let left = net.router().run("nft", ["list", "tables"])?.success()?.stdout;
    ensure!(!left.contains("ftpalg_hold"), "a table without its owner:\n{left}");
    drop(session);
    let (daemon, router) = net.daemon();
    daemon.start_again(router)?;
    let mut new = Session::open(&net, &server)?;
    new.fetch_in_all_modes()?;
    new.quit()?;
    net.finish()
}
