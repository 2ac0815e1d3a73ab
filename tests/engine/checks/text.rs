//! Readers of FTP's texts of their own, strict and without any thought for speed, and what the engine's must share
//! with them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use ftpalg::engine::event::Mode;
use ftpalg::engine::ftp::command::{Command, Verb};
use ftpalg::engine::ftp::host_port::{Family, HostPort, Notation};
use ftpalg::engine::ftp::reply::{self, Part, Replies};

use super::transcript::Said;

/// What is written in any notation reads as what was written.
pub fn check_notations(address: [u8; 16], port: u16, delimiter: u8) {
    let v4 = IpAddr::from([address[0], address[1], address[2], address[3]]);
    for address in [v4, IpAddr::from(address)] {
        let target = SocketAddr::new(address, port);
        let family = Family::of(address);
        let whole = Some(HostPort { address: Some(address), port });
        let in_address = address.to_string().into_bytes().contains(&delimiter);
        if delimiter.is_ascii_punctuation() && !in_address {
            let notation = Notation::Delimited { delimiter, family };
            assert_eq!(notation.read(&notation.write(target)), whole, "{target} {notation:?}");
        }
        let alone = Notation::PortAlone { delimiter: b'|' };
        assert_eq!(alone.read(&alone.write(target)), Some(HostPort { address: None, port }));
        if address.is_ipv4() {
            assert_eq!(Notation::Commas.read(&Notation::Commas.write(target)), whole);
        }
    }
}

/// The engine's reading of each line, and of each of its beginnings.
pub fn check_lines(said: &[Said<'_>]) {
    let (mut replies, mut multi_line) = (Replies::default(), None);
    for piece in said {
        match piece.mode {
            Mode::Active => check_command(piece.text),
            Mode::Passive => {
                let read = replies.read(piece.text, ends_bare(piece.text));
                assert_eq!(read, part(&mut multi_line, piece.text));
                let commas = reply::passive_addresses(piece.text);
                let spots: Vec<_> = commas.chain(reply::extended_passive_ports(piece.text)).collect();
                spots.into_iter().take(20).for_each(|spot| check_text(spot.notation, spot.start, piece.text));
            }
        }
    }
}

fn check_command(line: &[u8]) {
    let Some(command) = Command::read(line) else {
        return assert!(!line.ends_with(b"\n"), "a whole line has a verb");
    };
    let Some(spot) = command.address(line) else { return };
    check_text(spot.notation, spot.start, line);
    for length in 0..line.len().min(80) {
        let begun = &line[..length];
        let found = Command::read(begun).and_then(|command| command.address(begun));
        assert!(found.is_none_or(|found| found == spot), "the address of a beginning stands elsewhere");
        assert_eq!(found.is_some(), length > spot.start, "it is found with its first byte");
    }
}

/// The text at `start`: its extent and what it names.
fn check_text(notation: Notation, start: usize, line: &[u8]) {
    let spot = ftpalg::engine::ftp::host_port::Spot { start, notation };
    let extent = spot.extent(line);
    let text = &line[extent.clone()];
    let read = notation.read(text);
    assert_eq!(read, strict(notation, text), "\"{}\"", text.escape_ascii());
    for length in 0..=text.len() {
        assert_eq!(spot.extent(&line[..start + length]), start..start + length, "an extent only grows");
        let address = read.and_then(|read| read.address);
        assert!(
            address.is_none_or(|address| notation.may_name(address, &text[..length])),
            "what a text names, its beginning may name"
        );
    }
    let spoiled = [text, notation.spoiler()].concat();
    assert_eq!(notation.read(&spoiled), None, "what is spoiled can be read");
}

/// What a text names: only what is written as a strict writer would.
pub fn strict(notation: Notation, text: &[u8]) -> Option<HostPort> {
    let text = std::str::from_utf8(text).ok()?;
    match notation {
        Notation::Commas => {
            let numbers = text.split(',').map(number::<u8>).collect::<Option<Vec<_>>>()?;
            let [a, b, c, d, high, low] = numbers[..] else { return None };
            let port = u16::from(high) * 256 + u16::from(low);
            Some(HostPort { address: Some(IpAddr::from([a, b, c, d])), port })
        }
        Notation::Delimited { delimiter, family } => {
            let (address, port) = text.split_once(char::from(delimiter))?;
            let port = number(port)?;
            let address = match family {
                Family::V4 => {
                    let numbers = address.split('.').map(number::<u8>).collect::<Option<Vec<_>>>()?;
                    IpAddr::from(<[u8; 4]>::try_from(numbers).ok()?)
                }
                Family::V6 => IpAddr::V6(address.parse().ok()?),
            };
            Some(HostPort { address: Some(address), port })
        }
        Notation::PortAlone { .. } => Some(HostPort { address: None, port: number(text)? }),
    }
}

fn number<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse().ok().filter(|number: &N| number.to_string() == text)
}

