//! The conversation of one session: which commands wait for which replies, and what they open.
//!
//! Whole lines come through [`Dialogue::command`] and [`Dialogue::reply`]; lines that are cut inside an address
//! come through [`Dialogue::begun`] first. What the lines ask of the firewall goes to the [`Outcome`].

use serde::{Deserialize, Serialize};

use super::event::{Departure, Event, Mode};
use super::ftp::command::{self, Command, Verb};
use super::ftp::host_port::{Family, Spot};
use super::ftp::reply::{self, Part, Replies};
use super::lines::{Line, LineEdit};
use super::opened::Open;
use super::opening::{Planner, resolve};
use super::outcome::Outcome;
use super::pinhole::{Change, Pinhole};
use super::policy::{MAX_ASKED_PER_SESSION, Policy, Refusal};
use super::ports::Ports;
use super::profile::{DataCommand, Profile};
use super::promise::Promise;
use super::waiting::{Outstanding, Waiting};

/// How far behind the beginning of a line an address may begin that is not wholly there yet. What comes later is
/// not rewritten: so much of a line is not kept.
const LATEST_START: usize = 256;

/// The conversation so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialogue {
    pub(super) waiting: Waiting,
    replies: Replies,
    /// The server's first reply was 220.
    is_greeted: bool,
    /// The client's first line was an FTP command.
    has_spoken: bool,
    logged_in: bool,
    /// Replies can no longer be told apart: nothing opens any more.
    lost_count: bool,
    /// Seldom, and large.
    pub(super) open: Option<Box<Open>>,
    /// The address in the first line of a multi-line 227 or 229, which opens with the last.
    pub(super) offered: Option<Box<Pinhole>>,
    profile: Profile,
}

impl Dialogue {
    /// A part of a line has come that may hold the first byte of an address: chooses what the whole address will
    /// be, if it must be rewritten. `mode` tells the direction: active for commands.
    pub fn begun(&self, mode: Mode, line: Line<'_>, planner: &mut Planner<'_>) -> Option<(Promise, Vec<u8>)> {
        if !planner.rewrites(mode) || line.overlong || self.may_ask(mode, planner).is_err() {
            return None;
        }
        let spots = match mode {
            Mode::Active => Command::read(line.bytes)?.address(line.bytes).into_iter().collect(),
            Mode::Passive => self.reply_spots(line.bytes),
        };
        let spot = spots.into_iter().find(|spot| {
            let text = line.bytes.get(spot.extent(line.bytes)).unwrap_or_default();
            let is_over = spot.start + text.len() < line.bytes.len();
            (line.sent..=LATEST_START).contains(&spot.start)
                && planner.may_announce(mode, spot.notation, text)
                && (!is_over || spot.notation.read(text).is_some())
        })?;
        planner.promise(mode, spot).ok()
    }

    /// Whether the session may ask for a pinhole at all.
    fn may_ask(&self, mode: Mode, planner: &Planner<'_>) -> Result<(), Refusal> {
        planner.policy.admits(self.logged_in)?;
        if self.lost_count {
            Err(Refusal::LostCount)
        } else if mode == Mode::Active && self.waiting.asked().count() >= MAX_ASKED_PER_SESSION {
            Err(Refusal::TooManyInSession)
        } else {
            Ok(())
        }
    }

    /// A whole command line.
    pub fn command(
        &mut self,
        line: Line<'_>,
        promise: Option<&Promise>,
        planner: &mut Planner<'_>,
        outcome: &mut Outcome,
    ) -> Option<LineEdit> {
        // A line without any verb in what is kept of it is answered, too.
        let command = Command::read(line.bytes).unwrap_or(Command::UNKNOWN);
        let is_blank = line.bytes.trim_ascii().is_empty();
        if !self.is_plausible(command, line, is_blank, planner.policy) {
            outcome.departure = Some(Departure::NotFtp);
            return None;
        }
        let mut waits = if is_blank { Outstanding::Blank } else { Outstanding::from(command.verb) };
        if command.verb == Verb::Epsv && !command.fits(line.bytes, Family::of(planner.tuple.server.ip())) {
            waits = Outstanding::Others(1);
            outcome.refuse(Mode::Passive, line, Refusal::OtherFamily);
        }
        let has_room = self.waiting.has_room_for(&waits);
        if !has_room && !self.lost_count {
            self.lost_count = true;
            outcome.refuse(Mode::Active, line, Refusal::LostCount);
        }
        if command.is_user() && has_room {
            waits = Outstanding::User;
            self.profile.claim(line.bytes.get(command.argument..).unwrap_or_default().trim_ascii());
        }
        if let Some(asked) = DataCommand::of(command.verb) {
            self.profile.ask(asked);
        }
        let mut edit = None;
        match &mut waits {
            Outstanding::Active(asked) => match self.ask(command, line, promise, planner, outcome) {
                Ok((pinhole, wanted)) => (*asked, edit) = (Some(Box::new(pinhole)), wanted),
                Err(reason) => outcome.refuse(Mode::Active, line, reason),
            },
            Outstanding::Transfer => self.renew(planner, outcome),
            _ => {}
        }
        self.waiting.push(waits);
        edit
    }

