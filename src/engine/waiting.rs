//! The commands of a session that wait for their final replies, in order.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ftp::command::Verb;
use super::pinhole::{Pinhole, PinholeKey};

/// How many commands may wait for their replies, where commands in a row that concern no firewall count as one. lftp
/// sends a few dozen ahead; a session that goes beyond the bound opens no more pinholes.
const MAX_OUTSTANDING: usize = 256;

/// A command that waits for its final reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outstanding {
    /// The connection itself, which is answered by the greeting.
    Greeting,
    /// PASS, ACCT.
    Login,
    /// USER.
    User,
    /// REIN.
    Reinitialize,
    /// AUTH.
    Auth,
    /// PORT or EPRT, with the pinhole that a 200 opens, which is several times as large as all else.
    Active(Option<Box<Pinhole>>),
    /// PASV.
    Passive,
    /// EPSV.
    ExtendedPassive,
    /// RETR, STOR, LIST and the like.
    Transfer,
    /// ABOR.
    Abort,
    /// An empty line, which some servers pass over and others call a syntax error.
    Blank,
    /// So many others in a row.
    Others(u32),
}

impl From<Verb> for Outstanding {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Port | Verb::Eprt => Self::Active(None),
            Verb::Pasv => Self::Passive,
            Verb::Epsv => Self::ExtendedPassive,
            Verb::Login => Self::Login,
            Verb::Reinitialize => Self::Reinitialize,
            Verb::Auth => Self::Auth,
            Verb::Transfer => Self::Transfer,
            Verb::Abort => Self::Abort,
            Verb::Other | Verb::Unknown => Self::Others(1),
        }
    }
}

impl Outstanding {
    /// Whether servers are known to leave this command without a final reply of its own, and a reply with this
    /// code is none to it: an aborted transfer and its ABOR get one or two between them.
    fn may_stay_unanswered(&self, code: u16) -> bool {
        match self {
            Self::Transfer => matches!(code, 200 | 227 | 229 | 230),
            // What ABOR is answered with (RFC 959, section 5.4), and what a transfer's end may be called.
            Self::Abort => !matches!(code, 225 | 226 | 421 | 425 | 426 | 451 | 500..=503 | 530),
            Self::Blank => !matches!(code, 500..=503),
            _ => false,
        }
    }
}

/// All of them. A connection begins with its greeting due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting(VecDeque<Outstanding>);

impl Default for Waiting {
    fn default() -> Self {
        Self(VecDeque::from([Outstanding::Greeting]))
    }
}

impl Waiting {
    /// Whether one more such command can be remembered.
    pub fn has_room_for(&self, command: &Outstanding) -> bool {
        let joins =
            matches!((self.0.back(), command), (Some(Outstanding::Others(_)), Outstanding::Others(_)));
        joins || self.0.len() < MAX_OUTSTANDING
    }

    /// One more waits. Without room for it, replies can no longer be told apart.
    pub fn push(&mut self, command: Outstanding) {
        let has_room = self.has_room_for(&command);
        match (self.0.back_mut(), command) {
            (Some(Outstanding::Others(count)), Outstanding::Others(more)) => {
                *count = count.saturating_add(more);
            }
            (_, command) if has_room => self.0.push_back(command),
            _ => {}
        }
    }

    /// The next to be answered.
    pub fn next(&self) -> Option<&Outstanding> {
        self.0.front()
    }

    /// The server has come to the PORT or EPRT with this key, if that is the next to be answered. An ABOR or an empty line
    /// before it gets no reply of its own then.
    pub fn come_to(&mut self, key: PinholeKey) -> Option<Pinhole> {
        let is_passed_over = |one: &&Outstanding| matches!(one, Outstanding::Abort | Outstanding::Blank);
        let skipped = self.0.iter().take_while(is_passed_over).count();
        let pinhole = match self.0.get(skipped) {
            Some(Outstanding::Active(Some(pinhole))) if pinhole.key == key => **pinhole,
            _ => return None,
        };
        self.0.drain(..skipped);
        Some(pinhole)
    }

    /// The command that a final reply with this code answers.
    pub fn answered(&mut self, code: u16) -> Option<Outstanding> {
        let skipped = self.unanswered_before(code);
        self.0.drain(..skipped);
        match self.0.front_mut() {
            Some(Outstanding::Others(count)) if *count > 1 => {
                *count -= 1;
                Some(Outstanding::Others(1))
            }
            _ => self.0.pop_front(),
        }
    }

    /// How many commands at the front got no reply of their own, as this code shows: it fits a command behind
    /// them and none of them.
    fn unanswered_before(&self, code: u16) -> usize {
        let skipped = self.0.iter().take_while(|one| one.may_stay_unanswered(code)).count();
        if skipped < self.0.len() { skipped } else { 0 }
    }

    /// Whether a reply with this code would answer a PASV or EPSV. Some servers, or ALGs before them, answer either with the
    /// other's code, and clients take it.
    pub fn awaits(&self, code: u16) -> bool {
        let next = self.0.get(self.unanswered_before(code));
        matches!((next, code), (Some(Outstanding::Passive | Outstanding::ExtendedPassive), 227 | 229))
    }

    /// The pinholes that PORT and EPRT commands have asked for.
    pub fn asked(&self) -> impl Iterator<Item = Pinhole> {
        self.0.iter().filter_map(|one| match one {
            Outstanding::Active(pinhole) => pinhole.as_deref().copied(),
            _ => None,
        })
    }

    /// Their 200s open nothing. Returns what they would have opened.
    pub fn withdraw_asked(&mut self) -> Vec<Pinhole> {
        let asked = self.0.iter_mut().filter_map(|one| match one {
            Outstanding::Active(pinhole) => pinhole.take().map(|pinhole| *pinhole),
            _ => None,
        });
        asked.collect()
    }

    /// Gives memory back that they do not need now.
    pub fn rest(&mut self) {
        self.0.shrink_to_fit();
    }

    /// None waits any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(commands: &[Outstanding]) -> Waiting {
        let mut waiting = Waiting::default();
        waiting.answered(220);
        commands.iter().for_each(|command| waiting.push(command.clone()));
        waiting
    }

    #[test]
    fn replies_answer_commands_in_order() {
        use Outstanding::{Login, Others, Passive, Transfer};
        let mut waiting = waiting(&[Login, Others(1), Others(1), Passive, Transfer]);
        assert!(!waiting.awaits(227));
        for (code, command) in
            [(331, Login), (200, Others(1)), (200, Others(1)), (227, Passive), (226, Transfer)]
        {
            assert_eq!(waiting.answered(code), Some(command));
        }
        assert_eq!(waiting.answered(226), None);
    }

    #[test]
    fn an_aborted_transfer_may_leave_a_command_without_reply() {
        use Outstanding::{Abort, Passive, Transfer};
        let mut waiting = waiting(&[Transfer, Abort, Passive]);
        assert_eq!(waiting.answered(426), Some(Transfer));
        assert!(waiting.awaits(227));
        assert_eq!(waiting.answered(227), Some(Passive));
    }

    #[test]
    fn commands_that_concern_no_firewall_take_no_room() {
        let mut waiting = Waiting::default();
        (0..100_000).for_each(|_| waiting.push(Outstanding::Others(1)));
        assert_eq!(waiting.0.len(), 2);
        (0..MAX_OUTSTANDING).for_each(|_| waiting.push(Outstanding::Transfer));
        assert_eq!(waiting.0.len(), MAX_OUTSTANDING);
        assert!(!waiting.has_room_for(&Outstanding::Passive));
    }
}
