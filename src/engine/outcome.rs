//! What a packet brings about, besides its own edits.

use super::event::{Departure, Event, Mode};
use super::lines::Line;
use super::pinhole::Change;
use super::policy::Refusal;

/// What a packet brings about.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the firewall, in order.
    pub changes: Vec<Change>,
    /// For the log, in order.
    pub events: Vec<Event>,
    /// The connection leaves inspection.
    pub departure: Option<Departure>,
}

impl Outcome {
    /// A pinhole does not open.
    pub fn refuse(&mut self, mode: Mode, line: Line<'_>, reason: Refusal) {
        self.events.push(Event::Refused { mode, line: line.text(), reason });
    }
}
