//! A gateway that reads whole lines, in the order in which they are said, and edits each by itself: what it makes of a
//! conversation, all of the engine's streams, segments and edits must come to.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;

use ftpalg::engine::event::Mode;
use ftpalg::engine::ftp::command::{Command, Verb};
use ftpalg::engine::ftp::host_port::Notation;
use ftpalg::engine::ftp::reply::Part;

use super::is_listed;
use super::text::{self, NOWHERE, strict};
use crate::router::Site;

/// How much of a line is looked at, and how far behind its beginning an address may stand to be found in part.
const KEPT: usize = 512;
const LATEST_START: usize = 256;
/// How many commands that ask for a port may wait for their replies.
const MAX_ASKED: usize = 8;

/// What the other end must read in place of a line.
#[derive(Debug, Clone)]
pub enum Want {
    /// The line as it is. It may name a port that opens.
    Same { line: Vec<u8>, asks: Option<Asked> },
    /// Another address and a port that leads there.
    Rewritten { line: Vec<u8>, place: Range<usize>, notation: Notation, public: IpAddr, asks: Asked },
    /// The line as it is; or, if it was cut, another address that its reader refuses.
    Refused { line: Vec<u8>, place: Range<usize> },
    /// The line as it is, or one that names this address, or another port, somewhere: it depends on the cut.
    Either { line: Vec<u8>, public: IpAddr },
}

/// A pinhole that a line asks for; another line grants it.
#[derive(Debug, Clone)]
pub struct Asked {
    to: SocketAddr,
    is_granted: Rc<Cell<bool>>,
}

impl Want {
    /// Whether it is read as it was written.
    pub fn is_left_alone_by(&self, read: &[u8]) -> bool {
        let (Self::Same { line, .. }
        | Self::Rewritten { line, .. }
        | Self::Refused { line, .. }
        | Self::Either { line, .. }) = self;
        let place = match self {
            Self::Rewritten { place, .. } | Self::Refused { place, .. } => place.clone(),
            Self::Same { .. } | Self::Either { .. } => return line == read,
        };
        // Cut inside its address, it may have been given another before the kernel refused.
        line == read || read.starts_with(&line[..place.start]) && read.ends_with(&line[place.end..])
    }

    /// The port that is read, and where it must lead.
    pub fn port_in(&self, read: &[u8]) -> Result<Option<(u16, SocketAddr)>, ()> {
        let found = match self {
            Self::Same { line, asks } => {
                (line == read).then(|| asks.as_ref().map(|asked| (asked.to.port(), asked.to)))
            }
            Self::Refused { .. } => self.is_left_alone_by(read).then_some(None),
            Self::Either { line, public } => {
                let is_right = line == read || line.starts_with(b"229") || text::names(read, *public);
                is_right.then_some(None)
            }
            Self::Rewritten { line, place, notation, public, asks } => {
                let behind = line.len() - place.end;
                let text = read.get(place.start..read.len().saturating_sub(behind)).unwrap_or_default();
                let named = strict(*notation, text).filter(|named| {
                    named.address.is_none_or(|address| address == *public)
                        && read.starts_with(&line[..place.start])
                        && read.ends_with(&line[place.end..])
                });
                named.map(|named| Some((named.port, asks.to)))
            }
        };
        found.ok_or(())
    }

