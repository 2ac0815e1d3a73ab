//! `ftpalg replay` as its user sees it. The captures in tests/captures are of curl and vsftpd on hosts in network
//! namespaces (tests/e2e/replay.rs makes them); what else captures come as is made of them here.

#![cfg(test)]

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;
use serde_json::Value;

/// curl fetches a file over PORT through a router that masquerades, without an ALG: on the client, and on all of the
/// router's interfaces.
const PORT_CLIENT: &str = "masquerade-port-client";
const PORT_ROUTER: &str = "masquerade-port-router";
/// The same over PASV, where the server's port is forwarded; ftpalg is on the router.
const PASV_ROUTER: &str = "forwarded-pasv-router";
/// Over IPv6 and EPSV, through a firewall with ftpalg.
const EPSV_CLIENT: &str = "firewall-epsv-ipv6-client";
const EPSV_ROUTER: &str = "firewall-epsv-ipv6-router";

const WAN: [&str; 2] = ["--wan", "198.51.100.200"];

#[derive(Debug, Clone)]
struct Packet {
    at: Duration,
    bytes: Vec<u8>,
    /// On the wire.
    length: u32,
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name).with_extension("pcap")
}

fn read(file: &Path) -> Vec<Packet> {
    let mut reader = PcapReader::new(fs::File::open(file).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        packets.push(Packet {
            at: packet.timestamp,
            bytes: packet.data.into_owned(),
            length: packet.orig_len,
        });
    }
    packets
}

/// A file that goes with the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(end: &str) -> Temporary {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Temporary(std::env::temp_dir().join(format!("ftpalg-replay.{}.{number}.{end}", std::process::id())))
    }

    fn of(bytes: &[u8]) -> Temporary {
        let file = Temporary::new("pcap");
        fs::write(&file.0, bytes).unwrap();
        file
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

fn pcap(packets: &[Packet], link: DataLink, endianness: Endianness, ts_resolution: TsResolution) -> Vec<u8> {
    let header =
        PcapHeader { datalink: link, endianness, ts_resolution, snaplen: 262_144, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for packet in packets {
        writer.write_packet(&PcapPacket::new(packet.at, packet.length, &packet.bytes)).unwrap();
    }
    writer.into_writer()
}

fn ordinary(packets: &[Packet]) -> Temporary {
    Temporary::of(&pcap(packets, DataLink::ETHERNET, Endianness::native(), TsResolution::MicroSecond))
}

fn pcapng(packets: &[Packet], link: DataLink, endianness: Endianness) -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
    let options = vec![InterfaceDescriptionOption::IfTsResol(9)];
    let interface = InterfaceDescriptionBlock { linktype: link, snaplen: 0, options };
    writer.write_pcapng_block(interface).unwrap();
    for packet in packets {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: packet.at,
            original_len: packet.length,
            data: Cow::Borrowed(&packet.bytes),
            options: vec![],
        };
        writer.write_pcapng_block(block).unwrap();
    }
    writer.into_inner()
}

fn run(file: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ftpalg")).arg("replay").arg(file).args(options).output().unwrap()
}

