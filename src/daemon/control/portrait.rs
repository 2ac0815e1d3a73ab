//! A session as it is told of.

use std::fmt::Display;
use std::time::Duration;

use ftpalg::engine::event::{Departure, Mode};
use ftpalg::engine::kind::Kind;
use ftpalg::engine::pinhole::Pinhole;
use ftpalg::engine::session::Session;

use crate::status::document::{self, Data, PinholeState, Reason, ShiftedBy, State};

/// What is told of a session in the care of the queue's worker.
pub fn portrait(session: &Session, queue: Option<u16>, now: Duration) -> document::Session {
    let profile = session.dialogue.profile();
    let (to_server, to_client) = session.shifts();
    let since = |then: Duration| now.saturating_sub(then).as_secs_f64();
    let mut portrait = document::Session::unknown(state(session), &session.tuple);
    if let Some(view) = session.view {
        (portrait.client, portrait.dialled, portrait.mark) = (view.client, view.dialled, view.mark);
    }
    document::Session {
        id: session.id,
        user: Some(profile.user()).filter(|user| !user.is_empty()),
        logged_in: session.dialogue.is_logged_in(),
        encrypted: session.departed == Some(Departure::Encrypted),
        left: session.departed.map(reason),
        data: profile
            .asked()
            .map(|asked| Data { mode: asked.mode().to_string(), command: asked.to_string() }),
        transfers: profile.transfers(),
        age_seconds: since(session.began()),
        idle_seconds: since(session.last_packet()),
        shifted: session.is_shifted,
        shifted_by: ShiftedBy { to_server, to_client },
        queue,
        pinholes: pinholes(session, now),
        ..portrait
    }
}

fn state(session: &Session) -> State {
    let dialogue = &session.dialogue;
    match session.departed {
        _ if session.has_ended() => State::Closed,
        Some(_) => State::Left,
        None if !dialogue.is_greeted() => State::Greeting,
        None if dialogue.is_transferring() => State::Transfer,
        None if dialogue.is_logged_in() => State::Ready,
        None => State::Login,
    }
}

/// Its pinholes, as far as the engine knows: the kernel knows earlier whether one has been used.
fn pinholes(session: &Session, now: Duration) -> Vec<document::Pinhole> {
    let told = session.dialogue.pinholes().map(|(pinhole, is_open, until)| {
        let Pinhole { key, to, from, .. } = pinhole;
        let state = match is_open {
            false => PinholeState::Asked,
            true if session.dialogue.unused().is_none() => PinholeState::Used,
            true if until <= now => PinholeState::Expired,
            true => PinholeState::Open,
        };
        document::Pinhole {
            state,
            mode: mode(session.mode_of(&pinhole)),
            source: key.source,
            destination: (key.destination, key.port).into(),
            to,
            seen_from: from,
            expires_seconds: (state == PinholeState::Open).then(|| (until - now).as_secs_f64()),
        }
    });
    told.collect()
}

/// Who listens.
pub fn mode(mode: Mode) -> String {
    mode.to_string()
}

/// A reason by its name, and in words.
pub fn reason(why: impl Kind + Display) -> Reason {
    Reason { code: why.name().to_owned(), text: why.to_string() }
}
