//! The two ends: small enough that what stands between them shows. Real servers and clients cost so much more a session
//! that an ALG's part drowns in theirs.

pub mod client;
pub mod crowd;
pub mod line;
pub mod server;

/// Where the server of few sessions listens, whose threads have one each.
pub const LOAD_PORT: u16 = 21;
/// Where the server of many idle sessions listens.
pub const CROWD_PORT: u16 = 2021;