    /// Whether an FTP client may say this. The first line must be a command, and no other protocol's request: what a
    /// web page makes a browser send begins so (NAT slipstreaming). Every other line must be one until something may
    /// open; later, real clients try commands that nobody knows.
    fn is_plausible(
        &mut self,
        command: Command<'_>,
        line: Line<'_>,
        is_blank: bool,
        policy: &Policy,
    ) -> bool {
        let is_first = !std::mem::replace(&mut self.has_spoken, true);
        if is_first {
            command.verb != Verb::Unknown && !line.overlong && !command::is_request_line(line.bytes)
        } else {
            policy.admits(self.logged_in).is_ok() || is_blank || command.verb != Verb::Unknown
        }
    }

    /// PORT or EPRT: its pinhole waits for the 200, but a SYN that comes right behind it is held back until then.
    fn ask(
        &self,
        command: Command<'_>,
        line: Line<'_>,
        promise: Option<&Promise>,
        planner: &mut Planner<'_>,
        outcome: &mut Outcome,
    ) -> Result<(Pinhole, Option<LineEdit>), Refusal> {
        if let Err(reason) = self.may_ask(Mode::Active, planner) {
            promise.into_iter().for_each(|promise| planner.withdraw(promise));
            return Err(reason);
        }
        let spot = command.address(line.bytes).ok_or(Refusal::Unreadable)?;
        let ends = |rest: &[u8]| command::ends_properly(spot.notation, rest);
        let (pinhole, edit) = resolve(Mode::Active, spot, line, ends, promise, planner)?;
        outcome.changes.push(Change::Expect(pinhole.key, pinhole.timeout));
        Ok((pinhole, edit))
    }

    /// A whole reply line.
    pub fn reply(
        &mut self,
        line: Line<'_>,
        promise: Option<&Promise>,
        planner: &mut Planner<'_>,
        outcome: &mut Outcome,
    ) -> Option<LineEdit> {
        let may_be_text = self.replies.may_be_text();
        let part = self.replies.read(line.bytes, line.ends_bare);
        let code = match part {
            Part::First(code) | Part::Last(code) if may_be_text && self.waiting.awaits(code) => {
                if !spots(code, line.bytes).is_empty() {
                    outcome.refuse(Mode::Passive, line, Refusal::BehindBareLf);
                }
                return None;
            }
            Part::Stray if !self.is_greeted => {
                outcome.departure = Some(Departure::NoGreeting);
                return None;
            }
            Part::First(code) => {
                if !self.waiting.awaits(code) || spots(code, line.bytes).is_empty() {
                    return None;
                }
                let (pinhole, edit) = self.offer(code, line, promise, planner, outcome)?;
                self.offered = Some(Box::new(pinhole));
                return edit;
            }
            Part::Last(code) if code >= 200 => code,
            Part::Last(_) | Part::Middle | Part::Stray => return None,
        };
        let offered = self.offered.take().map(|pinhole| *pinhole);
        let answered = self.waiting.answered(code)?;
        if let Some(pinhole) = offered.filter(|_| !matches!(code, 227 | 229)) {
            self.withdraw(&pinhole, planner.ports, outcome);
        }
        if answered == Outstanding::User {
            self.profile.claim_answered(code);
        }
        match (answered, code) {
            (Outstanding::Greeting, 220) => {
                self.is_greeted = true;
                outcome.events.push(Event::Started(planner.tuple));
            }
            (Outstanding::Greeting, _) => outcome.departure = Some(Departure::NoGreeting),
            (Outstanding::Login | Outstanding::User, 230) if !self.logged_in => {
                self.logged_in = true;
                outcome.events.push(Event::LoggedIn);
            }
            (Outstanding::Login | Outstanding::User, 331 | 332) => self.log_out(planner, outcome),
            // 220 by RFC 959; pyftpdlib says 230.
            (Outstanding::Reinitialize, 200..=299) => {
                self.profile.forget_user();
                self.log_out(planner, outcome);
                self.close(planner.ports, outcome);
            }
            (Outstanding::Auth, 234) => outcome.departure = Some(Departure::Encrypted),
            (Outstanding::Active(Some(pinhole)), 200) if self.has_consented(&pinhole) => {
                self.expect_reply(false);
            }
            (Outstanding::Active(Some(pinhole)), _) if self.has_consented(&pinhole) => {
                self.close(planner.ports, outcome);
            }
            (Outstanding::Active(Some(pinhole)), 200)
                if planner.ports.remaining(pinhole.key, &planner.tuple, planner.now).is_none() =>
            {
                outcome.refuse(Mode::Active, line, Refusal::TooLate);
            }
            (Outstanding::Active(Some(pinhole)), 200) => {
                self.open(Mode::Active, *pinhole, planner.now, planner.ports, outcome);
            }
            (Outstanding::Active(Some(pinhole)), _) => self.withdraw(&pinhole, planner.ports, outcome),
            (Outstanding::Passive | Outstanding::ExtendedPassive, 227 | 229) => {
                if let Some(pinhole) = offered {
                    self.open(Mode::Passive, pinhole, planner.now, planner.ports, outcome);
                    return None;
                }
                let (pinhole, edit) = self.offer(code, line, promise, planner, outcome)?;
                self.open(Mode::Passive, pinhole, planner.now, planner.ports, outcome);
                return edit;
            }
            (Outstanding::Transfer, 226 | 250) => {
                self.profile.transferred();
                self.close(planner.ports, outcome);
            }
            _ => {}
        }
        None
    }

