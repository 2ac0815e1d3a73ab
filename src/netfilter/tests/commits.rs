//! Every change that the engine may ask for, and what the kernel holds afterwards.

use std::time::Duration;

use ftpalg::engine::pinhole::{Change, Pinhole, PinholeKey};

use super::super::transaction::{CommitError, Refused};
use super::*;

/// A firewall and the host that it is on. netlink sockets stay in the namespace in which they were opened.
struct Bench {
    host: Host,
    firewall: Firewall,
}

impl Bench {
    fn new() -> Self {
        let (host, firewall) = installed(&config());
        Bench { host, firewall }
    }

    #[track_caller]
    fn commit(&mut self, changes: &[Change]) {
        self.firewall.commit(changes).unwrap();
    }

    /// Asserts that an element has just been given so many seconds. A slow machine may have used some of them up.
    #[track_caller]
    fn lasts(&self, set: &str, seconds: u64) {
        let remaining = self.remaining(set);
        assert!((seconds - 10..=seconds).contains(&remaining), "{set}: {remaining} instead of {seconds}");
    }

    /// Seconds until an element goes, rounded up.
    #[track_caller]
    fn remaining(&self, set: &str) -> u64 {
        let element = self.host.elements(set).pop().unwrap();
        let expires = element.split("expires ").nth(1).unwrap();
        let expires = expires.split([' ', ':']).next().unwrap();
        let (mut total, mut number) = (0, 0);
        for unit in expires.replace("ms", "f").chars() {
            let seconds = match unit {
                '0'..='9' => {
                    number = number * 10 + u64::from(unit.to_digit(10).unwrap());
                    continue;
                }
                'd' => 86400,
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return total + 1,
            };
            total += std::mem::take(&mut number) * seconds;
        }
        total
    }
}

fn active() -> Pinhole {
    pinhole("198.51.100.9", "203.0.113.1:5000", "192.168.1.2:4000", "203.0.113.9", 0x42)
}

fn active6() -> Pinhole {
    pinhole("2001:db8::9", "[2001:db8:1::2]:5000", "[2001:db8:1::2]:5000", "2001:db8::9", 0)
}

#[test]
fn a_tracked_connection_moves_from_the_new_ones_to_the_live_ones() {
    let mut bench = Bench::new();
    let tuples =
        [tuple("203.0.113.1:40000", "198.51.100.9:21"), tuple("[2001:db8::1]:40000", "[2001:db8::2]:21")];
    bench.host.sh("nft add element inet ftpalg control_new4 { 198.51.100.9 . 21 . 203.0.113.1 . 40000 }");
    bench.commit(&tuples.map(Change::Track));
    assert_eq!(bench.host.elements("control_new4"), [""; 0]);
    assert!(bench.host.elements("control4")[0].starts_with("198.51.100.9 . 21 . 203.0.113.1 . 40000"));
    assert!(bench.host.elements("control6")[0].starts_with("2001:db8::2 . 21 . 2001:db8::1 . 40000"));
    bench.lasts("control4", 5 * 86400);

    bench.commit(&tuples.map(Change::Shift));
    assert_eq!(bench.host.elements("shifted4").len(), 1);
    assert_eq!(bench.host.elements("shifted6").len(), 1);

    bench.host.sh("nft add element inet ftpalg control_new4 { 198.51.100.9 . 21 . 203.0.113.1 . 40000 }");
    bench.commit(&tuples.map(Change::Depart));
    for set in ["control_new4", "control4", "control6", "shifted4", "shifted6"] {
        assert_eq!(bench.host.elements(set), [""; 0], "{set}");
    }
}

#[test]
fn tracking_again_starts_the_clock_anew() {
    let mut bench = Bench::new();
    let change = [Change::Track(tuple("203.0.113.1:40000", "198.51.100.9:21"))];
    bench
        .host
        .sh("nft add element inet ftpalg control4 { 198.51.100.9 . 21 . 203.0.113.1 . 40000 timeout 60s }");
    bench.lasts("control4", 60);
    bench.commit(&change);
    bench.lasts("control4", 5 * 86400);
}

#[test]
fn an_expected_pinhole_opens() {
    let mut bench = Bench::new();
    let pinhole = active();
    bench.commit(&[Change::Expect(pinhole.key, Duration::from_secs(20))]);
    bench.lasts("pending4", 20);
    bench.commit(&[Change::Open(pinhole), Change::Open(active6())]);
    assert_eq!(bench.host.elements("pending4"), [""; 0]);
    assert!(bench.host.elements("open4")[0].starts_with("198.51.100.9 . 203.0.113.1 . 5000 timeout 1m"));
    assert!(bench.host.elements("dnat4")[0].ends_with(": 192.168.1.2 . 4000"));
    assert!(bench.host.elements("snat4")[0].ends_with(": 203.0.113.9"));
    assert!(bench.host.elements("mark4")[0].ends_with(": 0x00000042"));
    assert!(bench.remaining("dnat4") > bench.remaining("open4"));
    assert!(bench.host.elements("open6")[0].starts_with("2001:db8::9 . 2001:db8:1::2 . 5000"));
    assert!(bench.host.elements("dnat6")[0].ends_with(": 2001:db8:1::2 . 5000"));
    assert_eq!(bench.host.elements("mark6"), [""; 0]);

    bench.commit(&[Change::Close(pinhole.key), Change::Close(active6().key)]);
    for set in ["open4", "dnat4", "snat4", "mark4", "open6", "dnat6", "snat6"] {
        assert_eq!(bench.host.elements(set), [""; 0], "{set}");
    }
}

