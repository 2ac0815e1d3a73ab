//! The router's WAN address changes.

use anyhow::Result;

use crate::harness::{Client, Mode, STANDARD, ServerKind, Setup, Topology};

fn changes(topology: Topology, [first, second]: [&str; 2], sessions: &[(Client, Mode)]) -> Result<()> {
    let mut net = Setup::new(topology).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    for (old, new) in [(None, first), (Some(first), second), (Some(second), first)] {
        if let Some(old) = old {
            net.readdress(old, new)?;
        }
        // A session's checks include that the server saw the client under the new address.
        for &(client, mode) in sessions {
            net.session(client, mode, &server, &STANDARD)?;
        }
    }
    net.finish()
}

#[test]
fn the_next_session_uses_the_new_wan_address() -> Result<()> {
    let sessions = [
        (Client::Curl, Mode::Port),
        (Client::Curl, Mode::Eprt),
        (Client::Tnftp, Mode::Pasv),
        (Client::Ftplib, Mode::Epsv),
    ];
    changes(Topology::Masquerade, ["198.51.100.200", "198.51.100.97"], &sessions)
}

#[test]
fn the_next_session_uses_the_new_wan_address_over_ipv6() -> Result<()> {
    let sessions = [(Client::Curl, Mode::Eprt), (Client::Ftplib, Mode::Epsv)];
    changes(Topology::Masquerade6, ["2001:db8:0:2::1", "2001:db8:0:2::97"], &sessions)
}
