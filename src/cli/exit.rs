//! Exit codes. clap itself exits with 2 where the command line cannot be understood.

/// All went well; for `run`: it was asked to end.
pub const OK: u8 = 0;
/// Something failed while it ran.
pub const FAILURE: u8 = 1;
/// For `check`: nothing was seen that keeps ftpalg from working, but something that may, or not all could be seen.
pub const WARNINGS: u8 = 3;
/// The rights to do it are missing (`EX_NOPERM` of sysexits(3)).
pub const NO_PERMISSION: u8 = 77;
/// The configuration cannot be used (`EX_CONFIG`). The unit does not start the daemon again after this one.
pub const BAD_CONFIGURATION: u8 = 78;