#[test]
fn an_older_pinhole_of_the_same_key_gives_way() {
    let mut bench = Bench::new();
    bench.commit(&[Change::Open(active())]);
    let other = Pinhole { to: "192.168.1.7:7000".parse().unwrap(), mark: 0, ..active() };
    bench.commit(&[Change::Open(other)]);
    assert!(bench.host.elements("dnat4")[0].ends_with(": 192.168.1.7 . 7000"));
    assert_eq!(bench.host.elements("mark4"), [""; 0]);
    assert_eq!(bench.host.elements("open4").len(), 1);

    // Its set element used up, its map elements still there.
    bench.host.sh("nft flush set inet ftpalg open4");
    bench.commit(&[Change::Open(active())]);
    assert!(bench.host.elements("dnat4")[0].ends_with(": 192.168.1.2 . 4000"));
}

#[test]
fn a_pinhole_is_renewed_only_while_nobody_has_used_it() {
    let mut bench = Bench::new();
    let pinhole = Pinhole { timeout: Duration::from_secs(5), ..active() };
    bench.commit(&[Change::Open(pinhole)]);
    assert!(bench.remaining("open4") <= 5);
    bench.commit(&[Change::Renew(active())]);
    bench.lasts("open4", 60);
    assert!(bench.remaining("dnat4") > 60);

    bench.host.sh("nft flush set inet ftpalg open4");
    bench.commit(&[Change::Renew(active())]);
    assert_eq!(bench.host.elements("open4"), [""; 0]);
}

#[test]
fn what_is_gone_already_is_no_error() {
    let mut bench = Bench::new();
    let tuple = tuple("203.0.113.1:40000", "198.51.100.9:21");
    bench.commit(&[Change::Close(active().key), Change::Depart(tuple), Change::Renew(active6())]);
    // One change that can't be done as expected does not keep the others from being done.
    bench.commit(&[Change::Track(tuple), Change::Renew(active()), Change::Open(active6())]);
    assert_eq!(bench.host.elements("control4").len(), 1);
    assert_eq!(bench.host.elements("open4"), [""; 0]);
    assert_eq!(bench.host.elements("open6").len(), 1);
}

#[test]
fn more_changes_than_one_batch_takes() {
    let mut bench = Bench::new();
    let pinholes: Vec<Pinhole> = (0..500)
        .map(|n| {
            let mut pinhole = active();
            pinhole.key.port = 10000 + n;
            pinhole
        })
        .collect();
    let opens: Vec<Change> = pinholes.iter().copied().map(Change::Open).collect();
    bench.commit(&opens);
    assert_eq!(bench.host.elements("open4").len(), 500);
    // Every one of them fails to be new, so that the kernel has the most to answer.
    bench.commit(&opens);
    assert_eq!(bench.host.elements("dnat4").len(), 500);
    bench.commit(&pinholes.iter().map(|p| Change::Close(p.key)).collect::<Vec<_>>());
    assert_eq!(bench.host.elements("open4"), [""; 0]);
}

#[test]
fn failures_are_told_apart() {
    let mut bench = Bench::new();
    let mixed = Pinhole { from: "2001:db8::1".parse().unwrap(), ..active() };
    assert!(matches!(
        bench.firewall.commit(&[Change::Open(mixed)]),
        Err(Refused { error: CommitError::Family(_), .. })
    ));

    let crowd = (0..65536).map(|n| format!("192.0.2.1 . 192.0.2.2 . {n}")).collect::<Vec<_>>().join(",");
    let file = std::env::temp_dir().join(format!("ftpalg-crowd-{}", std::process::id()));
    std::fs::write(&file, format!("add element inet ftpalg open4 {{ {crowd} }}")).unwrap();
    bench.host.sh(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let track = Change::Track(tuple("203.0.113.1:40000", "198.51.100.9:21"));
    let (open, close) = (Change::Open(active()), Change::Close(active().key));
    let elsewhere = Change::Close(PinholeKey { port: 1, ..active().key });
    let refused = bench.firewall.commit(&[open, elsewhere, track, close, Change::Open(mixed)]).unwrap_err();
    assert!(matches!(refused.error, CommitError::Full));
    assert_eq!(
        refused.undone,
        [open, close, Change::Open(mixed)],
        "what is about one port stays in its order"
    );
    assert_eq!(bench.host.elements("dnat4"), [""; 0], "all of it or nothing");
    assert_eq!(bench.host.elements("control4").len(), 1, "the others do not suffer by it");

    bench.host.sh("nft delete table inet ftpalg");
    assert!(matches!(
        bench.firewall.commit(&[Change::Open(active())]),
        Err(Refused { error: CommitError::TableGone, .. })
    ));
}
