//! Sets that are full.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;

use ftpalg::engine::pinhole::Change;

use super::super::transaction::{CommitError, Refused};
use super::net::{Net, connects, is_refused, listen};
use super::*;

/// So many connections, from 203.0.113.0 and its neighbours.
fn crowd(size: u32) -> impl Iterator<Item = ControlTuple> {
    (0..size).map(|number| {
        let port = u16::try_from(1024 + number % 50_000).unwrap();
        let client = (Ipv4Addr::from_bits(0xcb00_7100 + number / 50_000), port).into();
        ControlTuple { server: "192.0.2.1:21".parse().unwrap(), client }
    })
}

/// Fills a set of connections.
fn fill(host: &Host, set: &str, size: u32) {
    host.add_elements(
        set,
        crowd(size).map(|ControlTuple { server, client }| {
            format!("{} . {} . {} . {}", server.ip(), server.port(), client.ip(), client.port())
        }),
    );
}

#[test]
fn a_full_set_of_control_connections_takes_no_more_and_keeps_what_it_has() {
    let (host, mut firewall) = installed(&config());
    fill(&host, "control4", 131_072);
    let known = tuple("203.0.113.0:1024", "192.0.2.1:21");
    let other = tuple("198.51.100.7:1024", "192.0.2.1:21");
    assert!(matches!(
        firewall.commit(&[Change::Track(other)]),
        Err(Refused { error: CommitError::Full, .. })
    ));
    // The clock of one that is there can be started anew, and IPv6 has a set of its own.
    firewall.commit(&[Change::Track(known)]).unwrap();
    firewall.commit(&[Change::Track(tuple("[2001:db8::1]:1024", "[2001:db8::2]:21"))]).unwrap();
    firewall.commit(&[Change::Depart(known), Change::Track(other)]).unwrap();
    assert!(matches!(
        firewall.commit(&[Change::Track(known)]),
        Err(Refused { error: CommitError::Full, .. })
    ));
}

#[test]
fn a_data_connection_passes_where_no_more_can_be_remembered() {
    let net = Net::new();
    fill(&net.router, "used4", 262_144);
    let listener = listen(&net.client, "192.168.1.2:4000");
    net.commit(&[Change::Open(pinhole(
        "198.51.100.9",
        "198.51.100.1:5000",
        "192.168.1.2:4000",
        "203.0.113.50",
        0,
    ))]);
    let mut data = connects(&net.server, "198.51.100.1:5000", &listener);
    data.dialler.write_all(b"data").unwrap();
    let mut read = [0; 4];
    data.listener.set_nonblocking(false).unwrap();
    data.listener.read_exact(&mut read).unwrap();
    assert_eq!(net.router.counted("used_full"), 1);
    assert_eq!(net.router.counted("pinholes_used"), 1);
    assert_eq!(net.leaked(), 0);
    is_refused(&net.server, "198.51.100.1:5000");
}

/// As many connections are shifted as the kernel has room for: another passes as it is.
#[test]
fn a_connection_passes_where_no_more_can_be_shifted() {
    let net = Net::with(&config());
    let hold = |changes: &[Change]| net.firewall.lock().unwrap().commit(changes);
    assert!(
        net.firewall.lock().unwrap().translated_mark().is_some(),
        "this kernel has no tables with an owner"
    );
    let listener = listen(&net.server, "198.51.100.9:21");
    let mut control = connects(&net.client, "198.51.100.9:21", &listener);
    control.listener.set_nonblocking(false).unwrap();
    let (server, client) = (control.listener.local_addr().unwrap(), control.peer);
    let known = ControlTuple { server, client };
    // With tables of this size the minute of `control_new` can be over before the test is.
    hold(&[Change::Track(known)]).unwrap();
    let others: Vec<_> = crowd(131_072).collect();
    hold(&others.iter().copied().map(Change::Shift).collect::<Vec<_>>()).unwrap();
    assert!(matches!(hold(&[Change::Shift(known)]), Err(Refused { error: CommitError::Full, .. })));
    let mut read = [0; 6];
    control.dialler.write_all(b"NOOP\r\n").unwrap();
    control.listener.read_exact(&mut read).unwrap();
    assert!(net.router.sh("nft list counter inet ftpalg_hold held_up").contains("packets 0 "));
    assert_eq!(net.leaked(), 0);
    // Once others have gone, there is room again.
    net.commit(&others[..10].iter().copied().map(Change::Depart).collect::<Vec<_>>());
    hold(&[Change::Shift(known)]).unwrap();
    net.router.sh("nft 'flush chain inet ftpalg divert_shifted; add rule inet ftpalg divert_shifted meta mark set meta mark | 0x200000'");
    control.dialler.write_all(b"NOOP\r\n").unwrap();
    control.listener.read_exact(&mut read).unwrap();
    net.router.sh("nft flush chain inet ftpalg divert_shifted");
    control.dialler.write_all(b"NOOP\r\n").unwrap();
    control.listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    control.listener.read_exact(&mut read).expect_err("held up");
}

/// Sources of pinholes that are none of a test's own.
fn strangers(number: u32) -> impl Iterator<Item = String> {
    (0..number).map(|number| format!("{} . 10.9.9.9 . 9", Ipv4Addr::from_bits(0x0a00_0000 + number)))
}

/// What the packet path deletes stays in the kernel's set for up to a second, and takes room.
#[test]
fn one_port_after_another_is_opened_and_used_where_there_is_room_for_few() {
    let net = Net::new();
    net.router.add_elements("open4", strangers(65_536 - 2));
    let listener = listen(&net.client, "192.168.1.2:4000");
    for port in [5000; 10].into_iter().chain(5001..5010) {
        let dialled = format!("198.51.100.1:{port}");
        let pinhole = pinhole("198.51.100.9", &dialled, "192.168.1.2:4000", "203.0.113.50", 0x42);
        net.commit(&[Change::Open(pinhole)]);
        connects(&net.server, &dialled, &listener);
        net.commit(&[Change::Close(pinhole.key)]);
    }
    assert_eq!(net.router.counted("pinholes_used"), 19);
    assert_eq!(net.router.elements("spent4"), [""; 0]);
    assert_eq!(net.router.elements("dnat4"), [""; 0]);
}

#[test]
fn a_pinhole_is_used_up_where_that_can_not_be_remembered() {
    let net = Net::new();
    net.router.add_elements("spent4", strangers(65_536));
    let listener = listen(&net.client, "192.168.1.2:4000");
    let pinhole = pinhole("198.51.100.9", "198.51.100.1:5000", "192.168.1.2:4000", "203.0.113.50", 0);
    net.commit(&[Change::Open(pinhole)]);
    connects(&net.server, "198.51.100.1:5000", &listener);
    assert!(net.firewall.lock().unwrap().was_used(&pinhole.key));
    is_refused(&net.server, "198.51.100.1:5000");
    assert_eq!(net.router.counted("pinholes_used"), 1);
    assert_eq!(net.leaked(), 0);
}
