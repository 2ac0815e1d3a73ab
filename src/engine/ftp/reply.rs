//! Replies: codes, multi-line replies, and the addresses in 227 and 229.

use serde::{Deserialize, Serialize};

use super::host_port::{Notation, Spot};

/// What a line is to the reply that it belongs to (RFC 959, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `ddd-`: the first line of several.
    First(u16),
    /// `ddd `: the only line, or the last of several.
    Last(u16),
    /// Neither: the text of a multi-line reply, whatever it looks like.
    Middle,
    /// A line that belongs to no reply.
    Stray,
}

/// Reads reply lines one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies {
    /// The code of the multi-line reply that is not over yet.
    open: Option<u16>,
    /// That reply began where text may stand.
    is_open_text: bool,
    /// The server ends its replies with CR LF.
    ends_with_crlf: bool,
    /// The last line ended with a bare LF.
    is_behind_bare_lf: bool,
}

impl Replies {
    /// What this line is, as far as it has come; nothing is remembered.
    pub fn peek(&self, line: &[u8]) -> Part {
        match (self.open, code(line)) {
            (None, Some((code, b'-'))) => Part::First(code),
            (None, Some((code, _))) => Part::Last(code),
            (None, None) => Part::Stray,
            (Some(open), Some((code, b' ' | b'\r' | b'\n'))) if open == code => Part::Last(code),
            (Some(_), _) => Part::Middle,
        }
    }

    /// Whether the next line may still belong to the text of the last reply: of a server that ends its replies with
    /// CR LF, a bare LF may stand in a file's name, and behind it what looks like another reply, of several lines as well.
    pub fn may_be_text(&self) -> bool {
        match self.open {
            Some(_) => self.is_open_text,
            None => self.ends_with_crlf && self.is_behind_bare_lf,
        }
    }

    /// Bytes passed unseen: what comes next may belong to any reply. How this server ends its own is known still.
    pub fn lost_lines(&mut self) {
        *self = Self { ends_with_crlf: self.ends_with_crlf, ..Self::default() };
    }

    /// A line has passed of which the beginning is not known.
    pub fn skip(&mut self, ends_bare: bool) {
        self.is_behind_bare_lf = ends_bare;
    }

    /// Reads a whole line. `ends_bare`: it ends with LF instead of CR LF.
    pub fn read(&mut self, line: &[u8], ends_bare: bool) -> Part {
        let part = self.peek(line);
        if matches!(part, Part::First(_)) {
            self.is_open_text = self.may_be_text();
        }
        self.is_behind_bare_lf = ends_bare;
        self.ends_with_crlf |= !ends_bare && matches!(part, Part::Last(_));
        match part {
            Part::First(code) => self.open = Some(code),
            Part::Last(_) => self.open = None,
            Part::Middle | Part::Stray => {}
        }
        part
    }
}

/// Whether a line, taken by itself, begins a reply.
pub fn is_reply(line: &[u8]) -> bool {
    code(line).is_some()
}

/// The code of a line, 100 to 699, and the byte behind it.
fn code(line: &[u8]) -> Option<(u16, u8)> {
    match line {
        [
            hundreds @ b'1'..=b'6',
            tens @ b'0'..=b'9',
            ones @ b'0'..=b'9',
            behind @ (b' ' | b'-' | b'\r' | b'\n'),
            ..,
        ] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Some((digit(hundreds) * 100 + digit(tens) * 10 + digit(ones), *behind))
        }
        _ => None,
    }
}

/// Where the address of a 227 may begin: RFC 1123, section 4.1.2.6, has clients scan the text for it, with or
/// without parentheses.
pub fn passive_addresses(line: &[u8]) -> impl Iterator<Item = Spot> {
    (4..line.len())
        .filter(|&at| {
            let before = line.get(at - 1).copied().unwrap_or_default();
            line.get(at).is_some_and(u8::is_ascii_digit)
                && !before.is_ascii_alphanumeric()
                && !matches!(before, b',' | b'.' | b'-' | b'+')
        })
        .map(|start| Spot { start, notation: Notation::Commas })
}

/// Where the port of a 229 may begin: behind a parenthesis and three delimiters (RFC 2428, section 3).
pub fn extended_passive_ports(line: &[u8]) -> impl Iterator<Item = Spot> {
    line.windows(5).enumerate().skip(4).filter_map(|(at, window)| match window {
        [b'(', d1, d2, d3, b'0'..=b'9']
            if d1 == d2 && d2 == d3 && d1.is_ascii_graphic() && !d1.is_ascii_digit() =>
        {
            Some(Spot { start: at + 4, notation: Notation::PortAlone { delimiter: *d1 } })
        }
        _ => None,
    })
}

