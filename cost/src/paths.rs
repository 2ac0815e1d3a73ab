//! The ways of packets that are counted.

use allocation_counter::{AllocationInfo, measure};
use ftpalg_engine::engine::session::Tap;

use crate::conversation::Conversation;
use crate::daemon::Daemon;
use crate::measured::measured;

/// How often each is gone.
const ROUNDS: u16 = 100;

/// How often before that: until buffers have found their sizes.
const BEFORE: u16 = 4;

/// One round of an exchange in a session.
type Exchange = fn(&mut Conversation, u16) -> Result<(), String>;

/// A session in a state in which something is repeated.
type Beginning = fn(u16) -> Result<Conversation, String>;

/// What is repeated in a session, by name.
const EXCHANGES: [(&str, Beginning, Exchange); 9] = [
    ("command-and-reply", Conversation::logged_in, noop),
    ("command-and-reply-shifted", Conversation::shifted, noop),
    ("acknowledgments-shifted", Conversation::shifted, acknowledgments),
    ("retransmissions", Conversation::logged_in, retransmissions),
    ("retransmissions-shifted", Conversation::shifted, retransmissions),
    ("listing", Conversation::logged_in, listing),
    ("login", Conversation::logged_in, login),
    ("port-edited", Conversation::logged_in, port),
    ("pasv-edited", Conversation::logged_in, pasv),
];

fn noop(conversation: &mut Conversation, _: u16) -> Result<(), String> {
    conversation.exchange("NOOP\r\n", &["200 NOOP ok\r\n"])
}

fn acknowledgments(conversation: &mut Conversation, _: u16) -> Result<(), String> {
    conversation.ack(Tap::ToServer)?;
    conversation.ack(Tap::ToClient)
}

/// A command and its reply, each once more.
fn retransmissions(conversation: &mut Conversation, round: u16) -> Result<(), String> {
    if round == 0 {
        noop(conversation, round)?;
    }
    conversation.repeat_last(2)
}

fn listing(conversation: &mut Conversation, _: u16) -> Result<(), String> {
    conversation.exchange("TYPE A\r\n", &["200 ok\r\n"])?;
    conversation.exchange("CWD /pub/a/directory\r\n", &["250-Welcome\r\n250 changed\r\n"])?;
    conversation.exchange("LIST\r\n", &["150 here it comes\r\n", "226 done\r\n"])
}

fn login(conversation: &mut Conversation, _: u16) -> Result<(), String> {
    conversation.log_in()
}

fn port(conversation: &mut Conversation, round: u16) -> Result<(), String> {
    conversation.port(5000 + round)
}

fn pasv(conversation: &mut Conversation, round: u16) -> Result<(), String> {
    conversation.pasv(6000 + round)
}

/// Everything from SYN to the last acknowledgment: a listing to the client's port and a file from the server's.
fn whole(port: u16) -> Result<Conversation, String> {
    let mut conversation = Conversation::logged_in(port)?;
    conversation.exchange("TYPE I\r\n", &["200 ok\r\n"])?;
    conversation.port(port)?;
    conversation.exchange("LIST\r\n", &["150 here it comes\r\n", "226 done\r\n"])?;
    conversation.pasv(port)?;
    conversation.exchange("RETR file\r\n", &["150 here it comes\r\n", "226 done\r\n"])?;
    conversation.exchange("QUIT\r\n", &["221 bye\r\n"])?;
    conversation.end()?;
    Ok(conversation)
}

/// Goes through all of them.
pub fn run() -> Result<(), String> {
    for (name, begin, exchange) in EXCHANGES {
        let mut conversation = begin(40_000)?;
        (0..BEFORE).try_for_each(|round| exchange(&mut conversation, round))?;
        let before = conversation.len();
        (BEFORE..BEFORE + ROUNDS).try_for_each(|round| exchange(&mut conversation, round))?;
        let packets = conversation.packets();
        let (before, counted) = packets.split_at(before);
        let mut daemon = Daemon::new(name)?;
        for (tap, bytes) in before {
            daemon.take(*tap, bytes)?;
        }
        count(name, counted.len(), || measured(&mut daemon, counted, &[]))?;
    }
    let mut daemon = Daemon::new("session")?;
    let mut packets = Vec::new();
    for port in 40_000..40_000 + ROUNDS {
        packets.extend(whole(port)?.packets());
    }
    count("session", packets.len(), || measured(&mut daemon, &packets, &[]))?;
    let conversation = Conversation::shifted(40_000)?;
    let tuple = conversation.tuple();
    let mut daemon = Daemon::new("save")?;
    for (tap, bytes) in &conversation.packets() {
        daemon.take(*tap, bytes)?;
    }
    let saved = vec![tuple; ROUNDS.into()];
    count("save", saved.len(), || measured(&mut daemon, &[], &saved))
}

/// Prints the path's name, how many packets (or saved sessions) there were in a round, and how many allocations in all
/// rounds.
fn count(name: &str, packets: usize, act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let mut done = Ok(());
    let AllocationInfo { count_total, .. } = measure(|| done = act());
    done.map_err(|error| format!("{name}: {error}"))?;
    println!("{name} {} {count_total}", packets / usize::from(ROUNDS));
    Ok(())
}
