//! The document for people.

use std::fmt::Write as _;

use super::columns::{Align, Column, Table, clip};
use super::document::{Counters, Counts, Document, Pinhole, PinholeState, Refusal, Session, State};

/// What a page shows of refusals: those of late. All of them are in the document.
const REFUSALS: usize = 10;

/// The whole, in lines of at most `width`.
pub fn page(document: &Document, width: usize) -> String {
    let mut page = String::new();
    let mut section = |title: &str, lines: Vec<String>| {
        // Writing to a String does not fail.
        let _ = writeln!(page, "{}{}", if page.is_empty() { "" } else { "\n" }, clip(title, width));
        for line in lines {
            let _ = writeln!(page, "{line}");
        }
    };
    let Document { daemon, sessions, .. } = document;
    section(
        &format!(
            "ftpalg {}, process {}, up {}: {}",
            daemon.version,
            daemon.pid,
            duration(daemon.uptime_seconds),
            summary(document)
        ),
        workers(document).lines(width),
    );
    if !sessions.is_empty() {
        section(&format!("Sessions: {}", sessions.len()), self::sessions(document).lines(width));
    }
    let pinholes = pinholes(document);
    if !pinholes.rows.is_empty() {
        section(&format!("Pinholes: {}", pinholes.rows.len()), pinholes.lines(width));
    }
    let refusals = refusals(document, REFUSALS);
    if !refusals.rows.is_empty() {
        section(&format!("Refusals of late: {}", document.refusals.len()), refusals.lines(width));
    }
    section("Counters since the daemon began", counts(&flat(&document.counters), width));
    if let Some(table) = &document.table_counters {
        section("Counters of its table since that was put in", counts(table, width));
    }
    page
}

/// How many there are of everything.
pub fn summary(document: &Document) -> String {
    let (mut open, mut encrypted, mut shifted) = (0, 0, 0);
    for session in &document.sessions {
        encrypted += usize::from(session.encrypted);
        shifted += usize::from(session.shifted);
        open += session.pinholes.iter().filter(|pinhole| pinhole.state == PinholeState::Open).count();
    }
    let sessions = document.sessions.len();
    format!("{sessions} sessions ({shifted} shifted, {encrypted} encrypted), {open} open pinholes")
}

fn column(title: &'static str, align: Align, spare: u8) -> Column {
    Column { title, align, spare }
}

/// One row a queue.
pub fn workers(document: &Document) -> Table {
    let unknown = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let rows = document.workers.iter().map(|worker| {
        vec![
            worker.queue.to_string(),
            worker.sessions.to_string(),
            worker.packets.to_string(),
            unknown(worker.waiting),
            unknown(worker.dropped),
        ]
    });
    Table {
        columns: vec![
            column("QUEUE", Align::Left, 0),
            column("SESSIONS", Align::Right, 0),
            column("PACKETS", Align::Right, 0),
            column("WAITING", Align::Right, 0),
            column("DROPPED", Align::Right, 0),
        ],
        rows: rows.collect(),
    }
}

/// The sessions in the order in which they are shown: by their numbers.
pub fn sorted(document: &Document) -> Vec<&Session> {
    let mut sessions: Vec<_> = document.sessions.iter().collect();
    sessions.sort_by_key(|session| (session.id, session.client_seen));
    sessions
}

/// One row a session.
pub fn sessions(document: &Document) -> Table {
    let rows = sorted(document).into_iter().map(|session| {
        vec![
            session.id.to_string(),
            session.client.to_string(),
            session.server.to_string(),
            session.user.clone().unwrap_or_else(|| "-".to_owned()),
            state(session),
            session.data.as_ref().map_or_else(|| "-".to_owned(), |data| data.command.clone()),
            session.transfers.to_string(),
            duration(session.age_seconds),
            duration(session.idle_seconds),
            shifted(session),
            session.client_seen.to_string(),
        ]
    });
    Table {
        columns: vec![
            column("ID", Align::Right, 2),
            column("CLIENT", Align::Left, 0),
            column("SERVER", Align::Left, 0),
            column("USER", Align::Left, 0),
            column("STATE", Align::Left, 0),
            column("MODE", Align::Left, 1),
            column("FILES", Align::Right, 4),
            column("AGE", Align::Right, 3),
            column("IDLE", Align::Right, 6),
            column("SHIFTED BY", Align::Left, 5),
            column("SEEN AS", Align::Left, 7),
        ],
        rows: rows.collect(),
    }
}

/// What a session does, in a word or two.
pub fn state(session: &Session) -> String {
    match session.state {
        State::Greeting => "no greeting yet".to_owned(),
        State::Login => "not logged in".to_owned(),
        State::Ready => "logged in".to_owned(),
        State::Transfer => "transfer".to_owned(),
        State::Closed => "closed".to_owned(),
        State::CutOff => "cut off".to_owned(),
        State::Left if session.encrypted => "encrypted".to_owned(),
        State::Left => {
            format!("not inspected: {}", session.left.as_ref().map_or("?", |left| left.code.as_str()))
        }
    }
}

/// How far its two spaces are apart, the client's bytes first.
fn shifted(session: &Session) -> String {
    let by = session.shifted_by;
    if session.shifted { format!("{:+} {:+}", by.to_server, by.to_client) } else { "-".to_owned() }
}

