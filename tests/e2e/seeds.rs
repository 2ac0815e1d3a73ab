//! Seeds for the fuzz targets: what real servers and clients say to each other, captured on the wire. `scripts/fuzz
//! seeds` runs this; it is no test.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::harness::{Alg, Client, Mode, Net, ServerKind, Setup, Topology, Transfer};

const TRANSFERS: [Transfer; 3] = [Transfer::Get("small"), Transfer::Put("small"), Transfer::Get("empty")];

#[test]
#[ignore = "makes files: scripts/fuzz seeds"]
fn captures_of_real_sessions() -> Result<()> {
    // In the virtual machine all tests run that are ignored elsewhere.
    let Some(dir) = std::env::var_os("FTPALG_SEEDS").map(PathBuf::from) else { return Ok(()) };
    let clients = [Client::Curl, Client::Lftp, Client::Tnftp, Client::Ftplib];
    for (topology, modes) in [(Topology::Firewall, &Mode::ALL[..]), (Topology::Firewall6, &Mode::EXTENDED)] {
        let v6 = topology == Topology::Firewall6;
        // No NAT and no ALG between them: what is on the wire is what both have said.
        let net = Setup::new(topology).alg(Alg::Open).build()?;
        for (row, kind) in ServerKind::ALL.into_iter().enumerate() {
            let server = net.serve(kind)?;
            for (column, client) in clients.into_iter().enumerate() {
                let able = modes.iter().cycle().skip(row + column).find(|mode| client.supports(**mode, v6));
                let mode = *able.context("no mode")?;
                let name = format!("{kind}-{client}-{mode}{}", if v6 { "-ipv6" } else { "" }).to_lowercase();
                let link = &net.layout.links.first().context("no link")?.1;
                let file = net.lab.dir().join(format!("{name}.pcap"));
                let capture =
                    net.client().capture(&link.a, &format!("tcp port {}", net.setup.port()), &file)?;
                net.session(client, mode, &server, &TRANSFERS)?;
                let session = Session::read(&capture.stop()?.file, &net)?;
                session.write(&dir, &name, v6)?;
            }
        }
        net.finish()?;
    }
    Ok(())
}

/// One packet of a control connection. Its sequence and acknowledgment numbers count from the initial ones.
struct Packet {
    from_client: bool,
    sequence: u32,
    acknowledgment: u32,
    bytes: Vec<u8>,
    /// Where the TCP header begins, and the payload.
    tcp: usize,
    payload: usize,
}

/// The control connection of a session, with the addresses of the fuzz targets' own site.
struct Session {
    packets: Vec<Packet>,
}

impl Session {
    /// Reads a capture file (pcap-savefile(5)).
    fn read(file: &Path, net: &Net) -> Result<Session> {
        let bytes = fs::read(file)?;
        let mut rest = bytes.get(24..).context("no pcap header")?;
        let mut packets: Vec<Packet> = Vec::new();
        let mut initials = [None, None];
        while let Some((header, behind)) = rest.split_at_checked(16) {
            let length = usize::try_from(u32::from_le_bytes(header[8..12].try_into()?))?;
            let (frame, behind) = behind.split_at_checked(length).context("cut off")?;
            rest = behind;
            let sliced = SlicedPacket::from_ethernet(frame)?;
            let (Some(ip), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport) else {
                continue;
            };
            let header = match ip {
                NetSlice::Ipv4(ip) => ip.header().slice().len(),
                NetSlice::Ipv6(_) => 40,
                _ => continue,
            };
            let from_client = tcp.destination_port() == net.setup.port();
            let own = usize::from(!from_client);
            if tcp.syn() {
                initials[own] = Some(tcp.sequence_number());
            }
            let Some(first) = initials[own] else { continue };
            let acknowledgment = initials[1 - own].filter(|_| tcp.ack());
            packets.push(Packet {
                from_client,
                sequence: tcp.sequence_number().wrapping_sub(first),
                acknowledgment: acknowledgment
                    .map_or(0, |first| tcp.acknowledgment_number().wrapping_sub(first)),
                bytes: frame[14..14 + header + tcp.slice().len()].to_vec(),
                tcp: header,
                payload: header + tcp.header_slice().len(),
            });
        }
        let mut session = Session { packets };
        session.neutralise(net);
        Ok(session)
    }

