//! The packets of an FTP session, as the two taps see them.

use std::net::{Ipv4Addr, SocketAddr};

use etherparse::{PacketBuilder, TcpOptionElement};
use ftpalg_engine::engine::control::ControlTuple;
use ftpalg_engine::engine::session::{Session, Tap};

use crate::daemon::{Daemon, PUBLIC, SERVER};

/// A packet and where it is taken.
pub type Taken = (Tap, Vec<u8>);

/// A session that goes on packet by packet through a daemon of its own, so that acknowledgments follow its edits.
pub struct Conversation {
    daemon: Daemon,
    tuple: ControlTuple,
    /// What each end sends next, in its own numbers: client, server.
    next: [u32; 2],
    /// All packets so far.
    said: Vec<Taken>,
}

/// The flags of a segment that carries no data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bare {
    Syn,
    SynAck,
    Ack,
    FinAck,
}

impl Conversation {
    /// A connection whose server has greeted; `port` is the client's.
    pub fn begin(port: u16) -> Result<Self, String> {
        let tuple = ControlTuple { server: SERVER, client: (PUBLIC, port).into() };
        let daemon = Daemon::new(&format!("conversation-{port}"))?;
        let mut conversation = Self { daemon, tuple, next: [100_000, 900_000], said: Vec::new() };
        conversation.bare(Tap::ToServer, Bare::Syn)?;
        conversation.bare(Tap::ToClient, Bare::SynAck)?;
        conversation.ack(Tap::ToServer)?;
        conversation.say(Tap::ToClient, "220 ready\r\n")?;
        Ok(conversation)
    }

    /// The same, with the client logged in.
    pub fn logged_in(port: u16) -> Result<Self, String> {
        let mut conversation = Self::begin(port)?;
        conversation.log_in()?;
        Ok(conversation)
    }

    /// The same, and one PORT has been rewritten, so that all further packets need translation.
    pub fn shifted(port: u16) -> Result<Self, String> {
        let mut conversation = Self::logged_in(port)?;
        conversation.port(5000)?;
        conversation.say(Tap::ToServer, "NOOP\r\n")?;
        conversation.say(Tap::ToClient, "200 ok\r\n")?;
        conversation.ack(Tap::ToServer)?;
        let session = conversation.daemon.engine.session(&conversation.tuple);
        match session.map(|session| (session.is_shifted, session.shifts())) {
            Some((true, (shift, _))) if shift != 0 => Ok(conversation),
            found => Err(format!("not shifted by a PORT: {found:?}")),
        }
    }

    /// USER and PASS.
    pub fn log_in(&mut self) -> Result<(), String> {
        self.exchange("USER anonymous\r\n", &["331 password\r\n"])?;
        self.exchange("PASS guest@example.com\r\n", &["230 welcome\r\n"])
    }

    /// PORT for this port of the client, and its 200.
    pub fn port(&mut self, port: u16) -> Result<(), String> {
        let [high, low] = port.to_be_bytes();
        self.exchange(&format!("PORT 10,0,0,2,{high},{low}\r\n"), &["200 PORT command successful\r\n"])
    }

    /// PASV and a 227 with this port of the server.
    pub fn pasv(&mut self, port: u16) -> Result<(), String> {
        let [high, low] = port.to_be_bytes();
        let reply = format!("227 Entering Passive Mode (192,168,77,121,{high},{low}).\r\n");
        self.exchange("PASV\r\n", &[&reply])
    }

    /// A command and its replies.
    pub fn exchange(&mut self, command: &str, replies: &[&str]) -> Result<(), String> {
        self.say(Tap::ToServer, command)?;
        replies.iter().try_for_each(|reply| self.say(Tap::ToClient, reply))
    }

    /// Both ends close.
    pub fn end(&mut self) -> Result<(), String> {
        self.bare(Tap::ToClient, Bare::FinAck)?;
        self.bare(Tap::ToServer, Bare::FinAck)?;
        self.ack(Tap::ToClient)
    }