    /// Another login has begun, or REIN has taken the last one back (RFC 959, section 4.1.1): what the commands on
    /// their way ask for opens no more.
    fn log_out(&mut self, planner: &mut Planner<'_>, outcome: &mut Outcome) {
        self.logged_in = false;
        let Err(reason) = planner.policy.admits(false) else { return };
        for pinhole in self.waiting.withdraw_asked() {
            self.withdraw(&pinhole, planner.ports, outcome);
            let line = pinhole.key.to_string();
            outcome.events.push(Event::Refused { mode: Mode::Active, line, reason });
        }
    }

    /// Where the address of a reply line may stand, if the line answers a PASV or EPSV.
    fn reply_spots(&self, line: &[u8]) -> Vec<Spot> {
        if self.replies.may_be_text() {
            return Vec::new();
        }
        match self.replies.peek(line) {
            Part::First(code) | Part::Last(code) if self.waiting.awaits(code) && self.offered.is_none() => {
                spots(code, line)
            }
            _ => Vec::new(),
        }
    }

    /// The pinhole that a 227 or 229 offers. A 227 without any address is no offer and no fault (`227 Logout.`).
    fn offer(
        &self,
        code: u16,
        line: Line<'_>,
        promise: Option<&Promise>,
        planner: &mut Planner<'_>,
        outcome: &mut Outcome,
    ) -> Option<(Pinhole, Option<LineEdit>)> {
        let candidates = spots(code, line.bytes);
        let text = |spot: &Spot| line.bytes.get(spot.extent(line.bytes)).unwrap_or_default();
        let is_readable = |spot: &&Spot| spot.notation.read(text(spot)).is_some();
        let is_own = |spot: &&Spot| {
            is_readable(spot) && planner.may_announce(Mode::Passive, spot.notation, text(spot))
        };
        let Some(&first) = candidates.first() else {
            if code == 229 {
                outcome.refuse(Mode::Passive, line, Refusal::Unreadable);
            }
            return None;
        };
        let found = candidates.iter().find(is_own).or(candidates.iter().find(is_readable)).copied();
        let spot = promise.map(Promise::spot).or(found).unwrap_or(first);
        let allowed = self.may_ask(Mode::Passive, planner);
        if let (Err(_), Some(promise)) = (allowed, promise) {
            planner.withdraw(promise);
        }
        let ends = |rest: &[u8]| reply::ends_properly(spot.notation, rest);
        match allowed.and_then(|()| resolve(Mode::Passive, spot, line, ends, promise, planner)) {
            Ok(offered) => Some(offered),
            Err(reason) => {
                outcome.refuse(Mode::Passive, line, reason);
                None
            }
        }
    }

    /// The commands that wait for their 200 go out unedited: nothing opens with it. Returns what would have.
    pub fn withdraw_asked(&mut self) -> Vec<Pinhole> {
        let offered = self.offered.take().map(|pinhole| *pinhole);
        self.waiting.withdraw_asked().into_iter().chain(offered).collect()
    }

    /// Whether the server has greeted with 220.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Whether the server has accepted a login.
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// Whether the next reply ends a transfer.
    pub fn is_transferring(&self) -> bool {
        self.waiting.next() == Some(&Outstanding::Transfer)
    }

    /// What the session tells of itself.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Gives memory back that it does not need now.
    pub fn rest(&mut self) {
        self.waiting.rest();
        self.profile.rest();
    }

    /// The session ends or leaves inspection: nothing of it stays open.
    pub fn end(&mut self, ports: &mut Ports, outcome: &mut Outcome) {
        let keys: Vec<_> = self.pinholes().map(|(pinhole, ..)| pinhole.key).collect();
        outcome.changes.extend(keys.into_iter().filter(|&key| ports.release(key)).map(Change::Close));
        self.waiting.clear();
        self.profile.forget_claims();
        self.open = None;
        self.offered = None;
    }

    /// A line of the server's has passed whose beginning is not known.
    pub fn skipped_reply(&mut self, ends_bare: bool) {
        self.replies.skip(ends_bare);
    }

    /// Lines passed that nobody saw: no command is outstanding any more, and what was asked for is dropped.
    pub fn lost_lines(&mut self, ports: &mut Ports, outcome: &mut Outcome) {
        let open = self.open.take();
        self.end(ports, outcome);
        self.open = open;
        self.replies.lost_lines();
        if !self.is_greeted {
            outcome.departure = Some(Departure::Unseen);
        }
    }
}

/// Where addresses may stand in a 227 or 229.
fn spots(code: u16, line: &[u8]) -> Vec<Spot> {
    if code == 227 {
        reply::passive_addresses(line).collect()
    } else {
        reply::extended_passive_ports(line).collect()
    }
}
