//! A lab does what it says and leaves nothing behind. Needs root.

use std::fs;
use std::panic::catch_unwind;
use std::time::Duration;

use netlab::{Disorder, Host, Lab, Tunnel};

fn ping(from: &Host, to: &str) -> bool {
    from.run("ping", ["-c1", "-W1", to]).is_ok_and(|output| output.status.success())
}

#[test]
fn linked_hosts_reach_each_other_and_routes_lead_further() {
    let lab = Lab::new().unwrap();
    let [client, router, server] = ["client", "router", "server"].map(|name| lab.host(name).unwrap());
    lab.link(&client, &["10.0.0.2/24", "fd00:1::2/64"], &router, &["10.0.0.1/24", "fd00:1::1/64"]).unwrap();
    lab.link(&router, &["10.0.1.1/24", "fd00:2::1/64"], &server, &["10.0.1.2/24", "fd00:2::2/64"]).unwrap();
    assert!(ping(&client, "10.0.0.1") && ping(&client, "fd00:1::1"));

    client.route("default via 10.0.0.1").unwrap();
    client.route("default via fd00:1::1").unwrap();
    server.route("default via 10.0.1.1").unwrap();
    server.route("default via fd00:2::1").unwrap();
    assert!(!ping(&client, "10.0.1.2"));
    router.forwarding(true).unwrap();
    assert!(ping(&client, "10.0.1.2") && ping(&client, "fd00:2::2"));
}

#[test]
fn members_of_a_lan_reach_each_other() {
    let lab = Lab::new().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| lab.host(name).unwrap());
    let _lan =
        lab.lan("lan", &[(&a, &["10.0.0.1/24"]), (&b, &["10.0.0.2/24"]), (&c, &["10.0.0.3/24"])]).unwrap();
    // The first frames may meet a switch whose ports have only just come up.
    assert!((0..10).any(|_| ping(&a, "10.0.0.2")));
    assert!((0..10).any(|_| ping(&b, "10.0.0.3")));
}

#[test]
fn a_tunnel_carries_packets_and_a_capture_sees_which_way_they_went() {
    let lab = Lab::new().unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.host(name).unwrap());
    let link = lab.link(&a, &["10.0.0.1/24"], &b, &["10.0.0.2/24"]).unwrap();
    lab.tunnel(
        Tunnel::Vxlan,
        "tunnel",
        (&a, "10.0.0.1", &["10.9.0.1/24"]),
        (&b, "10.0.0.2", &["10.9.0.2/24"]),
    )
    .unwrap();

    let capture = a.capture(&link.a, "", &lab.dir().join("bare.pcap")).unwrap();
    assert!(ping(&a, "10.9.0.2"));
    assert!(ping(&a, "10.0.0.2"));
    let seen = capture.stop().unwrap();
    assert!(seen.packets("udp port 4789").unwrap().len() >= 2);
    assert_eq!(seen.packets("icmp").unwrap().len(), 2);
    assert!(seen.packets("host 10.9.0.2").unwrap().is_empty());
}

#[test]
fn a_bad_wire_loses_doubles_and_delays() {
    let lab = Lab::new().unwrap();
    let [a, b] = ["a", "b"].map(|name| lab.host(name).unwrap());
    let disorder = Disorder { loss: 5, duplicates: 5, late: 30 };
    let wire = lab.wire("wire", (&a, &["10.0.0.1/24"]), (&b, &["10.0.0.2/24"]), disorder).unwrap();

    let text = a.run("ping", ["-c600", "-i0.001", "-W1", "10.0.0.2"]).unwrap().success().unwrap().stdout;
    assert!(text.contains("duplicates"), "{text}");
    assert!(text.contains("packet loss") && !text.contains(" 0% packet loss"), "{text}");
    let numbers =
        text.lines().filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok());
    let numbers = numbers.collect::<Vec<u32>>();
    assert!(!numbers.is_sorted(), "nothing was overtaken");
    assert!(wire.toll().unwrap().into_iter().all(|packets| packets > 0));
}

#[test]
fn errors_carry_the_command_and_what_it_said() {
    let lab = Lab::new().unwrap();
    let host = lab.host("host").unwrap();
    let error = format!("{:#}", host.ip("link set nothing up").unwrap_err());
    assert!(error.contains("link set nothing up") && error.contains("Cannot find device"), "{error}");
    let error = format!("{:#}", host.nft("table inet t { chain c { nonsense } }").unwrap_err());
    assert!(error.contains("nonsense") && error.contains("syntax error"), "{error}");
}

#[test]
fn a_port_is_seen_once_something_listens_and_a_counter_counts() {
    let lab = Lab::new().unwrap();
    let host = lab.host("host").unwrap();
    host.nft("table inet t { counter pings {}; chain c { type filter hook input priority 0; icmp type echo-request counter name pings; }; }").unwrap();
    assert!(ping(&host, "127.0.0.1"));
    assert_eq!(host.counter("inet t pings").unwrap(), 1);
    assert!(host.wait_for_port(2121, Duration::from_millis(50)).is_err());
    let log = lab.dir().join("listener.log");
    let listener = "import socket,time; s=socket.create_server(('',2121)); time.sleep(60)";
    let _listener = host.spawn(&log, "python3", ["-c", listener]).unwrap();
    host.wait_for_port(2121, Duration::from_secs(10)).unwrap();
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut left = None;
    let _ = catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lab = Lab::new().unwrap();
        let host = lab.host("host").unwrap();
        let process = host.spawn(&lab.dir().join("log"), "sleep", ["600"]).unwrap();
        left = Some((lab.dir().to_owned(), host.namespace().to_owned(), process.id()));
        panic!("on purpose");
    }));
    let (dir, namespace, pid) = left.unwrap();
    assert!(!dir.exists());
    assert!(!fs::exists(format!("/run/netns/{namespace}")).unwrap());
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}
