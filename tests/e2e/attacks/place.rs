//! The addresses and ports of a case, and the texts that name them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a case's texts may name.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The listener's own address.
    pub own: IpAddr,
    /// The address under which the other end knows it.
    pub public: IpAddr,
    /// The other end's own address.
    pub far: IpAddr,
    /// The port in question.
    pub port: u16,
}

/// Between the port in question and another of the same session, `{other}`.
const TO_OTHER: u16 = 6000;

/// Another address in the same network, so many further on. The router is the one before, see harness/topology.rs.
pub fn neighbour(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            Ipv4Addr::new(a, b, c, d.wrapping_add_signed(by)).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits().wrapping_add_signed(i128::from(by))).into()
        }
    }
}

/// A third party in the listener's network.
pub fn third(own: IpAddr) -> IpAddr {
    neighbour(own, 7)
}

/// What stands for PORT, PASV and 227 where there is IPv6 (RFC 2428).
const OVER_IPV6: [(&str, &str); 8] = [
    ("PORT {own},{port}", "EPRT |2|{own.}|{n}|"),
    ("PORT {own},{other}", "EPRT |2|{own.}|{other n}|"),
    ("PASV", "EPSV"),
    ("227 ", "229 "),
    ("227-", "229-"),
    ("({own},{port})", "(|||{n}|)"),
    ("({own},{other})", "(|||{other n}|)"),
    ("NOOP {own}", "NOOP"),
];

impl Place {
    /// A text with PORT, PASV and 227 replaced, over IPv6.
    pub fn translate(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        if self.own.is_ipv6() {
            OVER_IPV6.iter().for_each(|(over_ipv4, over_ipv6)| replace(&mut text, over_ipv4, over_ipv6));
        }
        text
    }

    /// A text with its names replaced; `None` if it names what is not there: an IPv6 address with commas.
    pub fn fill(&self, text: &[u8], announced: bool) -> Option<Vec<u8>> {
        let listener = if announced { self.public } else { self.own };
        let mut text = text.to_vec();
        for (name, address) in [
            ("own", listener),
            ("third", third(self.own)),
            ("router", neighbour(self.own, -1)),
            ("far", self.far),
            ("far-third", third(self.far)),
        ] {
            replace(&mut text, &format!("{{{name}.}}"), &address.to_string());
            let commas = format!("{{{name}}}");
            match address {
                IpAddr::V4(address) => replace(&mut text, &commas, &address.to_string().replace('.', ",")),
                IpAddr::V6(_) if contains(&text, &commas) => return None,
                IpAddr::V6(_) => {}
            }
        }
        for (name, value) in self.numbers() {
            replace(&mut text, &format!("{{{name}}}"), &value);
        }
        Some(text)
    }

    fn numbers(&self) -> Vec<(&'static str, String)> {
        let (n, other) = (u128::from(self.port), self.port.wrapping_add(TO_OTHER));
        let [hi, lo] = self.port.to_be_bytes().map(u128::from);
        let [other_hi, other_lo] = other.to_be_bytes();
        let family = if self.own.is_ipv4() { ["1", "2"] } else { ["2", "1"] };
        let first = match self.own {
            IpAddr::V4(address) => u16::from(address.octets()[0]),
            IpAddr::V6(_) => 0,
        };
        let rest = self.own.to_string().split('.').skip(1).collect::<Vec<_>>().join(",");
        vec![
            ("port", format!("{hi},{lo}")),
            ("n", n.to_string()),
            ("hi", hi.to_string()),
            ("lo", lo.to_string()),
            ("hi+256", (hi + 256).to_string()),
            ("lo+256", (lo + 256).to_string()),
            ("hi+2^32", (hi + (1 << 32)).to_string()),
            ("lo+2^64", (lo + (1 << 64)).to_string()),
            ("lo-256", format!("-{}", 256 - lo)),
            ("n+65536", (n + 65536).to_string()),
            ("n+2^32", (n + (1 << 32)).to_string()),
            ("n+2^64", (n + (1 << 64)).to_string()),
            ("n-65536", format!("-{}", 65536 - n)),
            ("n in hex", format!("{n:x}")),
            ("hi in hex", format!("{hi:x}")),
            ("hi in octal", format!("0{hi:o}")),
            ("n in octal", format!("0{n:o}")),
            ("first+256", format!("{},{rest}", first + 256)),
            ("0first", format!("0{first},{rest}")),
            ("other", format!("{other_hi},{other_lo}")),
            ("other n", other.to_string()),
            ("af", family[0].to_owned()),
            ("other af", family[1].to_owned()),
        ]
    }
}

fn contains(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|window| window == what.as_bytes())
}

fn replace(text: &mut Vec<u8>, what: &str, with: &str) {
    while let Some(at) = text.windows(what.len()).position(|window| window == what.as_bytes()) {
        text.splice(at..at + what.len(), with.bytes());
    }
}
