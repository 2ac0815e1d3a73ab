//! NAT, which a capture does not tell of: which addresses a control connection has on either side of the router.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ftpalg::engine::control::{ClientView, ControlTuple};
use ipnet::IpNet;

/// A side of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Side {
    /// Where the client is.
    Client,
    /// Where the server is.
    Server,
}

/// `INSIDE=PUBLIC`: who is known by another address on the router's other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    inside: IpNet,
    public: IpAddr,
}

/// Why a rule can't be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected INSIDE=PUBLIC, both IPv4 or both IPv6, as in 192.168.1.10=203.0.113.7 or 192.168.1.0/24=203.0.113.7"
)]
pub struct BadRule;

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let (inside, public) = text.split_once('=').ok_or(BadRule)?;
        let inside =
            inside.parse().or_else(|_| inside.parse::<IpAddr>().map(IpNet::from)).map_err(|_| BadRule)?;
        let public: IpAddr = public.parse().map_err(|_| BadRule)?;
        (inside.addr().is_ipv4() == public.is_ipv4()).then_some(Rule { inside, public }).ok_or(BadRule)
    }
}

impl Rule {
    /// Private addresses (RFC 1918, RFC 4193) are seen as this one.
    pub fn wan(public: IpAddr) -> Vec<Rule> {
        const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        let networks = PRIVATE.iter().filter_map(|text| text.parse::<IpNet>().ok());
        networks
            .filter(|inside| inside.addr().is_ipv4() == public.is_ipv4())
            .map(|inside| Rule { inside, public })
            .collect()
    }

    /// The only address inside, if there is one.
    fn host(&self) -> Option<IpAddr> {
        (self.inside.prefix_len() == self.inside.max_prefix_len()).then(|| self.inside.addr())
    }
}

/// Both sides' addresses of a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Views {
    /// On the client's side: its own address, and the one that it dialled.
    pub inner: ControlTuple,
    /// On the server's side.
    pub outer: ControlTuple,
}

impl Views {
    /// The same on both sides.
    pub fn same(tuple: ControlTuple) -> Self {
        Self { inner: tuple, outer: tuple }
    }

    /// The addresses on a side.
    pub fn on(&self, side: Side) -> ControlTuple {
        match side {
            Side::Client => self.inner,
            Side::Server => self.outer,
        }
    }

    /// What conntrack would tell the engine.
    pub fn client_view(&self) -> ClientView {
        ClientView { client: self.inner.client.ip(), dialled: self.inner.server.ip(), mark: 0 }
    }

    /// The side whose lines are rewritten: the server's, if it knows the client by another address.
    pub fn edited_side(&self) -> Side {
        let is_dnat_alone = self.inner.client.ip() == self.outer.client.ip()
            && self.inner.server.ip() != self.outer.server.ip();
        if is_dnat_alone { Side::Client } else { Side::Server }
    }

    /// The side whose packets are as their senders sent them, whether an ALG was at work or not: lines that are
    /// rewritten come from there.
    pub fn original_side(&self) -> Side {
        match self.edited_side() {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// How NAT is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The capture has both sides.
    Capture,
    /// Options say so.
    Options,
    /// It is not: there may be none.
    Nothing,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capture => "both sides of the NAT are in the capture",
            Self::Options => "NAT as the options say",
            Self::Nothing => "no NAT is known of: nothing is rewritten",
        })
    }
}

/// Where a captured connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub views: Views,
    /// The side that its packets were captured on.
    pub side: Side,
    pub source: Source,
}

