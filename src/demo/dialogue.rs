//! The control dialogue as both sides of the router saw it, with what became of the data connection in between.

use std::net::SocketAddr;

use ftpalg::engine::session::Tap;

use super::alg::Pinhole;
use super::net::SERVER;
use super::transfer::Transfer;
use super::wire::{self, Moment};

/// The commands that a data connection comes from. The lines of others are left out where both sides saw the same.
const SHOWN: [&str; 3] = ["PASV", "PORT", "RETR"];

/// What is told in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A line of the control connection, on the client's side and on the server's.
    Said { direction: Tap, lan: String, wan: String },
    /// So many lines which were the same on both sides.
    LeftOut(usize),
    /// A pinhole opened.
    Opened(Pinhole),
    /// The data connection's first packet.
    Dialled { direction: Tap, lan: Option<Dial>, wan: Option<Dial> },
}

/// The SYNs of a data connection on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Who dials.
    pub source: SocketAddr,
    /// What was dialled.
    pub destination: SocketAddr,
    /// How often.
    pub times: usize,
}

/// Everything that happened in a transfer, in the order in which it was first seen.
pub fn rows(transfer: &Transfer, pinholes: Vec<Pinhole>) -> Vec<Row> {
    // The client's first SYN is seen in the LAN before anything else is.
    let Some(start) = transfer.lan.first().map(|segment| segment.at) else { return Vec::new() };
    let mut rows = said(transfer, start);
    rows.extend(pinholes.into_iter().map(|pinhole| (pinhole.at.since(start), Row::Opened(pinhole))));
    rows.extend(dialled(transfer, start));
    rows.sort_by_key(|(at, _)| *at);
    leave_out(rows.into_iter().map(|(_, row)| row))
}

fn said(transfer: &Transfer, start: Moment) -> Vec<(u64, Row)> {
    let mut rows = Vec::new();
    for direction in [Tap::ToServer, Tap::ToClient] {
        let [lan, wan] = [&transfer.lan, &transfer.wan].map(|side| wire::lines(side, direction));
        for number in 0..lan.len().max(wan.len()) {
            let sides = [lan.get(number), wan.get(number)];
            let at = sides.iter().flatten().map(|line| line.at.since(start)).min().unwrap_or_default();
            let [lan, wan] = sides.map(|line| line.map(|line| line.text.clone()).unwrap_or_default());
            rows.push((at, Row::Said { direction, lan, wan }));
        }
    }
    rows
}

/// The data connection; each transfer asks for one.
fn dialled(transfer: &Transfer, start: Moment) -> Option<(u64, Row)> {
    let syns = [&transfer.lan, &transfer.wan]
        .map(|side| side.iter().filter(|segment| segment.dials_data()).collect::<Vec<_>>());
    let first = syns.iter().filter_map(|syns| syns.first()).min_by_key(|syn| syn.at.since(start))?;
    let direction = if first.source.ip() == SERVER { Tap::ToClient } else { Tap::ToServer };
    let at = first.at.since(start);
    let [lan, wan] = syns.map(|syns| {
        let first = syns.first()?;
        Some(Dial { source: first.source, destination: first.destination, times: syns.len() })
    });
    Some((at, Row::Dialled { direction, lan, wan }))
}

/// Puts a number in place of the rows that say nothing about data connections.
fn leave_out(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut kept = Vec::new();
    let mut answers_shown = false;
    for row in rows {
        if let Row::Said { direction, lan, wan } = &row {
            if *direction == Tap::ToServer {
                answers_shown = SHOWN.contains(&lan.split(' ').next().unwrap_or_default());
            }
            if !answers_shown && lan == wan {
                match kept.last_mut() {
                    Some(Row::LeftOut(lines)) => *lines += 1,
                    _ => kept.push(Row::LeftOut(1)),
                }
                continue;
            }
        }
        kept.push(row);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(direction: Tap, lan: &str, wan: &str) -> Row {
        Row::Said { direction, lan: lan.into(), wan: wan.into() }
    }

    #[test]
    fn only_what_is_the_same_and_beside_the_point_is_left_out() {
        use Tap::{ToClient, ToServer};
        let rows = [
            said(ToClient, "220 hello", "220 hello"),
            said(ToServer, "PWD", "PWD"),
            said(ToClient, "257 \"/\"", "257 \"/\""),
            said(ToServer, "PORT 10,0,0,2,4,1", "PORT 192,0,2,1,4,1"),
            said(ToClient, "200 fine", "200 fine"),
            said(ToServer, "TYPE I", "TYPE A"),
            said(ToServer, "QUIT", "QUIT"),
        ];
        let kept = leave_out(rows.clone().into_iter());
        assert_eq!(kept[0], Row::LeftOut(3));
        assert_eq!(kept[1..4], rows[3..6]);
        assert_eq!(kept[4..], [Row::LeftOut(1)]);
    }
}
