//! What really went over the wires at both ends: that each got what the other sent, but for the addresses, and that
//! nothing was ever let through untranslated.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use netlab::Capture;

use super::wait_until;
use crate::harness::Net;

/// Captures at the client and at the server.
pub struct Wiretap {
    client: Capture,
    server: Capture,
}

impl Wiretap {
    /// Listens to control connections from now on.
    pub fn start(net: &Net) -> Result<Wiretap> {
        let filter = format!("tcp port {}", net.setup.port());
        let links = &net.layout.links;
        let (((client, _), near), ((_, server), far)) =
            links.first().zip(links.last()).context("no links")?;
        let hosts = &net.layout.hosts;
        Ok(Wiretap {
            client: hosts[*client].capture(&near.a, &filter, &net.lab.dir().join("client.pcap"))?,
            server: hosts[*server].capture(&far.b, &filter, &net.lab.dir().join("server.pcap"))?,
        })
    }

    /// Compares what both ends sent and got, connection by connection, in the order in which they began.
    pub fn check(self, net: &Net) -> Result<()> {
        let [at_client, at_server] = ["client.pcap", "server.pcap"].map(|name| net.lab.dir().join(name));
        // tcpdump may not have written the last packets yet.
        wait_until("both captures are complete", || {
            Ok(is_complete(&at_client, net.setup.port()) && is_complete(&at_server, net.setup.port()))
        })
        .ok();
        let at_client = connections(&self.client.stop()?.file, net.setup.port())?;
        let at_server = connections(&self.server.stop()?.file, net.setup.port())?;
        ensure!(!at_client.is_empty() && at_client.len() == at_server.len(), "not as many connections");
        for (near, far) in at_client.iter().zip(&at_server) {
            let tcpdump = |name: &str| fs::read_to_string(net.lab.dir().join(name)).unwrap_or_default();
            let lost = || ["client.tcpdump.log", "server.tcpdump.log"].map(tcpdump).concat();
            for direction in [&near.to_server, &near.to_client, &far.to_server, &far.to_client] {
                direction.check_acknowledgments()?;
                direction.text().with_context(lost)?;
            }
            same(&lines(&near.to_server, None)?, &lines(&far.to_server, Some(net.layout.seen))?)?;
            same(&lines(&far.to_client, None)?, &lines(&near.to_client, Some(net.layout.dialled))?)?;
        }
        Ok(())
    }
}

fn same(sent: &str, received: &str) -> Result<()> {
    ensure!(sent == received, "sent:\n{sent}\nreceived:\n{received}");
    Ok(())
}

/// The lines of a stream without what an edit may change. Where addresses are named, they must be `own`.
fn lines(direction: &Direction, own: Option<IpAddr>) -> Result<String> {
    let text = direction.text()?;
    let names_it = |line: &str| {
        own.is_none_or(|own| line.replace('.', ",").contains(&own.to_string().replace('.', ",")))
    };
    let lines = text.split_inclusive('\n').map(|line| match line.get(..4) {
        Some("PORT" | "EPRT" | "227 ") if names_it(line) => format!("{} (an address)\n", &line[..4]),
        Some("229 ") => "229 (a port)\n".to_owned(),
        _ => line.to_owned(),
    });
    Ok(lines.collect())
}

/// One control connection as one end saw it.
struct Connection {
    /// The client's address and port.
    client: (IpAddr, u16),
    to_server: Direction,
    to_client: Direction,
}

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    /// The sequence number of its first byte.
    first: u32,
    /// Its bytes; `None` where later ones came first.
    bytes: Vec<Option<u8>>,
    /// How many of them its receiver has acknowledged.
    acknowledged: usize,
    finished: bool,
}

