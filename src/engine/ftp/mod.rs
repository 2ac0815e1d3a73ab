//! FTP as a firewall must read it (RFC 959, RFC 2428): commands, replies, and the addresses in them.

pub mod command;
pub mod host_port;
pub mod reply;
