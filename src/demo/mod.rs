//! `ftpalg demo`: FTP through a NAT router with a strict firewall, first without an ALG and then with this one.
//!
//! Client, router and server are network namespaces; the client is curl, the server vsftpd, the firewall
//! nft-rules/examples/router.nft. What the two columns show was captured on the two sides of the router.

mod alg;
mod dialogue;
mod net;
mod page;
mod requirements;
mod story;
mod transfer;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::exit;
use crate::terminal::{Style, complain, is_closed_pipe};
use net::Net;
use page::Page;
use requirements::Missing;

/// Runs the demo and returns its exit code: 0 only if all of it went as it should.
pub fn run() -> u8 {
    if let Err(missing) = requirements::check() {
        complain(&missing);
        return match missing {
            Missing::Root => exit::NO_PERMISSION,
            Missing::Programs(_) => exit::FAILURE,
        };
    }
    let interrupt = Interrupt::default();
    match interrupt.watch().and_then(|()| tell(&interrupt)) {
        Ok(()) => exit::OK,
        Err(error) => {
            if interrupt.came() {
                complain(&"the demo was interrupted; everything that it made is gone again");
            } else if !is_closed_pipe(&error) {
                complain(&format_args!("the demo did not go as it should: {error:#}"));
            }
            exit::FAILURE
        }
    }
}

fn tell(interrupt: &Interrupt) -> Result<()> {
    let start = Instant::now();
    let mut page = Page::new();
    let net = Net::build()?;
    story::tell(&net, &mut page, interrupt)?;
    drop(net);
    let seconds = start.elapsed().as_secs_f32();
    page.line(
        Style::Good,
        &format!(
            "✓ FTP transfers without ftpalg: 0 of 2, with ftpalg: 2 of 2. {seconds:.1} seconds; nothing is left behind."
        ),
    )?;
    Ok(())
}

/// Signals that ask the demo to end. It does so at the next step, and takes everything away first.
#[derive(Debug, Default)]
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn watch(&self) -> Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&self.0)).context("signals cannot be caught")?;
        }
        Ok(())
    }

    fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// A signal has come.
    fn check(&self) -> Result<()> {
        if self.came() {
            bail!("interrupted");
        }
        Ok(())
    }
}
