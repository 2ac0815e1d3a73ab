//! What proc(5) and sysfs tell of this network namespace and of processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel parameter that is a number, such as `net.ipv4.ip_forward`; `None` where there is none.
pub fn sysctl(name: &str) -> Option<u64> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The same of each interface: `net.ipv4.conf.*.NAME`, without the entries `all` and `default` and without the loopback.
pub fn by_interface(version: &str, name: &str) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(format!("/proc/sys/net/{version}/conf")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let interfaces = names.filter(|interface| !["all", "default", "lo"].contains(&interface.as_str()));
    interfaces
        .filter_map(|interface| {
            let path = format!("/proc/sys/net/{version}/conf/{interface}/{name}");
            let number = fs::read_to_string(path).ok()?.trim().parse().ok()?;
            Some((interface, number))
        })
        .collect()
}

/// A file of this network namespace under `/proc/net`.
pub fn net(file: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).ok()
}

/// A bridge with at least two ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    /// Whether IPv4 that it passes on comes to the hooks of IPv4 (br_netfilter), by its own switch or that of all bridges.
    pub calls_iptables: bool,
    /// The same of IPv6.
    pub calls_ip6tables: bool,
}

/// The bridges, in the order of their names: those of the network namespace in which `/sys` was mounted.
pub fn bridges() -> Vec<Bridge> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut bridges: Vec<_> = entries
        .filter(|entry| fs::read_dir(entry.path().join("brif")).is_ok_and(|ports| ports.count() > 1))
        .filter_map(|entry| {
            let calls = |tables: &str| {
                let own = fs::read_to_string(entry.path().join(format!("bridge/nf_call_{tables}")));
                sysctl(&format!("net.bridge.bridge-nf-call-{tables}")) == Some(1)
                    || own.is_ok_and(|own| own.trim() == "1")
            };
            Some(Bridge {
                name: entry.file_name().into_string().ok()?,
                calls_iptables: calls("iptables"),
                calls_ip6tables: calls("ip6tables"),
            })
        })
        .collect();
    bridges.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    bridges
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its main thread's name.
    pub name: String,
    /// As whom it runs: the effective user.
    pub user: u32,
    /// Its state, such as `S (sleeping)`.
    pub state: String,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim());
        Some(Self {
            pid,
            name: field("Name:")?.to_owned(),
            user: field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            state: field("State:")?.to_owned(),
        })
    }

    /// Whether somebody has halted it (SIGSTOP).
    pub fn is_stopped(&self) -> bool {
        self.state.starts_with(['T', 't'])
    }

    /// Whether its program is another ftpalg, or this very file.
    pub fn is_ftpalg(&self) -> bool {
        let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let is_same = program("self").is_some_and(|own| Some(own) == program(&self.pid.to_string()));
        self.name == "ftpalg" || is_same
    }

    /// Who has the netlink socket to netfilter open that the kernel knows by this port id; whoever keeps it for another
    /// does not count where a better one is found.
    pub fn of_port_id(port_id: u32) -> Option<Self> {
        let inode = inode(&net("netlink")?, port_id)?;
        let socket = PathBuf::from(format!("socket:[{inode}]"));
        let entries = fs::read_dir("/proc").ok()?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let holds = |pid: &u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|target| target == socket)
        };
        let holders: Vec<_> = pids.filter(holds).filter_map(Self::read).collect();
        holders.iter().find(|holder| holder.is_ftpalg()).or(holders.first()).cloned()
    }
}

/// The inode of a socket in /proc/net/netlink (`netlink_native_seq_show`): sk, protocol, port id, groups, and so on; the
/// inode is the last.
fn inode(table: &str, port_id: u32) -> Option<u64> {
    let protocol = libc::NETLINK_NETFILTER.to_string();
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| {
        row.get(1) == Some(&protocol.as_str()) && row.get(2).and_then(|id| id.parse().ok()) == Some(port_id)
    })?;
    row.last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_port_id() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                     000000001 0   29918      00000000 0        0        0     2        0        111\n\
                     000000002 12  29918      00000000 0        0        0     2        0        222\n";
        assert_eq!(inode(table, 29918), Some(222));
        assert_eq!(inode(table, 1), None);
    }

    #[test]
    fn this_process_is_known() {
        let own = Process::read(std::process::id()).unwrap();
        assert!(own.is_ftpalg() && !own.is_stopped(), "{own:?}");
        assert_eq!(own.user, rustix::process::geteuid().as_raw());
    }
}
