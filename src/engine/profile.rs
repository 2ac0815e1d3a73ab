//! What a session tells of itself to those who watch it. No decision depends on anything in here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::Mode;
use super::ftp::command::Verb;

/// How much of a user's name is kept, in bytes. Addresses of mail, which serve as names, are seldom longer.
const KEPT: usize = 64;

/// How many names may wait for the server's answer. One client in many sends two ahead; of more, the later ones are
/// not kept.
const MAX_CLAIMS: u16 = 4;

/// How a client asks for a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DataCommand {
    /// RFC 959.
    Port,
    /// RFC 2428.
    Eprt,
    /// RFC 959.
    Pasv,
    /// RFC 2428.
    Epsv,
}

impl DataCommand {
    /// The one that this verb is.
    pub fn of(verb: Verb) -> Option<Self> {
        match verb {
            Verb::Port => Some(Self::Port),
            Verb::Eprt => Some(Self::Eprt),
            Verb::Pasv => Some(Self::Pasv),
            Verb::Epsv => Some(Self::Epsv),
            _ => None,
        }
    }

    /// Who listens then.
    pub fn mode(self) -> Mode {
        match self {
            Self::Port | Self::Eprt => Mode::Active,
            Self::Pasv | Self::Epsv => Mode::Passive,
        }
    }
}

impl fmt::Display for DataCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "PORT",
            Self::Eprt => "EPRT",
            Self::Pasv => "PASV",
            Self::Epsv => "EPSV",
        })
    }
}

/// What is known of a session's client, and what it has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name that the server has taken last, in the client's own bytes.
    user: Vec<u8>,
    /// Names that it has not answered yet, in order, each behind its length. Only what it takes counts: a client may say any
    /// name at any time.
    claims: Vec<u8>,
    /// How many those are.
    claimed: u16,
    asked: Option<DataCommand>,
    transfers: u64,
}

impl Profile {
    /// USER was said.
    pub(super) fn claim(&mut self, name: &[u8]) {
        let kept = if self.claimed < MAX_CLAIMS { name.get(..KEPT).unwrap_or(name) } else { b"" };
        self.claims.push(u8::try_from(kept.len()).unwrap_or(0));
        self.claims.extend_from_slice(kept);
        self.claimed = self.claimed.saturating_add(1);
    }

    /// The server's final reply to the oldest USER that it has not answered has come.
    pub(super) fn claim_answered(&mut self, code: u16) {
        let length = self.claims.first().map_or(0, |&length| length.into());
        let end = self.claims.len().min(1 + length);
        if matches!(code, 230..=232 | 331 | 332) {
            self.user.clear();
            self.user.extend_from_slice(self.claims.get(1..end).unwrap_or_default());
        }
        self.claims.drain(..end);
        self.claimed = self.claimed.saturating_sub(1);
    }

    /// Nobody is answered any more.
    pub(super) fn forget_claims(&mut self) {
        self.claims.clear();
        self.claimed = 0;
    }

    /// Gives memory back that it does not need now.
    pub(super) fn rest(&mut self) {
        self.user.shrink_to_fit();
        self.claims.shrink_to_fit();
    }

    /// REIN: nobody is anybody.
    pub(super) fn forget_user(&mut self) {
        self.user.clear();
    }

    /// A data connection was asked for.
    pub(super) fn ask(&mut self, command: DataCommand) {
        self.asked = Some(command);
    }

    /// A transfer was completed.
    pub(super) fn transferred(&mut self) {
        self.transfers = self.transfers.saturating_add(1);
    }

    /// The user's name that the server has taken last, as [`printable`] text; empty where none is known.
    pub fn user(&self) -> String {
        printable(&self.user)
    }

    /// How the client has asked for a data connection last.
    pub fn asked(&self) -> Option<DataCommand> {
        self.asked
    }

    /// How many transfers the server has called completed (226, 250).
    pub fn transfers(&self) -> u64 {
        self.transfers
    }
}

/// Text that comes from strangers, so that any terminal can be shown it: what is no UTF-8 becomes `\xNN`, a control
/// character or anything else that does not show (direction marks, for one) `\u{NN}`, and a backslash two.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                // escape_debug would escape these as well, which do no harm.
                '\'' | '"' => text.push(character),
                _ => text.extend(character.escape_debug()),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_the_server_takes_counts() {
        let mut profile = Profile::default();
        profile.claim(b"alice");
        assert_eq!(profile.user(), "");
        profile.claim_answered(331);
        profile.claim(b"root");
        assert_eq!(profile.user(), "alice");
        profile.claim_answered(530);
        assert_eq!(profile.user(), "alice");
        for name in ["b", "c"] {
            profile.claim(name.as_bytes());
        }
        profile.claim_answered(230);
        assert_eq!(profile.user(), "b", "the answer to the first of two");
        profile.claim_answered(503);
        assert_eq!(profile.user(), "b");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut profile = Profile::default();
        (0..256).for_each(|_| profile.claim(&[b'x'; 500]));
        assert!(profile.claims.len() <= usize::from(MAX_CLAIMS) * KEPT + 256);
        (0..=MAX_CLAIMS).for_each(|_| profile.claim_answered(230));
        assert_eq!(profile.user(), "", "one too many to know");
    }

    #[test]
    fn nothing_raw_reaches_a_terminal() {
        assert_eq!(printable(b"o'brien@example.com"), "o'brien@example.com");
        assert_eq!(printable("Jürgen \u{65e5}".as_bytes()), "Jürgen \u{65e5}");
        assert_eq!(printable(b"\x1b[2J\x07\r\n\x00\x7f"), r"\u{1b}[2J\u{7}\r\n\0\u{7f}");
        assert_eq!(printable(b"a\xff\\b"), r"a\xff\\b");
        assert_eq!(printable("\u{9b}31m\u{202e}evil\u{200b}".as_bytes()), r"\u{9b}31m\u{202e}evil\u{200b}");
        assert!(printable(&(0..=255).collect::<Vec<u8>>()).chars().all(|c| !c.is_control()));
    }
}
