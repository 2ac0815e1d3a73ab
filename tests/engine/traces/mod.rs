//! Whole conversations, told line by line.

mod active;
mod passive;
mod session;
mod stream;
mod trouble;
