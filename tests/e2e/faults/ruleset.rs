//! What others do to ftpalg's part of the ruleset by hand, and transactions that fail.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use netlab::Signal;

use crate::harness::{Net, Plan, ServerKind, Setup, Topology};
use crate::life::{Session, finish, tapped, tapped_net, wait_until};

/// How often the guard has put things back.
fn repairs(net: &Net) -> usize {
    net.daemons[0].log().matches("is back").count()
}

/// Whatever is deleted or flushed is put back, under a shifted session, one that is not, and one whose data port is
/// announced, and all of them go on.
#[test]
fn what_is_damaged_by_hand_is_mended_under_live_sessions() -> Result<()> {
    let (net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut shifted = Session::open(&net, &server)?;
    let mut unshifted = Session::open(&net, &server)?;
    let mut announced = Session::open(&net, &server)?;
    shifted.fetch_in_all_modes()?;
    unshifted.step("fetch PASV")?;
    for damage in [
        "delete table inet ftpalg",
        "flush table inet ftpalg",
        "flush set inet ftpalg control4",
        "flush set inet ftpalg shifted4",
        "flush map inet ftpalg dnat4",
        "flush chain inet ftpalg divert_shifted",
        "flush chain inet filter forward",
        "delete chain inet filter input; add chain inet filter input",
        "flush ruleset",
    ] {
        announced.step("begin PORT 99")?;
        announced.step("reply")?;
        let before = repairs(&net);
        net.router().nft(damage)?;
        shifted.begin("chat 2")?;
        wait_until(damage, || Ok(repairs(&net) > before))?;
        if damage.contains("filter") || damage == "flush ruleset" {
            net.router().nft(&format!("flush ruleset\n{}", net.ruleset()))?;
        }
        shifted.hear()?;
        announced.step("retrieve")?;
        unshifted.step("fetch PASV,EPSV 2")?;
        shifted.fetch_in_all_modes()?;
    }
    for session in [shifted, unshifted, announced] {
        session.quit()?;
    }
    finish(net, wiretap)
}

/// At all moments of reading the configuration anew, in some of which the daemon does not listen.
#[test]
fn a_table_that_is_deleted_while_it_is_loaded_comes_back() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    let mut longest = Duration::ZERO;
    for delay in 0..40 {
        net.daemons[0].process.signal(Signal::SIGHUP)?;
        thread::sleep(Duration::from_micros(500 * delay));
        net.router().nft("add table inet ftpalg; delete table inet ftpalg")?;
        let start = Instant::now();
        wait_until("the table is back", || {
            let chain = net.router().run("nft", ["list", "chain", "inet", "ftpalg", "divert"])?.stdout;
            Ok(chain.to_lowercase().contains("queue"))
        })?;
        longest = longest.max(start.elapsed());
    }
    println!("back after {longest:.1?} at the latest");
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

/// Fills a set with what is of no use to anybody, as far as it takes it.
fn fill(net: &Net, set: &str, element: impl Fn(u32) -> String) -> Result<()> {
    let mut text = String::new();
    for chunk in 0..64 {
        let elements = (chunk * 1024..(chunk + 1) * 1024).map(&element).collect::<Vec<_>>();
        writeln!(text, "add element inet ftpalg {set} {{ {} }}", elements.join(", "))?;
    }
    net.router().nft(&text)
}

/// No room for another pinhole in one of the sets that it takes: the data connection does not come about, the control
/// connection goes on, and so does everything once there is room.
#[test]
fn a_full_set_costs_the_data_connection_alone() -> Result<()> {
    let (net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.fetch_in_all_modes()?;
    let times_full = || net.daemons[0].log().matches("nftables set full").count();
    for (kind, set, data, command) in [
        ("set", "open4", "", "PASV"),
        ("set", "pending4", "", "PORT 10,0,0,2,19,137"),
        ("map", "dnat4", " : 10.9.9.9 . 9", "PASV"),
        ("map", "snat4", " : 10.9.9.9", "PASV"),
    ] {
        let key = |n: u32| format!("10.{}.{}.{} . 10.9.9.9 . 9", 100 + (n >> 16), (n >> 8) & 255, n & 255);
        net.router().nft(&format!("flush {kind} inet ftpalg {set}"))?;
        fill(&net, set, |n| format!("{} timeout 5m{data}", key(n)))?;
        let before = times_full();
        let answer = session.step(&format!("say {command}"))?;
        ensure!(answer.starts_with('2') || answer.starts_with("500"), "{set}: {answer}");
        ensure!(times_full() > before, "{set}: {}", net.daemons[0].log());
        session.step("say NOOP")?;
        net.router().nft(&format!("flush {kind} inet ftpalg {set}"))?;
        session.fetch_in_all_modes()?;
    }
    session.quit()?;
    finish(net, wiretap)
}

/// Somebody else owns a table of ftpalg's name, so that the kernel refuses whatever the daemon tries (EPERM). Sessions
/// stand still, and go on once that table is gone.
#[test]
fn sessions_outlive_a_table_that_another_program_owns() -> Result<()> {
    let (net, server, wiretap) = tapped(Topology::Masquerade, Plan::ShortInside, ServerKind::Vsftpd)?;
    let mut shifted = Session::open(&net, &server)?;
    let mut unshifted = Session::open(&net, &server)?;
    shifted.fetch_in_all_modes()?;
    unshifted.step("fetch PASV")?;
    let mut other =
        net.router().command("nft", ["-i"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let mut commands = other.stdin.take().context("no standard input")?;
    writeln!(commands, "delete table inet ftpalg; add table inet ftpalg {{ flags owner; }}")?;
    wait_until("the daemon tells", || Ok(net.daemons[0].log().contains("can't be put back")))?;
    let log = net.daemons[0].log();
    let told = log.lines().filter(|line| line.contains("not permitted")).count();
    ensure!(told < 5, "{told} lines in the log:\n{log}");
    let before = repairs(&net);
    for session in [&mut shifted, &mut unshifted] {
        session.begin("chat 2")?;
        session.waits()?;
    }
    drop(commands);
    other.wait()?;
    wait_until("ftpalg's part is back", || Ok(repairs(&net) > before))?;
    for mut session in [shifted, unshifted] {
        session.hear()?;
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    finish(net, wiretap)
}

/// The kernel's element of a connection that does not come about runs down by itself, some seconds before the daemon lets go of
/// the connection. Whoever changes rules of their own meanwhile has not flushed a set of ftpalg's.
#[test]
fn what_has_run_down_by_itself_is_not_taken_for_flushed() -> Result<()> {
    let setup = Setup::new(Topology::Firewall).ports(&[21, 2121]);
    let (net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
    let mut lives = Session::open(&net, &server)?;
    lives.fetch_in_all_modes()?;
    let nobodys = format!("ftp://{}:2121/", net.dialled(&server).ip());
    let refused = net.client().run("curl", ["--silent", "--connect-timeout", "2", &nobodys])?;
    ensure!(refused.status.code() == Some(7), "curl on a port that nobody listens to: {refused:?}");
    net.router().nft("table inet admin { chain silent { type filter hook postrouting priority 400; }; }")?;
    net.router().nft("add rule inet admin silent tcp dport 2121 drop")?;
    let unanswered = net.client().run("curl", ["--silent", "--connect-timeout", "0.5", &nobodys])?;
    ensure!(unanswered.status.code() == Some(28), "curl without an answer: {unanswered:?}");
    // Each is let go of within fourteen seconds.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(14) {
        net.router().nft("add set inet admin some { type ipv4_addr; }\ndelete set inet admin some")?;
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(repairs(&net) == 0, "ftpalg's part was put back:\n{}", net.daemons[0].log());
    lives.fetch_in_all_modes()?;
    // Where it is depends on its age.
    net.router().nft("flush set inet ftpalg control4\nflush set inet ftpalg control_new4")?;
    wait_until("what was flushed is back", || Ok(repairs(&net) > 0))?;
    lives.fetch_in_all_modes()?;
    lives.quit()?;
    finish(net, wiretap)
}

/// `control` is full: sessions that begin are not followed, those that live are.
#[test]
fn a_full_set_of_sessions_leaves_those_that_live() -> Result<()> {
    let setup = Setup::new(Topology::Firewall);
    let (net, server, wiretap) = tapped_net(setup, ServerKind::Vsftpd)?;
    let mut lives = Session::open(&net, &server)?;
    lives.fetch_in_all_modes()?;
    let tuple = |n: u32| {
        format!("10.{}.{}.{} . 21 . 10.9.9.9 . 9 timeout 5m", 100 + (n >> 16), (n >> 8) & 255, n & 255)
    };
    // There is one element in it, so the last chunk would be refused whole.
    let mut text = String::new();
    for n in 0..65535 {
        if n % 1024 == 0 {
            text += if n == 0 {
                "add element inet ftpalg control4 { "
            } else {
                " }\nadd element inet ftpalg control4 { "
            };
        } else {
            text += ", ";
        }
        text += &tuple(n);
    }
    net.router().nft(&(text + " }\n"))?;
    let mut late = Session::open(&net, &server)?;
    late.step("say NOOP")?;
    lives.fetch_in_all_modes()?;
    // Where each of the two is depends on its age.
    net.router().nft("flush set inet ftpalg control4\nflush set inet ftpalg control_new4")?;
    wait_until("the live ones are back", || Ok(repairs(&net) > 0))?;
    lives.fetch_in_all_modes()?;
    late.fetch_in_all_modes()?;
    for session in [lives, late] {
        session.quit()?;
    }
    finish(net, wiretap)
}
