//! Connections that begin, or that the capture shows only from their middle on.

use anyhow::Result;
use ftpalg::engine::MAX_SESSIONS;
use ftpalg::engine::control::ControlTuple;
use ftpalg::engine::session::Tap;

use super::flow::{Flow, Item};
use super::nat::{Side, Source, Standing, Views};
use super::player::{Once, Player};
use super::stage::{MadeUp, made_up, play};
use super::tell::session;
use crate::capture::Segment;

impl Player<'_> {
    /// A connection of which nothing was seen before.
    pub(super) fn begin(
        &mut self,
        tuple: ControlTuple,
        tap: Tap,
        segment: &Segment<'_>,
    ) -> Result<Option<Flow>> {
        if segment.is_reset || (!segment.is_syn && segment.acknowledgment.is_none()) {
            return Ok(None);
        }
        if self.flows.len() >= MAX_SESSIONS {
            self.once(Once::Many, "more sessions at once than ftpalg follows: those beyond are left out")?;
            return Ok(None);
        }
        let standing = match self.survey.standing(&tuple) {
            Some(standing) => standing,
            None => match Standing::by_rules(&self.options.rules(), tuple) {
                Ok(standing) => standing,
                Err(public) => {
                    let text = format!(
                        "{public} stands for a whole network, and this side of the router does not show which host it \
                         is: name the client with --nat CLIENT={public}"
                    );
                    self.once(Once::BadNat, &text)?;
                    Standing { views: Views::same(tuple), side: Side::Server, source: Source::Nothing }
                }
            },
        };
        self.sessions += 1;
        let number = self.sessions;
        let written = self.options.side.unwrap_or(standing.views.edited_side());
        let initial = match tap {
            Tap::ToServer => segment.sequence,
            Tap::ToClient => segment.acknowledgment.unwrap_or(0).wrapping_sub(1),
        };
        let flow = Flow::new(number, standing, written, initial, self.now);
        self.doors.session(&standing.views, number);
        self.tell(Some(number), &session(&standing.views, standing.source.to_string()))?;
        if !segment.is_syn {
            self.amid(&flow, tap, segment)?;
        } else if tap == Tap::ToClient {
            self.note(number, "the client's SYN is not in the capture")?;
            let says = MadeUp { is_syn: true, sequence: initial, ..MadeUp::default() };
            self.silently(&flow, Tap::ToServer, says);
        }
        Ok(Some(flow))
    }

    /// The capture begins amid a session: makes up a beginning, so that the engine reads the rest.
    pub(super) fn amid(&mut self, flow: &Flow, tap: Tap, segment: &Segment<'_>) -> Result<()> {
        const GREETING: &[u8] = b"220 \r\n";
        const USER: &[u8] = b"USER x\r\n";
        const LOGGED_IN: &[u8] = b"230 \r\n";
        self.note(
            flow.number,
            "the capture begins amid this session: a login before it is taken for granted, and a command from before \
             has no answer. ftpalg itself leaves alone what it has not seen from its SYN on",
        )?;
        let acknowledgment = segment.acknowledgment.unwrap_or(0);
        let (client, server) = match tap {
            Tap::ToServer => (segment.sequence, acknowledgment),
            Tap::ToClient => (acknowledgment, segment.sequence),
        };
        let client = client.wrapping_sub(length(USER));
        let server = server.wrapping_sub(length(GREETING) + length(LOGGED_IN));
        let says =
            |is_syn, sequence, acknowledgment, payload| MadeUp { is_syn, sequence, acknowledgment, payload };
        self.silently(flow, Tap::ToServer, says(true, client.wrapping_sub(1), None, &[]));
        self.silently(flow, Tap::ToClient, says(true, server.wrapping_sub(1), Some(client), &[]));
        self.silently(flow, Tap::ToClient, says(false, server, Some(client), GREETING));
        let greeted = server.wrapping_add(length(GREETING));
        self.silently(flow, Tap::ToServer, says(false, client, Some(greeted), USER));
        let asked = client.wrapping_add(length(USER));
        self.silently(flow, Tap::ToClient, says(false, greeted, Some(asked), LOGGED_IN));
        Ok(())
    }

    /// Hands something to the engine that is not in the capture, and tells nothing of it.
    pub(super) fn silently(&mut self, flow: &Flow, tap: Tap, says: MadeUp<'_>) {
        let views = &flow.standing.views;
        let packet = made_up(views.outer, tap, says);
        let played = play(&mut self.engine, self.now, tap, packet, views);
        self.changes(flow.number, views.outer, &played.changes);
    }

    /// Another connection takes the place of this one.
    pub(super) fn renew(&mut self, flow: &mut Flow, syn: Item) -> Result<()> {
        self.flush(flow)?;
        self.engine.forget(&flow.standing.views.outer);
        self.sessions += 1;
        *flow = Flow::new(self.sessions, flow.standing, flow.written, syn.sequence, self.now);
        self.doors.session(&flow.standing.views, flow.number);
        self.tell(Some(flow.number), &session(&flow.standing.views, flow.standing.source.to_string()))?;
        flow.has_begun = true;
        self.feed(flow, syn)
    }

    /// The SYN-ACK, where the capture lacks it.
    pub(super) fn supply_answer(&mut self, flow: &Flow, item: &Item) -> Result<()> {
        let outer = flow.standing.views.outer;
        let Some(session) = self.engine.session(&outer) else { return Ok(()) };
        let Some(number) = item.acknowledgment else { return Ok(()) };
        if session.next(Tap::ToClient).is_some() || item.is_reset {
            return Ok(());
        }
        let (Some(client), server) = (
            session.next(Tap::ToServer),
            match item.tap {
                Tap::ToServer => number,
                Tap::ToClient => item.sequence,
            },
        ) else {
            return Ok(());
        };
        self.note(flow.number, "the server's SYN-ACK is not in the capture")?;
        let says = MadeUp {
            is_syn: true,
            sequence: server.wrapping_sub(1),
            acknowledgment: Some(client),
            payload: &[],
        };
        self.silently(flow, Tap::ToClient, says);
        Ok(())
    }
}

fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(0)
}
