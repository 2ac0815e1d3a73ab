//! Any dialogue: where its segments end changes nothing of what is understood; what opens was named by a line that a
//! strict reader takes, too; and no line is lost, split or joined.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use ftpalg::engine::control::ClientView;
use ftpalg::engine::dialogue::Dialogue;
use ftpalg::engine::editor::Editor;
use ftpalg::engine::event::{Event, Mode};
use ftpalg::engine::opening::Planner;
use ftpalg::engine::outcome::Outcome;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::ports::Ports;
use ftpalg::engine::stream::Stream;

use super::text::{self, NOWHERE};
use super::transcript::{Said, pieces};
use super::{is_listed, site};
use crate::dice::Dice;
use crate::router::{Site, policy};

/// How the dialogue that follows is set and cut.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
pub struct Setting {
    /// Bits: NAT of the client, NAT of the server, IPv6, no login needed.
    site: u8,
    seed: u32,
    /// An address and a port to be written in all notations.
    address: [u8; 16],
    port: u16,
    delimiter: u8,
}

/// An input: [`Setting`], and a [transcript](super::transcript).
pub fn check(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(setting) = Setting::arbitrary(&mut input) else { return };
    let said = pieces(input.take_rest());
    text::check_notations(setting.address, setting.port, setting.delimiter);
    text::check_lines(&said);

    let whole = Run::over(setting, &said, None);
    let cut = Run::over(setting, &said, Some(Dice::new(setting.seed.into())));
    for run in [&whole, &cut] {
        run.opens_only_what_was_named(&said);
        run.keeps_lines_apart(&said);
    }
    let site = site(setting.site);
    if site.client == site.public && site.server == site.dialled {
        assert_eq!(whole.outcome.events, cut.outcome.events);
        assert_eq!(whole.outcome.changes, cut.outcome.changes);
        assert_eq!(whole.outcome.departure, cut.outcome.departure);
        assert_eq!(whole.dialogue, cut.dialogue);
        assert!(whole.is_unchanged() && cut.is_unchanged(), "an edit where nothing stands between the ends");
    } else if !said.iter().any(names_several) {
        // A line that was cut may be refused for it; but what it opens, the whole line opens as well.
        let mut expected = whole.opened().into_iter();
        for opened in cut.opened() {
            assert!(expected.any(|one| one == opened), "{opened:?} is opened by cut lines alone");
        }
    }
}

/// Whether it depends on the cut which of the addresses in a reply is taken for the one that it offers.
fn names_several(piece: &Said<'_>) -> bool {
    let places = |code: u16| text::reply_places(code, piece.text).len();
    piece.mode == Mode::Passive
        && match piece.text.get(..3) {
            Some(b"227") => places(227) > 1,
            Some(b"229") => places(229) > 1,
            _ => false,
        }
}

/// What became of a dialogue.
struct Run {
    site: Site,
    streams: [Direction; 2],
    dialogue: Dialogue,
    ports: Ports,
    outcome: Outcome,
    requires_login: bool,
}

/// One direction, and what its receiver reads.
struct Direction {
    stream: Stream,
    first: u64,
    read: Vec<u8>,
}