    /// A bare acknowledgment.
    pub fn ack(&mut self, tap: Tap) -> Result<(), String> {
        self.bare(tap, Bare::Ack)
    }

    /// The last `count` packets that were taken at a tap come once more, oldest first.
    pub fn repeat_last(&mut self, count: usize) -> Result<(), String> {
        let from = self.said.len().saturating_sub(count);
        let again: Vec<_> = self.said.iter().skip(from).cloned().collect();
        again.into_iter().try_for_each(|(tap, bytes)| self.send(tap, bytes))
    }

    /// How many packets there were so far.
    pub fn len(&self) -> usize {
        self.said.len()
    }

    /// All packets.
    pub fn packets(self) -> Vec<Taken> {
        self.said
    }

    /// The session's name.
    pub fn tuple(&self) -> ControlTuple {
        self.tuple
    }

    /// One segment with this text.
    pub fn say(&mut self, tap: Tap, text: &str) -> Result<(), String> {
        self.segment(tap, Bare::Ack, text.as_bytes())
    }

    fn bare(&mut self, tap: Tap, bare: Bare) -> Result<(), String> {
        self.segment(tap, bare, b"")
    }

    fn segment(&mut self, tap: Tap, flags: Bare, data: &[u8]) -> Result<(), String> {
        let (to_server, to_client) = self.daemon.engine.session(&self.tuple).map_or((0, 0), Session::shifts);
        let [client, server] = self.next;
        let shifted =
            |number: u32, shift: i64| i32::try_from(shift).map(|shift| number.wrapping_add_signed(shift));
        let (sequence, acknowledgment, sender) = match tap {
            Tap::ToServer => (client, shifted(server, to_client), self.next.first_mut()),
            Tap::ToClient => (server, shifted(client, to_server), self.next.last_mut()),
        };
        let acknowledgment = acknowledgment.map_err(|error| error.to_string())?;
        if let Some(next) = sender {
            let length = u32::try_from(data.len()).map_err(|error| error.to_string())?;
            *next = next.wrapping_add(length + u32::from(flags != Bare::Ack));
        }
        let bytes = packet(tap, &self.tuple, flags, (sequence, acknowledgment), data)?;
        self.send(tap, bytes)
    }

    fn send(&mut self, tap: Tap, bytes: Vec<u8>) -> Result<(), String> {
        if !self.daemon.take(tap, &bytes)? {
            return Err(format!("packet {} of the conversation is dropped", self.said.len()));
        }
        self.said.push((tap, bytes));
        Ok(())
    }
}

fn packet(
    tap: Tap,
    tuple: &ControlTuple,
    flags: Bare,
    (sequence, acknowledgment): (u32, u32),
    data: &[u8],
) -> Result<Vec<u8>, String> {
    let (source, destination) = match tap {
        Tap::ToServer => (tuple.client, tuple.server),
        Tap::ToClient => (tuple.server, tuple.client),
    };
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (source, destination) else {
        return Err("not IPv4".to_owned());
    };
    let octets = |address: &Ipv4Addr| address.octets();
    let tcp = PacketBuilder::ipv4(octets(from.ip()), octets(to.ip()), 64).tcp(
        source.port(),
        destination.port(),
        sequence,
        64240,
    );
    let tcp = match flags {
        Bare::Syn => tcp.syn(),
        Bare::SynAck => tcp.syn().ack(acknowledgment),
        Bare::Ack if data.is_empty() => tcp.ack(acknowledgment),
        Bare::Ack => tcp.ack(acknowledgment).psh(),
        Bare::FinAck => tcp.ack(acknowledgment).fin(),
    };
    let stamps = [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(7, 8)];
    let builder = tcp.options(&stamps).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(builder.size(data.len()));
    builder.write(&mut bytes, data).map_err(|error| error.to_string())?;
    Ok(bytes)
}
