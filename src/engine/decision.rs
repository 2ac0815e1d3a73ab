//! What the engine answers.

use thiserror::Error;

use super::control::ControlTuple;
use super::pinhole::Change;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it came.
    Pass,
    /// It goes on as its bytes are now.
    PassEdited,
    /// It is dropped; its sender will send it again.
    Drop,
    /// Nothing yet: tell the client's view of this connection with [`Engine::learn`](super::Engine::learn), then hand the same packet
    /// in again.
    LookUp(ControlTuple),
}

/// What the daemon has to do for a packet, in this order: carry out the changes, in one transaction; say how that
/// went with [`Engine::committed`](super::Engine::committed) or [`Engine::refused`](super::Engine::refused), and drop the packet if it failed; save the session;
/// give the verdict.
#[derive(Debug)]
pub struct Decision {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// What the firewall must hold before the packet goes on.
    pub changes: Vec<Change>,
    /// The session it belongs to, and its number.
    pub session: Option<(ControlTuple, u64)>,
    /// It is a packet of a connection that the kernel treats as shifted, and has been translated where that was needed.
    pub is_translated: bool,
}

/// Why a saved session can't be taken up again.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The bytes are no session of this version.
    #[error("no session of this version: {0}")]
    Damaged(#[from] postcard::Error),
    /// They are one, but nothing that this engine can have saved.
    #[error("a session whose parts contradict each other")]
    Contradictory,
}

impl Decision {
    /// One that asks for nothing.
    pub(super) fn of(verdict: Verdict) -> Self {
        Self { verdict, changes: Vec::new(), session: None, is_translated: false }
    }
}