/// What it prints for people.
#[track_caller]
fn text(file: &Path, options: &[&str]) -> String {
    let output = run(file, options);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its events.
#[track_caller]
fn events(file: &Path, options: &[&str]) -> Vec<Value> {
    let text = text(file, &[options, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was said and opened, whatever the packets' numbers are and how finely the clock ticks.
#[track_caller]
fn story(file: &Path, options: &[&str]) -> Vec<Value> {
    let mut events = events(file, options);
    events.retain(|event| event["event"] != "note" && event["event"] != "summary");
    for event in &mut events {
        let event = event.as_object_mut().unwrap();
        event.remove("packet");
        event.remove("time");
    }
    events
}

fn only<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn notes(events: &[Value]) -> Vec<&str> {
    only(events, "note").iter().map(|note| note["text"].as_str().unwrap()).collect()
}

/// Where the payload of an Ethernet frame with IPv4 begins.
fn payload(frame: &[u8]) -> usize {
    let ip = usize::from(frame[14] & 0xf) * 4;
    14 + ip + usize::from(frame[14 + ip + 12] >> 4) * 4
}

fn says(packet: &Packet, what: &str) -> bool {
    packet.bytes.get(payload(&packet.bytes)..).is_some_and(|payload| payload.starts_with(what.as_bytes()))
}

#[test]
fn a_capture_of_one_side_needs_to_be_told_of_nat() {
    let without = text(&path(PORT_CLIENT), &[]);
    assert!(without.contains("no NAT is known of") && !without.contains('⇒'), "{without}");
    let with = text(&path(PORT_CLIENT), &WAN);
    assert!(with.contains("→ PORT 10,0,0,2,") && with.contains("⇒ PORT 198,51,100,200,"), "{with}");
    assert!(
        with.contains("← 500 Illegal PORT command.") && with.contains("answered to the line as it was sent")
    );
    assert!(!with.contains('\x1b'), "colours in a pipe");
    assert_eq!(with, text(&path(PORT_CLIENT), &["--nat", "10.0.0.2=198.51.100.200"]));
}

/// The router's capture has every packet twice, with two pairs of addresses.
#[test]
fn a_capture_of_both_sides_tells_of_nat_itself() {
    let router = story(&path(PORT_ROUTER), &[]);
    let mut client = story(&path(PORT_CLIENT), &WAN);
    client[0]["nat"] = router[0]["nat"].clone();
    assert_eq!(router, client);
    assert_eq!(router[0]["nat"], "both sides of the NAT are in the capture");
    assert_eq!(only(&router, "session").len(), 1);
}

#[test]
fn a_reply_is_rewritten_and_its_data_connection_let_through() {
    let events = story(&path(PASV_ROUTER), &[]);
    let line = events.iter().find(|event| event["rewritten"].is_string()).unwrap();
    assert!(line["text"].as_str().unwrap().starts_with("227 Entering Passive Mode (10,0,0,2,"));
    assert!(line["rewritten"].as_str().unwrap().starts_with("227 Entering Passive Mode (198,51,100,200,"));
    let opened = only(&events, "opened");
    assert_eq!((opened.len(), &opened[0]["mode"]), (1, &Value::from("passive")));
    let data = only(&events, "data");
    assert_eq!((data.len(), &data[0]["pinhole"]), (1, &Value::from("open")));
    assert_eq!(data[0]["destination"], opened[0]["destination"]);
}

/// Without NAT the router's two copies of a packet differ in their hop limit, and in who was to finish the checksum.
#[test]
fn copies_are_left_out() {
    assert_eq!(story(&path(EPSV_ROUTER), &[]), story(&path(EPSV_CLIENT), &[]));
    let events = events(&path(EPSV_ROUTER), &[]);
    let summary = events.last().unwrap();
    let number = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(number("copies"), number("control-packets"), "{summary}");
}

#[test]
fn every_format_tells_the_same() {
    let packets = read(&path(PORT_CLIENT));
    let expected = story(&path(PORT_CLIENT), &WAN);
    assert_eq!(only(&expected, "line").len(), 11);
    for endianness in [Endianness::Big, Endianness::Little] {
        for resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
            let file = Temporary::of(&pcap(&packets, DataLink::ETHERNET, endianness, resolution));
            assert_eq!(story(&file.0, &WAN), expected, "{endianness:?} {resolution:?}");
        }
        let file = Temporary::of(&pcapng(&packets, DataLink::ETHERNET, endianness));
        assert_eq!(story(&file.0, &WAN), expected, "pcapng, {endianness:?}");
        let times =
            |file: &Path| events(file, &WAN).iter().map(|event| event["time"].clone()).collect::<Vec<_>>();
        assert_eq!(times(&file.0), times(&path(PORT_CLIENT)));
    }
}

#[test]
fn every_link_layer_tells_the_same_and_is_kept() {
    let ethernet = read(&path(PORT_CLIENT));
    let expected = story(&path(PORT_CLIENT), &WAN);
    let mac = &ethernet[0].bytes[..12];
    let tag = [&[0x81, 0, 0, 7][..], &[8, 0]].concat();
    let links: [(&str, DataLink, Vec<u8>); 8] = [
        ("raw", DataLink::RAW, vec![]),
        ("VLAN", DataLink::ETHERNET, [mac, &tag].concat()),
        ("QinQ", DataLink::ETHERNET, [mac, &[0x88, 0xa8, 0, 9], &tag].concat()),
        ("PPPoE", DataLink::ETHERNET, [mac, &[0x88, 0x64, 0x11, 0, 0, 1, 0, 0, 0, 0x21]].concat()),
        ("cooked", DataLink::LINUX_SLL, [&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &[8, 0]].concat()),
        ("cooked 2", DataLink::from(276), [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6][..], &[2; 8]].concat()),
        ("loopback", DataLink::NULL, vec![2, 0, 0, 0]),
        ("loopback, big-endian", DataLink::LOOP, vec![0, 0, 0, 2]),
    ];
    for (name, link, head) in links {
        let mut packets = ethernet.clone();
        for packet in &mut packets {
            packet.bytes.splice(..14, head.iter().copied());
            packet.length = u32::try_from(packet.bytes.len()).unwrap();
        }
        let file = Temporary::of(&pcap(&packets, link, Endianness::native(), TsResolution::NanoSecond));
        let out = Temporary::new("out.pcap");
        let options = [&WAN[..], &["--write", out.0.to_str().unwrap()]].concat();
        assert_eq!(story(&file.0, &options), expected, "{name}");
        let header = PcapReader::new(fs::File::open(&out.0).unwrap()).unwrap().header();
        assert_eq!((header.datalink, header.ts_resolution), (link, TsResolution::NanoSecond), "{name}");
        let written = read(&out.0);
        assert_eq!(written.len(), packets.len());
        for (written, packet) in written.iter().zip(&packets) {
            assert_eq!(written.at, packet.at, "{name}");
            if name != "PPPoE" {
                assert!(written.bytes.starts_with(&head), "{name}");
            }
        }
    }
}

/// tcpdump finds every checksum right, and the server's view of the session.
#[test]
fn what_is_written_is_whole() {
    let out = Temporary::new("out.pcap");
    events(&path(PORT_CLIENT), &[&WAN[..], &["--write", out.0.to_str().unwrap()]].concat());
    let output = Command::new("tcpdump").args(["-n", "-vv", "-r"]).arg(&out.0).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("incorrect") && !text.contains("bad cksum"), "{text}");
    assert_eq!(text.matches("(correct)").count(), read(&path(PORT_CLIENT)).len(), "{text}");
    assert!(
        text.contains("PORT 198,51,100,200,") && !text.contains("10.0.0.2") && !text.contains("PORT 10,")
    );
    // A replay of it has nothing left to rewrite.
    let again = events(&out.0, &["--nat", "10.0.0.2=198.51.100.200"]);
    assert!(again.iter().all(|event| event["rewritten"].is_null()), "{again:?}");
}

#[test]
fn a_capture_that_begins_amid_a_session_is_read_on() {
    let packets = read(&path(PORT_CLIENT));
    let port = packets.iter().position(|packet| says(packet, "PORT ")).unwrap();
    for first in 3..=port {
        let file = ordinary(&packets[first..]);
        let events = events(&file.0, &WAN);
        assert!(notes(&events)[0].contains("begins amid this session"), "{events:?}");
        let line = events.iter().find(|event| event["rewritten"].is_string()).expect("no line is rewritten");
        assert!(line["rewritten"].as_str().unwrap().starts_with("PORT 198,51,100,200,"));
        assert_eq!(only(&events, "ended").len(), 1, "{events:?}");
    }
    let handshake = events(&ordinary(&packets[1..]).0, &WAN);
    assert!(notes(&handshake).iter().any(|note| note.contains("SYN is not in the capture")), "{handshake:?}");
    assert_eq!(only(&handshake, "logged-in").len(), 1);
    let mut packets = packets;
    packets.remove(1);
    let handshake = events(&ordinary(&packets).0, &WAN);
    assert!(
        notes(&handshake).iter().any(|note| note.contains("SYN-ACK is not in the capture")),
        "{handshake:?}"
    );
    assert_eq!(only(&handshake, "logged-in").len(), 1);
}

#[test]
fn packets_that_are_missing_are_told_and_passed_over() {
    let packets = read(&path(PORT_CLIENT));
    let carrying: Vec<_> =
        (0..packets.len()).filter(|at| packets[*at].bytes.len() > payload(&packets[*at].bytes)).collect();
    for missing in carrying {
        let mut rest = packets.clone();
        let gone = rest.remove(missing);
        let events = events(&ordinary(&rest).0, &WAN);
        let gaps = only(&events, "gap");
        let length = gone.bytes.len() - payload(&gone.bytes);
        assert_eq!(
            gaps.iter().map(|gap| gap["bytes"].as_u64().unwrap()).collect::<Vec<_>>(),
            [length as u64]
        );
        let before_the_greeting = says(&gone, "220");
        assert_eq!(only(&events, "ended").len(), usize::from(!before_the_greeting), "{events:?}");
    }
}

#[test]
fn packets_out_of_order_are_put_in_order() {
    let packets = read(&path(PORT_CLIENT));
    let port = packets.iter().position(|packet| says(packet, "PORT ")).unwrap();
    // If it is cut inside the address, the whole of another goes out with the first byte: under a port that is any.
    let story = |packets: &[Packet]| {
        let mut story = story(&ordinary(packets).0, &WAN);
        for event in &mut story {
            if let Some(line) = event["rewritten"].as_str() {
                let address = line.split(',').take(4).collect::<Vec<_>>().join(",");
                event["rewritten"] = Value::from(address);
            }
        }
        story
    };
    let expected = story(&packets);
    assert_eq!(expected.iter().filter(|event| event["rewritten"] == "PORT 198,51,100,200").count(), 1);
    // The line in two segments, the second of which comes first.
    let whole = &packets[port];
    let at = payload(&whole.bytes);
    let part = |from: usize, to: usize| {
        let mut bytes = whole.bytes[..at].to_vec();
        bytes.extend(&whole.bytes[at + from..at + to]);
        let length = u16::try_from(bytes.len() - 14).unwrap();
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        let sequence = u32::from_be_bytes(bytes[38..42].try_into().unwrap()) + u32::try_from(from).unwrap();
        bytes[38..42].copy_from_slice(&sequence.to_be_bytes());
        bytes[18] ^= u8::try_from(from).unwrap();
        Packet { at: whole.at, length: u32::try_from(bytes.len()).unwrap(), bytes: partial(bytes) }
    };
    let length = whole.bytes.len() - at;
    for cut in 1..length {
        let mut disordered = packets.clone();
        disordered.splice(port..=port, [part(cut, length), part(0, cut)]);
        assert_eq!(story(&disordered), expected, "cut at {cut}");
        let mut ordered = packets.clone();
        ordered.splice(port..=port, [part(0, cut), part(0, cut), part(cut, length)]);
        assert_eq!(story(&ordered), expected, "cut at {cut}, the first part twice");
    }
}

/// Leaves the TCP checksum of an Ethernet frame with IPv4 to a network card.
fn partial(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(frame.len() - 34).unwrap();
    let words = frame[26..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + 6 + length;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[50..52].copy_from_slice(&u16::try_from(sum).unwrap().to_be_bytes());
    frame
}

#[test]
fn packets_that_the_capture_has_cut_are_named() {
    let packets: Vec<_> = read(&path(PORT_CLIENT))
        .into_iter()
        .map(|packet| Packet { bytes: packet.bytes[..packet.bytes.len().min(68)].to_vec(), ..packet })
        .collect();
    let text = text(&ordinary(&packets).0, &WAN);
    let cut = packets.iter().position(|packet| packet.bytes.len() < packet.length as usize).unwrap();
    let line = text.lines().find(|line| line.contains("tcpdump -s 0")).unwrap();
    assert_eq!(line.split_whitespace().next(), Some((cut + 1).to_string().as_str()), "{line}");
    assert!(text.contains(" that the capture has cut"), "{text}");
}

#[test]
fn fragments_and_wrong_checksums_are_said_to_be_such() {
    let mut packets = read(&path(PORT_CLIENT));
    packets[3].bytes[20] |= 0x20;
    packets[5].bytes[50] ^= 0x11;
    let events = events(&ordinary(&packets).0, &WAN);
    let notes = notes(&events);
    assert!(notes.iter().any(|note| note.contains("a fragment")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("checksum is wrong")), "{notes:?}");
    let summary = events.last().unwrap();
    assert_eq!((&summary["fragments"], &summary["wrong-checksums"]), (&1.into(), &1.into()));
}

#[test]
fn a_refusal_tells_its_reason() {
    let mut packets = read(&path(PORT_CLIENT));
    // A third party's address, of the same length.
    let port = packets.iter().position(|packet| says(packet, "PORT ")).unwrap();
    let at = payload(&packets[port].bytes);
    packets[port].bytes[at + 5..at + 13].copy_from_slice(b"10,0,0,9");
    let text = text(&ordinary(&packets).0, &[]);
    assert!(
        text.contains("✗ active data port not opened for \"PORT 10,0,0,9,")
            && text.contains("policy.allow-third-party"),
        "{text}"
    );
    assert!(text.contains("say so with --nat"), "{text}");
    let config = Temporary::new("toml");
    fs::write(&config.0, "[policy]\nallow-third-party = [\"10.0.0.9\"]\n").unwrap();
    let text = self::text(&ordinary(&packets).0, &["--config", config.0.to_str().unwrap()]);
    assert!(!text.contains('✗'), "{text}");
}

/// A session between 10.0.0.2 and 192.0.2.9, as both might have it: who says what, true for the client.
fn conversation(lines: &[(bool, &[u8])]) -> Vec<Packet> {
    let ([client, server], [port, control]) = ([[10, 0, 0, 2], [192, 0, 2, 9]], [40000, 21]);
    let mut next = [1000_u32, u32::MAX - 5];
    let mut packets = Vec::new();
    let mut say = |from_client: bool, is_syn: bool, payload: &[u8]| {
        let own = usize::from(!from_client);
        let (source, destination) = if from_client { (client, server) } else { (server, client) };
        let ports = if from_client { (port, control) } else { (control, port) };
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(source, destination, 64);
        let mut builder = builder.tcp(ports.0, ports.1, next[own], 64240);
        if is_syn {
            builder = builder.syn();
        }
        if !is_syn || !from_client {
            builder = builder.ack(next[1 - own]);
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        next[own] = next[own].wrapping_add(u32::try_from(payload.len()).unwrap() + u32::from(is_syn));
        let at = Duration::from_millis(1_800_000_000_000 + packets.len() as u64);
        packets.push(Packet { at, length: u32::try_from(bytes.len()).unwrap(), bytes });
    };
    say(true, true, b"");
    say(false, true, b"");
    say(true, false, b"");
    lines.iter().for_each(|(from_client, line)| say(*from_client, false, line));
    packets
}

#[test]
fn a_session_that_is_encrypted_is_read_no_more() {
    let packets = conversation(&[
        (false, b"220 hello\r\n"),
        (true, b"AUTH TLS\r\n"),
        (false, b"234 go on\r\n"),
        (true, b"\x16\x03\x01\x02\x00\x01\x00\n\n"),
        (false, b"\x16\x03\x03\n227 Entering Passive Mode (192,0,2,9,7,8)\r\n"),
    ]);
    let told = text(&ordinary(&packets).0, &[]);
    assert!(told.contains("■ no longer inspected: the dialogue is encrypted from here on"), "{told}");
    assert!(!told.contains("227") && !told.contains('○'), "{told}");
}

/// A session without a login, a port that belongs to a service, and a line of two MiB.
#[test]
fn what_is_not_right_opens_nothing() {
    let long = vec![b'x'; 1000];
    let mut lines: Vec<(bool, &[u8])> = vec![
        (false, b"220 hello\r\n"),
        (true, b"PORT 10,0,0,2,200,13\r\n"),
        (false, b"200 fine\r\n"),
        (true, b"USER x\r\n"),
        (false, b"230 in\r\n"),
        (true, b"PORT 10,0,0,2,0,22\r\n"),
        (false, b"200 fine\r\n"),
        (true, b"RETR "),
    ];
    lines.extend(std::iter::repeat_n((true, long.as_slice()), 2000));
    lines.push((true, b"\r\n"));
    let told = text(&ordinary(&conversation(&lines)).0, &[]);
    assert!(told.contains("nobody is logged in; policy.require-login"), "{told}");
    assert!(told.contains("the port is below 1024"), "{told}");
    assert!(told.contains("… (2000007 bytes)") && told.len() < 5000, "{}", told.len());
    assert!(!told.contains('○'), "{told}");
}

/// Two captures in one, and one of them twice: each session has its number.
#[test]
fn sessions_are_told_apart() {
    let mut packets = read(&path(PORT_CLIENT));
    let other = conversation(&[(false, b"220 hello\r\n"), (true, b"USER x\r\n"), (false, b"530 no\r\n")]);
    packets.extend(other.iter().cloned());
    // The same ends and ports again, with other sequence numbers.
    let again = read(&path(PORT_CLIENT)).into_iter().map(|mut packet| {
        for at in [38, 42] {
            let number = u32::from_be_bytes(packet.bytes[at..at + 4].try_into().unwrap());
            packet.bytes[at..at + 4].copy_from_slice(&number.wrapping_add(1 << 30).to_be_bytes());
        }
        packet.bytes[18] ^= 0x55;
        Packet { at: packet.at + Duration::from_secs(40_000_000), bytes: partial(packet.bytes), ..packet }
    });
    packets.extend(again);
    let file = ordinary(&packets);
    let all = events(&file.0, &[]);
    let sessions =
        only(&all, "session").iter().map(|one| one["session"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(sessions, [1, 2, 3], "{all:?}");
    assert_eq!(only(&all, "ended").len(), 2, "{all:?}");
    let second = events(&file.0, &["--session", "2"]);
    assert!(second.iter().all(|event| event["session"].as_u64().is_none_or(|number| number == 2)));
    assert_eq!(only(&second, "line").len(), 3);
}

#[test]
fn other_ports_are_named() {
    let mut packets = read(&path(PORT_CLIENT));
    for packet in &mut packets {
        let at = if packet.bytes[34..36] == [0, 21] { 34 } else { 36 };
        packet.bytes[at..at + 2].copy_from_slice(&2121_u16.to_be_bytes());
    }
    let file = ordinary(&packets);
    let silent = text(&file.0, &[]);
    assert!(silent.contains("no control connection to port 21: name another port with --port"), "{silent}");
    assert!(text(&file.0, &["--port", "2121"]).contains("→ PORT 10,0,0,2,"));
}

#[test]
fn passwords_are_hidden_unless_asked_for() {
    let mut packets = read(&path(PORT_CLIENT));
    let user = packets.iter().position(|packet| says(packet, "USER ")).unwrap();
    let at = payload(&packets[user].bytes);
    let length = packets[user].bytes.len() - at;
    let line = format!("PASS se\x1bcret{}\r\n", "x".repeat(length - 14));
    packets[user].bytes.splice(at.., line.bytes());
    let file = ordinary(&packets);
    let hidden = text(&file.0, &[]);
    assert!(hidden.contains("→ PASS ****") && !hidden.contains("cret"), "{hidden}");
    let shown = text(&file.0, &["--show-passwords"]);
    assert!(shown.contains("→ PASS se\\u{1b}cret") && !shown.contains('\x1b'), "{shown}");
}

#[test]
fn errors_name_the_file_the_packet_and_the_mend() {
    let fails = |file: &Path, options: &[&str]| {
        let output = run(file, options);
        assert_eq!(output.status.code(), Some(1), "{options:?}");
        (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (errors, _) = fails(Path::new("/nowhere/x.pcap"), &[]);
    assert!(errors.contains("/nowhere/x.pcap: no such file"), "{errors}");
    let (errors, _) = fails(&std::env::temp_dir(), &[]);
    assert!(errors.contains("is a directory"), "{errors}");
    let (errors, _) = fails(&Temporary::of(b"").0, &[]);
    assert!(errors.contains("the file is empty"), "{errors}");
    let (errors, _) = fails(&Temporary::of(&[b'x'; 100]).0, &[]);
    assert!(errors.contains("neither a pcap nor a pcapng file"), "{errors}");

    let (errors, _) = fails(Path::new("/dev/null"), &[]);
    assert!(errors.contains("store it in one first"), "{errors}");

    let whole = fs::read(path(PORT_CLIENT)).unwrap();
    let mut damaged = whole.clone();
    let second = 24 + 16 + read(&path(PORT_CLIENT))[0].bytes.len();
    damaged[second + 8..second + 12].fill(0x7f);
    let (errors, told) = fails(&Temporary::of(&damaged).0, &[]);
    assert!(errors.contains("packet 2: it claims to be longer"), "{errors}");
    assert!(told.contains("session from"), "{told}");

    let early = text(&Temporary::of(&whole[..whole.len() - 3]).0, &[]);
    assert!(early.contains("the file ends within the packet behind this one"), "{early}");

    let same = Temporary::of(&whole);
    let (errors, _) = fails(&same.0, &["--write", same.0.to_str().unwrap()]);
    assert!(errors.contains("write to another file"), "{errors}");
    assert_eq!(fs::read(&same.0).unwrap(), whole, "it is left as it was");
    assert_eq!(run(&same.0, &["--nat", "nonsense"]).status.code(), Some(2));
    let config = Temporary::of(b"queue = \"x\"\n");
    assert_eq!(run(&same.0, &["--config", config.0.to_str().unwrap()]).status.code(), Some(78));
}

/// docs/replay.md shows what it prints.
#[test]
fn the_documents_show_what_it_prints() {
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/replay.md")).unwrap();
    let mut shown = 0;
    for (_, behind) in
        manual.match_indices("$ ftpalg replay ").map(|(at, found)| manual.split_at(at + found.len()))
    {
        let (command, output) = behind.split_once('\n').unwrap();
        let output = output.split("```").next().unwrap();
        let ran = Command::new(env!("CARGO_BIN_EXE_ftpalg"))
            .arg("replay")
            .args(command.split_whitespace())
            .current_dir(path(PORT_CLIENT).parent().unwrap())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), output, "{command}");
        shown += 1;
    }
    assert!(shown >= 2, "the manual shows {shown} replays");
}

/// Ends as it should, whatever it is given.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    let out = Temporary::new("out.pcap");
    let file = Temporary::of(bytes);
    let output = run(&file.0, &[&WAN[..], &["--write", out.0.to_str().unwrap()]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    prop_assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {errors}", output.status);
    prop_assert!(!errors.contains("panicked"), "{errors}");
    prop_assert!(!output.stdout.contains(&0x1b), "a control character");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(
        magic in prop::sample::select(vec![
            &b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0"[..],
            b"\xa1\xb2\x3c\x4d\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\x65",
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0",
            b"",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        survives(&[magic, &bytes].concat())?;
    }

    #[test]
    fn damaged_captures_are_survived(
        name in prop::sample::select(vec![PORT_CLIENT, PORT_ROUTER, PASV_ROUTER, EPSV_ROUTER]),
        as_pcapng in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..8),
    ) {
        let mut packets = read(&path(name));
        for (one, other) in order {
            let (one, other) = (one.index(packets.len()), other.index(packets.len()));
            packets.swap(one, other);
        }
        let link = PcapReader::new(fs::File::open(path(name)).unwrap()).unwrap().header().datalink;
        let mut bytes = if as_pcapng {
            pcapng(&packets, link, Endianness::Big)
        } else {
            pcap(&packets, link, Endianness::Big, TsResolution::MicroSecond)
        };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survives(&bytes)?;
    }
}
