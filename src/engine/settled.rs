//! What became of the changes that a session has asked for.

use super::Engine;
use super::control::ControlTuple;
use super::event::Event;
use super::pinhole::Change;
use super::session::Tracked;

/// How often the kernel may refuse what a session asks before its pinholes are given up and its lines go on
/// without them.
const PATIENCE: u32 = 3;

/// How many refusals of one session the log is told of: a hostile one does not drown what others say.
const MAX_TOLD: u32 = 100;

impl Engine {
    /// The kernel has acknowledged what the last decision for this session asked. Returns what has happened in
    /// the session since it was last asked, for the log.
    pub fn committed(&mut self, tuple: ControlTuple) -> Vec<Event> {
        let Some(session) = self.sessions.get_mut(&tuple) else { return Vec::new() };
        session.owed = Vec::new();
        session.refusals = 0;
        let mut events = std::mem::take(&mut session.unreported);
        let told_before = session.told;
        events.retain(|event| {
            match event {
                Event::Started(_) => self.counters.greeted += 1,
                Event::LoggedIn => self.counters.logins += 1,
                Event::Opened(mode, _) => self.counters.opened.add(*mode),
                Event::Refused { reason, .. } => {
                    self.counters.refused.add(*reason);
                    session.told = session.told.saturating_add(1);
                    return session.told <= MAX_TOLD;
                }
                Event::Edited(_) => self.counters.edits += 1,
                Event::Resumed => self.counters.resumed += 1,
                Event::Departed(why) => self.counters.departed.add(*why),
                Event::Ended => self.counters.ended += 1,
                Event::Muted => {}
            }
            true
        });
        if session.told > MAX_TOLD && told_before <= MAX_TOLD {
            events.push(Event::Muted);
        }
        if session.departed.is_some() && !session.is_shifted {
            self.remove(&tuple);
            self.dismissed.insert(tuple);
        }
        events
    }

    /// The kernel refused it, or as much of it as is `undone`. The packet must be dropped; with its retransmission that is
    /// asked again. After some refusals the pinholes are given up, and what the session said goes on without them.
    pub fn refused(&mut self, tuple: ControlTuple, undone: Vec<Change>) {
        let Some(session) = self.sessions.get_mut(&tuple) else { return };
        session.owed = undone;
        session.refusals += 1;
        if session.refusals >= PATIENCE {
            session.refusals = 0;
            session.give_up(self.ports.act_for(tuple));
            let mut owed = std::mem::take(&mut session.owed);
            self.not_taken(&owed);
            self.postponed.append(&mut owed);
        }
    }

    /// The kernel would not take these, for which no packet waits ([`Engine::next_portion`]). They are not asked again soon, for
    /// each refusal costs it milliseconds, and another connection may have the name by then: what is to go runs down by itself.
    pub fn not_taken(&mut self, undone: &[Change]) {
        for change in undone {
            let Change::Track(tuple) = change else { continue };
            if let Some(session) = self.sessions.get_mut(tuple) {
                session.tracked = Tracked::Refused;
            }
        }
    }
}