impl Direction {
    /// Takes a segment. What comes again must be what came before, unless it has been acknowledged and nobody reads
    /// it any more.
    fn take(&mut self, sequence: u32, payload: &[u8], fin: bool) -> Result<()> {
        let at = usize::try_from(sequence.wrapping_sub(self.first))?;
        ensure!(at <= self.bytes.len() + WINDOW, "byte {at} comes when {} have come", self.bytes.len());
        self.finished |= fin;
        if payload.is_empty() {
            return Ok(()); // behind a FIN it stands one further on
        }
        let end = at + payload.len();
        self.bytes.resize(self.bytes.len().max(end), None);
        for (known, byte) in self.bytes[at..end].iter_mut().zip(payload) {
            let said = known.get_or_insert(*byte);
            ensure!(
                said == byte || end <= self.acknowledged,
                "byte {at} and more: {:?} is not what came before",
                String::from_utf8_lossy(payload)
            );
        }
        Ok(())
    }

    /// Takes an acknowledgment.
    fn acknowledge(&mut self, number: u32) -> Result<()> {
        self.acknowledged = self.acknowledged.max(usize::try_from(number.wrapping_sub(self.first))?);
        Ok(())
    }

    /// Checks that no acknowledgment named what was never sent. (Not at once: where two processors write, a capture
    /// may have the acknowledgment first.)
    fn check_acknowledgments(&self) -> Result<()> {
        let sent = self.bytes.len() + usize::from(self.finished);
        ensure!(self.acknowledged <= sent, "{} bytes acknowledged of {sent}", self.acknowledged);
        Ok(())
    }

    /// All of it.
    fn text(&self) -> Result<String> {
        let bytes: Option<Vec<u8>> = self.bytes.iter().copied().collect();
        Ok(String::from_utf8(bytes.context("a hole")?)?)
    }
}

/// How far ahead of the last byte another may come: what a sender sends at once on a control connection.
const WINDOW: usize = 4096;

/// Whether all connections in a capture have come to their end, as far as it can be read.
fn is_complete(file: &Path, port: u16) -> bool {
    connections(file, port)
        .is_ok_and(|all| all.iter().all(|one| one.to_server.finished && one.to_client.finished))
}

/// The connections in a capture file (pcap-savefile(5)).
fn connections(file: &Path, port: u16) -> Result<Vec<Connection>> {
    let bytes = fs::read(file)?;
    let mut rest = bytes.get(24..).context("no pcap header")?;
    let mut connections = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes(header[8..12].try_into()?);
        let (frame, behind) = behind.split_at_checked(usize::try_from(length)?).context("cut off")?;
        rest = behind;
        packet(frame, port, &mut connections).with_context(|| file.display().to_string())?;
    }
    Ok(connections)
}

fn packet(frame: &[u8], port: u16, connections: &mut Vec<Connection>) -> Result<()> {
    let packet = SlicedPacket::from_ethernet(frame)?;
    let (Some(net), Some(TransportSlice::Tcp(tcp))) = (&packet.net, &packet.transport) else {
        bail!("no TCP");
    };
    let (source, destination): (IpAddr, IpAddr) = match net {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => bail!("no IP"),
    };
    let is_to_server = tcp.destination_port() == port;
    let client =
        if is_to_server { (source, tcp.source_port()) } else { (destination, tcp.destination_port()) };
    let sequence = tcp.sequence_number();
    if tcp.syn() && !tcp.ack() && connections.iter().all(|one| one.client != client) {
        connections.push(Connection {
            client,
            to_server: Direction::default(),
            to_client: Direction::default(),
        });
    }
    let Some(Connection { to_server, to_client, .. }) =
        connections.iter_mut().find(|one| one.client == client)
    else {
        bail!("a packet of a connection of {client:?} that has not begun");
    };
    let (here, there) = if is_to_server { (to_server, to_client) } else { (to_client, to_server) };
    if tcp.syn() {
        here.first = sequence.wrapping_add(1);
    } else {
        here.take(sequence, tcp.payload(), tcp.fin())?;
        if tcp.ack() {
            there.acknowledge(tcp.acknowledgment_number())?;
        }
    }
    Ok(())
}
