//! What a packet and a session may cost: instructions under callgrind, allocations, bytes.
//!
//! `held.txt` says what they cost when it was written. Instructions may differ from it by [`MARGIN`], either way: another
//! compiler makes other code, and what became much cheaper must be written down, or it can become as dear again unnoticed.
//! Allocations and the size of an idle session must not become more.
//! `FTPALG_ACCEPT_COST=1 cargo test -p ftpalg-cost` writes what it finds to `held.txt`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails shall stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const COST: &str = env!("CARGO_BIN_EXE_ftpalg-cost");

/// By how much, in a hundred, instructions may differ from what is written down.
const MARGIN: u64 = 10;

/// How often a path is gone, as `src/paths.rs` has it.
const ROUNDS: u64 = 100;

/// How many sessions: they fill a table as 100,000 do (95 hundredths of what it takes before it grows).
const SESSIONS: &str = "12500";

/// What a session does all day once it has logged in: nothing of it may allocate.
const STEADY: [&str; 6] = [
    "command-and-reply",
    "command-and-reply-shifted",
    "acknowledgments-shifted",
    "retransmissions",
    "retransmissions-shifted",
    "listing",
];

/// A row of `held.txt`: what one round costs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cost {
    packets: u64,
    instructions: u64,
    /// In all [`ROUNDS`].
    allocations: u64,
}

type Costs = BTreeMap<String, Cost>;

fn held_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/held.txt")
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect())
}

/// What is written down: the paths, and the bytes of an idle session.
fn held() -> (Costs, u64) {
    let text = std::fs::read_to_string(held_file()).unwrap();
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("held.txt: {word} is no number"));
    let (mut costs, mut idle) = (Costs::new(), None);
    for row in rows(&text) {
        match row[..] {
            [name, packets, instructions, allocations] => {
                let [packets, instructions, allocations] = [packets, instructions, allocations].map(number);
                costs.insert(name.to_owned(), Cost { packets, instructions, allocations });
            }
            ["idle-session-bytes", bytes] => idle = Some(number(bytes)),
            _ => panic!("held.txt: what is {row:?}?"),
        }
    }
    (costs, idle.expect("held.txt names the bytes of an idle session"))
}

fn output(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Goes through all paths under callgrind. It writes one file each time that the function which is counted returns.
fn found() -> Costs {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind");
    std::fs::remove_dir_all(&directory).ok();
    std::fs::create_dir_all(&directory).unwrap();
    let out = directory.join("out");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=*::measured", "--dump-after=*::measured"]);
    command.arg(format!("--callgrind-out-file={}", out.display())).args([COST, "paths"]);
    let paths = output(&mut command);
    let mut costs = Costs::new();
    for (row, number) in rows(&paths).zip(1..) {
        let [name, packets, allocations] = row[..] else { panic!("what is {row:?}?") };
        let file = directory.join(format!("out.{number}"));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("it says how many");
        let instructions = total.trim().parse::<u64>().unwrap() / ROUNDS;
        assert!(instructions > 0, "nothing was counted in {name}");
        let [packets, allocations] = [packets, allocations].map(|word| word.parse().unwrap());
        costs.insert(name.to_owned(), Cost { packets, instructions, allocations });
    }
    costs
}

fn idle_session() -> u64 {
    let text = output(Command::new(COST).args(["sessions", SESSIONS]));
    let idle = rows(&text).find_map(|row| (row[0] == "idle").then(|| row[1].parse().unwrap()));
    idle.expect("it says how large an idle session is")
}

fn write_down(costs: &Costs, idle: u64) {
    let mut text = "# What a round of each path costs: packets, instructions, and the allocations of 100 rounds.\n\
                    # FTPALG_ACCEPT_COST=1 cargo test -p ftpalg-cost writes this file; tests/held.rs tells more.\n"
        .to_owned();
    for (name, Cost { packets, instructions, allocations }) in costs {
        writeln!(text, "{name:<26} {packets:>3} {instructions:>8} {allocations:>6}").unwrap();
    }
    writeln!(text, "{:<26} {idle:>12}", "idle-session-bytes").unwrap();
    std::fs::write(held_file(), text).unwrap();
}

fn complaints(held: &Costs, found: &Costs) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, now) in found {
        let Some(then) = held.get(name) else {
            complaints.push(format!("{name}: not in held.txt"));
            continue;
        };
        if now.instructions.abs_diff(then.instructions) * 100 > then.instructions * MARGIN {
            let (now, then) = (now.instructions, then.instructions);
            complaints.push(format!("{name}: {now} instructions, {then} are written down"));
        }
        if now.allocations > then.allocations {
            let (now, then) = (now.allocations, then.allocations);
            complaints.push(format!("{name}: {now} allocations in {ROUNDS} rounds, {then} are written down"));
        }
        if now.packets != then.packets {
            complaints.push(format!("{name}: {} packets, {} are written down", now.packets, then.packets));
        }
    }
    let gone = held.keys().filter(|name| !found.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: in held.txt alone")));
    complaints
}

#[test]
fn packets_and_sessions_cost_what_is_written_down() {
    let (found, idle) = (found(), idle_session());
    for name in STEADY {
        assert_eq!(found[name].allocations, 0, "{name} allocates in the steady state");
    }
    if std::env::var_os("FTPALG_ACCEPT_COST").is_some() {
        return write_down(&found, idle);
    }
    let (held, held_idle) = held();
    let mut complaints = complaints(&held, &found);
    if idle > held_idle {
        complaints.push(format!("an idle session takes {idle} bytes, {held_idle} are written down"));
    }
    assert!(
        complaints.is_empty(),
        "{}\nIf that is as it must be: FTPALG_ACCEPT_COST=1 cargo test -p ftpalg-cost",
        complaints.join("\n")
    );
}

#[test]
fn what_costs_more_or_much_less_is_noticed() {
    let cost = |instructions, allocations| {
        Costs::from([("path".to_owned(), Cost { packets: 2, instructions, allocations })])
    };
    let held = cost(1000, 5);
    for (found, is_noticed) in [
        (cost(1000, 5), false),
        (cost(1100, 4), false),
        (cost(1101, 5), true),
        (cost(899, 5), true),
        (cost(1000, 6), true),
    ] {
        assert_eq!(!complaints(&held, &found).is_empty(), is_noticed, "{found:?}");
    }
    assert_eq!(complaints(&held, &Costs::new()).len(), 1);
    assert_eq!(complaints(&Costs::new(), &held).len(), 1);
}
