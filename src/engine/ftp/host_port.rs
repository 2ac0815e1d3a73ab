//! The four ways in which FTP writes an address and a port, and the bytes of a line that hold them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

/// How an address is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Notation {
    /// `h1,h2,h3,h4,p1,p2` (RFC 959, section 4.1.2): PORT and 227.
    Commas,
    /// `address<d>port` inside `<d>family<d>…<d>` (RFC 2428, section 2): EPRT.
    Delimited {
        /// The delimiter, usually `|`.
        delimiter: u8,
        /// The family that the command names.
        family: Family,
    },
    /// `port` alone, inside `(<d><d><d>…<d>)` (RFC 2428, section 3): 229.
    PortAlone {
        /// The delimiter, usually `|`.
        delimiter: u8,
    },
}

/// Address family numbers of RFC 2428, section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Family {
    /// 1
    V4,
    /// 2
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Longest text that can be an address and a port: an IPv6 address of 39 characters, a delimiter, five digits,
/// with room to spare. Longer ones are no addresses.
pub const MAX_TEXT: usize = 64;

/// What stands in a 227 that names a port alone, as vsftpd's over IPv6 do: clients that send PASV there connect to where the
/// control connection leads. Servers that do not know their own address say so over IPv4, too.
pub const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a text names: `address` is missing where the notation has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The address, for notations that hold one.
    pub address: Option<IpAddr>,
    /// The port, 0 to 65535.
    pub port: u16,
}

/// Where in a line the text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Offset of the text's first byte.
    pub start: usize,
    /// How it is written.
    pub notation: Notation,
}

impl Spot {
    /// The bytes of the line that belong to the text so far. It is over when the line goes on behind it.
    pub fn extent(&self, line: &[u8]) -> Range<usize> {
        let text = line.get(self.start..).unwrap_or_default();
        let length = (0..text.len())
            .find(|&at| text.get(at).is_none_or(|&byte| !self.notation.continues(&text[..at], byte)))
            .unwrap_or(text.len());
        self.start..self.start + length
    }
}

impl Notation {
    /// Whether `byte` still belongs to a text that begins with `text`.
    pub fn continues(self, text: &[u8], byte: u8) -> bool {
        if text.len() >= MAX_TEXT {
            return false;
        }
        match self {
            Self::Commas => byte.is_ascii_digit() || byte == b',',
            Self::PortAlone { .. } => byte.is_ascii_digit(),
            Self::Delimited { delimiter, .. } => {
                byte.is_ascii_graphic() && !(byte == delimiter && text.contains(&delimiter))
            }
        }
    }

    /// Reads a whole text. Numbers are decimal, without signs, spaces or leading zeros: what readers disagree
    /// about is no address.
    pub fn read(self, text: &[u8]) -> Option<HostPort> {
        match self {
            Self::Commas => {
                let mut numbers = [0_u8; 6];
                let mut parts = text.split(|&byte| byte == b',');
                for number in &mut numbers {
                    *number = u8::try_from(decimal(parts.next()?)?).ok()?;
                }
                let [h1, h2, h3, h4, p1, p2] = numbers;
                let address = Some(IpAddr::V4(Ipv4Addr::new(h1, h2, h3, h4)));
                parts.next().is_none().then_some(HostPort { address, port: u16::from_be_bytes([p1, p2]) })
            }
            Self::Delimited { delimiter, family } => {
                let (address, port) = text.split_at(text.iter().position(|&byte| byte == delimiter)?);
                let address: IpAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
                let port = decimal(port.get(1..)?)?;
                (Family::of(address) == family).then_some(HostPort { address: Some(address), port })
            }
            Self::PortAlone { .. } => Some(HostPort { address: None, port: decimal(text)? }),
        }
    }

    /// Writes a text. Commas have no room for an IPv6 address, and name none then.
    pub fn write(self, target: SocketAddr) -> Vec<u8> {
        let port = target.port();
        match (self, target.ip()) {
            (Self::Commas, IpAddr::V4(address)) => {
                let ([h1, h2, h3, h4], [p1, p2]) = (address.octets(), port.to_be_bytes());
                format!("{h1},{h2},{h3},{h4},{p1},{p2}").into_bytes()
            }
            (Self::Delimited { delimiter, .. }, address) => {
                format!("{address}{}{port}", char::from(delimiter)).into_bytes()
            }
            (Self::Commas, IpAddr::V6(_)) => self.write(SocketAddr::new(UNSPECIFIED, port)),
            (Self::PortAlone { .. }, _) => port.to_string().into_bytes(),
        }
    }

