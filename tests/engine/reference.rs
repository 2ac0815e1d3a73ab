//! What an editor of whole lines would make of a conversation: slow, simple, and nothing of the engine's in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::router::Site;

/// What the other end must read in place of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The line as it is.
    Same(Vec<u8>),
    /// Another address, and a port that the pinhole to `to` has.
    Rewritten { line: String, before: String, address: String, to: SocketAddr, after: String },
    /// The line as it is; or, if it was cut inside the address, one that its reader refuses: what stands before and
    /// behind the address is left as it is.
    Refused { line: String, before: String, after: String },
}

/// Who listens: the end's own address, and the one under which the other knows it.
#[derive(Debug, Clone, Copy)]
struct Listener {
    own: IpAddr,
    public: IpAddr,
}

/// A command of somebody who is logged in.
pub fn command(line: &[u8], site: &Site) -> Want {
    let listener = Listener { own: site.client.ip(), public: site.public.ip() };
    let Ok(text) = std::str::from_utf8(line) else { return Want::Same(line.to_vec()) };
    let argument = text.find(' ').unwrap_or(0);
    let verb = text[..argument].to_ascii_uppercase();
    let start = argument + text[argument..].len() - text[argument..].trim_start_matches(' ').len();
    match (verb.as_str(), text.as_bytes().get(start)) {
        ("PORT", Some(b'0'..=b'9')) => {
            let end = start + length_of(&text[start..], |c| c.is_ascii_digit() || c == ',');
            let is_over = text[end..].trim().is_empty();
            judge(text, start, end, is_over, comma(&text[start..end]), listener)
        }
        ("EPRT", Some(b'|')) if text[start..].starts_with("|1|") => {
            let start = start + 3;
            let Some((address, rest)) = text[start..].split_once('|') else {
                return Want::Same(line.to_vec());
            };
            let end = start + address.len() + 1 + length_of(rest, |c| c.is_ascii_digit());
            let is_over = text[end..].trim_end() == "|";
            let port = decimal(&text[start + address.len() + 1..end]);
            let announced = address.parse::<IpAddr>().ok().zip(port);
            judge(text, start, end, is_over, announced, listener)
        }
        _ => Want::Same(line.to_vec()),
    }
}

/// The line of a reply that answers PASV.
pub fn passive(line: &[u8], site: &Site) -> Want {
    let listener = Listener { own: site.server.ip(), public: site.dialled.ip() };
    let Ok(text) = std::str::from_utf8(line) else { return Want::Same(line.to_vec()) };
    let Some(start) = text.get(4..).and_then(|rest| rest.find(|c: char| c.is_ascii_digit())) else {
        return Want::Same(line.to_vec());
    };
    let start = start + 4;
    let end = start + length_of(&text[start..], |c| c.is_ascii_digit() || c == ',');
    let announced = comma(&text[start..end]).map(|(address, port)| match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (listener.own, port),
        other => (other, port),
    });
    judge(text, start, end, true, announced, listener)
}

fn judge(
    text: &str,
    start: usize,
    end: usize,
    is_over: bool,
    announced: Option<(IpAddr, u16)>,
    listener: Listener,
) -> Want {
    let (before, after) = (text[..start].to_owned(), text[end..].to_owned());
    let refused = Want::Refused { line: text.to_owned(), before: before.clone(), after: after.clone() };
    let Some((address, port)) = announced.filter(|_| is_over) else { return refused };
    if port < 1024 || address != listener.own && address != listener.public {
        return refused;
    }
    let to = SocketAddr::new(listener.own, port);
    if listener.own == listener.public {
        return Want::Same(text.as_bytes().to_vec());
    }
    let address = if text.contains('|') {
        listener.public.to_string()
    } else {
        listener.public.to_string().replace('.', ",")
    };
    Want::Rewritten { line: text.to_owned(), before, address, to, after }
}

impl Want {
    /// The line may also go as it is: the kernel would not take what it asks for.
    pub fn or_same(self) -> Self {
        match self {
            Self::Rewritten { line, before, after, .. } => Self::Refused { line, before, after },
            want => want,
        }
    }

    /// Whether `read` is what is wanted; of a rewritten line, its port and what that must lead to.
    pub fn check(&self, read: &[u8]) -> Result<Option<(u16, SocketAddr)>, String> {
        let wrong = || Err(format!("want {self:?}, read \"{}\"", read.escape_ascii()));
        match self {
            Self::Same(line) => {
                if line == read {
                    Ok(None)
                } else {
                    wrong()
                }
            }
            Self::Refused { line, before, after } => {
                let read = String::from_utf8_lossy(read);
                if read == *line || read.starts_with(before) && read.ends_with(after) {
                    Ok(None)
                } else {
                    wrong()
                }
            }
            Self::Rewritten { before, address, to, after, .. } => {
                let read_text = String::from_utf8_lossy(read);
                let port = read_text
                    .strip_prefix(before.as_str())
                    .and_then(|rest| rest.strip_suffix(after.as_str()))
                    .and_then(|rest| rest.strip_prefix(address.as_str()))
                    .and_then(|rest| rest.split_at_checked(1));
                let port = match port {
                    Some((",", pair)) => comma(&format!("0,0,0,0,{pair}")).map(|(_, port)| port),
                    Some(("|", port)) => decimal(port),
                    _ => None,
                };
                port.map_or_else(wrong, |port| Ok(Some((port, *to))))
            }
        }
    }
}

fn length_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn comma(text: &str) -> Option<(IpAddr, u16)> {
    let numbers: Vec<u8> = text
        .split(',')
        .map(|part| part.parse::<u8>().ok().filter(|number| number.to_string() == part))
        .collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some((IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low])))
}

fn decimal(text: &str) -> Option<u16> {
    text.parse::<u16>().ok().filter(|number| number.to_string() == text)
}
