//! Hands packets to the engine, and tells what comes of them.

use std::net::SocketAddr;

use anyhow::Result;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::event::{Departure, Event};
use ftpalg::engine::packet::Packet;
use ftpalg::engine::pinhole::Change;
use ftpalg::engine::policy::Refusal;
use ftpalg::engine::position::distance;
use ftpalg::engine::session::Tap;

use super::flow::{Flow, Item, State};
use super::lines::Lines;
use super::nat::{Side, Source};
use super::order::FAR;
use super::player::{Once, Player};
use super::stage::{between, ends, play, staged};
use super::tell::{Moment, What, mode_name};

/// How often a packet is handed to the engine before it counts as dropped.
const TRIES: u8 = 3;

impl Player<'_> {
    /// Hands a packet to the engine, and tells what comes of it.
    pub(super) fn feed(&mut self, flow: &mut Flow, mut item: Item) -> Result<()> {
        let (views, tap) = (flow.standing.views, item.tap);
        let outer = views.outer;
        if flow.state == State::Left && self.engine.session(&outer).is_none() {
            let packet = between(&item.packet, ends(outer, tap));
            return self.write(flow, &item, &packet, Some(&packet));
        }
        let before = staged(&self.engine, &item.packet, outer, tap);
        let played = play(&mut self.engine, self.now, tap, before.clone(), &views);
        self.write(flow, &item, &before, played.passed.as_deref())?;
        if flow.state == State::Inspected && !item.is_syn {
            self.take_lines(flow, &item, &before, played.passed.as_deref());
            self.tell_lines(flow, item.moment, tap)?;
        }
        self.flow_events(flow, &played.events)?;
        self.changes(flow.number, outer, &played.changes);
        let rest = self.next(outer, tap).map_or(0, |next| distance(next, item.end));
        if rest > 0 && item.takes_room() && !item.is_reset && rest < FAR {
            // Its sender would send the rest again.
            item.refused += 1;
            if item.refused < TRIES {
                self.hold(flow, item);
                return Ok(());
            }
        }
        if played.passed.is_none() {
            self.teller.tell(Some(flow.number), item.moment, &What::Dropped { from: tap.into() })?;
        }
        Ok(())
    }

    /// Both sides' lines of a packet.
    pub(super) fn take_lines(&mut self, flow: &mut Flow, item: &Item, before: &[u8], after: Option<&[u8]>) {
        let next = self.next(flow.standing.views.outer, item.tap);
        let lines = flow.lines(item.tap);
        if let (Ok(packet), Some(_)) = (Packet::parse(&mut before.to_vec()), after) {
            let payload = packet.payload();
            // As much of it as the engine took.
            let taken = next.map_or(payload.len(), |next| {
                usize::try_from(distance(item.sequence, next)).unwrap_or(0).min(payload.len())
            });
            lines.sent(item.sequence, payload.get(..taken).unwrap_or(payload));
        }
        if let Some(Ok(packet)) = after.map(<[u8]>::to_vec).as_mut().map(Packet::parse) {
            lines.received(packet.sequence(), packet.payload());
        }
    }

    pub(super) fn tell_lines(&mut self, flow: &mut Flow, moment: Moment, tap: Tap) -> Result<()> {
        let with_passwords = self.options.show_passwords;
        while let Some(both) = flow.lines(tap).next() {
            let is_rewritten = both[0] != both[1];
            let refuses = tap == Tap::ToClient && both[0].refuses();
            let [text, new] = both.map(|line| line.shown(tap, with_passwords));
            let what = What::Line { from: tap.into(), text, rewritten: is_rewritten.then_some(new) };
            self.teller.tell(Some(flow.number), moment, &what)?;
            let answers_old =
                std::mem::replace(&mut flow.is_answer_of_old, tap == Tap::ToServer && is_rewritten);
            if refuses && answers_old {
                let text = "the server has answered to the line as it was sent here; from ftpalg it reads the other one";
                self.note(flow.number, text)?;
            }
        }
        Ok(())
    }

    pub(super) fn flow_events(&mut self, flow: &mut Flow, events: &[Event]) -> Result<()> {
        if events.iter().any(|event| matches!(event, Event::Departed(_))) {
            flow.state = State::Left;
        }
        self.events(flow.number, flow.standing.views.outer, events)?;
        let is_strange = |event: &Event| matches!(event, Event::Refused { reason: Refusal::ThirdParty, .. });
        if flow.standing.source == Source::Nothing && events.iter().any(is_strange) {
            let text = "a capture does not tell of NAT: if the router gives that address another one, say so with \
                        --nat INSIDE=PUBLIC";
            self.once(Once::NatHint, text)?;
        }
        Ok(())
    }

    pub(super) fn events(&mut self, session: u64, tuple: ControlTuple, events: &[Event]) -> Result<()> {
        for event in events {
            let what = match event {
                Event::Started(_) | Event::Edited(_) => continue,
                Event::LoggedIn => What::LoggedIn,
                Event::Opened(mode, pinhole) => {
                    self.doors.put(session, tuple, *pinhole, true, self.now);
                    What::Opened {
                        mode: mode_name(*mode),
                        source: pinhole.key.source,
                        destination: SocketAddr::new(pinhole.key.destination, pinhole.key.port),
                        to: pinhole.to,
                        seen: pinhole.from,
                        seconds: pinhole.timeout.as_secs(),
                    }
                }
                Event::Refused { mode, line, reason } => What::Refused {
                    mode: mode_name(*mode),
                    line: if self.options.show_passwords { line.clone() } else { without_password(line) },
                    reason: reason.to_string(),
                    remedy: reason.remedy().to_string(),
                },
                Event::Departed(why @ Departure::Unseen) => What::Left {
                    reason: format!("{why}, or packets are missing before the server's greeting"),
                },
                Event::Departed(why) => What::Left { reason: why.to_string() },
                Event::Ended => What::Ended,
                Event::Muted | Event::Resumed => What::Note { text: event.to_string() },
            };
            self.tell(Some(session), &what)?;
        }
        Ok(())
    }

    pub(super) fn changes(&mut self, session: u64, tuple: ControlTuple, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Expect(key, _) => {
                    let asked = self.engine.session(&tuple).and_then(|session| {
                        session
                            .dialogue
                            .pinholes()
                            .find(|(pinhole, is_open, _)| pinhole.key == *key && !is_open)
                    });
                    if let Some((pinhole, ..)) = asked {
                        self.doors.put(session, tuple, pinhole, false, self.now);
                    }
                }
                Change::Renew(pinhole) => self.doors.renew(pinhole, self.now),
                Change::Close(key) => self.doors.close(*key),
                _ => {}
            }
        }
    }

    /// Writes a packet as the chosen side sees it.
    pub(super) fn write(
        &mut self,
        flow: &Flow,
        item: &Item,
        sent: &[u8],
        passed: Option<&[u8]>,
    ) -> Result<()> {
        let is_asked_for = self.options.session.is_none_or(|only| only == flow.number);
        let Some(writer) = self.writer.as_mut().filter(|_| is_asked_for) else { return Ok(()) };
        // Before the engine on its sender's side, behind it on the other.
        let is_receivers =
            matches!((item.tap, flow.written), (Tap::ToServer, Side::Server) | (Tap::ToClient, Side::Client));
        let Some(packet) = (if is_receivers { passed } else { Some(sent) }) else { return Ok(()) };
        let packet = between(packet, ends(flow.standing.views.on(flow.written), item.tap));
        let bytes = if packet.get(..) == item.frame.bytes.get(item.offset..item.offset + packet.len()) {
            item.frame.bytes.clone()
        } else {
            item.frame.with_packet(item.offset, &packet)
        };
        writer.packet(item.frame.number, item.frame.at, (item.frame.link, self.resolution), &bytes)?;
        self.teller.totals.written += 1;
        Ok(())
    }
}

/// Any line may be quoted in a refusal.
fn without_password(line: &str) -> String {
    let mut lines = Lines::default();
    lines.sent(0, line.as_bytes());
    lines.rest().map(|line| line.shown(Tap::ToServer, false)).unwrap_or_default()
}
