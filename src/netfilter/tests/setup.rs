//! The table as a whole: put in, put in again, damaged, put back, taken out.

use ftpalg::engine::pinhole::Change;

use super::super::connection::Connection;
use super::super::netlink::{DUMP, Request, nft, subsystem};
use super::super::{
    Crash, FirewallError, Foreign, Listing, ListingError, Watch, kernel, ruleset, try_libnftables,
};
use super::*;

const ADMIN: &str = "nft -f - <<'E'
table inet filter {
  chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; }
  chain input { type filter hook input priority 0; policy drop; }
}
E";

fn with_accept_in(chains: &[&str]) -> Config {
    Config { accept_in: chains.iter().map(|name| chain(name)).collect(), ..config() }
}

/// How many accept rules there are.
fn accept_rules(host: &Host) -> usize {
    host.sh("nft list ruleset").matches("comment \"ftpalg: negotiated FTP data connections\"").count()
}

#[test]
fn this_kernel_has_what_is_needed() {
    let host = Host::new();
    host.run(|| {
        let missing: Vec<String> = kernel::missing().iter().map(ToString::to_string).collect();
        assert_eq!(missing, [""; 0]);
        open_firewall(&config());
    });
    assert_eq!(host.sh("nft list ruleset"), "", "a check changes nothing");
}

/// A set as nft 1.1.3 makes it: its key's type stands in its user data as that of an expression that has no word for it
/// (`NFTNL_UDATA_SET_KEY_TYPEOF`).
fn add_set_of_a_later_nft() {
    let expression = [0, 4, 4, 0, 0, 0, 1, 0];
    let user_data = [&[3, 8], &expression[..]].concat();
    let ifname = 41_u32;
    let [create, acknowledge] =
        [libc::NLM_F_CREATE, libc::NLM_F_ACK].map(|flag| u16::try_from(flag).unwrap());
    let [begin, end] =
        [0x10, 0x11].map(|kind| Request::new(0, kind, 0, 0).about(u16::from(subsystem::NFTABLES)).finish(0));
    // NFT_MSG_NEWSET, and NFTA_SET_TABLE, NAME, FLAGS, KEY_TYPE, KEY_LEN, ID, USERDATA.
    let set = Request::new(subsystem::NFTABLES, 9, 2, create | acknowledge)
        .string(1, "later")
        .string(2, "names")
        .attribute(3, &[0; 4])
        .attribute(4, &ifname.to_be_bytes())
        .attribute(5, &16_u32.to_be_bytes())
        .attribute(10, &1_u32.to_be_bytes())
        .attribute(13, &user_data)
        .finish(1);
    Connection::open().unwrap().transact(&[begin, set, end].concat()).unwrap();
}

