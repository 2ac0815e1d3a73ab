//! Control ports other than 21, and several at once.

use std::thread;

use anyhow::{Result, anyhow};

use crate::harness::{Client, Mode, Net, STANDARD, ServerKind, Setup, Topology};

#[test]
fn a_control_port_other_than_21() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Dnat, Topology::Firewall6] {
        let net = Setup::new(topology).ports(&[2121]).build()?;
        let server = net.serve(ServerKind::Vsftpd)?;
        net.session(Client::Curl, Mode::Eprt, &server, &STANDARD)?;
        net.session(Client::Lftp, Mode::Epsv, &server, &STANDARD)?;
        net.finish()?;
    }
    Ok(())
}

/// A server on each port, and sessions with all of them at the same time.
fn at_the_same_time(net: &Net) -> Result<()> {
    let mut servers = vec![];
    for (kind, port) in [(ServerKind::Vsftpd, 21), (ServerKind::Proftpd, 2121), (ServerKind::Pyftpdlib, 8021)]
    {
        servers.push(net.serve_on(kind, port)?);
    }
    thread::scope(|scope| {
        let mut sessions = vec![];
        for server in &servers {
            for (client, mode) in
                [(Client::Curl, Mode::Port), (Client::Tnftp, Mode::Pasv), (Client::Lftp, Mode::Epsv)]
            {
                sessions.push(scope.spawn(move || net.unwatched_session(client, mode, server, &STANDARD)));
            }
        }
        for session in sessions {
            session.join().map_err(|_| anyhow!("a session panicked"))??;
        }
        Ok(())
    })
}

#[test]
fn several_control_ports_and_many_sessions_at_once() -> Result<()> {
    for topology in [Topology::Masquerade, Topology::Dnat] {
        let net = Setup::new(topology).ports(&[21, 2121, 8021]).build()?;
        at_the_same_time(&net)?;
        net.finish()?;
    }
    Ok(())
}
