//! From new bytes of a stream to its edits: puts lines together, shows them to the dialogue, and makes the edits
//! that it asks for.

use super::dialogue::Dialogue;
use super::event::{Event, Mode};
use super::ftp::command::{Command, Verb};
use super::ftp::reply;
use super::lines::LineEdit;
use super::opening::Planner;
use super::outcome::Outcome;
use super::stream::Stream;

/// How many edits one line can take: the address, and what spoils it.
const EDITS_PER_LINE: usize = 2;

/// All that new bytes of one direction touch.
#[derive(Debug)]
pub struct Editor<'a, 'p> {
    /// Active for the client's bytes (commands), passive for the server's (replies).
    pub mode: Mode,
    /// The direction they belong to.
    pub stream: &'a mut Stream,
    /// The conversation.
    pub dialogue: &'a mut Dialogue,
    /// What pinholes need.
    pub planner: Planner<'p>,
    /// What they bring about.
    pub outcome: &'a mut Outcome,
}

impl Editor<'_, '_> {
    /// Takes new bytes, which begin where the stream stands. Returns how many were taken: the rest would need
    /// more edits in flight than there may be, and is left for the sender to send again.
    pub fn absorb(&mut self, data: &[u8]) -> usize {
        if self.stream.line.may_begin() {
            let begins = self.is_line(data);
            self.stream.line.begins(begins);
        }
        let (start, mut taken) = (self.stream.next, 0);
        for chunk in data.split_inclusive(|&byte| byte == b'\n') {
            if self.outcome.departure.is_none() {
                if !self.stream.edits.has_room_for(EDITS_PER_LINE) {
                    break;
                }
                self.chunk(chunk);
            }
            self.stream.next += chunk.len() as u64;
            taken += chunk.len();
        }
        self.stream.history.record(start, data.get(..taken).unwrap_or(data));
        taken
    }

    /// Whether a segment, the first that is seen after the daemon was away, begins with a whole line of the protocol.
    /// Otherwise it may be the rest of one, of which the receiver has the beginning.
    fn is_line(&self, data: &[u8]) -> bool {
        let Some(line) = data.split_inclusive(|&byte| byte == b'\n').next() else { return false };
        let is_known = match self.mode {
            Mode::Active => Command::read(line).is_some_and(|command| command.verb != Verb::Unknown),
            Mode::Passive => reply::is_reply(line),
        };
        is_known && line.ends_with(b"\n")
    }

    /// A line's end, or a part of one.
    fn chunk(&mut self, chunk: &[u8]) {
        let sent = self.stream.line.kept();
        self.stream.line.push(self.stream.next, chunk);
        self.hold_to_promise(sent);
        if chunk.ends_with(b"\n") {
            self.finish_line(sent);
        } else if self.stream.line.promise.is_none() {
            self.begin_promise(sent);
        }
    }

    /// The line is whole.
    fn finish_line(&mut self, sent: usize) {
        let Some(line) = self.stream.line.line(sent) else {
            if self.mode == Mode::Passive {
                self.dialogue.skipped_reply(self.stream.line.ends_bare());
            }
            return self.stream.line.clear();
        };
        let promise = self.stream.line.promise.as_deref();
        let edit = match self.mode {
            Mode::Active => self.dialogue.command(line, promise, &mut self.planner, self.outcome),
            Mode::Passive => self.dialogue.reply(line, promise, &mut self.planner, self.outcome),
        };
        if let Some(LineEdit { range, text, notation }) = edit {
            let at = self.stream.line.position(range.start);
            self.stream.edits.replace(at, range.len() as u64, text);
            self.outcome.events.push(Event::Edited(notation));
        }
        self.stream.line.clear();
    }

    /// The line is cut: if an address has begun, all of its replacement goes out now.
    fn begin_promise(&mut self, sent: usize) {
        let Some(line) = self.stream.line.line(sent) else { return };
        let Some((promise, text)) = self.dialogue.begun(self.mode, line, &mut self.planner) else { return };
        let seen = promise.spot().extent(line.bytes).len() as u64;
        let at = self.stream.line.position(promise.start);
        self.stream.edits.replace(at, seen, text);
        self.outcome.events.push(Event::Edited(promise.notation));
        self.stream.line.promise = Some(Box::new(promise));
    }

    /// More of a line whose address has been replaced ahead: swallows what still belongs to the address, and
    /// spoils the line where that was none.
    fn hold_to_promise(&mut self, sent: usize) {
        let line = &mut self.stream.line;
        let Some(mut promise) = line.promise.as_deref().copied() else { return };
        let before = promise.spot().extent(line.bytes().get(..sent).unwrap_or_default()).end;
        if before < sent {
            return;
        }
        let range = promise.spot().extent(line.bytes());
        self.stream.edits.swallow((range.end - before) as u64);
        let (Some(text), Some(&behind)) = (line.bytes().get(range.clone()), line.bytes().get(range.end))
        else {
            return;
        };
        if let Err(reason) = self.planner.keeps(self.mode, &promise, text) {
            self.planner.withdraw(&promise);
            promise.broken = Some(reason);
            let spoiled = [promise.notation.spoiler(), &[behind]].concat();
            self.stream.edits.replace(line.position(range.end), 1, spoiled);
            line.promise = Some(Box::new(promise));
        }
    }
}
