//! What an idle session takes.

use std::net::{Ipv4Addr, SocketAddr};

use allocation_counter::measure;
use ftpalg_engine::engine::packet::Packet;
use ftpalg_engine::engine::session::{Session, Tap};

use crate::conversation::{Conversation, Taken};
use crate::daemon::{Daemon, SERVER};

/// How many sessions a client has.
const OF_ONE_CLIENT: u32 = 10;

/// Lets so many sessions log in and prints how many bytes each of them takes when nothing is under way.
pub fn run(number: u32) -> Result<(), String> {
    let mut conversation = Conversation::logged_in(40_000)?;
    conversation.ack(Tap::ToServer)?;
    let packets = conversation.packets();
    let mut daemon = Daemon::new("sessions")?;
    let mut done = Ok(());
    let taken = measure(|| {
        done = (0..number).try_for_each(|index| log_in(&mut daemon, &packets, index));
        daemon.rest();
    });
    done?;
    let found = daemon.engine.sessions().filter(|session| session.dialogue.is_logged_in()).count();
    if u32::try_from(found) != Ok(number) {
        return Err(format!("{found} sessions are logged in, not {number}"));
    }
    println!("session {}", size_of::<Session>());
    println!("idle {}", taken.bytes_current / i64::from(number));
    println!("most {}", i64::try_from(taken.bytes_max).unwrap_or(i64::MAX) / i64::from(number));
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