    /// Whether a text that begins so can become one that names `address`, or is one already.
    pub fn may_name(self, address: IpAddr, text: &[u8]) -> bool {
        let host = match (self, address) {
            (Self::PortAlone { .. }, _) => return true,
            (Self::Commas, IpAddr::V4(address)) => {
                let [h1, h2, h3, h4] = address.octets();
                format!("{h1},{h2},{h3},{h4},")
            }
            (Self::Delimited { delimiter, family: Family::V4 }, IpAddr::V4(address)) => {
                format!("{address}{}", char::from(delimiter))
            }
            // The same IPv6 address has many spellings.
            (Self::Delimited { family: Family::V6, .. }, IpAddr::V6(_)) => return true,
            _ => return false,
        };
        text.starts_with(host.as_bytes()) || host.as_bytes().starts_with(text)
    }

    /// What makes a finished text invalid when it is put behind it.
    pub fn spoiler(self) -> &'static [u8] {
        match self {
            Self::Commas => b",refused",
            Self::Delimited { .. } | Self::PortAlone { .. } => b"refused",
        }
    }
}

/// A decimal number of one to five digits, without leading zeros.
fn decimal(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 || digits.len() > 1 && digits.starts_with(b"0") {
        return None;
    }
    let mut value = 0_u32;
    for digit in digits {
        value = value * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    u16::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPRT: Notation = Notation::Delimited { delimiter: b'|', family: Family::V4 };
    const EPRT6: Notation = Notation::Delimited { delimiter: b'|', family: Family::V6 };

    fn read(notation: Notation, text: &str) -> Option<String> {
        let found = notation.read(text.as_bytes())?;
        Some(format!("{:?} {}", found.address.map(|a| a.to_string()), found.port))
    }

    #[test]
    fn reads_what_it_writes() {
        for (notation, target) in [
            (Notation::Commas, "203.0.113.5:65535"),
            (Notation::Commas, "10.0.0.1:256"),
            (EPRT, "192.0.2.1:1024"),
            (EPRT6, "[2001:db8::1]:2121"),
        ] {
            let target: SocketAddr = target.parse().unwrap();
            let text = notation.write(target);
            let expected = HostPort { address: Some(target.ip()), port: target.port() };
            assert_eq!(notation.read(&text), Some(expected));
        }
    }

    #[test]
    fn what_readers_disagree_about_is_no_address() {
        for text in [
            "",
            "1,2,3,4,5",
            "1,2,3,4,5,6,7",
            "1,2,3,4,5,256",
            "256,2,3,4,5,6",
            "01,2,3,4,5,6",
            "+1,2,3,4,5,6",
            "1, 2,3,4,5,6",
            "1,2,3,4,,6",
            "1,2,3,4,5,6,",
            "-1,2,3,4,5,6",
            "1.2.3.4,5,6",
            "1,2,3,4,0x5,6",
            "1,2,3,4,5,00006",
        ] {
            assert_eq!(Notation::Commas.read(text.as_bytes()), None, "{text}");
        }
        for text in [
            "1.2.3.4|65536",
            "1.2.3.4|",
            "1.2.3.4",
            "1.2.3|5000",
            "01.2.3.4|5000",
            "1.2.3.4|05000",
            "::1|5000",
            "1.2.3.4|+500",
        ] {
            assert_eq!(EPRT.read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(EPRT6.read(b"1.2.3.4|5000"), None);
        assert_eq!(read(EPRT6, "::1|5000").as_deref(), Some(r#"Some("::1") 5000"#));
    }

    #[test]
    fn a_text_ends_where_something_else_begins() {
        let spot = Spot { start: 5, notation: Notation::Commas };
        assert_eq!(spot.extent(b"PORT 1,2,3"), 5..10);
        assert_eq!(spot.extent(b"PORT 1,2,3\r\n"), 5..10);
        let spot = Spot { start: 8, notation: EPRT };
        assert_eq!(spot.extent(b"EPRT |1|1.2.3.4|99|\r\n"), 8..18);
        assert_eq!(spot.extent(b"EPRT |1|1.2"), 8..11);
        assert_eq!(spot.extent(&[b'1'; 200]), 8..8 + MAX_TEXT);
    }

    #[test]
    fn a_spoiled_text_is_refused_by_readers() {
        for notation in [Notation::Commas, EPRT, Notation::PortAlone { delimiter: b'|' }] {
            let mut text = notation.write("192.0.2.1:5000".parse().unwrap());
            text.extend_from_slice(notation.spoiler());
            assert_eq!(notation.read(&text), None);
        }
    }
}