/// One row a pinhole, those that may be used first.
pub fn pinholes(document: &Document) -> Table {
    let all = sorted(document)
        .into_iter()
        .flat_map(|session| session.pinholes.iter().map(move |pinhole| (session, pinhole)));
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, pinhole)| match pinhole.state {
        PinholeState::Open => 0,
        PinholeState::Asked => 1,
        PinholeState::Used | PinholeState::Expired => 2,
    });
    let rows = all.into_iter().map(|(session, pinhole)| {
        vec![
            session.id.to_string(),
            session.client.to_string(),
            pinhole.mode.clone(),
            pinhole.source.to_string(),
            pinhole.destination.to_string(),
            pinhole.to.to_string(),
            pinhole.seen_from.to_string(),
            fate(pinhole),
        ]
    });
    Table {
        columns: vec![
            column("ID", Align::Right, 3),
            column("CLIENT", Align::Left, 4),
            column("MODE", Align::Left, 1),
            column("FROM", Align::Left, 0),
            column("TO", Align::Left, 0),
            column("LEADS TO", Align::Left, 2),
            column("SEEN FROM", Align::Left, 5),
            column("STATE", Align::Left, 0),
        ],
        rows: rows.collect(),
    }
}

fn fate(pinhole: &Pinhole) -> String {
    match (pinhole.state, pinhole.expires_seconds) {
        (PinholeState::Open, Some(left)) => format!("open {}", duration(left)),
        (PinholeState::Open, None) => "open".to_owned(),
        (PinholeState::Asked, _) => "asked for".to_owned(),
        (PinholeState::Used, _) => "used".to_owned(),
        (PinholeState::Expired, _) => "expired".to_owned(),
    }
}

/// One row a refusal, the newest first.
pub fn refusals(document: &Document, most: usize) -> Table {
    let row = |refusal: &Refusal| {
        vec![
            duration(refusal.seconds_ago),
            refusal.session.to_string(),
            refusal.client.to_string(),
            refusal.server.to_string(),
            refusal.user.clone().unwrap_or_else(|| "-".to_owned()),
            refusal.reason.text.clone(),
            refusal.line.clone(),
            refusal.remedy.clone(),
        ]
    };
    Table {
        columns: vec![
            column("AGO", Align::Right, 0),
            column("ID", Align::Right, 4),
            column("CLIENT", Align::Left, 0),
            column("SERVER", Align::Left, 3),
            column("USER", Align::Left, 2),
            column("WHY NOT", Align::Left, 0),
            column("ASKED", Align::Left, 1),
            column("WHAT WOULD ALLOW IT", Align::Left, 5),
        ],
        rows: document.refusals.iter().rev().take(most).map(row).collect(),
    }
}

/// The daemon's counters in one list. What has a reason stands there if it has happened.
fn flat(counters: &Counters) -> Counts {
    let mut flat = Counts::new();
    for (name, count) in [
        ("connections", counters.connections),
        ("greeted", counters.greeted),
        ("logins", counters.logins),
        ("ended", counters.ended),
        ("expired", counters.expired),
        ("resumed", counters.resumed),
        ("edits", counters.edits),
        ("overflow", counters.overflow),
        ("packets", counters.all_packets()),
        ("opened", counters.opened.values().sum()),
        ("refused", counters.refused.values().sum()),
        ("departed", counters.departed.values().sum()),
    ] {
        flat.insert(name.to_owned(), count);
    }
    let kinds =
        [("opened", &counters.opened), ("refused", &counters.refused), ("departed", &counters.departed)];
    for (what, counts) in kinds.into_iter().chain(counters.packets.values().map(|counts| ("packets", counts)))
    {
        for (why, count) in counts.iter().filter(|(_, count)| **count > 0) {
            *flat.entry(format!("{what}: {why}")).or_default() += count;
        }
    }
    flat
}

/// `name number`, as many in a line as fit.
fn counts(counts: &Counts, width: usize) -> Vec<String> {
    let name = counts.keys().map(String::len).max().unwrap_or(0);
    let number = counts.values().map(|count| count.to_string().len()).max().unwrap_or(0);
    let items: Vec<_> = counts.iter().map(|(key, count)| format!("{key:name$} {count:number$}")).collect();
    let a_line = (width.saturating_add(3) / (name + number + 4)).clamp(1, 4);
    items.chunks(a_line).map(|some| clip(some.join("   ").trim_end(), width)).collect()
}

/// In the two largest units.
pub fn duration(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::super::example;
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0.4, "0s"),
            (59.9, "59s"),
            (61.0, "1m01s"),
            (7260.0, "2h01m"),
            (90_000.0, "1d01h"),
            (-1.0, "0s"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_page_fits_and_tells_what_matters() {
        let document = example::document();
        for width in [40, 80, 100, 132, 200] {
            let page = page(&document, width);
            assert!(page.lines().all(|line| line.width() <= width), "{width}:\n{page}");
            for word in ["192.168.1.2", "transfer", "open 42s", "AGO"] {
                assert!(page.contains(word), "{word} at {width}:\n{page}");
            }
        }
        let wide = page(&document, 400);
        for word in ["alice", "PASV", "+4 -3", "203.0.113.1:40000", "bounce attack", r"PORT \u{1b}", "2121"] {
            assert!(wide.contains(word), "{word}:\n{wide}");
        }
    }
}