/// All addresses and ports that a strict reader finds in a line, wherever they stand.
pub fn named(line: &[u8], mode: Mode) -> Vec<(Option<IpAddr>, u16)> {
    let line: String = line.iter().map(|&byte| char::from(byte)).collect();
    let mut found = Vec::new();
    let runs = line.split(|c: char| !c.is_ascii_digit() && c != ',');
    found.extend(runs.filter_map(|run| strict(Notation::Commas, run.as_bytes())));
    let mut delimiters: Vec<u8> = line.bytes().filter(u8::is_ascii_punctuation).collect();
    delimiters.sort_unstable();
    delimiters.dedup();
    for delimiter in delimiters {
        let parts: Vec<_> = line.split(char::from(delimiter)).collect();
        for part in parts.windows(2) {
            let text = part.join(&char::from(delimiter).to_string());
            for family in [Family::V4, Family::V6] {
                found.extend(strict(Notation::Delimited { delimiter, family }, text.as_bytes()));
            }
        }
        if mode == Mode::Passive {
            let alone = Notation::PortAlone { delimiter };
            found.extend(parts.iter().filter_map(|part| strict(alone, part.as_bytes())));
        }
    }
    found.into_iter().map(|HostPort { address, port }| (address, port)).collect()
}

/// The address of a 227 that names a port alone.
pub const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether a line names this address, in one of the ways of FTP.
pub fn names(line: &[u8], address: IpAddr) -> bool {
    let line = String::from_utf8_lossy(line);
    line.contains(&address.to_string()) || line.contains(&address.to_string().replace('.', ","))
}

/// What a line is to its reply (RFC 959, section 4.2); `open` is the code of the multi-line reply that goes on.
pub fn part(open: &mut Option<u16>, line: &[u8]) -> Part {
    let text: String = line.iter().map(|&byte| char::from(byte)).collect();
    let code =
        text.get(..3).and_then(|code| code.parse::<u16>().ok()).filter(|code| (100..700).contains(code));
    let code = code.filter(|_| text.chars().take(3).all(|c| c.is_ascii_digit()));
    let behind = text.chars().nth(3).filter(|c| " -\r\n".contains(*c));
    match (*open, code.zip(behind)) {
        (None, Some((code, '-'))) => {
            *open = Some(code);
            Part::First(code)
        }
        (None, Some((code, _))) => Part::Last(code),
        (None, None) => Part::Stray,
        (Some(expected), Some((code, behind))) if code == expected && behind != '-' => {
            *open = None;
            Part::Last(code)
        }
        (Some(_), _) => Part::Middle,
    }
}

/// Where the address of a PORT or EPRT stands in a line, and how it is written.
pub fn command_place(line: &[u8]) -> Option<(Range<usize>, Notation)> {
    let Command { verb, argument, .. } = Command::read(line)?;
    match (verb, &line[argument..]) {
        (Verb::Port, [first, ..]) if first.is_ascii_digit() => Some(commas(line, argument)),
        (Verb::Eprt, [delimiter, family, second, first, ..])
            if delimiter.is_ascii_punctuation() && delimiter == second && first.is_ascii_graphic() =>
        {
            let family = match family {
                b'1' => Family::V4,
                b'2' => Family::V6,
                _ => return None,
            };
            let start = argument + 3;
            let mut delimiters = 0;
            let belongs = |&byte: &u8| {
                delimiters += usize::from(byte == *delimiter);
                byte.is_ascii_graphic() && delimiters < 2
            };
            Some((run(line, start, belongs), Notation::Delimited { delimiter: *delimiter, family }))
        }
        _ => None,
    }
}

