//! The queue: packets of control connections, as the table diverts them, and what becomes of them.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::super::{Queue, Waiting};
use super::net::{Net, listen};
use super::*;

const NUMBER: u16 = 2121;
const SERVER: &str = "198.51.100.9:21";
/// As many as the daemon's.
const LENGTH: u32 = 1024;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(host: &Host) -> Queue {
    host.run(|| Queue::open().unwrap())
}

fn bound(host: &Host) -> Queue {
    let mut queue = open(host);
    queue.bind(NUMBER, LENGTH).unwrap();
    queue
}

/// A queue that has what the table diverts.
fn filled(net: &Net) -> Queue {
    let queue = bound(&net.router);
    net.firewall.lock().unwrap().divert().unwrap();
    queue
}

/// Packets without a verdict, and those that were dropped because the queue or its socket was full.
fn packets(router: &Host) -> [usize; 3] {
    let line = router.sh("cat /proc/net/netfilter/nfnetlink_queue");
    let columns: Vec<_> = line.split_whitespace().collect();
    [2, 5, 6].map(|column| columns[column].parse().unwrap())
}

/// Connections that are being set up.
fn dial(client: &Host, number: usize) -> Vec<TcpStream> {
    client.run(move || (0..number).map(|_| TcpStream::from(begin())).collect())
}

fn begin() -> OwnedFd {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    let begun = connect(&socket, &SERVER.parse::<SocketAddr>().unwrap());
    assert_eq!(begun.map_err(io::Error::from).unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
    socket
}

/// Has all packets judged that come until a condition holds.
#[track_caller]
fn judge(
    router: &Host,
    queue: &mut Queue,
    mut verdict: impl FnMut(&mut Queue, Waiting, &mut Vec<u8>),
    mut until: impl FnMut() -> bool,
) {
    let (start, mut packet) = (Instant::now(), Vec::new());
    while !until() {
        assert!(start.elapsed() < PATIENCE, "it takes too long");
        if packets(router)[0] == 0 {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        for index in 0..queue.receive().unwrap() {
            let waiting = queue.take(index, &mut packet).unwrap().unwrap();
            verdict(queue, waiting, &mut packet);
        }
        queue.hand_over().unwrap();
    }
}

fn accept(queue: &mut Queue, waiting: Waiting, _: &mut Vec<u8>) {
    queue.accept(waiting, None, None).unwrap();
}

/// A connection with its server's end.
fn connection(net: &Net, queue: &mut Queue, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let dialler = dial(&net.client, 1).remove(0);
    let mut accepted = None;
    judge(&net.router, queue, accept, || {
        accepted = accepted.take().or(listener.accept().ok());
        accepted.is_some()
    });
    let (accepted, _) = accepted.unwrap();
    accepted.set_nonblocking(true).unwrap();
    (dialler, accepted)
}

#[test]
fn a_packet_goes_on_with_other_bytes_and_another_mark_or_not_at_all() {
    let net = Net::new();
    let listener = listen(&net.server, SERVER);
    let mut queue = filled(&net);
    net.router.sh("nft 'add table inet seen; add counter inet seen marked
        add chain inet seen last { type filter hook postrouting priority 500; }
        add rule inet seen last meta mark 0x42 counter name marked'");
    let (mut client, mut server) = connection(&net, &mut queue, &listener);
    client.write_all(b"abcd").unwrap();
    let (mut seen, mut received, mut hooks) = (0, Vec::new(), Vec::new());
    let swap = |queue: &mut Queue, waiting: Waiting, packet: &mut Vec<u8>| {
        seen += 1;
        hooks.push(waiting.hook);
        assert!(waiting.is_whole);
        assert!(packet.ends_with(b"abcd"), "{packet:?}");
        if seen == 1 {
            return queue.drop(waiting).unwrap();
        }
        // Whole words change places, so the checksum stays right.
        let payload = packet.len() - 4;
        packet[payload..].rotate_left(2);
        queue.accept(waiting, Some(0x42), Some(packet)).unwrap();
    };
    judge(&net.router, &mut queue, swap, || {
        let _ = server.read_to_end(&mut received);
        !received.is_empty()
    });
    assert_eq!(received, b"cdab");
    // The first one was sent again. NF_INET_POST_ROUTING.
    assert!(seen >= 2 && hooks.iter().all(|hook| *hook == 4), "{seen} {hooks:?}");
    let marked = net.router.sh("nft list counter inet seen marked");
    assert!(!marked.contains("packets 0 "), "{marked}");
}

#[test]
fn hundreds_of_packets_wait_and_go_on_in_few_calls() {
    const CONNECTIONS: usize = 400;
    let net = Net::new();
    let listener = listen(&net.server, SERVER);
    let mut queue = filled(&net);
    let clients = dial(&net.client, CONNECTIONS);
    let start = Instant::now();
    while packets(&net.router)[0] < CONNECTIONS {
        assert!(start.elapsed() < PATIENCE, "{:?} wait", packets(&net.router));
        std::thread::sleep(Duration::from_millis(5));
    }
    // The kernel's own buffers would hold 250.
    assert_eq!(packets(&net.router)[1..], [0, 0]);

    let mut packet = Vec::new();
    let (mut calls, mut taken) = (0, Vec::new());
    while taken.len() < CONNECTIONS {
        calls += 1;
        for index in 0..queue.receive().unwrap() {
            let waiting = queue.take(index, &mut packet).unwrap().unwrap();
            // With their bytes, they are more than one datagram is to hold.
            queue.accept(waiting, None, Some(&packet)).unwrap();
            taken.push(waiting);
        }
    }
    queue.hand_over().unwrap();
    assert!(calls <= CONNECTIONS / 8, "{calls} calls for {CONNECTIONS} packets");
    // All verdicts have come; a second one on the same packet is an error that is told in its turn.
    queue.drop(taken[0]).unwrap();
    queue.hand_over().unwrap();
    let mut gone = 0;
    while gone == 0 {
        for index in 0..queue.receive().unwrap() {
            match queue.take(index, &mut packet) {
                Ok(waiting) => queue.accept(waiting.unwrap(), None, None).unwrap(),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
                    gone += 1;
                }
            }
        }
        queue.hand_over().unwrap();
    }
    assert_eq!(gone, 1);
    // The handshakes go on: as many at least as the listener lets wait.
    let established = || clients.iter().filter(|client| client.peer_addr().is_ok()).count() >= 100;
    judge(&net.router, &mut queue, accept, established);
    drop(listener);
}

#[test]
fn a_queue_has_one_reader() {
    let (host, _firewall) = installed(&config());
    let first = bound(&host);
    let mut second = open(&host);
    let error = second.bind(NUMBER, LENGTH).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EPERM)), "{error}");
    second.bind(NUMBER + 1, LENGTH).unwrap();
    drop(first);
    // A socket that is closed lets go of its queue a moment later.
    until(|| open(&host).bind(NUMBER, LENGTH).is_ok());
}