impl Run {
    /// Hands the pieces over one by one; with dice, in smaller ones, some of them ahead of the other end's.
    fn over(setting: Setting, said: &[Said<'_>], dice: Option<Dice>) -> Self {
        let streams = [u32::MAX - 100, 7].map(|initial| {
            let stream = Stream::new(initial);
            Direction { first: stream.next, stream, read: Vec::new() }
        });
        let mut run = Self {
            site: site(setting.site),
            streams,
            dialogue: Dialogue::default(),
            ports: Ports::new(1),
            outcome: Outcome::default(),
            requires_login: setting.site & 8 == 0,
        };
        let Some(mut dice) = dice else {
            said.iter().for_each(|piece| run.say(piece.mode, piece.text));
            return run;
        };
        let mut ahead = 0;
        for (piece, next) in said.iter().zip(said.iter().skip(1).map(Some).chain([None])) {
            let mut rest = &piece.text[ahead..];
            ahead = 0;
            if let Some(next) = next.filter(|next| next.mode != piece.mode && dice.happens(300)) {
                // The beginning of a line may come before what the other end says meanwhile.
                ahead = usize::try_from(dice.below(next.text.len() as u64)).unwrap();
                run.say_cut(next.mode, &next.text[..ahead], &mut dice);
            }
            let end = rest.len().min(usize::try_from(dice.below(80)).unwrap());
            run.say_cut(piece.mode, &rest[..end], &mut dice);
            rest = &rest[end..];
            run.say(piece.mode, rest);
        }
        run
    }

    fn say_cut(&mut self, mode: Mode, mut text: &[u8], dice: &mut Dice) {
        let longest = [1, 3, 30][usize::try_from(dice.below(3)).unwrap()];
        while !text.is_empty() {
            let (piece, behind) =
                text.split_at(text.len().min(usize::try_from(dice.below(longest)).unwrap() + 1));
            self.say(mode, piece);
            text = behind;
        }
    }

    /// One segment, which is acknowledged at once.
    fn say(&mut self, mode: Mode, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let mut policy = policy();
        policy.require_login = self.requires_login;
        let view = ClientView { client: self.site.client.ip(), dialled: self.site.dialled.ip(), mark: 0 };
        let planner = Planner {
            now: Duration::from_secs(1),
            tuple: self.site.tuple(),
            view,
            policy: &policy,
            ports: &mut self.ports,
        };
        let Direction { stream, first, read } = &mut self.streams[usize::from(mode == Mode::Passive)];
        let position = stream.next;
        let mut editor =
            Editor { mode, stream, dialogue: &mut self.dialogue, planner, outcome: &mut self.outcome };
        assert_eq!(editor.absorb(text), text.len(), "there is room, as everything is acknowledged");
        let mut rendered = Vec::new();
        let at = stream.edits.render(position, text, &mut rendered);
        let at = usize::try_from(at - *first).unwrap();
        assert!(at <= read.len(), "a gap");
        let again = &read[at..read.len().min(at + rendered.len())];
        assert_eq!(again, &rendered[..again.len()], "what is sent again says the same");
        read.truncate(at);
        read.extend(rendered);
        assert_eq!(*first + read.len() as u64, stream.sent());
        assert!(!stream.acknowledge(stream.sent(), stream.sent(), Duration::from_secs(1)));
        assert_eq!(stream.edits.backward(stream.sent()), stream.next, "all is acknowledged");
    }

    fn opened(&self) -> Vec<(Mode, SocketAddr)> {
        let events = self.outcome.events.iter();
        events
            .filter_map(|event| match event {
                Event::Opened(mode, pinhole) => Some((*mode, pinhole.to)),
                _ => None,
            })
            .collect()
    }

    fn is_unchanged(&self) -> bool {
        self.streams.iter().all(|direction| direction.stream.edits.is_untouched())
    }

    fn opens_only_what_was_named(&self, said: &[Said<'_>]) {
        let opened = self.opened();
        let mut named = BTreeSet::new();
        for piece in said.iter().filter(|_| !opened.is_empty()) {
            let passive = piece.mode == Mode::Passive;
            let Site { client, public, server, dialled } = self.site;
            let (own, other) = if passive { (server, dialled) } else { (client, public) };
            for (address, port) in text::named(piece.text, piece.mode) {
                let is_own = |address| address == other.ip() || passive && address == NOWHERE;
                let address = address.filter(|&address| !is_own(address)).unwrap_or(own.ip());
                named.insert((passive, SocketAddr::new(address, port)));
            }
        }
        for (mode, to) in opened {
            assert!(named.contains(&(mode == Mode::Passive, to)), "nobody named {to} ({mode})");
            assert!(to.port() >= 1024, "{to}");
            let own = if mode == Mode::Passive { self.site.server } else { self.site.client };
            assert!(to.ip() == own.ip() || is_listed(to.ip()), "{to} is a stranger's ({mode})");
        }
        let changes = self.outcome.changes.iter();
        let opened = changes.filter(|change| matches!(change, Change::Open(_))).count();
        assert_eq!(opened, self.opened().len());
    }

    /// As many lines are read as were written, and what is not the sender's own text is an address of the other side.
    fn keeps_lines_apart(&self, said: &[Said<'_>]) {
        for (mode, direction) in [Mode::Active, Mode::Passive].into_iter().zip(&self.streams) {
            let written: Vec<u8> = said
                .iter()
                .filter(|piece| piece.mode == mode)
                .flat_map(|piece| piece.text.iter().copied())
                .collect();
            let lines = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(lines(&written), lines(&direction.read), "{mode}");
            let public = if mode == Mode::Active { self.site.public } else { self.site.dialled };
            let read = direction.read.split_inclusive(|&byte| byte == b'\n');
            for (was, is) in written.split_inclusive(|&byte| byte == b'\n').zip(read) {
                let is_port_alone =
                    || was.starts_with(b"229") || public.is_ipv6() && text::names(is, NOWHERE);
                let names_it = || text::names(is, public.ip()) || is_port_alone();
                assert!(
                    was == is || names_it(),
                    "\"{}\" became \"{}\"",
                    was.escape_ascii(),
                    is.escape_ascii()
                );
            }
        }
    }
}
