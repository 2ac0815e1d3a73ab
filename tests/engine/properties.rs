//! For any conversation, any segmentation, any disorder and any trouble of the daemon: each end reads what an editor
//! of whole lines would have made, everything is acknowledged, and both ends close.

use std::net::SocketAddr;

use proptest::prelude::*;

use crate::dice::Dice;
use crate::end::Config;
use crate::play::{Case, Exchange, lines, play};
use crate::reference::{self, Want};
use crate::router::{Site, Trouble};
use crate::world::Disorder;

/// What comes before the exchanges of a case.
const LOGIN: [(&str, &str); 3] =
    [("", "220-welcome\r\n220 ready\r\n"), ("USER a\r\n", "331 and?\r\n"), ("PASS b\r\n", "230 in\r\n")];

fn after_login(exchanges: Vec<Exchange>) -> Vec<Exchange> {
    let login = LOGIN.map(|(command, reply)| Exchange::new(command, reply));
    login.into_iter().chain(exchanges).collect()
}

impl Exchange {
    fn opens_passive(&self) -> bool {
        self.command.to_ascii_uppercase().starts_with(b"PASV") && self.reply.starts_with(b"227")
    }
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("\r\n"), 1 => Just("\n")]
}

/// An address as clients write it, rightly or not.
fn port_text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(p1, p2)| format!("10,0,0,2,{p1},{p2}")),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(p1, p2)| format!("203,0,113,1,{p1},{p2}")),
        1 => (any::<u8>(), 4_u8..).prop_map(|(p1, h)| format!("10,0,0,{h},{p1},80")),
        1 => "1[0-9,]{0,70}",
        1 => Just("10,0,0,2,256,1".to_owned()),
        1 => Just("10,0,0,2,20,1 x".to_owned()),
    ]
}

fn asks_active() -> impl Strategy<Value = Vec<u8>> {
    let port = ("PORT {1,3}|port |Port ", port_text(), " {0,2}", line_end())
        .prop_map(|(verb, text, blanks, end)| format!("{verb}{text}{blanks}{end}").into_bytes());
    let address = prop_oneof![3 => Just("10.0.0.2"), 1 => Just("10.0.0.1"), 1 => Just("203.0.113.1"), 1 => Just("10.0")];
    let eprt =
        (address, 1..=70_000_u32, prop_oneof![6 => Just("|"), 1 => Just("||"), 1 => Just("")], line_end())
            .prop_map(|(address, port, last, end)| {
                format!("EPRT |1|{address}|{port}{last}{end}").into_bytes()
            });
    prop_oneof![3 => port, 1 => eprt]
}

fn passive_reply() -> impl Strategy<Value = String> {
    let address = prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(p1, p2)| format!("192,168,77,121,{p1},{p2}")),
        1 => Just("203,0,113,9,30,1".to_owned()),
        1 => any::<u8>().prop_map(|p1| format!("0,0,0,0,{p1},80")),
        1 => Just("192,168,77,1,30,1".to_owned()),
        1 => Just("192,168,77,121,300,1".to_owned()),
    ];
    let around = prop_oneof![
        3 => Just(("Entering Passive Mode (", ").")),
        1 => Just(("=", "")),
        1 => Just(("", "")),
    ];
    (address, around).prop_map(|(text, (before, after))| format!("227 {before}{text}{after}\r\n"))
}

