//! A state directory that is full, gone, or damaged.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use netlab::Process;

use crate::harness::{Net, Plan, ServerKind, Topology};
use crate::life::{Session, finish, tapped, wait_until};

fn directory(net: &Net) -> PathBuf {
    net.lab.dir().join("router.state")
}

/// The daemon with a file system of 32 KiB of its own for its state.
fn confined(net: &mut Net) -> Result<Process> {
    net.daemon().0.process.terminate(std::time::Duration::from_secs(5))?;
    let (state, config) = (directory(net), net.daemons[0].config.clone());
    let script = format!(
        "mount -t tmpfs -o size=32k none {} && exec {} run --config {}",
        state.display(),
        env!("CARGO_BIN_EXE_ftpalg"),
        config.display()
    );
    let mut process =
        net.router().spawn(&net.lab.dir().join("confined.log"), "unshare", ["-m", "sh", "-c", &script])?;
    process.wait_for_log("ready", std::time::Duration::from_secs(10))?;
    Ok(process)
}

/// Full: a session that needs no translation goes on, and the log says what a restart would cost; one that would need
/// it waits until there is room.
#[test]
fn a_full_state_directory_holds_up_only_what_needs_it() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let process = confined(&mut net)?;
    let root = format!("/proc/{}/root{}", process.id(), directory(&net).display());
    let filler = Path::new(&root).join("filler");
    let mut file = fs::File::create(&filler)?;
    while file.write(&[1; 4096]).is_ok() {}
    let mut unshifted = Session::open(&net, &server)?;
    let mut shifted = Session::open(&net, &server)?;
    unshifted.step("fetch PASV,EPSV 4")?;
    shifted.begin("fetch PORT")?;
    shifted.waits()?;
    unshifted.step("fetch PASV,EPSV 4")?;
    for says in ["would lose sight of this session", "a packet waits because its session can't be saved"] {
        ensure!(process.log().contains(says), "{}", process.log());
    }
    let log = process.log();
    ensure!(
        log.contains("No space left on device") && log.contains("make room on the file system"),
        "no mend"
    );
    // Two fetches of eight files have ten times as many packets.
    let lines = log.matches("No space left on device").count();
    ensure!(lines < 20, "{lines} lines");
    fs::remove_file(&filler)?;
    drop(file);
    shifted.hear()?;
    for mut session in [shifted, unshifted] {
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    finish(net, wiretap)
}

/// Somebody deletes it while the daemon runs: it is made again, and sessions outlive the next kill as well.
#[test]
fn a_state_directory_that_is_deleted_comes_back() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Masquerade, Plan::LongInside, ServerKind::Vsftpd)?;
    let mut shifted = Session::open(&net, &server)?;
    let mut unshifted = Session::open(&net, &server)?;
    shifted.fetch_in_all_modes()?;
    unshifted.step("fetch PASV")?;
    let state = directory(&net);
    fs::remove_dir_all(&state)?;
    shifted.step("fetch PORT")?;
    wait_until("the directory is back", || {
        Ok(state.join("sessions-512").metadata().is_ok_and(|file| file.len() > 0))
    })?;
    ensure!(net.daemons[0].log().contains("has been made anew"), "{}", net.daemons[0].log());
    let (daemon, router) = net.daemon();
    daemon.kill()?;
    daemon.start_again(router)?;
    for mut session in [shifted, unshifted] {
        session.step("say NOOP")?;
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    finish(net, wiretap)
}

/// Whatever stands in the files, the daemon starts, and sessions that need no translation go on.
#[test]
fn damaged_state_costs_no_start() -> Result<()> {
    let (mut net, server, wiretap) = tapped(Topology::Firewall, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    let file = directory(&net).join("sessions-512");
    type Damage = fn(&Path) -> std::io::Result<()>;
    let damages: [(&str, Damage); 6] = [
        ("cut short", |file| fs::File::options().write(true).open(file)?.set_len(40)),
        ("random", |file| {
            let bytes: Vec<u8> =
                (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            fs::write(file, bytes)
        }),
        ("a longer length", |file| fs::File::options().write(true).open(file)?.write_all_at(&[255; 4], 0)),
        ("another version's", |file| {
            let mut bytes = fs::read(file)?;
            bytes.iter_mut().skip(4).take(4).for_each(|byte| *byte ^= 0x55);
            fs::write(file, bytes)
        }),
        ("huge", |file| fs::File::options().write(true).open(file)?.set_len(1 << 40)),
        ("empty", |file| fs::write(file, "")),
    ];
    for (what, damage) in damages {
        let (daemon, router) = net.daemon();
        daemon.kill()?;
        damage(&file)?;
        daemon.start_again(router)?;
        session.step("say NOOP")?;
        println!("{what}: {:?}", net.daemons[0].process.log().lines().next());
        let mut other = Session::open(&net, &server)?;
        other.fetch_in_all_modes()?;
        other.quit()?;
    }
    session.quit()?;
    finish(net, wiretap)
}
