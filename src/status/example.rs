//! A document for tests.

use super::document::{
    Counters, Counts, Daemon, Data, Document, Pinhole, PinholeState, Reason, Refusal, Session, ShiftedBy,
    State, VERSION, Worker,
};

/// One session of each kind.
pub fn document() -> Document {
    let tuple = |port: u16| ftpalg::engine::control::ControlTuple {
        server: "198.51.100.7:21".parse().unwrap(),
        client: ([203, 0, 113, 1], port).into(),
    };
    let busy = Session {
        id: 2,
        client: "192.168.1.2".parse().unwrap(),
        user: Some("alice".into()),
        logged_in: true,
        data: Some(Data { mode: "passive".into(), command: "PASV".into() }),
        transfers: 12,
        age_seconds: 3700.0,
        shifted: true,
        shifted_by: ShiftedBy { to_server: 4, to_client: -3 },
        queue: Some(2121),
        pinholes: vec![Pinhole {
            state: PinholeState::Open,
            mode: "passive".into(),
            source: "192.168.1.2".parse().unwrap(),
            destination: "198.51.100.7:40001".parse().unwrap(),
            to: "198.51.100.7:40001".parse().unwrap(),
            seen_from: "203.0.113.1".parse().unwrap(),
            expires_seconds: Some(42.4),
        }],
        ..Session::unknown(State::Transfer, &tuple(40000))
    };
    let encrypted = Session {
        id: 1,
        encrypted: true,
        left: Some(Reason { code: "encrypted".into(), text: "the dialogue is encrypted".into() }),
        ..Session::unknown(State::Left, &tuple(40001))
    };
    Document {
        version: VERSION,
        daemon: Daemon { version: "0.1.0".into(), pid: 7, uptime_seconds: 90_000.0, time: 1_800_000_000.0 },
        workers: vec![Worker { queue: 2121, packets: 1234, sessions: 2, waiting: Some(3), dropped: None }],
        counters: Counters {
            refused: Counts::from([("third-party".to_owned(), 1), ("no-port".to_owned(), 0)]),
            ..Counters::default()
        },
        table_counters: Some(Counts::from([("sessions-begun".to_owned(), 5)])),
        refusals: vec![Refusal {
            seconds_ago: 61.0,
            session: 2,
            client: "192.168.1.2".parse().unwrap(),
            server: "198.51.100.7:21".parse().unwrap(),
            user: Some("alice".into()),
            mode: "active".into(),
            line: r"PORT \u{1b}".into(),
            reason: Reason { code: "third-party".into(), text: "bounce attack".into() },
            remedy: "policy.allow-third-party would allow it".into(),
        }],
        sessions: vec![busy, encrypted],
    }
}
