//! The documentation does what it says: every command and every file of the how-tos, in their order, on machines as they
//! describe them, with real programs; then files go over those machines in every mode, and no longer once ftpalg is
//! stopped.

mod machine;
mod page;
mod town;

use std::fs;

use anyhow::{Result, ensure};

use crate::harness::{Mode, ServerKind};
use page::Page;
use town::Town;

/// The pages whose blocks must all be run, or say why not. Each has its test below.
const PAGES: [&str; 1] = ["howto/home-router.md"];

/// How many blocks may be left out: commands of systems that can't run here.
const NOT_RUN: usize = 0;

const OUTSIDE: [u8; 4] = [203, 0, 113, 9];

#[test]
fn a_home_router() -> Result<()> {
    let mut town = Town::home()?;
    town.machine("router")?.host.forwarding(false)?;
    town.serve("outside", ServerKind::Vsftpd)?;
    town.follow("howto/home-router.md")?;
    town.transfers("pc", OUTSIDE, &Mode::ALL)?;
    town.shell("router", "systemctl stop ftpalg")?;
    town.transfers_nothing("pc", OUTSIDE, &Mode::ALL)
}

#[test]
fn every_page_is_followed_and_little_is_left_out() -> Result<()> {
    let mut there = vec!["ftps.md".to_owned(), "trouble-shooting.md".to_owned()];
    for entry in fs::read_dir(page::path("howto"))? {
        there.push(format!("howto/{}", entry?.file_name().to_string_lossy()));
    }
    there.retain(|name| name.ends_with(".md"));
    there.sort_unstable();
    let mut known = PAGES.to_vec();
    known.sort_unstable();
    ensure!(there == known, "pages {there:?}, of which {known:?} have a test");

    let mut not_run = vec![];
    for name in PAGES {
        let page = Page::read(name)?;
        ensure!(!page.steps.is_empty(), "docs/{name} has nothing to run");
        not_run.extend(page.not_run.into_iter().map(|(line, why)| format!("docs/{name}, line {line}: {why}")));
    }
    println!("not run:\n{}", not_run.join("\n"));
    ensure!(not_run.len() == NOT_RUN, "{} blocks are not run, instead of {NOT_RUN}", not_run.len());
    Ok(())
}
