//! How long the kernel takes for a change. `cargo test -- --ignored --nocapture pace` prints it.

use std::time::Instant;

use ftpalg::engine::pinhole::{Change, Pinhole};

use super::super::Watch;
use super::*;

const ROUNDS: u16 = 2000;

fn opened(n: u16) -> Pinhole {
    pinhole("198.51.100.9", &format!("203.0.113.1:{}", 10000 + n), "192.168.1.2:4000", "203.0.113.9", 0x42)
}

/// Commits one change after the other and prints the median and the 99th percentile of the time it took.
fn measure(firewall: &mut Firewall, what: &str, change: impl Fn(u16) -> Vec<Change>) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|n| {
            let changes = change(n);
            let start = Instant::now();
            firewall.commit(&changes).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_nanos() as f64 / 1000.0;
    println!("{what:45} p50 {:8.1} µs   p99 {:8.1} µs", at(50), at(99));
}

/// A pinhole that somebody else has open meanwhile.
fn others(n: u32) -> Pinhole {
    let [_, a, b, c] = n.to_be_bytes();
    pinhole(&format!("100.{a}.{b}.{c}"), "203.0.113.1:9999", "192.168.1.2:4000", "203.0.113.9", 0x42)
}

#[test]
#[ignore = "a measurement"]
fn pace_beside_other_pinholes() {
    let (_host, mut firewall) = installed(&config());
    let mut alive = 0;
    for number in [0, 100, 1_000, 10_000, 60_000] {
        let more: Vec<_> = (alive..number).map(|n| Change::Open(others(n))).collect();
        more.chunks(500).for_each(|some| firewall.commit(some).unwrap());
        alive = number;
        measure(&mut firewall, &format!("open beside {alive}"), |n| vec![Change::Open(opened(n))]);
        measure(&mut firewall, &format!("close beside {alive}"), |n| vec![Change::Close(opened(n).key)]);
    }
}

#[test]
#[ignore = "a measurement"]
fn pace() {
    for watched in [false, true] {
        let (host, mut firewall) = installed(&config());
        let mut watch = None;
        if watched {
            println!("with somebody listening for changes:");
            (firewall, watch) = host.run(move || {
                let watch = Watch::open(&mut firewall).unwrap();
                (firewall, Some(watch))
            });
        }
        let session = |n| tuple(&format!("203.0.113.1:{}", 10000 + n), "198.51.100.9:21");
        measure(&mut firewall, "track", |n| vec![Change::Track(session(n))]);
        measure(&mut firewall, "open", |n| vec![Change::Open(opened(n))]);
        measure(&mut firewall, "renew", |n| vec![Change::Renew(opened(n))]);
        measure(&mut firewall, "close", |n| vec![Change::Close(opened(n).key)]);
        measure(&mut firewall, "renew what is gone", |n| vec![Change::Renew(opened(n))]);
        measure(&mut firewall, "close what is gone", |n| vec![Change::Close(opened(n).key)]);
        measure(&mut firewall, "expect", |n| vec![Change::Expect(opened(n).key, Duration::from_secs(60))]);
        measure(&mut firewall, "open what was expected", |n| vec![Change::Open(opened(n))]);
        measure(&mut firewall, "depart", |n| vec![Change::Depart(session(n))]);
        drop(watch);
        for what in ["put back after a flush", "put in again"] {
            if what.ends_with("flush") {
                host.sh("nft flush ruleset");
            }
            let start = Instant::now();
            firewall.repair(Live::default()).unwrap();
            println!("{what:45}     {:8.1} µs", start.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
}
