//! Two ends that hold a conversation, whatever the network and the daemon between them do.

use crate::dice::Dice;
use crate::end::{Config, End};
use crate::router::{Site, Trouble};
use crate::world::{Disorder, World};

/// A command and what answers it.
#[derive(Clone)]
pub struct Exchange {
    pub command: Vec<u8>,
    pub reply: Vec<u8>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" -> \"{}\"", self.command.escape_ascii(), self.reply.escape_ascii())
    }
}

impl Exchange {
    pub fn new(command: impl Into<Vec<u8>>, reply: impl Into<Vec<u8>>) -> Self {
        Self { command: command.into(), reply: reply.into() }
    }
}

/// A conversation, and what happens on the way.
#[derive(Debug, Clone)]
pub struct Case {
    /// The first is the greeting: nobody asks for it.
    pub exchanges: Vec<Exchange>,
    /// So many of the first commands wait for the reply to the one before.
    pub alone: usize,
    /// How many commands the client sends before it waits for their replies, afterwards.
    pub ahead: usize,
    pub configs: (Config, Config),
    pub site: Site,
    pub disorder: Disorder,
    pub trouble: Trouble,
    pub dice: Dice,
}

pub fn lines(stream: &[u8]) -> Vec<&[u8]> {
    stream.split_inclusive(|&byte| byte == b'\n').collect()
}

/// Writes in pieces: whole, byte by byte, or as the dice fall.
fn write(end: &mut End, now: u64, data: &[u8], dice: &mut Dice) {
    let style = dice.below(4);
    let mut rest = data;
    while !rest.is_empty() {
        let length = match style {
            0 => rest.len(),
            1 => 1,
            _ => usize::try_from(dice.below(30)).unwrap() + 1,
        };
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        end.write(now, piece);
        rest = behind;
    }
}

/// Plays the conversation to its end.
pub fn play(case: &Case) -> World {
    let exchanges = &case.exchanges;
    let (client, server) = case.configs.clone();
    let mut world = World::new(case.site, client, server);
    world.disorder = case.disorder;
    // What passes unseen before the login leaves nothing to be edited.
    if case.trouble.away == 0 {
        world.router.trouble = case.trouble;
    }
    world.dice = case.dice.clone();
    let mut dice = Dice::new(world.dice.roll());
    let (mut asked, mut answered) = (1, 0);
    world.client.connect(world.now);
    loop {
        let commands = lines(world.server.received()).iter().filter(|line| line.ends_with(b"\n")).count();
        let greeting = usize::from(world.server.is_established());
        while answered < commands + greeting && answered < exchanges.len() {
            write(&mut world.server, world.now, &exchanges[answered].reply, &mut dice);
            answered += 1;
        }
        let read = world.client.received().iter().filter(|&&byte| byte == b'\n').count();
        let expected: usize = exchanges[..asked].iter().map(|exchange| lines(&exchange.reply).len()).sum();
        if read >= expected && asked < exchanges.len() {
            let ahead = if asked < case.alone { 1 } else { case.ahead };
            if asked == case.alone {
                world.router.trouble = case.trouble;
            }
            let upto = (asked + ahead).min(exchanges.len());
            let text: Vec<u8> =
                exchanges[asked..upto].iter().flat_map(|exchange| exchange.command.clone()).collect();
            write(&mut world.client, world.now, &text, &mut dice);
            asked = upto;
        } else if read >= expected {
            world.client.close(world.now);
        }
        if world.server.peer_has_closed() {
            world.server.close(world.now);
        }
        if world.client.is_done() && world.server.is_done() {
            return world;
        }
        let goes_on = world.step();
        assert!(goes_on && world.now < 3_000_000, "hangs\n{}", world.story());
    }
}
