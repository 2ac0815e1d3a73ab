//! Whole conversations, told line by line.

mod active;
mod counters;
mod passive;
mod session;
mod stream;
mod trouble;
