//! The demo's net: a client, a router and a server, each in a network namespace.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use netlab::{Host, Lab, Process};

/// The client, in the LAN.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 2);
/// The router's address in the LAN.
pub const ROUTER_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
/// The router's address in the WAN, under which everybody there knows the client.
pub const ROUTER_WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// The server, beyond the router's uplink.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// The server's end of the WAN link.
const UPLINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The file that is transferred, as the client names it.
pub const FILE: &str = "pub/file";
const FILE_LENGTH: usize = 1 << 20;

/// The ruleset for home and office routers, as the project recommends it.
const EXAMPLE: &str = include_str!("../../nft-rules/examples/router.nft");

/// The hosts and the server's program. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct Net {
    _vsftpd: Process,
    /// The host in the LAN.
    pub client: Host,
    /// The host in between.
    pub router: Host,
    /// The host in the WAN.
    pub server: Host,
    // The last one: it removes the directory in which all of them have their files.
    lab: Lab,
}

impl Net {
    /// Builds it, with the router's firewall loaded and the server listening.
    pub fn build() -> Result<Net> {
        let lab = Lab::new()?;
        let [client, router, server] = [lab.host("client")?, lab.host("router")?, lab.host("server")?];
        lab.link(&client, &[&format!("{CLIENT}/24")], &router, &[&format!("{ROUTER_LAN}/24")])?;
        let beyond = [format!("{UPLINK}/24"), format!("{SERVER}/32")];
        lab.link(&router, &[&format!("{ROUTER_WAN}/24")], &server, &beyond.each_ref().map(String::as_str))?;
        client.route(&format!("default via {ROUTER_LAN}"))?;
        router.route(&format!("default via {UPLINK}"))?;
        router.forwarding(true)?;
        router.nft(&ruleset()?)?;
        let vsftpd = start_server(&server, lab.dir())?;
        Ok(Net { _vsftpd: vsftpd, client, router, server, lab })
    }

    /// The directory for the demo's files.
    pub fn dir(&self) -> &Path {
        self.lab.dir()
    }

    /// The original of the file that is transferred.
    pub fn original(&self) -> PathBuf {
        root(self.dir()).join(FILE)
    }
}

/// The example, with this net's names in its definitions and, of its two ways to treat the LAN, the strict one:
/// with the other one passive mode would need no ALG.
fn ruleset() -> Result<String> {
    const CHOSEN: &str = "iifname $lan oifname $wan tcp dport { 21, 80, 443 } accept\n";
    let changes = [
        // netlab calls an interface after the host at the other end.
        ("define wan = \"eth0\"\n", "define wan = \"server\"\n"),
        ("define lan = \"eth1\"\n", "define lan = \"client\"\n"),
        ("define lan4 = 192.168.1.0/24\n", &format!("define lan4 = {ROUTER_LAN}/24\n")),
        ("\t\tiifname $lan oifname $wan accept\n", ""),
        (&format!("#   {CHOSEN}"), CHOSEN),
    ];
    let mut text = EXAMPLE.to_owned();
    for (old, new) in changes {
        let (before, after) = text
            .split_once(old)
            .with_context(|| format!("nft-rules/examples/router.nft has no line {:?}", old.trim()))?;
        text = format!("{before}{new}{after}");
    }
    Ok(text)
}

/// vsftpd as it comes: it refuses a PORT that names another address than the client's.
fn start_server(host: &Host, dir: &Path) -> Result<Process> {
    let root = root(dir);
    fs::create_dir_all(root.join("pub"))?;
    let content = (0_u64..).flat_map(|number| (number * number).to_be_bytes());
    fs::write(root.join(FILE), content.take(FILE_LENGTH).collect::<Vec<_>>())?;
    // vsftpd reads them as another user, whatever this process's umask is.
    for (path, mode) in [(root.clone(), 0o755), (root.join("pub"), 0o755), (root.join(FILE), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let config = dir.join("vsftpd.conf");
    // The users are there on every Debian machine; seccomp and namespaces of its own are not on every kernel.
    fs::write(
        &config,
        format!(
            "background=NO
listen=YES
listen_ipv6=NO
anonymous_enable=YES
no_anon_password=YES
ftp_username=daemon
nopriv_user=nobody
anon_root={}
secure_chroot_dir={}
connect_from_port_20=YES
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
xferlog_enable=NO
",
            root.display(),
            dir.display()
        ),
    )?;
    let log = dir.join("vsftpd.log");
    let vsftpd = host.spawn(&log, "vsftpd", [&config])?;
    host.wait_for_port(21, Duration::from_secs(5))
        .with_context(|| format!("vsftpd says: {}", vsftpd.log()))?;
    Ok(vsftpd)
}

/// What FTP clients see as `/`.
fn root(dir: &Path) -> PathBuf {
    dir.join("server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_can_be_adapted() {
        let text = ruleset().unwrap();
        assert!(text.contains("define wan = \"server\""));
        assert_eq!(text.matches("iifname $lan oifname $wan").count(), 1);
        assert!(text.contains("\t\tiifname $lan oifname $wan tcp dport { 21, 80, 443 } accept\n"), "{text}");
    }
}
