//! ftpalg, an FTP application-level gateway (ALG, RFC 2663): the library is its engine, without any I/O.

pub mod engine;
