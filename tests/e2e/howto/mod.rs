//! The documentation does what it says: every command and every file of the how-tos, in their order, on machines as they
//! describe them, with real programs; then files go over those machines in every mode, and no longer once ftpalg is
//! stopped.

mod machine;
mod page;
mod town;

use std::fs;

use anyhow::{Result, ensure};

use crate::docker::Docker;
use crate::harness::{Mode, ServerKind};
use page::{Page, Step};
use town::Town;

/// The pages whose blocks must all be run, or say why not. Each has its test below.
const PAGES: [&str; 11] = [
    "trouble-shooting.md",
    "ftps.md",
    "howto/home-router.md",
    "howto/server-behind-nat.md",
    "howto/from-nf_conntrack_ftp.md",
    "howto/from-iptables.md",
    "howto/from-firewalld.md",
    "howto/from-ufw.md",
    "howto/cloud-host.md",
    "howto/docker.md",
    "howto/vyos-openwrt.md",
];

/// How many blocks may be left out: commands of systems that can't run here.
const NOT_RUN: usize = 8;

/// Commands in the text that no block has, and why.
const MENTIONED_ONLY: [(&str, &str); 3] = [
    ("journalctl -fu ftpalg", "it does not end by itself"),
    ("conntrack does not know the control connection", "a line of the log"),
    ("conntrack has no entry", "a line of the log"),
];

const OUTSIDE: [u8; 4] = [203, 0, 113, 9];
const WAN: [u8; 4] = [203, 0, 113, 2];
const SERVER: [u8; 4] = [192, 168, 1, 21];

/// Follows a part of a page for a router whose LAN uses a server outside, and shows that it is ftpalg that lets files
/// through.
fn a_router_for_clients(page: &str, part: usize) -> Result<()> {
    let mut town = Town::home()?;
    town.serve("outside", ServerKind::Vsftpd)?;
    town.follow_part(page, part)?;
    town.transfers("pc", OUTSIDE, &Mode::ALL)?;
    town.shell("router", "systemctl stop ftpalg")?;
    town.transfers_nothing("pc", OUTSIDE, &Mode::ALL)
}

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
fn a_server_behind_nat() -> Result<()> {
    let mut town = Town::home()?;
    town.serve("server", ServerKind::Vsftpd)?;
    town.follow("howto/server-behind-nat.md")?;
    town.shell(
        "router",
        "sed -i 's/tcp dport 2121/tcp dport 21/' /etc/nftables.conf && systemctl reload nftables",
    )?;
    town.transfers("outside", WAN, &Mode::ALL)?;
    town.transfers("pc", WAN, &Mode::ALL)?;
    town.shell("router", "systemctl stop ftpalg")?;
    // In active mode the server dials out, which it may.
    town.transfers_nothing("outside", WAN, &[Mode::Pasv, Mode::Epsv])
}

#[test]
fn the_rules_that_a_page_quotes_stand_in_the_example() -> Result<()> {
    let page = fs::read_to_string(page::path("howto/server-behind-nat.md"))?;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/nft-rules/examples/server-behind-nat.nft");
    let example = fs::read_to_string(example)?;
    let quoted =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect::<Vec<_>>();
    ensure!(quoted.len() == 3, "the page quotes {quoted:?}");
    for rule in quoted {
        ensure!(example.lines().any(|line| line.trim() == rule), "the example has no rule: {rule}");
    }
    Ok(())
}

#[test]
fn from_the_kernels_helper() -> Result<()> {
    let mut town = Town::home()?;
    town.serve("outside", ServerKind::Vsftpd)?;
    town.follow("howto/from-nf_conntrack_ftp.md")?;
    town.transfers("pc", OUTSIDE, &[Mode::Port, Mode::Pasv])
}

#[test]
fn beside_iptables_nft() -> Result<()> {
    a_router_for_clients("howto/from-iptables.md", 0)
}

#[test]
fn beside_iptables_legacy() -> Result<()> {
    a_router_for_clients("howto/from-iptables.md", 1)
}

#[test]
fn beside_firewalld() -> Result<()> {
    a_router_for_clients("howto/from-firewalld.md", 0)
}

#[test]
fn beside_ufw() -> Result<()> {
    a_router_for_clients("howto/from-ufw.md", 0)
}

