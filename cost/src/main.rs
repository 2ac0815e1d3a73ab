//! What a packet and a session cost the engine and the state directory.
//!
//! `ftpalg-cost paths` goes once through each of the [`paths`] and prints its name, the number of its packets and the number
//! of allocations in them. Under callgrind, [`measured::measured`] is what counts.
//! `ftpalg-cost sessions N` lets N sessions log in and prints how many bytes each of them takes then.

extern crate ftpalg_engine as ftpalg;

mod conversation;
mod daemon;
mod measured;
mod paths;
#[path = "../../src/daemon/places.rs"]
mod places;
mod scratch;
mod sessions;
#[path = "../../src/daemon/slots.rs"]
mod slots;
#[path = "../../src/daemon/store.rs"]
#[expect(dead_code, reason = "the daemon's own file")]
mod store;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["paths"] => paths::run(),
        ["sessions", number] => match number.parse() {
            Ok(number) => sessions::run(number),
            Err(error) => Err(format!("{number}: {error}")),
        },
        _ => Err("say `ftpalg-cost paths` or `ftpalg-cost sessions N`".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ftpalg-cost: {error}");
            ExitCode::FAILURE
        }
    }
}
