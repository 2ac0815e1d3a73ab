//! The router's WAN address changes.

use anyhow::Result;

use crate::harness::{Client, Mode, STANDARD, ServerKind, Setup, Topology};

#[test]
fn the_next_session_uses_the_new_wan_address() -> Result<()> {
    let mut net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let [first, second] = ["198.51.100.200", "198.51.100.97"];
    for (old, new) in [(None, first), (Some(first), second), (Some(second), first)] {
        if let Some(old) = old {
            net.readdress(old, new)?;
        }
        // A session's checks include that the server saw the client under the new address.
        for (client, mode) in [
            (Client::Curl, Mode::Port),
            (Client::Curl, Mode::Eprt),
            (Client::Tnftp, Mode::Pasv),
            (Client::Ftplib, Mode::Epsv),
        ] {
            net.session(client, mode, &server, &STANDARD)?;
        }
    }
    net.finish()
}
