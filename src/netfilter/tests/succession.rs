//! What one daemon leaves to the next: the table that belongs to a socket which somebody keeps.

use std::os::fd::OwnedFd;

use ftpalg::engine::pinhole::Change;

use super::net::{Net, connects, is_dropped, listen};
use super::*;

/// The socket that a daemon's table belongs to, as a service manager has it.
fn kept(firewall: &mut Firewall) -> OwnedFd {
    let socket = firewall.hold_owner().expect("this kernel has tables with an owner");
    let socket = socket.try_clone_to_owned().unwrap();
    firewall.hold_is_kept();
    socket
}

fn holds(host: &Host) -> Vec<String> {
    let tables = host.sh("nft list tables");
    let mut names: Vec<_> = tables.lines().filter_map(|line| line.strip_prefix("table inet ")).collect();
    names.retain(|name| *name != "ftpalg");
    names.into_iter().map(str::to_owned).collect()
}

/// It was killed each time, before it had taken out the table of the one before.
#[test]
fn of_two_tables_that_are_left_the_older_makes_way() {
    let host = Host::new();
    let next = |sockets: Vec<OwnedFd>| {
        host.run(move || {
            let mut firewall = open_firewall(&config());
            firewall.inherit(sockets);
            firewall.install(Live::default()).unwrap();
            firewall
        })
    };
    let mut sockets = Vec::new();
    for names in [&["ftpalg_hold"][..], &["ftpalg_hold", "ftpalg_hold_2"], &["ftpalg_hold_2", "ftpalg_hold"]]
    {
        let clones = sockets.iter().map(|socket: &OwnedFd| socket.try_clone().unwrap()).collect();
        let mut firewall = next(clones);
        sockets.push(kept(&mut firewall));
        assert_eq!(holds(&host), names);
    }
    let mut last = next(sockets);
    assert_eq!(holds(&host), ["ftpalg_hold", "ftpalg_hold_2"]);
    assert_eq!(last.take_over(), ["ftpalg_hold"]);
    assert_eq!(holds(&host), ["ftpalg_hold_2"]);
    last.remove(&[]).unwrap();
    assert_eq!(host.sh("nft list tables"), "");
}

#[test]
fn what_nobody_will_read_is_not_held_up() {
    let net = Net::new();
    let listener = listen(&net.server, "198.51.100.9:21");
    let socket = kept(&mut net.firewall.lock().unwrap());
    net.router.sh("nft delete table inet ftpalg");
    is_dropped(&net.client, "198.51.100.9:21");
    net.router.run(|| {
        let mut next = open_firewall(&config());
        next.inherit(vec![socket]);
        next.stop_watching();
    });
    connects(&net.client, "198.51.100.9:21", &listener);
    assert_eq!(holds(&net.router), ["filter", "ftpalg_hold"]);
}

/// As where libnftables would crash.
#[test]
fn without_libnftables_the_end_leaves_what_holds_back_shifted_connections() {
    let shifted = tuple("203.0.113.1:40000", "198.51.100.9:21");
    let (host, mut firewall) = installed(&config());
    firewall.divert().unwrap();
    firewall.commit(&[Change::Track(shifted), Change::Shift(shifted)]).unwrap();
    firewall.remove_table(&[shifted]).unwrap();
    assert!(!host.sh("nft list chain inet ftpalg divert").contains("queue"));
    let shifted_chain = host.sh("nft list chain inet ftpalg divert_shifted");
    assert!(shifted_chain.contains("queue") || shifted_chain.contains("NFQUEUE"), "{shifted_chain}");
    assert_eq!(firewall.held_back().unwrap().into_iter().collect::<Vec<_>>(), [shifted]);

    firewall.remove_table(&[]).unwrap();
    assert_eq!(holds(&host), ["ftpalg_hold"]);
    assert!(!host.sh("nft list tables").contains("ftpalg\n"));
}
