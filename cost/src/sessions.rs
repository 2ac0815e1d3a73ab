//! What an idle session takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use allocation_counter::measure;
use ftpalg_engine::engine::packet::Packet;
use ftpalg_engine::engine::session::{Session, Tap};

use crate::conversation::{Conversation, Taken};
use crate::daemon::{Daemon, SERVER};

/// How many sessions begin in a second.
const IN_A_SECOND: u32 = 500;

/// How many sessions a client has.
const OF_ONE_CLIENT: u32 = 10;

/// Lets so many sessions log in and prints how many bytes each of them takes when nothing is under way, how many at the most
/// until then, and how much memory the whole program has.
pub fn run(number: u32) -> Result<(), String> {
    let mut conversation = Conversation::logged_in(40_000)?;
    conversation.ack(Tap::ToServer)?;
    let packets = conversation.packets();
    let mut daemon = Daemon::new("sessions")?;
    let mut done = Ok(());
    let taken = measure(|| {
        done = (0..number).try_for_each(|index| {
            if index % IN_A_SECOND == 0 {
                daemon.rest(Duration::from_secs(1));
            }
            log_in(&mut daemon, &packets, index)
        });
        daemon.rest(Duration::from_secs(10));
    });
    done?;
    let found = daemon.engine.sessions().filter(|session| session.dialogue.is_logged_in()).count();
    if u32::try_from(found) != Ok(number) {
        return Err(format!("{found} sessions are logged in, not {number}"));
    }
    println!("session {}", size_of::<Session>());
    println!("idle {}", taken.bytes_current / i64::from(number));
    println!("most {}", i64::try_from(taken.bytes_max).unwrap_or(i64::MAX) / i64::from(number));
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    for (name, line) in [("resident", "VmRSS:"), ("most-resident", "VmHWM:")] {
        let kib = status.lines().find_map(|text| text.strip_prefix(line)).unwrap_or_default();
        println!("{name} {}", kib.trim());
    }
    Ok(())
}

/// The same packets between the server and another client.
fn log_in(daemon: &mut Daemon, packets: &[Taken], index: u32) -> Result<(), String> {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 0).to_bits() + index / OF_ONE_CLIENT);
    let port = u16::try_from(40_000 + index % OF_ONE_CLIENT).map_err(|error| error.to_string())?;
    let client = SocketAddr::from((address, port));
    for (tap, bytes) in packets {
        let mut bytes = bytes.clone();
        let mut packet = Packet::parse(&mut bytes).map_err(|error| error.to_string())?;
        match tap {
            Tap::ToServer => packet.set_ends(client, SERVER),
            Tap::ToClient => packet.set_ends(SERVER, client),
        }
        packet.finish();
        if !daemon.take(*tap, &bytes)? {
            return Err(format!("a packet of session {index} is dropped"));
        }
    }
    Ok(())
}