#[test]
fn what_libnftables_would_crash_on_is_told() {
    let host = Host::new();
    host.sh("nft add table ip later; nft add table ip other");
    host.run(add_set_of_a_later_nft);
    let (nft_lives, _) = host.try_sh("nft list ruleset");
    let check = host.run(|| match Listing::open() {
        Ok(_) => Ok(()),
        Err(ListingError::Firewall(error)) => Err(error),
        Err(other) => panic!("{other}"),
    });
    let daemon = host.run(try_libnftables);
    for found in [check, daemon] {
        match found {
            Ok(()) => assert!(nft_lives, "nft crashes, and libnftables is to be used"),
            Err(FirewallError::Crash(Crash(place))) => {
                assert!(!nft_lives, "nft reads what libnftables is said to crash on");
                assert_eq!(place, "table ip later");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// First queue, number of queues and flags of each rule in a chain, which must queue.
fn queue_rules(chain: &str) -> Vec<[u16; 3]> {
    let request =
        Request::new(subsystem::NFTABLES, nft::GETRULE, 1, DUMP).string(1, "ftpalg").string(2, chain);
    let rules = Connection::open().unwrap().dump(&request, |message| {
        // NFTA_RULE_EXPRESSIONS, NFTA_LIST_ELEM, then NFTA_EXPR_NAME and NFTA_EXPR_DATA.
        let expression = message.attributes().nest(4)?.nest(1)?;
        let data = expression.nest(2)?;
        if expression.string(1)? == "queue" {
            return Some([data.be16(1)?, data.be16(2)?, data.be16(3)?]);
        }
        assert_eq!((data.string(1)?.as_str(), data.be32(2)?), ("NFQUEUE", 3));
        let info = data.value(3)?;
        Some([0, 2, 4].map(|at| u16::from_ne_bytes([info[at], info[at + 1]])))
    });
    rules.unwrap()
}

#[test]
fn nothing_is_queued_before_somebody_listens() {
    for when_down in [WhenDown::Pass, WhenDown::Drop] {
        let (host, mut firewall) = installed(&Config { when_down, workers: 3, ..config() });
        assert!(host.sh("nft list chain inet ftpalg divert_shifted").contains("drop"));
        assert_eq!(
            host.sh("nft list chain inet ftpalg divert").contains("drop"),
            when_down == WhenDown::Drop
        );
        firewall.divert().unwrap();
        let pass = u16::from(when_down == WhenDown::Pass);
        let rules = host.run(|| [queue_rules("divert"), queue_rules("divert_shifted")]);
        assert_eq!(rules, [vec![[2121, 3, pass]], vec![[2121, 3, 0]]]);
        assert!(firewall.intact());
    }
}

#[test]
fn a_restart_keeps_what_the_packet_path_knew_and_puts_back_what_lives() {
    let (host, mut first) = installed(&config());
    first.divert().unwrap();
    host.sh("nft add element inet ftpalg control_new4 { 198.51.100.9 . 21 . 203.0.113.1 . 40001 }");
    host.sh("nft add element inet ftpalg control4 { 198.51.100.9 . 21 . 203.0.113.1 . 6 timeout 1m }");
    let sessions =
        [tuple("203.0.113.1:40000", "198.51.100.9:21"), tuple("[2001:db8::1]:40000", "[2001:db8::2]:21")];
    let pinholes = [pinhole("198.51.100.9", "203.0.113.1:5000", "192.168.1.2:4000", "203.0.113.9", 7)];
    let live = Live { sessions: &sessions, shifted: &sessions[..1], pinholes: &pinholes, ..Live::default() };
    let chains = "nft list table inet ftpalg | grep -A1 chain";
    let before = host.sh(chains);
    first.configure(&Config { control_ports: vec![2121, 990], ..config() });
    first.install(live).unwrap();
    assert_eq!(host.sh(chains).matches("chain").count(), before.matches("chain").count());
    assert!(host.sh("nft list chain inet ftpalg divert_shifted").contains("drop"));
    assert_eq!(host.elements("control_new4").len(), 1);
    assert_eq!(host.elements("control4").len(), 1);
    assert!(host.elements("control4")[0].starts_with("198.51.100.9 . 21 . 203.0.113.1 . 40000 "));
    assert_eq!(host.elements("control6").len(), 1);
    assert_eq!(host.elements("shifted4").len(), 1);
    assert_eq!(host.elements("open4").len(), 1);
    assert!(host.elements("mark4")[0].ends_with("0x00000007"));
    let mut ports = host.elements("control_ports");
    ports.sort();
    assert_eq!(ports, ["2121", "990"]);
}

#[test]
fn a_table_of_another_version_makes_way() {
    let host = Host::new();
    host.sh("nft add table inet ftpalg; nft add set inet ftpalg open4 '{ type ipv4_addr; }'");
    host.sh("nft add chain inet ftpalg leave_input '{ type filter hook forward priority 3; }'");
    host.run(|| open_firewall(&config()).install(Live::default()).unwrap());
    assert!(host.sh("nft list chain inet ftpalg leave_input").contains("hook input"));
}

#[test]
fn there_is_one_accept_rule_at_the_top_of_each_chain() {
    let host = Host::new();
    host.sh(ADMIN);
    let run = |config: Config| {
        host.run(move || {
            let mut firewall = open_firewall(&config);
            let missing = firewall.install(Live::default()).unwrap();
            (firewall, missing)
        })
    };
    // What was killed leaves its rules behind.
    let (killed, _) = run(with_accept_in(&["inet filter forward", "inet filter input"]));
    drop(killed);
    assert_eq!(accept_rules(&host), 2);
    // A socket that is closed loses its table a moment later.
    until(|| !host.sh("nft list tables").contains("ftpalg_hold"));
    let (mut firewall, missing) =
        run(Config { mark: 0x0100_0000, ..with_accept_in(&["inet filter forward", "ip nat none"]) });
    assert_eq!(
        missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["accept-in: there is no chain \"ip nat none\"; base chains are \
             \"inet filter forward\", \"inet filter input\""]
    );
    assert_eq!(accept_rules(&host), 1);
    let forward = host.sh("nft list chain inet filter forward");
    let rules: Vec<&str> = forward.lines().filter(|line| line.contains("accept")).collect();
    assert!(
        rules[0].contains("policy drop") || rules[0].contains("mark & 0x01000000 == 0x01000000"),
        "{forward}"
    );
    assert!(forward.find("ftpalg:").unwrap() < forward.find("established").unwrap());
    assert!(firewall.intact());

    // A chain that comes later wants its rule.
    host.sh("nft 'add table ip nat; add chain ip nat none'");
    assert!(!firewall.intact());
    assert_eq!(firewall.repair(Live::default()).unwrap(), []);
    assert!(firewall.intact());
    assert_eq!(accept_rules(&host), 2);

    firewall.remove(&[]).unwrap();
    assert_eq!(accept_rules(&host), 0);
    assert!(!host.sh("nft list tables").contains("ftpalg"));
}

#[test]
fn the_end_leaves_a_guard_for_shifted_connections_alone() {
    let (host, mut firewall) = installed(&config());
    firewall.divert().unwrap();
    firewall.remove(&[tuple("203.0.113.1:40000", "198.51.100.9:21")]).unwrap();
    let ruleset = host.sh("nft list ruleset");
    assert!(ruleset.contains("198.51.100.9 . 21 . 203.0.113.1 . 40000"));
    assert!(!ruleset.contains("queue") && !ruleset.contains("nat hook"), "{ruleset}");
    // The next daemon takes over from there.
    firewall.install(Live::default()).unwrap();
    assert_eq!(host.elements("shifted4"), [""; 0]);
    firewall.remove(&[]).unwrap();
    assert_eq!(host.sh("nft list ruleset"), "");
}

#[test]
fn what_has_ended_is_not_held_up_any_more() {
    let host = Host::new();
    let tuples = [
        tuple("203.0.113.1:40000", "198.51.100.9:21"),
        tuple("203.0.113.1:40001", "198.51.100.9:21"),
        tuple("[2001:db8::1]:40000", "[2001:db8::2]:21"),
    ];
    let mut firewall = host.run(move || {
        let mut firewall = open_firewall(&config());
        firewall.install(Live { shifted: &tuples, ..Live::default() }).unwrap();
        firewall
    });
    assert!(firewall.translated_mark().is_some(), "this kernel has no tables with an owner");
    let held = || {
        let text = host.sh("nft list table inet ftpalg_hold");
        text.matches(" expires ").count()
    };
    assert_eq!(held(), 3);
    let never_held = tuple("203.0.113.1:40002", "198.51.100.9:21");
    let mut depart = |ended: &[ControlTuple], others: &[Change]| {
        let departing = ended.iter().copied().map(Change::Depart);
        firewall.commit(&departing.chain(others.iter().copied()).collect::<Vec<_>>()).unwrap();
    };
    depart(&[tuples[0], never_held, tuples[2]], &[]);
    assert_eq!(held(), 1);
    depart(&[tuples[0]], &[]);
    // Another of its name has begun, and is held back.
    depart(&[tuples[1]], &[Change::Track(tuples[1])]);
    assert_eq!(held(), 2);
    depart(&tuples, &[]);
    assert_eq!(held(), 0);
}

/// A table that would hold up what is translated would be in, and nobody could tell it what to let through.
#[test]
fn without_its_socket_there_is_no_table_that_outlives_a_flush() {
    let host = Host::new();
    let shifted = tuple("203.0.113.1:40000", "198.51.100.9:21");
    let mut firewall = host.run(|| {
        let mut firewall = open_firewall(&config());
        firewall.forget_socket();
        firewall.install(Live::default()).unwrap();
        firewall
    });
    assert_eq!((firewall.translated_mark(), firewall.hold_owner().is_some()), (None, false));
    firewall.commit(&[Change::Track(shifted), Change::Shift(shifted)]).unwrap();
    assert_eq!(host.sh("nft list tables"), "table inet ftpalg\n");
    assert!(host.sh("nft list set inet ftpalg shifted4").contains("198.51.100.9 . 21"));
}

#[test]
fn damage_of_any_kind_is_noticed_and_put_back() {
    let host = Host::new();
    host.sh(ADMIN);
    let mut firewall = host.run(|| {
        let mut firewall = open_firewall(&with_accept_in(&["inet filter forward"]));
        firewall.install(Live::default()).unwrap();
        firewall
    });
    firewall.divert().unwrap();
    for damage in [
        "nft flush ruleset",
        "nft delete table inet ftpalg",
        "nft flush chain inet ftpalg divert_shifted",
        "nft flush table inet ftpalg",
        "nft flush chain inet filter forward",
        "nft add rule inet ftpalg to_client accept",
        "nft flush ruleset; nft add table inet ftpalg",
    ] {
        assert!(firewall.intact());
        host.sh(damage);
        host.sh(ADMIN);
        assert!(!firewall.intact(), "{damage}");
        let missing = firewall.repair(Live::default()).unwrap();
        assert_eq!(missing, [], "{damage}");
        assert!(firewall.intact(), "{damage}");
        assert_eq!(accept_rules(&host), 1, "{damage}");
    }
    host.sh("nft add table inet other");
    assert!(firewall.intact(), "somebody else's table is nothing to us");
}

#[test]
fn the_watch_sees_others_and_not_ourselves() {
    const SOON: Option<Duration> = Some(Duration::from_millis(50));
    let (host, firewall) = installed(&config());
    let (mut firewall, mut watch) = host.run(move || {
        let mut firewall = firewall;
        let watch = Watch::open(&mut firewall).unwrap();
        (firewall, watch)
    });
    let tuple = tuple("203.0.113.1:40000", "198.51.100.9:21");
    firewall.commit(&[Change::Track(tuple)]).unwrap();
    firewall.divert().unwrap();
    firewall.install(Live::default()).unwrap();
    assert_eq!(watch.wait(SOON).unwrap(), None);

    host.sh("nft flush ruleset");
    let Some(Foreign::By(name, pid)) = watch.wait(SOON).unwrap() else { panic!("not seen") };
    assert_eq!(name, "nft");
    assert_ne!(pid, std::process::id());
    assert!(!firewall.intact());
    firewall.repair(Live::default()).unwrap();
    assert_eq!(watch.wait(SOON).unwrap(), None, "the repair is our own");
    assert!(firewall.intact());
}

#[test]
fn the_printed_table_is_the_one_that_is_installed() {
    let text = ruleset::text(&config());
    assert!(text.starts_with("define control_ports = { 21, 2121 }\ndefine pinhole_mark = 0x00200000\n"));
    assert!(text.contains("add rule inet ftpalg divert queue flags bypass to 2121\n"));
    assert!(text.contains("add rule inet ftpalg divert_shifted queue to 2121\n"));
    let strict = ruleset::text(&Config { when_down: WhenDown::Drop, workers: 4, ..config() });
    assert!(strict.contains("add rule inet ftpalg divert queue to 2121-2124\n"));
}

/// What the daemon does over libnftables' socket is its own doing, as what it does over the other is.
#[test]
fn own_changes_wake_nobody() {
    let host = Host::new();
    let (mut firewall, mut watch) = host.run(|| {
        let mut firewall = open_firewall(&config());
        let watch = Watch::open(&mut firewall).unwrap();
        (firewall, watch)
    });
    firewall.install(Live::default()).unwrap();
    let shifted = tuple("203.0.113.1:40000", "198.51.100.9:21");
    firewall.commit(&[Change::Track(shifted), Change::Shift(shifted)]).unwrap();
    firewall.commit(&[Change::Depart(shifted)]).unwrap();
    firewall.repair(Live::default()).unwrap();
    assert_eq!(watch.wait(Some(Duration::from_millis(100))).unwrap(), None);
    host.sh("nft add table inet other");
    assert!(watch.wait(Some(Duration::from_secs(5))).unwrap().is_some());
}
