//! What is counted, and nothing else.

use ftpalg_engine::engine::control::ControlTuple;

use crate::conversation::Taken;
use crate::daemon::Daemon;

/// These packets, which all go on, or these sessions, which are saved. A function of its own by this name: callgrind counts
/// while it runs.
#[inline(never)]
pub fn measured(daemon: &mut Daemon, packets: &[Taken], saved: &[ControlTuple]) -> Result<(), String> {
    for (tap, bytes) in packets {
        if !daemon.take(*tap, bytes)? {
            return Err("a packet is dropped that must go on".to_owned());
        }
    }
    saved.iter().try_for_each(|tuple| daemon.save(tuple))
}
