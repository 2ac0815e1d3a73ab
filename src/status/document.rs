//! What the daemon tells about itself: one JSON document, whose names are those that docs/status.md lists.
//!
//! Text that comes from strangers (names of users, lines) is in it as [`ftpalg::engine::profile::printable`] makes it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ftpalg::engine::control::ControlTuple;
use serde::{Deserialize, Serialize};

/// Counts up when a name goes, or means something else. Names that come in addition leave it as it is.
pub const VERSION: u32 = 1;

/// What a client says first, and a line end behind it.
pub const REQUEST: &str = "status";

/// Numbers by their names.
pub type Counts = BTreeMap<String, u64>;

/// Everything. `S` is the list of sessions: the daemon writes it while it goes through them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Document<S = Vec<Session>> {
    /// [`VERSION`].
    pub version: u32,
    /// The program.
    pub daemon: Daemon,
    /// One a queue.
    pub workers: Vec<Worker>,
    /// What the engines have counted since the daemon began.
    pub counters: Counters,
    /// What the table's rules have counted since it was put in; missing while it is away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub table_counters: Option<Counts>,
    /// Refusals of late, the newest last.
    pub refusals: Vec<Refusal>,
    /// The sessions, in no order.
    pub sessions: S,
}

/// The program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Daemon {
    /// ftpalg's.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// For how long it has been running.
    pub uptime_seconds: f64,
    /// When this was written: seconds since 1970.
    pub time: f64,
}

/// A worker and its queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Worker {
    /// The queue's number.
    pub queue: u16,
    /// Packets it has taken up.
    pub packets: u64,
    /// Sessions in its care.
    pub sessions: usize,
    /// Packets that wait for a verdict; missing where the kernel does not tell.
    pub waiting: Option<u64>,
    /// Packets that found no room in the queue, since the daemon began.
    pub dropped: Option<u64>,
}

/// What the engines have counted ([`ftpalg::engine::Counters`] says what each is).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Counters {
    /// By direction, and by what became of them.
    pub packets: BTreeMap<String, Counts>,
    /// Control connections that began.
    pub connections: u64,
    /// Of those, whose server has greeted.
    pub greeted: u64,
    /// Logins that were accepted.
    pub logins: u64,
    /// Connections that both ends have closed, or one has reset.
    pub ended: u64,
    /// Connections of which nothing came for too long.
    pub expired: u64,
    /// Connections that left inspection, by reason.
    pub departed: Counts,
    /// How often inspection went on after something had passed unseen.
    pub resumed: u64,
    /// Pinholes opened, by mode.
    pub opened: Counts,
    /// Pinholes refused, by reason.
    pub refused: Counts,
    /// Addresses rewritten.
    pub edits: u64,
    /// Connections that were not followed because there were too many.
    pub overflow: u64,
}

impl Counters {
    /// Packets of both directions.
    pub fn all_packets(&self) -> u64 {
        self.packets.values().flat_map(BTreeMap::values).sum()
    }

    /// Packets with which this has been done, of both directions.
    pub fn packets_that(&self, treatment: &str) -> u64 {
        self.packets.values().filter_map(|counts| counts.get(treatment)).sum()
    }
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The server has not greeted.
    Greeting,
    /// Nobody is logged in.
    Login,
    /// Somebody is.
    Ready,
    /// A transfer is under way.
    Transfer,
    /// It has left inspection, for [`Session::left`].
    Left,
    /// Both ends have closed it; its last packets may still come.
    Closed,
    /// Its text was changed and its state is lost: its ends are being reset.
    CutOff,
}

/// A control connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    /// Its number, as in the log. 0 where it has none any more.
    pub id: u64,
    /// Where it stands.
    pub state: State,
    /// The client's own address.
    pub client: IpAddr,
    /// The client as the server sees it.
    pub client_seen: SocketAddr,
    /// The server's own address.
    pub server: SocketAddr,
    /// The address that the client dialled.
    pub dialled: IpAddr,
    /// The name that the server has taken last; missing where it is not known.
    pub user: Option<String>,
    /// Whether the server has accepted a login.
    pub logged_in: bool,
    /// Whether its text can't be read, since AUTH was accepted.
    pub encrypted: bool,
    /// Why it is not inspected any more.
    pub left: Option<Reason>,
    /// How the client asked for a data connection last.
    pub data: Option<Data>,
    /// Transfers that the server has called completed.
    pub transfers: u64,
    /// Since when it is known.
    pub age_seconds: f64,
    /// Since its last packet that came by the daemon.
    pub idle_seconds: f64,
    /// Whether its packets are translated.
    pub shifted: bool,
    /// How much longer the text became.
    pub shifted_by: ShiftedBy,
    /// Its mark in conntrack.
    pub mark: u32,
    /// The queue that brings its packets; missing as long as none has come to this daemon.
    pub queue: Option<u16>,
    /// Data connections that it may have.
    pub pinholes: Vec<Pinhole>,
}

/// Bytes; negative where it became shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShiftedBy {
    /// What the client says.
    pub to_server: i64,
    /// What the server says.
    pub to_client: i64,
}

/// How data connections are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Data {
    /// `active` or `passive`.
    pub mode: String,
    /// `PORT`, `EPRT`, `PASV` or `EPSV`.
    pub command: String,
}

/// Why something is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// A word that stays the same.
    pub code: String,
    /// For people.
    pub text: String,
}

/// What became of a pinhole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PinholeState {
    /// Asked for; it opens with the server's reply.
    Asked,
    /// It waits for its connection.
    Open,
    /// Its connection has come.
    Used,
    /// None came in time.
    Expired,
}

/// A data connection that is expected.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pinhole {
    /// What became of it.
    pub state: PinholeState,
    /// `active` or `passive`.
    pub mode: String,
    /// Who may connect.
    pub source: IpAddr,
    /// Where he connects to.
    pub destination: SocketAddr,
    /// Where that leads.
    pub to: SocketAddr,
    /// From where it seems to come there.
    pub seen_from: IpAddr,
    /// How long it still waits; missing where nothing runs.
    pub expires_seconds: Option<f64>,
}

/// A pinhole that did not open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refusal {
    /// How long ago.
    pub seconds_ago: f64,
    /// The session's number.
    pub session: u64,
    /// Its client.
    pub client: IpAddr,
    /// Its server.
    pub server: SocketAddr,
    /// The name that the server has taken last; missing where it is not known.
    pub user: Option<String>,
    /// `active` or `passive`.
    pub mode: String,
    /// What was asked, shortened.
    pub line: String,
    /// Why not.
    pub reason: Reason,
    /// What would have let it open, or why nothing does.
    #[serde(default)]
    pub remedy: String,
}

impl Session {
    /// One of which no more is known than its name.
    pub fn unknown(state: State, tuple: &ControlTuple) -> Self {
        Self {
            id: 0,
            state,
            client: tuple.client.ip(),
            client_seen: tuple.client,
            server: tuple.server,
            dialled: tuple.server.ip(),
            user: None,
            logged_in: false,
            encrypted: false,
            left: None,
            data: None,
            transfers: 0,
            age_seconds: 0.0,
            idle_seconds: 0.0,
            shifted: false,
            shifted_by: ShiftedBy { to_server: 0, to_client: 0 },
            mark: 0,
            queue: None,
            pinholes: Vec::new(),
        }
    }
}
