//! Faults around the daemon: what becomes of live sessions, and of those that begin, when the kernel, the links or
//! the administrator do what they do on bad days.

mod clock;
mod handshake;
mod network;
mod overflow;
mod reload;
mod ruleset;
mod state;
