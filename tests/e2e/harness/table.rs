//! The table of what was run: topology by mode, with the programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use super::{Alg, Client, Mode, Plan, ServerKind, Topology};

/// One session of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub topology: Topology,
    pub mode: Mode,
    pub plan: Plan,
    pub client: Client,
    pub server: ServerKind,
}

/// What became of it: transfers whole, of how many.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    pub whole: usize,
    pub of: usize,
}

static ROWS: Mutex<BTreeMap<(Alg, Row), Score>> = Mutex::new(BTreeMap::new());

/// Notes a session and writes the table anew: to the file that `FTPALG_TEST_TABLE` names, else to
/// `target/tmp/e2e-table.md`.
pub fn record(alg: Alg, row: Row, score: Score) {
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.insert((alg, row), score);
    let default = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e-table.md");
    let path = env::var_os("FTPALG_TEST_TABLE").map_or_else(default, PathBuf::from);
    if let Err(error) = fs::write(&path, render(&rows)) {
        eprintln!("cannot write the table {}: {error}", path.display());
    }
}

fn render(rows: &BTreeMap<(Alg, Row), Score>) -> String {
    let mut text = String::new();
    for alg in [Alg::Ftpalg, Alg::Kernel, Alg::None] {
        if !rows.keys().any(|(other, _)| *other == alg) {
            continue;
        }
        let _ = writeln!(text, "## {alg}\n\n| topology | PORT | EPRT | PASV | EPSV |\n|---|---|---|---|---|");
        for topology in Topology::ALL {
            let cells = Mode::ALL.map(|mode| cell(rows, alg, topology, mode));
            let _ = writeln!(text, "| {topology} | {} |", cells.join(" | "));
        }
        text.push('\n');
    }
    text
}

fn cell(rows: &BTreeMap<(Alg, Row), Score>, alg: Alg, topology: Topology, mode: Mode) -> String {
    let sessions =
        rows.iter().filter(|((other, row), _)| *other == alg && row.topology == topology && row.mode == mode);
    let sessions = sessions.map(|((_, row), score)| {
        let plan = match row.plan {
            Plan::ShortInside => "",
            Plan::LongInside => ", long inside",
        };
        format!("{} – {}{plan}: {} of {}", row.client, row.server, score.whole, score.of)
    });
    sessions.collect::<Vec<_>>().join("<br>")
}
