//! Puts the packets of a connection in order, and notices what the capture lacks.

use std::cmp::Ordering;

use anyhow::Result;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::Event;
use ftpalg::engine::position::distance;
use ftpalg::engine::session::Tap;

use super::flow::{Flow, Item, MOST_HELD, State, other};
use super::player::Player;
use super::tell::{Sender, What};

/// How far off an acknowledgment, or a segment, may lie to be believed.
pub const FAR: i64 = 1 << 20;

/// How much all sessions together may hold back.
const MOST_HELD_BY_ALL: usize = 32 << 20;

/// How many gaps of a session are told.
const MOST_GAPS: u32 = 10;

impl Player<'_> {
    /// A packet of a connection, in the capture's order.
    pub(super) fn arrive(&mut self, flow: &mut Flow, item: Item) -> Result<()> {
        if item.is_syn {
            return self.handshake(flow, item);
        }
        let outer = flow.standing.views.outer;
        let tap = item.tap;
        self.supply_answer(flow, &item)?;
        if let Some(number) = item.acknowledgment {
            let is_near = self.next(outer, tap).is_none_or(|next| distance(next, item.sequence).abs() < FAR);
            if is_near && !item.is_reset {
                self.reach(flow, other(tap), number)?;
            }
        }
        let ahead = self.next(outer, tap).map_or(0, |next| distance(next, item.sequence));
        if (1..FAR).contains(&ahead) && item.takes_room() && !item.is_reset {
            self.hold(flow, item);
            if flow.held_bytes > MOST_HELD || self.held > MOST_HELD_BY_ALL {
                self.overflow(flow, tap)?;
            }
            return Ok(());
        }
        self.feed(flow, item)?;
        self.drain(flow, tap)
    }

    /// A SYN or a SYN-ACK.
    pub(super) fn handshake(&mut self, flow: &mut Flow, item: Item) -> Result<()> {
        match item.tap {
            Tap::ToServer if item.sequence != flow.initial && flow.has_begun => {
                // A connection of the same name, or a forged SYN: the server's answer will tell.
                flow.newer = Some(item);
                Ok(())
            }
            Tap::ToClient => {
                let answered = item.acknowledgment.map(|number| number.wrapping_sub(1));
                if let Some(syn) = flow.newer.take_if(|newer| Some(newer.sequence) == answered) {
                    self.renew(flow, syn)?;
                }
                self.feed(flow, item)
            }
            Tap::ToServer => {
                flow.has_begun = true;
                self.feed(flow, item)
            }
        }
    }

    pub(super) fn next(&self, outer: ControlTuple, tap: Tap) -> Option<u32> {
        self.engine.session(&outer)?.next(tap)
    }

    pub(super) fn hold(&mut self, flow: &mut Flow, item: Item) {
        self.held += flow.hold(item);
    }

    /// The receiver has acknowledged everything of a direction before `number`: what did not come by until now is not in
    /// the capture.
    pub(super) fn reach(&mut self, flow: &mut Flow, tap: Tap, number: u32) -> Result<()> {
        let outer = flow.standing.views.outer;
        loop {
            let Some(next) = self.next(outer, tap) else { return Ok(()) };
            if !(1..FAR).contains(&distance(next, number)) {
                return Ok(());
            }
            let first = flow.first_held(tap).filter(|first| distance(*first, number) > 0);
            match first.map(|first| distance(next, first)) {
                Some(..=0) => self.drain(flow, tap)?,
                Some(_) => self.skip(flow, tap, next, first.unwrap_or(number))?,
                None => self.skip(flow, tap, next, number)?,
            }
            if self.next(outer, tap) == Some(next) {
                // The engine does not take what it is offered.
                return self.skip(flow, tap, next, number);
            }
        }
    }

    /// Too much waits for what does not come.
    pub(super) fn overflow(&mut self, flow: &mut Flow, tap: Tap) -> Result<()> {
        let outer = flow.standing.views.outer;
        while let (Some(next), Some(first)) = (self.next(outer, tap), flow.first_held(tap)) {
            if distance(next, first) > 0 {
                self.skip(flow, tap, next, first)?;
            } else if let Some((item, size)) = flow.release(tap, |_| true) {
                self.held = self.held.saturating_sub(size);
                self.feed(flow, item)?;
            }
        }
        Ok(())
    }

    /// The capture lacks what stands between two places of a stream.
    pub(super) fn skip(&mut self, flow: &mut Flow, tap: Tap, from: u32, to: u32) -> Result<()> {
        let outer = flow.standing.views.outer;
        let bytes = u32::try_from(distance(from, to)).unwrap_or(0);
        flow.gaps += 1;
        match flow.gaps.cmp(&MOST_GAPS) {
            Ordering::Less => {
                self.tell(Some(flow.number), &What::Gap { from: tap.into(), bytes })?;
            }
            Ordering::Equal => {
                let text = "packets of this session are missing again and again, which is told no more: does the \
                            capture have both directions (asymmetric routes, a filter with src or dst)?";
                self.note(flow.number, text)?;
            }
            Ordering::Greater => self.teller.totals.gaps += 1,
        }
        self.engine.skip(outer, tap, to);
        let events = self.engine.committed(outer);
        flow.lines(tap).lack(false);
        let events: Vec<_> = events.into_iter().filter(|event| *event != Event::Resumed).collect();
        self.flow_events(flow, &events)?;
        self.drain(flow, tap)
    }

    /// Hands over what waited for its turn.
    pub(super) fn drain(&mut self, flow: &mut Flow, tap: Tap) -> Result<()> {
        let outer = flow.standing.views.outer;
        loop {
            let next = self.next(outer, tap);
            let fits = |item: &Item| next.is_none_or(|next| distance(next, item.sequence) <= 0);
            let Some((mut item, size)) = flow.release(tap, fits) else { return Ok(()) };
            self.held = self.held.saturating_sub(size);
            // It leaves now, not before what it waited for.
            item.frame.at = item.frame.at.max(self.moment.at);
            self.feed(flow, item)?;
            if next.is_some() && self.next(outer, tap) == next {
                return Ok(());
            }
        }
    }

    /// What is left of a connection: packets that waited in vain, and a line without its end.
    pub(super) fn flush(&mut self, flow: &mut Flow) -> Result<()> {
        for tap in [Tap::ToServer, Tap::ToClient] {
            self.overflow(flow, tap)?;
            let with_passwords = self.options.show_passwords;
            if let Some(rest) = flow.lines(tap).rest().filter(|_| flow.state == State::Inspected) {
                let sender = match Sender::from(tap) {
                    Sender::Client => "client",
                    Sender::Server => "server",
                };
                let text = format!("a line of the {sender} has no end: {}", rest.shown(tap, with_passwords));
                self.note(flow.number, &text)?;
            }
        }
        Ok(())
    }
}
