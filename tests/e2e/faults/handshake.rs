//! Handshakes of control connections that take longer than what came before them is remembered: what they lead to is
//! followed like any other session.

use std::thread;
use std::time::Duration;

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

/// The client's port is that of a session before, which the daemon forgets between the SYN and its answer.
#[test]
fn a_handshake_during_which_a_former_session_is_forgotten() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).plan(Plan::ShortInside).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let from = ["", "40000"];
    let mut former = Session::from(&net, &server, &from)?;
    former.fetch_in_all_modes()?;
    former.quit()?;
    // Of the server's answers the first two are lost, and the third comes after three seconds. Of the client's SYNs all but
    // the first are.
    net.router().nft(
        "table inet deaf {
            counter unheard { }
            chain prerouting {
                type filter hook prerouting priority -500;
                tcp sport 21 tcp flags & (syn | ack) == (syn | ack) limit rate 1/hour burst 2 packets counter name unheard drop
                tcp dport 21 tcp flags & (syn | ack) == syn limit rate over 1/hour burst 1 packets drop
            }
        }",
    )?;
    // An ended session has thirty seconds, and the daemon looks at its clock once a second.
    thread::sleep(Duration::from_secs(29));
    let mut session = Session::from(&net, &server, &from)?;
    ensure!(net.router().counter("inet deaf unheard")? == 2, "it came to be at once");
    session.fetch_in_all_modes()?;
    session.quit()?;
    net.finish()
}

/// The client's port is that of a session which the server has reset: as long as conntrack remembers that, it takes the SYN
/// for an answer to nothing, and the rules hear of no new connection.
#[test]
fn a_handshake_soon_after_a_reset_by_the_server() -> Result<()> {
    let net = Setup::new(Topology::Firewall).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let from = ["", "40000"];
    for seconds in [1, 5] {
        let mut former = Session::from(&net, &server, &from)?;
        former.fetch_in_all_modes()?;
        net.server().run("ss", ["-K", "state", "established", "sport", "=", ":21"])?.success()?;
        drop(former);
        thread::sleep(Duration::from_secs(seconds));
        let mut session = Session::from(&net, &server, &from)?;
        session.fetch_in_all_modes()?;
        session.quit()?;
    }
    net.finish()
}
