//! What the demo does, in its order, and what each step must come to.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use netlab::Host;

use super::Interrupt;
use super::alg::{self, Alg};
use super::dialogue::{self, Row};
use super::net::{CLIENT, FILE, Net, ROUTER_LAN, ROUTER_WAN, SERVER};
use super::page::Page;
use super::transfer::{Mode, Transfer};
use crate::terminal::Style;

/// Tells it all.
pub fn tell(net: &Net, page: &mut Page, interrupt: &Interrupt) -> Result<()> {
    introduce(page)?;

    page.line(Style::Heading, "1. Without ftpalg")?;
    for mode in [Mode::Passive, Mode::Active] {
        interrupt.check()?;
        without(net, page, mode)?;
    }

    interrupt.check()?;
    page.line(Style::Heading, "2. With ftpalg")?;
    let mut alg = Alg::start(net)?;
    page.line(
        Style::Plain,
        &format!("  `ftpalg run` on the router, configured: accept-in = [{:?}]\n", alg::CHAIN),
    )?;
    for mode in [Mode::Passive, Mode::Active] {
        interrupt.check()?;
        with(net, page, mode, &mut alg).with_context(|| format!("what ftpalg logged:\n{}", alg.log()))?;
    }
    interrupt.check()?;
    alg.stop()
}

fn introduce(page: &mut Page) -> Result<()> {
    let [router_lan, router_wan] = [ROUTER_LAN, ROUTER_WAN].map(|address| address.to_string());
    let [client, server] = [CLIENT, SERVER].map(|address| address.to_string());
    page.line(
        Style::Plain,
        &format!(
            "
   curl                      router                                      vsftpd
  ┌───────────────┐   LAN   ┌─────────────────────────────────┐   WAN   ┌───────────────┐
  │ {client:^13} ├─────────┤ {router_lan:<15} {router_wan:>15} ├─────────┤ {server:^13} │
  └───────────────┘         └─────────────────────────────────┘         └───────────────┘
   client                    NAT: the WAN knows the client as            server
                             {router_wan}. Firewall: lets the
                             LAN reach port 21 of the WAN.

  FTP talks on port 21 and moves each file over a second connection. Its address and port are
  named in that talk: by the server in a 227 (passive mode) or by the client in a PORT (active).
"
        ),
    )?;
    Ok(())
}

/// A transfer that must fail, and how.
fn without(net: &Net, page: &mut Page, mode: Mode) -> Result<()> {
    begin(page, mode)?;
    let transfer = Transfer::run(net, mode, &format!("without-{mode}"))?;
    let rows = dialogue::rows(&transfer, Vec::new());
    for row in &rows {
        page.row(row)?;
    }
    ensure!(
        transfer.copy.is_none(),
        "the {mode} transfer worked without ftpalg: is an FTP helper of the kernel at work?"
    );
    let reason = match mode {
        Mode::Passive => {
            let dropped = |row: &Row| matches!(row, Row::Dialled { lan: Some(_), wan: None, .. });
            ensure!(rows.iter().any(dropped), "it failed, but not by the firewall: {}", transfer.complaint);
            "The firewall knows of port 21 only, and drops the second connection.".to_owned()
        }
        Mode::Active => {
            let private = commas(CLIENT);
            let told = |row: &Row| matches!(row, Row::Said { wan, .. } if wan.contains(&private));
            ensure!(rows.iter().any(told), "it failed, but not by the address: {}", transfer.complaint);
            format!("The server was told {CLIENT}, but the client that it talks to is {ROUTER_WAN}.")
        }
    };
    page.line(Style::Bad, &format!("  ✗ no file; curl gives up with exit code {}", transfer.code))?;
    page.line(Style::Plain, &format!("    {reason}\n"))?;
    Ok(())
}

/// A transfer that must work, through one pinhole that is gone afterwards.
fn with(net: &Net, page: &mut Page, mode: Mode, alg: &mut Alg) -> Result<()> {
    begin(page, mode)?;
    let before = alg::used(net)?;
    let transfer = Transfer::run(net, mode, &format!("with-{mode}"))?;
    let pinholes = alg.opened();
    let opened = pinholes.len();
    let used = alg::used(net)? - before;
    let closed = !alg::any_open(net)?;
    let rows = dialogue::rows(&transfer, pinholes);
    for row in &rows {
        page.row(row)?;
        if closed && used == 1 && matches!(row, Row::Dialled { .. }) {
            page.line(Style::Pinhole, "  ○ pinhole closed: this one connection has used it up")?;
        }
    }
    let copy =
        transfer.copy.with_context(|| format!("the {mode} transfer failed: {}", transfer.complaint))?;
    ensure!(opened == 1 && used == 1, "{opened} pinholes were opened and {used} used, instead of one");
    ensure!(closed, "a pinhole is still open");
    if mode == Mode::Active {
        let [private, public] = [CLIENT, ROUTER_WAN].map(commas);
        let rewritten = |row: &Row| matches!(row, Row::Said { lan, wan, .. } if lan.contains(&private) && wan.contains(&public));
        ensure!(rows.iter().any(rewritten), "PORT was not rewritten");
    }
    let [sent, received] = [sha256(&net.server, &net.original())?, sha256(&net.client, &copy)?];
    ensure!(sent == received, "the file has changed on its way: {sent} became {received}");
    page.line(Style::Good, &format!("  ✓ {FILE} is the same at both ends; its SHA-256:"))?;
    page.line(Style::Plain, &format!("    server {sent}"))?;
    page.line(Style::Plain, &format!("    client {received}\n"))?;
    Ok(())
}

fn begin(page: &mut Page, mode: Mode) -> Result<()> {
    let who = match mode {
        Mode::Passive => "the server names a port (227), the client connects to it",
        Mode::Active => "the client names a port (PORT), the server connects to it",
    };
    page.line(Style::Plain, &format!("  {mode} mode: {who}"))?;
    page.columns()?;
    Ok(())
}

/// An address as PORT and 227 write it (RFC 959, 4.1.2).
fn commas(address: Ipv4Addr) -> String {
    address.to_string().replace('.', ",")
}

fn sha256(host: &Host, file: &Path) -> Result<String> {
    let text = host.run("sha256sum", [file])?.success()?.stdout;
    text.split_whitespace().next().map(str::to_owned).with_context(|| format!("sha256sum says {text:?}"))
}
