//! What the kernel and this process must have for ftpalg to run, and what to do about what is missing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use ftpalg::engine::control::ControlTuple;

use super::connection::Connection;
use super::conntrack::ConnTrack;
use super::netlink::{Request, subsystem};

/// `NFQNL_MSG_CONFIG`, `NFQA_CFG_CMD` and `NFQNL_CFG_CMD_PF_BIND` (nfnetlink_queue.h). The kernel has taken this
/// command and done nothing since 3.8, which makes it a question that changes nothing.
const NFQNL_MSG_CONFIG: u8 = 2;
const NFQA_CFG_CMD: u16 = 1;
const NFQNL_CFG_CMD_PF_BIND: u8 = 3;

/// `CAP_NET_ADMIN` (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;

/// Something that is missing, with its mend. How packets are to be queued is found out by
/// [`super::Firewall::divert`], the rest of nftables by [`super::Firewall::install`].
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("no permission to change the network: run as root or with CAP_NET_ADMIN")]
    Capability,
    #[error("no netlink to netfilter ({0}): the kernel needs CONFIG_NETFILTER_NETLINK")]
    Netlink(#[source] io::Error),
    #[error(
        "packets can't be queued to a program ({0}): the kernel needs CONFIG_NETFILTER_NETLINK_QUEUE \
         (modprobe nfnetlink_queue)"
    )]
    Queue(#[source] io::Error),
    #[error(
        "connections can't be looked up ({0}): the kernel needs CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink)"
    )]
    ConnTrack(#[source] io::Error),
}

/// Everything that is missing, as far as can be told without changing anything.
pub fn missing() -> Vec<Missing> {
    if !has_net_admin() {
        // Nothing else can be found out without it.
        return vec![Missing::Capability];
    }
    let mut missing = Vec::new();
    match Connection::open() {
        Ok(mut connection) => missing.extend(ask_queue(&mut connection).err().map(Missing::Queue)),
        Err(error) => return vec![Missing::Netlink(error)],
    }
    missing.extend(ask_conntrack().err().map(Missing::ConnTrack));
    // In a user namespace that does not own this network namespace, a capability is not what it seems.
    let is_forbidden = |one: &Missing| match one {
        Missing::Queue(error) | Missing::ConnTrack(error) => error.raw_os_error() == Some(libc::EPERM),
        Missing::Capability | Missing::Netlink(_) => false,
    };
    if missing.iter().any(is_forbidden) { vec![Missing::Capability] } else { missing }
}

fn ask_queue(connection: &mut Connection) -> io::Result<()> {
    let acknowledge = u16::try_from(libc::NLM_F_ACK).unwrap_or_default();
    // struct nfqnl_msg_config_cmd: command, padding, protocol family in network order.
    let command = [NFQNL_CFG_CMD_PF_BIND, 0, 0, libc::PF_INET.to_le_bytes()[0]];
    let request = Request::new(subsystem::QUEUE, NFQNL_MSG_CONFIG, 0, acknowledge);
    connection.request(request.attribute(NFQA_CFG_CMD, &command), |_| {})
}

/// Asks for a connection that can't be: that it is not found is the answer of a conntrack that works.
fn ask_conntrack() -> io::Result<()> {
    let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    ConnTrack::open()?.entry(&ControlTuple { server: nobody, client: nobody }).map(|_| ())
}

fn has_net_admin() -> bool {
    std::fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| {
        effective_capabilities(&status).is_some_and(|set| (set >> CAP_NET_ADMIN) & 1 == 1)
    })
}

/// The effective capabilities in a `status` file of proc(5).
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let status = "Name:\tcat\nCapPrm:\t0\nCapEff:\t0000000000001000\nCapBnd:\t0\n";
        assert_eq!(effective_capabilities(status), Some(1 << CAP_NET_ADMIN));
        assert_eq!(effective_capabilities("Name:\tcat\n"), None);
    }
}