    /// Whether its pinhole must have opened.
    pub fn must_open(&self) -> bool {
        match self {
            Self::Same { asks: Some(asks), .. } | Self::Rewritten { asks, .. } => asks.is_granted.get(),
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
enum Waiting {
    Greeting,
    Login,
    Reinitialize,
    Auth,
    Active(Option<Granting>),
    Passive,
    Transfer,
    Abort,
    Blank,
    Other,
}

/// What opens once it is granted; of an ambiguous line there may be several, or none.
#[derive(Debug, Clone, Default)]
struct Granting {
    may: Vec<SocketAddr>,
    must: Option<Rc<Cell<bool>>>,
}

#[derive(Debug)]
pub struct Oracle {
    site: Site,
    waiting: VecDeque<Waiting>,
    multi_line: Option<u16>,
    /// Replies end with CR LF; the last line did not.
    ends_with_crlf: bool,
    is_behind_bare_lf: bool,
    /// The multi-line reply that goes on began behind such a line.
    is_multi_line_text: bool,
    is_greeted: bool,
    has_spoken: bool,
    is_logged_in: bool,
    has_departed: bool,
    offered: Option<Granting>,
    /// All that may ever open.
    pub may_open: BTreeSet<SocketAddr>,
}

impl Oracle {
    pub fn new(site: Site) -> Self {
        Self {
            site,
            waiting: VecDeque::from([Waiting::Greeting]),
            multi_line: None,
            ends_with_crlf: false,
            is_behind_bare_lf: false,
            is_multi_line_text: false,
            is_greeted: false,
            has_spoken: false,
            is_logged_in: false,
            has_departed: false,
            offered: None,
            may_open: BTreeSet::new(),
        }
    }

    /// The client says a line.
    pub fn command(&mut self, line: &[u8]) -> Want {
        let same = Want::Same { line: line.to_vec(), asks: None };
        if self.has_departed {
            return same;
        }
        let kept = &line[..line.len().min(KEPT)];
        let (verb, argument) = Command::read(kept)
            .map_or((Verb::Unknown, kept.len()), |command| (command.verb, command.argument));
        let is_known = verb != Verb::Unknown;
        let is_plausible = if std::mem::replace(&mut self.has_spoken, true) {
            self.is_logged_in || is_known || kept.trim_ascii().is_empty()
        } else {
            is_known && line.len() <= KEPT && !text::is_request_line(kept)
        };
        if !is_plausible {
            self.has_departed = true;
            return same;
        }
        let mut want = same;
        let waits = match verb {
            _ if kept.trim_ascii().is_empty() => Waiting::Blank,
            Verb::Port | Verb::Eprt => {
                let asked = self.waiting.iter().filter(|one| matches!(one, Waiting::Active(Some(_)))).count();
                let place = text::command_place(kept).filter(|_| self.is_logged_in && asked < MAX_ASKED);
                let granting = place.and_then(|(place, notation)| {
                    let found;
                    (want, found) = self.judge(Mode::Active, line, &[(place, notation)]);
                    found
                });
                Waiting::Active(granting)
            }
            Verb::Pasv => Waiting::Passive,
            Verb::Epsv if text::fits(&kept[argument..], self.site.server.is_ipv6()) => Waiting::Passive,
            Verb::Epsv => Waiting::Other,
            Verb::Login => Waiting::Login,
            Verb::Reinitialize => Waiting::Reinitialize,
            Verb::Auth => Waiting::Auth,
            Verb::Transfer => Waiting::Transfer,
            Verb::Abort => Waiting::Abort,
            Verb::Other | Verb::Unknown => Waiting::Other,
        };
        self.waiting.push_back(waits);
        want
    }

    /// The server says a line.
    pub fn reply(&mut self, line: &[u8]) -> Want {
        let same = Want::Same { line: line.to_vec(), asks: None };
        if self.has_departed {
            return same;
        }
        let kept = &line[..line.len().min(KEPT)];
        let is_bare = text::ends_bare(line);
        let may_be_text = if self.multi_line.is_some() {
            self.is_multi_line_text
        } else {
            self.ends_with_crlf && self.is_behind_bare_lf
        };
        let part = text::part(&mut self.multi_line, kept);
        if matches!(part, Part::First(_)) {
            self.is_multi_line_text = may_be_text;
        }
        self.is_behind_bare_lf = is_bare;
        self.ends_with_crlf |= !is_bare && matches!(part, Part::Last(_));
        let code = match part {
            Part::First(code) | Part::Last(code) if may_be_text && self.awaits(code) => return same,
            Part::Stray => {
                self.has_departed = !self.is_greeted;
                return same;
            }
            Part::First(code) => {
                if !self.awaits(code) {
                    return same;
                }
                let (want, granting) = self.offer(code, line);
                self.offered = granting;
                return want;
            }
            Part::Last(code) if code >= 200 => code,
            Part::Last(_) | Part::Middle => return same,
        };
        let offered = self.offered.take();
        self.waiting.drain(..self.unanswered_before(code));
        let Some(answered) = self.waiting.pop_front() else { return same };
        match (answered, code) {
            (Waiting::Greeting, 220) => self.is_greeted = true,
            (Waiting::Greeting, _) | (Waiting::Auth, 234) => self.has_departed = true,
            (Waiting::Login, 230) => self.is_logged_in = true,
            (Waiting::Login, 331 | 332) | (Waiting::Reinitialize, 200..=299) => self.log_out(),
            (Waiting::Active(granting), 200) => self.grant(granting),
            (Waiting::Passive, 227 | 229) => {
                if offered.is_some() {
                    self.grant(offered);
                    return same;
                }
                let (want, granting) = self.offer(code, line);
                self.grant(granting);
                return want;
            }
            _ => {}
        }
        same
    }

    /// What was asked for before opens no more.
    fn log_out(&mut self) {
        self.is_logged_in = false;
        for one in &mut self.waiting {
            if let Waiting::Active(granting) = one {
                *granting = None;
            }
        }
    }

    /// Whether a reply with this code would answer a PASV or EPSV.
    fn awaits(&self, code: u16) -> bool {
        let next = self.waiting.get(self.unanswered_before(code));
        matches!((next, code), (Some(Waiting::Passive), 227 | 229))
    }

    fn unanswered_before(&self, code: u16) -> usize {
        let stays = |one: &&Waiting| match one {
            Waiting::Transfer => [200, 227, 229, 230].contains(&code),
            Waiting::Abort => !text::may_answer_abor(code),
            Waiting::Blank => !(500..504).contains(&code),
            _ => false,
        };
        let skipped = self.waiting.iter().take_while(stays).count();
        if skipped == self.waiting.len() { 0 } else { skipped }
    }

    fn grant(&mut self, granting: Option<Granting>) {
        let Granting { may, must } = granting.unwrap_or_default();
        self.may_open.extend(may);
        if let Some(must) = must {
            must.set(true);
        }
    }

    fn offer(&mut self, code: u16, line: &[u8]) -> (Want, Option<Granting>) {
        let places = text::reply_places(code, &line[..line.len().min(KEPT)]);
        if places.is_empty() || !self.is_logged_in {
            return (Want::Same { line: line.to_vec(), asks: None }, None);
        }
        self.judge(Mode::Passive, line, &places)
    }

    /// What becomes of the addresses in a line, and what that may open.
    fn judge(
        &self,
        mode: Mode,
        line: &[u8],
        places: &[(Range<usize>, Notation)],
    ) -> (Want, Option<Granting>) {
        let Site { client, public, server, dialled } = self.site;
        let (own, public) = if mode == Mode::Active { (client, public) } else { (server, dialled) };
        let (own, public) = (own.ip(), public.ip());
        let leads_to = |(place, notation): &(Range<usize>, Notation)| {
            let named = strict(*notation, &line[place.clone()])?;
            let names_none = mode == Mode::Passive && named.address.is_some_and(|address| address == NOWHERE);
            let address = named.address.filter(|_| !names_none).unwrap_or(own);
            let is_third_party = is_listed(address) && address != own && address != public;
            let is_open = named.port >= 1024 && (address == own || address == public || is_third_party);
            let ends = text::ends_properly(mode, *notation, &line[place.end..]) && line.len() <= KEPT;
            let to = SocketAddr::new(if is_third_party { address } else { own }, named.port);
            (is_open && ends).then_some((to, is_third_party))
        };
        let may: Vec<_> = places.iter().filter_map(leads_to).map(|(to, _)| to).collect();
        let granting = |must| (!may.is_empty()).then(|| Granting { may: may.clone(), must });
        let line = line.to_vec();
        let rewrites = own != public;
        let is_alone = |notation| notation == Notation::Commas && public.is_ipv6();
        let public = if places.iter().any(|(_, notation)| is_alone(*notation)) { NOWHERE } else { public };
        let [(place, notation)] = places else {
            let want = if rewrites { Want::Either { line, public } } else { Want::Same { line, asks: None } };
            return (want, granting(None));
        };
        let (place, notation) = (place.clone(), *notation);
        let Some((to, is_third_party)) = leads_to(&places[0]) else {
            let want = if rewrites { Want::Refused { line, place } } else { Want::Same { line, asks: None } };
            return (want, None);
        };
        let is_granted = Rc::new(Cell::new(false));
        let asks = Asked { to, is_granted: is_granted.clone() };
        if !rewrites {
            return (Want::Same { line, asks: Some(asks) }, granting(Some(is_granted)));
        }
        if is_third_party {
            return (Want::Refused { line, place }, granting(None));
        }
        if place.start > LATEST_START {
            return (Want::Either { line, public }, granting(None));
        }
        (Want::Rewritten { line, place, notation, public, asks }, granting(Some(is_granted)))
    }
}