#[test]
fn a_server_with_ufw() -> Result<()> {
    let mut town = Town::home()?;
    town.serve("server", ServerKind::Vsftpd)?;
    town.follow_part("howto/from-ufw.md", 1)?;
    town.transfers("pc", SERVER, &Mode::ALL)?;
    town.shell("server", "systemctl stop ftpalg")?;
    // In active mode the server dials out, which it may.
    town.transfers_nothing("pc", SERVER, &[Mode::Pasv, Mode::Epsv])
}

#[test]
fn a_cloud_host() -> Result<()> {
    let town = Town::cloud()?;
    town.shell("vm", "mkdir -p /srv/ftp/pub && head -c 4096 /dev/urandom >/srv/ftp/pub/small")?;
    town.follow("howto/cloud-host.md")
}

/// Follows a part of the page on Docker, and shows that a server in the container is reached, and that a client there reaches
/// a server outside.
fn beside(docker: Docker, part: usize) -> Result<()> {
    let mut town = Town::docker()?;
    town.start(docker)?;
    town.serve("container", ServerKind::Vsftpd)?;
    town.follow_part("howto/docker.md", part)?;
    town.transfers("outside", WAN, &Mode::ALL)?;
    // As far as Docker has not given these to its proxy.
    town.transfers("host", WAN, &Mode::ALL)?;
    town.start(docker)?;
    town.follow_part("howto/docker.md", part)?;
    town.serve("outside", ServerKind::Vsftpd)?;
    town.transfers("container", OUTSIDE, &Mode::ALL)?;
    town.shell("host", "systemctl stop ftpalg")?;
    // In passive mode the client in the container dials out, which it may.
    town.transfers_nothing("container", OUTSIDE, &[Mode::Port, Mode::Eprt])?;
    town.transfers_nothing("outside", WAN, &[Mode::Pasv, Mode::Epsv])
}

#[test]
fn beside_docker() -> Result<()> {
    beside(Docker::V20, 0)?;
    beside(Docker::V28, 0)?;
    beside(Docker::V29, 0)
}

#[test]
fn beside_docker_by_nftables() -> Result<()> {
    beside(Docker::V29Nftables, 1)
}

#[test]
fn ftp_over_tls() -> Result<()> {
    let town = Town::home()?;
    town.shell("server", "mkdir -p /srv/ftp/pub && head -c 4096 /dev/urandom >/srv/ftp/pub/small")?;
    town.follow("ftps.md")
}

#[test]
fn trouble_shooting() -> Result<()> {
    let page = "trouble-shooting.md";
    for part in 0..Page::read(page)?.parts.len() {
        let mut town = Town::home()?;
        town.serve("outside", ServerKind::Vsftpd)?;
        town.follow_part(page, part)?;
    }
    Ok(())
}

#[test]
fn the_chains_of_openwrt_and_vyos() -> Result<()> {
    a_router_for_clients("howto/vyos-openwrt.md", 0)?;
    a_router_for_clients("howto/vyos-openwrt.md", 1)
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
        ensure!(page.parts.iter().all(|steps| !steps.is_empty()), "docs/{name} has nothing to run");
        not_run
            .extend(page.not_run.into_iter().map(|(line, why)| format!("docs/{name}, line {line}: {why}")));
    }
    println!("not run:\n{}", not_run.join("\n"));
    ensure!(not_run.len() == NOT_RUN, "{} blocks are not run, instead of {NOT_RUN}", not_run.len());
    Ok(())
}

#[test]
fn commands_in_the_text_are_run_as_well() -> Result<()> {
    let pages = PAGES.map(Page::read).into_iter().collect::<Result<Vec<_>>>()?;
    let steps = pages.iter().flat_map(|page| page.parts.iter().flatten());
    let run = steps
        .filter_map(|(_, step)| match step {
            Step::Run { command, .. } => Some(command.as_str()),
            Step::Write { .. } => None,
        })
        .collect::<Vec<_>>();
    let mut only_there = vec![];
    for (page, name) in pages.iter().zip(PAGES) {
        for (line, command) in &page.mentioned {
            let known = MENTIONED_ONLY.iter().any(|(mentioned, _)| mentioned == command);
            if !known && !run.iter().any(|run| run.starts_with(command.as_str())) {
                only_there.push(format!("docs/{name}, line {line}: {command}"));
            }
        }
    }
    ensure!(only_there.is_empty(), "commands that nothing runs:\n{}", only_there.join("\n"));
    Ok(())
}