    /// Gives the ends the addresses that they have in the simulation, and nobody's password. Lengths change with that,
    /// so all numbers are counted anew.
    fn neutralise(&mut self, net: &Net) {
        let v6 = net.layout.dialled.is_ipv6();
        let (client, server) = if v6 { ("2001:db8::2", "fd00:2::9") } else { ("10.0.0.2", "192.168.77.121") };
        let texts = |address: IpAddr| [address.to_string(), address.to_string().replace('.', ",")];
        let forms = |text: &str| [text.to_owned(), text.replace('.', ",")];
        let known = [(net.layout.seen, client), (net.layout.dialled, server)];
        let replaced: Vec<_> =
            known.into_iter().flat_map(|(old, new)| texts(old).into_iter().zip(forms(new))).collect();
        // By how much the stream is longer behind a position, in each direction.
        let mut longer = [BTreeMap::new(), BTreeMap::new()];
        let shift =
            |longer: &BTreeMap<u32, i64>, at: u32| -> i64 { longer.range(..at).map(|(_, by)| by).sum() };
        for packet in &mut self.packets {
            let own = usize::from(!packet.from_client);
            let old = packet.bytes.split_off(packet.payload);
            let mut text: String = old.iter().map(|&byte| char::from(byte)).collect();
            replaced.iter().for_each(|(old, new)| text = text.replace(old, new));
            if text.starts_with("PASS ") {
                text = "PASS nobody@\r\n".to_owned();
            }
            let new: Vec<u8> = text.chars().filter_map(|c| u8::try_from(c).ok()).collect();
            let grown = i64::try_from(new.len()).unwrap_or(0) - i64::try_from(old.len()).unwrap_or(0);
            let at = packet.sequence;
            packet.sequence = at.wrapping_add_signed(i32::try_from(shift(&longer[own], at)).unwrap_or(0));
            let by = i32::try_from(shift(&longer[1 - own], packet.acknowledgment)).unwrap_or(0);
            packet.acknowledgment = packet.acknowledgment.wrapping_add_signed(by);
            if grown != 0 {
                longer[own].insert(at, grown);
            }
            packet.bytes.extend(new);
            let tcp = packet.tcp;
            packet.bytes[tcp + 4..tcp + 8].copy_from_slice(&packet.sequence.to_be_bytes());
            packet.bytes[tcp + 8..tcp + 12].copy_from_slice(&packet.acknowledgment.to_be_bytes());
        }
    }

    /// Writes a seed for each target: what its check in tests/engine/checks reads before the packets or the text.
    fn write(&self, dir: &Path, name: &str, v6: bool) -> Result<()> {
        let transcript = self.transcript();
        ensure!(transcript.len() > 200, "{name}: no dialogue");
        let site = if v6 { 4 } else { 0 };
        let put = |target: &str, setting: &[u8], rest: &[u8]| -> Result<()> {
            fs::create_dir_all(dir.join(target))?;
            Ok(fs::write(dir.join(target).join(name), [setting, rest].concat())?)
        };
        put("line", &[&[site | 3][..], b"seed", &[7; 16], &[9, 9, b'|']].concat(), &transcript)?;
        let mut setting = vec![site | 3, 1];
        setting.resize(45, 0);
        put("engine", &setting, &transcript)?;
        let mut steps = vec![site | 3, 0, 1, 0, 0, 0xf0, 0xff, 0xff, 0xff];
        for packet in &self.packets {
            let length = u16::try_from(packet.bytes.len())?.to_le_bytes();
            steps.extend([if packet.from_client { 4 } else { 12 }, 1, length[0], length[1]]);
            steps.extend(&packet.bytes);
        }
        put("hostile", &[], &steps)?;
        let largest = self.packets.iter().max_by_key(|packet| packet.bytes.len()).context("no packet")?;
        let edits = [1, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 64, 0, 40, 0];
        put("packet", &edits, &largest.bytes)
    }

    /// Who said which line, in order.
    fn transcript(&self) -> Vec<u8> {
        let mut transcript = Vec::new();
        let mut unfinished = [Vec::new(), Vec::new()];
        for packet in &self.packets {
            let line = &mut unfinished[usize::from(packet.from_client)];
            for &byte in &packet.bytes[packet.payload..] {
                line.push(byte);
                if byte == b'\n' {
                    transcript.push(if packet.from_client { b'>' } else { b'<' });
                    transcript.append(line);
                }
            }
        }
        transcript
    }
}
