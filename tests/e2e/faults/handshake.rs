//! Handshakes of control connections that take longer than a SYN is remembered: what is tried again in the end is
//! followed like any other session.

use anyhow::{Result, ensure};
use netlab::Host;

use crate::harness::{Net, Plan, ServerKind, Setup, Topology};
use crate::life::Session;

/// For so long a host hears nothing of a part of the handshake: longer than `control_new` remembers a SYN for, and until
/// between TCP's fourth attempt (after 7 seconds) and its fifth (after 15).
const DEAF_SECONDS: u64 = 12;

fn deaf_to(host: &Host, flags: &str) -> Result<()> {
    host.nft(&format!(
        "table inet deaf {{
            set shortly {{ type inet_proto; flags timeout; elements = {{ tcp timeout {DEAF_SECONDS}s }} }}
            counter unheard {{ }}
            chain input {{
                type filter hook input priority 0;
                tcp flags & (fin | syn | rst | ack) == {flags} ip protocol @shortly counter name unheard drop
            }}
        }}"
    ))
}

fn is_followed(deaf: impl Fn(&Net) -> &Host, flags: &str) -> Result<()> {
    let net = Setup::new(Topology::Masquerade).plan(Plan::ShortInside).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    deaf_to(deaf(&net), flags)?;
    let mut session = Session::open(&net, &server)?;
    ensure!(deaf(&net).counter("inet deaf unheard")? >= 4, "it came to be at once");
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

#[test]
fn a_server_that_hears_no_syn_for_long() -> Result<()> {
    is_followed(Net::server, "syn")
}

#[test]
fn a_client_that_hears_no_syn_ack_for_long() -> Result<()> {
    is_followed(Net::client, "(syn | ack)")
}

/// The client takes the connection for established and waits for the greeting.
#[test]
fn a_server_that_hears_no_answer_for_long() -> Result<()> {
    is_followed(Net::server, "ack")
}