fn plain_reply() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("200 fine\r\n".to_owned()),
        2 => Just("500 what?\r\n".to_owned()),
        1 => "250-[ -~]{0,40}\r\n 250 no end\r\n227 (1,2,3,4,5,6)\r\n250 end\r\n",
        1 => "550 [ -~]{0,700}\r\n",
    ]
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let plain = prop_oneof![
        Just(&b"NOOP\r\n"[..]),
        Just(&b"TYPE I\r\n"[..]),
        Just(&b"\xff\xf4\xff\xf2NOOP\r\n"[..]),
        Just(&b"STAT\n"[..]),
        Just(&b"what is this\r\n"[..]),
    ];
    let answer = prop_oneof![3 => Just("200 ok\r\n"), 1 => Just("500 no\r\n")];
    prop_oneof![
        6 => (asks_active(), answer).prop_map(|(command, reply)| Exchange::new(command, reply)),
        3 => passive_reply().prop_map(|reply| Exchange::new("PASV\r\n", reply)),
        1 => Just(Exchange::new("pasv\n", "227 Logout.\r\n")),
        1 => Just(Exchange::new("PASV\r\n", "421 no\r\n")),
        1 => Just(Exchange::new("RETR x\r\n", "150 here\r\n226 done\r\n")),
        3 => (plain, plain_reply()).prop_map(|(command, reply)| Exchange::new(command, reply)),
        2 => (prop::collection::vec(any::<u8>(), 0..900), plain_reply()).prop_map(|(mut noise, reply)| {
            noise.retain(|&byte| byte != b'\n');
            Exchange::new([&b"CWD "[..], &noise, b"\r\n"].concat(), reply)
        }),
        1 => prop::collection::vec(any::<u8>(), 1..60).prop_map(|mut noise| {
            noise.retain(|&byte| byte != b'\n');
            Exchange::new([&noise[..], b"\r\n"].concat(), "500 what?\r\n")
        }),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let initial = prop_oneof![any::<u32>(), (0_u32..3000).prop_map(|before| u32::MAX - before)];
    let mss = prop_oneof![Just(88_usize), Just(536), Just(1460)];
    (initial, mss, any::<[bool; 4]>()).prop_map(
        |(initial, mss, [timestamps, delayed_ack, nagle, coalesce])| Config {
            initial,
            mss,
            timestamps,
            delayed_ack,
            nagle,
            coalesce,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let rate = || prop_oneof![Just(0_u32), 0_u32..200];
    (
        prop::collection::vec(exchange(), 1..12),
        1_usize..6,
        (config(), config()),
        any::<(bool, bool)>(),
        (rate(), rate(), rate()),
        prop_oneof![
            Just(Trouble::default()),
            (1_u32..60).prop_map(|killed| Trouble { killed, ..Trouble::default() }),
            (1_u32..60, 1_u32..60).prop_map(|(killed, away)| Trouble { killed, away, ..Trouble::default() }),
            (1_u32..400).prop_map(|refused| Trouble { refused, ..Trouble::default() }),
        ],
        any::<u64>(),
    )
        .prop_map(|(exchanges, ahead, configs, nat, (loss, duplication, reordering), trouble, seed)| {
            Case {
                exchanges: after_login(exchanges),
                alone: LOGIN.len(),
                ahead,
                configs,
                site: Site::new(nat.0, nat.1),
                disorder: Disorder { loss, duplication, reordering },
                trouble,
                dice: Dice::new(seed),
            }
        })
}

/// Short conversations about addresses that must be rewritten, with a daemon that is away much of the time, on wires
/// that lose acknowledgments: what passed unseen comes again.
fn case_of_absences() -> impl Strategy<Value = Case> {
    let exchange = prop_oneof![
        2 => (any::<u8>(), 4..=255_u8).prop_map(|(low, high)| {
            Exchange::new(format!("PORT 10,0,0,2,{high},{low}\r\n"), "200 ok\r\n")
        }),
        1 => passive_reply().prop_map(|reply| Exchange::new("PASV\r\n", reply)),
        1 => Just(Exchange::new("NOOP\r\n", "200 ok\r\n")),
    ];
    let rate = || 50_u32..300;
    (
        prop::collection::vec(exchange, 1..5),
        1_usize..4,
        (config(), config()),
        (rate(), 0_u32..100, 0_u32..200),
        (0_u32..30, 20_u32..200),
        any::<u64>(),
    )
        .prop_map(|(exchanges, ahead, configs, rates, (killed, away), seed)| {
            let (loss, duplication, reordering) = rates;
            let disorder = Disorder { loss, duplication, reordering };
            let trouble = Trouble { killed, away, ..Trouble::default() };
            Case {
                exchanges: after_login(exchanges),
                alone: LOGIN.len(),
                ahead,
                configs,
                site: Site::new(true, true),
                disorder,
                trouble,
                dice: Dice::new(seed),
            }
        })
}

/// Compares what was read with what the reference wants; returns which pinholes must have been opened.
fn compare(wants: &[Want], read: &[u8], story: impl Fn() -> String) -> Vec<Option<(u16, SocketAddr)>> {
    let read = lines(read);
    assert_eq!(read.len(), wants.len(), "lines\n{}", story());
    wants
        .iter()
        .zip(read)
        .map(|(want, line)| want.check(line).unwrap_or_else(|wrong| panic!("{wrong}\n{}", story())))
        .collect()
}

fn check(case: &Case) {
    let mut world = play(case);
    let site = world.router.site;
    let mut to_server: Vec<_> =
        case.exchanges[1..].iter().map(|exchange| reference::command(&exchange.command, &site)).collect();
    let mut to_client: Vec<_> = case
        .exchanges
        .iter()
        .flat_map(|exchange| {
            let lines = lines(&exchange.reply).into_iter().map(<[u8]>::to_vec);
            lines.map(|line| {
                if exchange.opens_passive() { reference::passive(&line, &site) } else { Want::Same(line) }
            })
        })
        .collect();
    let may_miss = case.trouble.refused > 0 || case.trouble.away > 0;
    if may_miss {
        to_server = to_server.into_iter().map(Want::or_same).collect();
        to_client = to_client.into_iter().map(Want::or_same).collect();
    }
    let asked = compare(&to_server, world.server.received(), || world.story());
    let offered = compare(&to_client, world.client.received(), || world.story());
    if !may_miss && !world.router.was_too_late() {
        let granted = asked
            .into_iter()
            .zip(&case.exchanges[1..])
            .filter(|(_, exchange)| exchange.reply.starts_with(b"200"));
        for (port, to) in granted.filter_map(|(found, _)| found).chain(offered.into_iter().flatten()) {
            let opened =
                world.router.opened.iter().any(|pinhole| pinhole.key.port == port && pinhole.to == to);
            assert!(opened, "{port} does not lead to {to}\n{}", world.story());
        }
    }
    for pinhole in &world.router.opened {
        assert!(pinhole.to.port() >= 1024 && [site.client.ip(), site.server.ip()].contains(&pinhole.to.ip()));
    }
    world.router.trouble = Trouble::default();
    world.disorder = Disorder::default();
    world.settle();
    world.router.tick(world.now + 7 * 24 * 3_600_000);
    assert_eq!(world.router.engine.sessions().count(), 0);
    assert!(world.router.kernel.is_idle());
    assert!(world.router.kernel.open.is_empty(), "left open\n{}", world.story());
}

proptest! {
    #![proptest_config(crate::proptest_config())]

    #[test]
    fn an_absence_makes_no_wrong_byte_and_no_connection_hang(case in case_of_absences()) {
        check(&case);
    }

    #[test]
    fn each_end_reads_what_an_editor_of_whole_lines_would_have_made(case in case()) {
        check(&case);
    }
}