/// Whether what follows the address or port of a reply lets a client read it: `rest` begins right behind it.
pub fn ends_properly(notation: Notation, rest: &[u8]) -> bool {
    match notation {
        Notation::PortAlone { delimiter } => rest.starts_with(&[delimiter, b')']),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_and_multi_line_replies() {
        let mut all = Replies::default();
        let mut replies = |line: &[u8]| all.read(line, !line.ends_with(b"\r\n"));
        assert_eq!(replies(b"220 ready\r\n"), Part::Last(220));
        assert_eq!(replies(b"230-hello\r\n"), Part::First(230));
        for text in [
            &b"227 Entering Passive Mode (1,2,3,4,5,6)\r\n"[..],
            b"230-more\r\n",
            b"  230 \r\n",
            b"2300\r\n",
            b"\r\n",
        ] {
            assert_eq!(replies(text), Part::Middle, "{text:?}");
        }
        assert_eq!(replies(b"230 done\r\n"), Part::Last(230));
        assert_eq!(replies(b"200\r\n"), Part::Last(200));
        for text in [
            &b"hello\r\n"[..],
            b"22\r\n",
            b"2275 (1,2,3,4,5,6)\r\n",
            b"\r227 x\r\n",
            b"999 x\r\n",
            b" 227 x\r\n",
        ] {
            assert_eq!(replies(text), Part::Stray, "{text:?}");
        }
    }

    #[test]
    fn a_bare_lf_is_suspicious_where_lines_end_with_crlf() {
        let last = |lines: &[&[u8]]| {
            let mut replies = Replies::default();
            lines.iter().for_each(|line| {
                replies.read(line, !line.ends_with(b"\r\n"));
            });
            replies.may_be_text()
        };
        assert!(last(&[b"220 a\r\n", b"550 x\n"]));
        assert!(last(&[b"220-a\n", b"220 a\r\n", b"550-a\r\n", b"550 x\n"]));
        assert!(last(&[b"220 a\r\n", b"550 x\n", b"227-a\n"]), "the reply that it began is text as well");
        assert!(last(&[b"220 a\r\n", b"550 x\n", b"227-a\n", b"b\r\n"]));
        assert!(!last(&[b"220 a\r\n", b"550 x\n", b"227-a\n", b"227 b\r\n"]));
        assert!(!last(&[b"220 a\n", b"550 x\n"]), "a server that ends all its lines so");
        let mut replies = Replies::default();
        replies.read(b"220 a\r\n", false);
        replies.lost_lines();
        replies.skip(true);
        assert!(replies.may_be_text(), "behind the rest of a line");
        replies.skip(false);
        assert!(!replies.may_be_text());
        assert!(!last(&[b"220 a\r\n", b"230-x\n", b"y\n", b"230 x\r\n"]), "a banner with bare LF");
        assert!(!last(&[b"220-a\r\n", b"220 a\n", b"230 x\n"]), "a banner with CR LF");
    }

    #[test]
    fn passive_addresses_are_found_with_and_without_parentheses() {
        let starts =
            |line: &str| passive_addresses(line.as_bytes()).map(|spot| spot.start).collect::<Vec<_>>();
        assert_eq!(starts("227 Entering Passive Mode (10,0,0,1,4,1).\r\n"), [27]);
        assert_eq!(starts("227 10,0,0,1,4,1\r\n"), [4]);
        assert_eq!(starts("227 =10,0,0,1,4,1\r\n"), [5]);
        assert_eq!(starts("227 Entering Passive Mode 1"), [26]);
        assert!(starts("227 Logout.\r\n").is_empty());
        assert_eq!(starts("227 v2 on 7 (1,2,3,4,5,6)\r\n"), [10, 13]);
    }

    #[test]
    fn extended_passive_ports_are_found() {
        let find = |line: &str| extended_passive_ports(line.as_bytes()).next().map(|spot| spot.start);
        assert_eq!(find("229 Entering Extended Passive Mode (|||6446|)\r\n"), Some(39));
        assert_eq!(find("229 ok (!!!7"), Some(11));
        assert_eq!(find("229 ok (|||"), None);
        assert_eq!(find("229 ok (||x|1|)"), None);
        assert_eq!(find("229 ok (1112223)"), None);
        assert!(ends_properly(Notation::PortAlone { delimiter: b'|' }, b"|)\r\n"));
        assert!(!ends_properly(Notation::PortAlone { delimiter: b'|' }, b"0|)\r\n"));
    }
}