/// Where an address or a port may stand in a 227 or 229.
pub fn reply_places(code: u16, line: &[u8]) -> Vec<(Range<usize>, Notation)> {
    let starts = 4..line.len();
    if code == 227 {
        let begins = |&at: &usize| {
            let before = line[at - 1];
            line[at].is_ascii_digit() && !before.is_ascii_alphanumeric() && !b",.-+".contains(&before)
        };
        return starts.filter(begins).map(|at| commas(line, at)).collect();
    }
    let found = starts.filter_map(|at| {
        let [b'(', delimiter, second, third, digit, ..] = line[at..] else { return None };
        let is_one = delimiter == second && second == third;
        let delimits = delimiter.is_ascii_graphic() && !delimiter.is_ascii_digit();
        (is_one && delimits && digit.is_ascii_digit())
            .then(|| (run(line, at + 4, u8::is_ascii_digit), Notation::PortAlone { delimiter }))
    });
    found.collect()
}

fn commas(line: &[u8], start: usize) -> (Range<usize>, Notation) {
    (run(line, start, |&byte| byte.is_ascii_digit() || byte == b','), Notation::Commas)
}

/// The bytes from `start` that belong together; 64 at most.
fn run(line: &[u8], start: usize, belongs: impl FnMut(&u8) -> bool) -> Range<usize> {
    start
        ..start
            + line[start..]
                .iter()
                .take(64)
                .copied()
                .take_while({
                    let mut belongs = belongs;
                    move |byte| belongs(byte)
                })
                .count()
}

/// Whether what stands behind an address lets its reader take it.
pub fn ends_properly(mode: Mode, notation: Notation, rest: &[u8]) -> bool {
    match (mode, notation, rest) {
        (Mode::Active, Notation::Commas, rest) => rest.trim_ascii().is_empty(),
        (Mode::Active, Notation::Delimited { delimiter, .. }, [first, rest @ ..]) => {
            *first == delimiter && rest.trim_ascii().is_empty()
        }
        (Mode::Passive, Notation::Commas, _) => true,
        (Mode::Passive, Notation::PortAlone { delimiter }, [first, second, ..]) => {
            (*first, *second) == (delimiter, b')')
        }
        _ => false,
    }
}

/// Whether a line ends with a bare LF.
pub fn ends_bare(line: &[u8]) -> bool {
    line.ends_with(b"\n") && !line.ends_with(b"\r\n")
}

/// Whether a client's first line is another protocol's request.
pub fn is_request_line(line: &[u8]) -> bool {
    let line: String = line.iter().map(|&byte| char::from(byte)).collect();
    [" HTTP/", " SIP/", " RTSP/"].iter().any(|protocol| line.contains(protocol))
}

/// Whether an EPSV asks for the family of its own control connection (RFC 2428, section 3).
pub fn fits(argument: &[u8], is_v6: bool) -> bool {
    matches!((argument.trim_ascii(), is_v6), (b"", _) | (b"1", false) | (b"2", true))
}

/// Whether a reply with this code can be ABOR's, or that of the transfer that it ends (RFC 959, section 5.4).
pub fn may_answer_abor(code: u16) -> bool {
    [225, 226, 421, 425, 426, 451, 500, 501, 502, 503, 530].contains(&code)
}

/// Whether a reply is one final reply, perhaps behind preliminary ones, of which every gateway knows that it answers
/// this command, and which changes nothing for the commands that follow.
pub fn is_proper_answer(command: &[u8], reply: &[u8]) -> bool {
    let kept = |line: &[u8]| line[..line.len().min(512)].to_vec();
    let mut open = None;
    let parts: Vec<_> =
        reply.split_inclusive(|&byte| byte == b'\n').map(|line| part(&mut open, &kept(line))).collect();
    let finals = parts.iter().filter(|part| matches!(part, Part::Last(200..))).count();
    let Some(&Part::Last(code @ 200..)) = parts.last() else { return false };
    let is_bare = reply.split_inclusive(|&byte| byte == b'\n').any(ends_bare);
    if finals != 1 || is_bare || parts.contains(&Part::Stray) {
        return false;
    }
    let command = kept(command);
    match Command::read(&command).map_or(Verb::Unknown, |command| command.verb) {
        _ if command.trim_ascii().is_empty() => (500..504).contains(&code),
        Verb::Transfer => ![200, 227, 229, 230].contains(&code),
        Verb::Abort => may_answer_abor(code),
        Verb::Login => ![331, 332].contains(&code),
        Verb::Auth => code != 234,
        Verb::Reinitialize => !(200..300).contains(&code),
        _ => true,
    }
}
