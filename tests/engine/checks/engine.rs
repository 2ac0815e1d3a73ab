//! The whole engine between two ends, with whatever the network and the daemon do: both read what an editor of whole
//! lines would have made, what had to open has opened and nothing else, all is acknowledged, and nothing is left.

use arbitrary::{Arbitrary, Unstructured};
use ftpalg::engine::event::Mode;

use super::oracle::{Oracle, Want};
use super::{site, text, transcript};
use crate::dice::Dice;
use crate::end::Config;
use crate::play::{Case, Exchange, lines, play};
use crate::router::Trouble;
use crate::world::{Disorder, World};

/// How many exchanges a conversation has at most, and how long a line of it is.
const EXCHANGES: usize = 24;
const LINE: usize = 1500;

/// What happens to the conversation that follows.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
pub struct Setting {
    /// Bits: NAT of the client, NAT of the server, IPv6.
    site: u8,
    /// How many commands the client sends before it waits for the replies.
    ahead: u8,
    /// Of the client and of the server.
    ends: [Habits; 2],
    loss: u8,
    duplication: u8,
    reordering: u8,
    killed: u8,
    refused: u8,
    seed: u32,
    /// The first events that chance decides.
    given: [u8; 24],
}

#[derive(Debug, Clone, Copy, Default, Arbitrary)]
struct Habits {
    initial: u32,
    /// Bits: timestamps, delayed acknowledgments, Nagle's algorithm, retransmissions that take segments together; two
    /// for the MSS.
    habits: u8,
}

impl Habits {
    fn config(self) -> Config {
        let has = |bit: u8| self.habits & (1 << bit) != 0;
        Config {
            initial: self.initial,
            mss: [1460, 536, 88, 48][usize::from((self.habits >> 4) & 3)],
            timestamps: has(0),
            delayed_ack: has(1),
            nagle: has(2),
            coalesce: has(3),
        }
    }
}

/// An input: [`Setting`], and a [transcript].
pub fn check(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(setting) = Setting::arbitrary(&mut input) else { return };
    let ahead = usize::from(setting.ahead % 6).max(1);
    let mut exchanges = exchanges(input.take_rest());
    if ahead > 1 {
        exchanges = in_any_order(exchanges);
    }
    let per_thousand = |byte: u8| u32::from(byte % 200);
    let case = Case {
        exchanges,
        alone: if ahead > 1 { LOGIN.len() } else { 0 },
        ahead,
        configs: (setting.ends[0].config(), setting.ends[1].config()),
        site: site(setting.site),
        disorder: Disorder {
            loss: per_thousand(setting.loss),
            duplication: per_thousand(setting.duplication),
            reordering: per_thousand(setting.reordering),
        },
        trouble: Trouble {
            killed: u32::from(setting.killed % 60),
            refused: if setting.killed % 60 == 0 { per_thousand(setting.refused) } else { 0 },
            away: 0,
        },
        dice: Dice::loaded(setting.seed.into(), setting.given.to_vec()),
    };
    let world = play(&case);
    compare(&case, &world);
    leaves_nothing(world);
}

/// What comes before the exchanges whose replies may come late.
const LOGIN: [(&str, &str); 3] =
    [("", "220 ready\r\n"), ("USER a\r\n", "331 and?\r\n"), ("PASS b\r\n", "230 in\r\n")];

/// The exchanges of a transcript. What stands before the first command is the greeting.
fn exchanges(transcript: &[u8]) -> Vec<Exchange> {
    let mut exchanges = vec![Exchange::new("", "")];
    for piece in transcript::pieces(transcript) {
        let mut line = piece.text.to_vec();
        line.truncate(LINE);
        if !line.ends_with(b"\n") {
            line.extend(b"\r\n");
        }
        if piece.mode == Mode::Active {
            exchanges.push(Exchange::new(line, ""));
        } else if let Some(last) = exchanges.last_mut() {
            last.reply.extend(line);
        }
    }
    exchanges.truncate(EXCHANGES);
    let nothing_said = exchanges.iter_mut().filter(|exchange| exchange.reply.is_empty());
    nothing_said.for_each(|exchange| exchange.reply = b"220 fine\r\n".to_vec());
    exchanges
}

/// Exchanges of which each means the same, whether a reply comes before or after the commands that follow: the
/// dialogue has one final reply for each command, and none that changes what later commands may do.
fn in_any_order(exchanges: Vec<Exchange>) -> Vec<Exchange> {
    let login = LOGIN.map(|(command, reply)| Exchange::new(command, reply));
    let later = exchanges.into_iter().skip(1).map(|mut exchange| {
        if !text::is_proper_answer(&exchange.command, &exchange.reply) {
            exchange.reply = b"500 what?\r\n".to_vec();
        }
        exchange
    });
    login.into_iter().chain(later).collect()
}

fn compare(case: &Case, world: &World) {
    let mut oracle = Oracle::new(case.site);
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    for exchange in &case.exchanges {
        if !exchange.command.is_empty() {
            to_server.push(oracle.command(&exchange.command));
        }
        to_client.extend(lines(&exchange.reply).into_iter().map(|line| oracle.reply(line)));
    }
    // What one segment holds beside the line that ends inspection goes on as it came.
    let has_departed = world.router.log().iter().any(|line| line.contains("no longer inspected"));
    let may_be_refused = case.trouble.refused > 0 || has_departed;
    for (wants, end) in [(&to_server, &world.server), (&to_client, &world.client)] {
        let read = lines(end.received());
        assert_eq!(read.len(), wants.len(), "lines\n{}", world.story());
        for (want, line) in wants.iter().zip(read) {
            check_line(want, line, may_be_refused, world);
        }
    }
    for pinhole in &world.router.opened {
        assert!(oracle.may_open.contains(&pinhole.to), "{pinhole:?} opens\n{}", world.story());
    }
}

fn check_line(want: &Want, line: &[u8], may_be_refused: bool, world: &World) {
    let wrong = || format!("want {want:?}, read \"{}\"\n{}", line.escape_ascii(), world.story());
    if may_be_refused && want.is_left_alone_by(line) {
        return;
    }
    let Ok(found) = want.port_in(line) else { panic!("{}", wrong()) };
    let Some((port, to)) = found.filter(|_| !may_be_refused) else { return };
    let has_opened = world.router.opened.iter().any(|pinhole| (pinhole.key.port, pinhole.to) == (port, to));
    assert!(
        has_opened || !want.must_open() || world.router.was_too_late(),
        "{port} does not lead to {to}: {}",
        wrong()
    );
}

fn leaves_nothing(mut world: World) {
    world.router.trouble = Trouble::default();
    world.disorder = Disorder::default();
    world.settle();
    world.router.tick(world.now + 7 * 24 * 3_600_000);
    assert_eq!(world.router.engine.sessions().count(), 0);
    let kernel = &world.router.kernel;
    assert!(kernel.is_idle(), "still queued\n{}", world.story());
    assert!(world.router.kernel.open.is_empty(), "left open\n{}", world.story());
}