impl Standing {
    /// By the options; an address that stands for a network does not tell who is behind it.
    pub fn by_rules(rules: &[Rule], captured: ControlTuple) -> Result<Standing, IpAddr> {
        let with = |end: SocketAddr, address| SocketAddr::new(address, end.port());
        let (client, server) = (captured.client.ip(), captured.server.ip());
        let mut views = Views::same(captured);
        let mut side = None;
        if let Some(rule) =
            rules.iter().find(|rule| rule.inside.contains(&client) && !rule.inside.contains(&server))
        {
            views.outer.client = with(captured.client, rule.public);
            side = Some(Side::Client);
        } else if let Some(rule) = rules.iter().find(|rule| rule.public == client) {
            let host = rules.iter().filter(|rule| rule.public == client).find_map(Rule::host);
            views.inner.client = with(captured.client, host.ok_or(rule.public)?);
            side = Some(Side::Server);
        }
        let is_on = |other| side.is_none_or(|side| side == other);
        let hosts = rules.iter().filter_map(|rule| Some((rule.host()?, rule.public)));
        for (host, public) in hosts {
            if server == public && is_on(Side::Client) {
                views.outer.server = with(captured.server, host);
                side = Some(Side::Client);
                break;
            }
            if server == host && is_on(Side::Server) {
                views.inner.server = with(captured.server, public);
                side = Some(Side::Server);
                break;
            }
        }
        Ok(match side {
            Some(side) => Standing { views, side, source: Source::Options },
            None => Standing { views, side: Side::Server, source: Source::Nothing },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(client: &str, server: &str) -> ControlTuple {
        ControlTuple { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    #[track_caller]
    fn stands(rules: &[&str], captured: [&str; 2], side: Side, [inner, outer]: [[&str; 2]; 2]) {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let standing = Standing::by_rules(&rules, tuple(captured[0], captured[1])).unwrap();
        assert_eq!(standing.side, side);
        assert_eq!(standing.views.inner, tuple(inner[0], inner[1]));
        assert_eq!(standing.views.outer, tuple(outer[0], outer[1]));
    }

    #[test]
    fn either_side_of_a_masquerading_router_is_told_from_the_other() {
        let inner = ["10.0.0.2:40000", "192.0.2.9:21"];
        let outer = ["203.0.113.7:40000", "192.0.2.9:21"];
        stands(&["10.0.0.2=203.0.113.7"], inner, Side::Client, [inner, outer]);
        stands(&["10.0.0.0/24=203.0.113.7"], inner, Side::Client, [inner, outer]);
        stands(&["10.0.0.2=203.0.113.7"], outer, Side::Server, [inner, outer]);
        let network = ["10.0.0.0/24=203.0.113.7".parse().unwrap()];
        assert_eq!(
            Standing::by_rules(&network, tuple(outer[0], outer[1])),
            Err("203.0.113.7".parse().unwrap())
        );
    }

    #[test]
    fn either_side_of_a_port_forwarding_is_told_from_the_other() {
        let inner = ["198.51.100.5:40000", "203.0.113.7:21"];
        let outer = ["198.51.100.5:40000", "10.0.0.2:21"];
        stands(&["10.0.0.2=203.0.113.7"], inner, Side::Client, [inner, outer]);
        stands(&["10.0.0.2=203.0.113.7"], outer, Side::Server, [inner, outer]);
        // A hairpin: the client is inside, too.
        stands(
            &["10.0.0.3=203.0.113.7", "10.0.0.2=10.0.0.1"],
            ["10.0.0.2:4", "203.0.113.7:21"],
            Side::Client,
            [["10.0.0.2:4", "203.0.113.7:21"], ["10.0.0.1:4", "10.0.0.3:21"]],
        );
    }

    #[test]
    fn within_a_lan_there_is_no_nat() {
        let wan = Rule::wan("203.0.113.7".parse().unwrap());
        let standing = Standing::by_rules(&wan, tuple("10.0.0.2:4", "10.0.0.9:21")).unwrap();
        assert_eq!(standing.source, Source::Nothing);
        let standing = Standing::by_rules(&wan, tuple("10.0.0.2:4", "192.0.2.9:21")).unwrap();
        assert_eq!(standing.views.outer.client, "203.0.113.7:4".parse().unwrap());
    }

    #[test]
    fn rules_that_say_nothing_are_refused() {
        for text in ["10.0.0.2", "10.0.0.2=", "10.0.0.2=fd00::1", "lan=203.0.113.7", "10.0.0.0/33=1.2.3.4"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
