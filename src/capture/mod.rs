//! Capture files: their packets, what these hold, and files of our own.

mod file;
mod link;
mod segment;
mod writer;

pub use file::{CaptureError, File, Frame, Resolution};
pub use link::{LinkType, Network};
pub use segment::{Segment, Unusable};
pub use writer::Writer;
