//! Where client, routers and server stand, and which addresses they have.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, Result};
use netlab::{Disorder, Host, Lab, Lan, Link, Tunnel, Wire};

use super::firewall::Firewall;

/// Who stands where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// client – router that masquerades – server
    Masquerade,
    /// client – router that gives control one of its several WAN addresses, other traffic another – server
    SnatPool,
    /// client – router that forwards its control port – server
    Dnat,
    /// client – router that masquerades – router that forwards its control port – server
    BothNat,
    /// client – stateful firewall – server
    Firewall,
    /// The same over IPv6.
    Firewall6,
    /// client – router that masquerades IPv6 – server
    Masquerade6,
    /// client – router that forwards its control port over IPv6 – server
    Dnat6,
    /// client – bridge that is a stateful firewall (br_netfilter) – server
    Bridge,
    /// client – router and server in one
    ServerOnRouter,
    /// client and router in one – server
    ClientOnRouter,
    /// client and server in one LAN; the client dials the router's WAN address
    Hairpin,
    /// client – router – gateway – server; policy routing leads control from the router to the gateway through a
    /// tunnel, other traffic beside it
    Tunnel,
    /// The same over IPv6; the tunnel itself is IPv4's.
    Tunnel6,
}

impl Topology {
    /// All of them.
    pub const ALL: [Topology; 14] = [
        Topology::Masquerade,
        Topology::SnatPool,
        Topology::Dnat,
        Topology::BothNat,
        Topology::Firewall,
        Topology::Firewall6,
        Topology::Masquerade6,
        Topology::Dnat6,
        Topology::Bridge,
        Topology::ServerOnRouter,
        Topology::ClientOnRouter,
        Topology::Hairpin,
        Topology::Tunnel,
        Topology::Tunnel6,
    ];

    /// Whether client and server talk over IPv6, where there are EPRT and EPSV alone (RFC 2428).
    pub fn is_over_ipv6(self) -> bool {
        matches!(self, Topology::Firewall6 | Topology::Masquerade6 | Topology::Dnat6 | Topology::Tunnel6)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topology::Masquerade => "client behind masquerade",
            Topology::SnatPool => "client behind SNAT to one of several addresses",
            Topology::Dnat => "server behind DNAT",
            Topology::BothNat => "both behind NAT, two routers",
            Topology::Firewall => "stateful firewall, no NAT",
            Topology::Firewall6 => "stateful firewall, IPv6",
            Topology::Masquerade6 => "client behind masquerade, IPv6",
            Topology::Dnat6 => "server behind DNAT, IPv6",
            Topology::Bridge => "stateful firewall on a bridge",
            Topology::ServerOnRouter => "server on the router",
            Topology::ClientOnRouter => "client on the router",
            Topology::Hairpin => "hairpin",
            Topology::Tunnel => "control led into a tunnel by its mark",
            Topology::Tunnel6 => "control led into a tunnel by its mark, IPv6",
        })
    }
}

/// The lengths of the addresses' texts, which decide whether edits grow or shrink the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// Short addresses inside, long ones outside: PORT grows on its way out, 227 on its way in.
    ShortInside,
    /// Long addresses inside, short ones outside: both shrink.
    LongInside,
}

impl Plan {
    /// An address inside; 1 is the router.
    fn inside(self, host: u8) -> String {
        match self {
            Plan::ShortInside => format!("10.0.0.{host}"),
            Plan::LongInside => format!("192.168.100.{}", 199 + host),
        }
    }

    /// An address outside.
    fn outside(self, host: u8) -> String {
        match self {
            Plan::ShortInside => format!("198.51.100.{}", 199 + host),
            Plan::LongInside => format!("1.2.3.{host}"),
        }
    }

    /// An address inside the second router.
    fn far_inside(self, host: u8) -> String {
        match self {
            Plan::ShortInside => format!("10.0.1.{host}"),
            Plan::LongInside => format!("192.168.200.{}", 199 + host),
        }
    }
}

/// Hosts, linked and addressed, with the rulesets that belong on the routers.
#[derive(Debug)]
pub struct Layout {
    /// All hosts.
    pub hosts: Vec<Host>,
    /// The client's place in `hosts`.
    pub client: usize,
    /// The server's place in `hosts`.
    pub server: usize,
    /// The routers' places in `hosts`, and their rulesets.
    pub routers: Vec<(usize, Firewall)>,
    /// The address that the client dials.
    pub dialled: IpAddr,
    /// The address that the server knows the client by.
    pub seen: IpAddr,
    /// The links, the client's first.
    pub links: Vec<((usize, usize), Link)>,
    switches: Vec<Lan>,
    /// The bad wires among the links.
    pub wires: Vec<Wire>,
    disorder: Option<Disorder>,
    router_is_this_machine: bool,
}

impl Layout {
    /// Builds a topology; `disorder` puts bad wires between the hosts; `tunnel` is the kind where there is one.
    pub fn new(
        lab: &Lab,
        topology: Topology,
        plan: Plan,
        ports: &[u16],
        disorder: Option<Disorder>,
        tunnel: Tunnel,
        router_is_this_machine: bool,
    ) -> Result<Layout> {
        let unset = IpAddr::from([0, 0, 0, 0]);
        let mut layout = Layout {
            hosts: vec![],
            client: 0,
            server: 0,
            routers: vec![],
            dialled: unset,
            seen: unset,
            links: vec![],
            switches: vec![],
            wires: vec![],
            disorder,
            router_is_this_machine,
        };
        match topology {
            Topology::Masquerade => layout.masquerade(lab, plan),
            Topology::SnatPool => layout.snat_pool(lab, plan, ports),
            Topology::Dnat => layout.dnat(lab, plan, ports),
            Topology::BothNat => layout.both_nat(lab, plan, ports),
            Topology::Firewall => layout.firewall(
                lab,
                [&plan.inside(2), &plan.inside(1)],
                [&plan.outside(1), &plan.outside(2)],
                24,
            ),
            Topology::Firewall6 => {
                layout.firewall(lab, ["fd00:1::2", "fd00:1::1"], ["fd00:2::1", "fd00:2::2"], 64)
            }
            Topology::Masquerade6 => layout.masquerade6(lab),
            Topology::Dnat6 => layout.dnat6(lab, ports),
            Topology::Bridge => layout.bridge(lab, plan),
            Topology::ServerOnRouter => layout.server_on_router(lab, plan),
            Topology::ClientOnRouter => layout.client_on_router(lab, plan),
            Topology::Hairpin => layout.hairpin(lab, plan, ports),
            Topology::Tunnel => layout.tunnel(lab, plan, ports, tunnel),
            Topology::Tunnel6 => layout.tunnel6(lab, ports),
        }
        .with_context(|| format!("building the topology: {topology}"))?;
        Ok(layout)
    }

    /// The interfaces of all links, with their hosts.
    pub fn interfaces(&self) -> impl Iterator<Item = (&Host, &str)> {
        self.links.iter().flat_map(|((a, b), link)| {
            [(&self.hosts[*a], link.a.as_str()), (&self.hosts[*b], link.b.as_str())]
        })
    }

    fn masquerade(&mut self, lab: &Lab, plan: Plan) -> Result<()> {
        let link = self.client_router_server(lab, plan)?;
        let postrouting = format!("oifname \"{link}\" masquerade");
        self.routers.push((1, Firewall { control_in: vec!["forward"], postrouting, ..Firewall::default() }));
        self.ends(&plan.outside(2), &plan.outside(1))
    }

    fn snat_pool(&mut self, lab: &Lab, plan: Plan, ports: &[u16]) -> Result<()> {
        let link = self.client_router_server(lab, plan)?;
        for address in [3, 4] {
            self.hosts[1].ip(&format!("address add {}/24 dev {link}", plan.outside(address)))?;
        }
        let postrouting = format!(
            "oifname \"{link}\" tcp dport {{ {} }} snat ip to {}
            oifname \"{link}\" snat ip to {}",
            list(ports),
            plan.outside(3),
            plan.outside(4)
        );
        self.routers.push((1, Firewall { control_in: vec!["forward"], postrouting, ..Firewall::default() }));
        self.ends(&plan.outside(2), &plan.outside(3))
    }

    fn dnat(&mut self, lab: &Lab, plan: Plan, ports: &[u16]) -> Result<()> {
        self.add(lab, &["client", "router", "server"])?;
        let outside = self.connect(lab, (0, Some(&plan.outside(2))), (1, Some(&plan.outside(1))), 24)?;
        self.connect(lab, (1, Some(&plan.inside(1))), (2, Some(&plan.inside(2))), 24)?;
        self.hosts[2].route(&format!("default via {}", plan.inside(1)))?;
        let prerouting = format!(
            "iifname \"{}\" tcp dport {{ {} }} dnat ip to {}",
            outside.b,
            list(ports),
            plan.inside(2)
        );
        self.server = 2;
        self.routers.push((1, Firewall { control_in: vec!["forward"], prerouting, ..Firewall::default() }));
        self.ends(&plan.outside(1), &plan.outside(2))
    }

    fn both_nat(&mut self, lab: &Lab, plan: Plan, ports: &[u16]) -> Result<()> {
        self.add(lab, &["client", "router", "far-router", "server"])?;
        self.connect(lab, (0, Some(&plan.inside(2))), (1, Some(&plan.inside(1))), 24)?;
        let outside = self.connect(lab, (1, Some(&plan.outside(1))), (2, Some(&plan.outside(2))), 24)?;
        self.connect(lab, (2, Some(&plan.far_inside(1))), (3, Some(&plan.far_inside(2))), 24)?;
        self.hosts[0].route(&format!("default via {}", plan.inside(1)))?;
        self.hosts[3].route(&format!("default via {}", plan.far_inside(1)))?;
        let postrouting = format!("oifname \"{}\" masquerade", outside.a);
        let prerouting = format!(
            "iifname \"{}\" tcp dport {{ {} }} dnat ip to {}",
            outside.b,
            list(ports),
            plan.far_inside(2)
        );
        self.server = 3;
        let control_in = vec!["forward"];
        self.routers
            .push((1, Firewall { control_in: control_in.clone(), postrouting, ..Firewall::default() }));
        self.routers.push((2, Firewall { control_in, prerouting, ..Firewall::default() }));
        self.ends(&plan.outside(2), &plan.outside(1))
    }

    fn firewall(
        &mut self,
        lab: &Lab,
        [client, near]: [&str; 2],
        [far, server]: [&str; 2],
        prefix: u8,
    ) -> Result<()> {
        self.add(lab, &["client", "router", "server"])?;
        self.connect(lab, (0, Some(client)), (1, Some(near)), prefix)?;
        self.connect(lab, (1, Some(far)), (2, Some(server)), prefix)?;
        self.hosts[0].route(&format!("default via {near}"))?;
        self.hosts[2].route(&format!("default via {far}"))?;
        self.server = 2;
        self.routers.push((1, Firewall { control_in: vec!["forward"], ..Firewall::default() }));
        self.ends(server, client)
    }

    fn masquerade6(&mut self, lab: &Lab) -> Result<()> {
        self.add(lab, &["client", "router", "server"])?;
        self.connect(lab, (0, Some("fd00:1::2")), (1, Some("fd00:1::1")), 64)?;
        let outside = self.connect(lab, (1, Some("2001:db8:0:2::1")), (2, Some("2001:db8:0:2::2")), 64)?;
        self.hosts[0].route("default via fd00:1::1")?;
        self.server = 2;
        let postrouting = format!("oifname \"{}\" masquerade", outside.a);
        self.routers.push((1, Firewall { control_in: vec!["forward"], postrouting, ..Firewall::default() }));
        self.ends("2001:db8:0:2::2", "2001:db8:0:2::1")
    }

    fn dnat6(&mut self, lab: &Lab, ports: &[u16]) -> Result<()> {
        self.add(lab, &["client", "router", "server"])?;
        let outside = self.connect(lab, (0, Some("2001:db8:0:2::2")), (1, Some("2001:db8:0:2::1")), 64)?;
        self.connect(lab, (1, Some("fd00:1::1")), (2, Some("fd00:1::2")), 64)?;
        self.hosts[2].route("default via fd00:1::1")?;
        let prerouting =
            format!("iifname \"{}\" tcp dport {{ {} }} dnat ip6 to fd00:1::2", outside.b, list(ports));
        self.server = 2;
        self.routers.push((1, Firewall { control_in: vec!["forward"], prerouting, ..Firewall::default() }));
        self.ends("2001:db8:0:2::1", "2001:db8:0:2::2")
    }

    fn bridge(&mut self, lab: &Lab, plan: Plan) -> Result<()> {
        self.add(lab, &["client", "router", "server"])?;
        let near = self.connect(lab, (0, Some(&plan.inside(2))), (1, None), 24)?;
        let far = self.connect(lab, (1, None), (2, Some(&plan.inside(3))), 24)?;
        self.hosts[1].filter_on_bridges()?;
        self.hosts[1].ip("link add bridge type bridge")?;
        for port in [&near.b, &far.a] {
            self.hosts[1].ip(&format!("link set {port} master bridge"))?;
        }
        self.hosts[1].ip("link set bridge up")?;
        self.server = 2;
        self.routers.push((1, Firewall { control_in: vec!["forward"], ..Firewall::default() }));
        self.ends(&plan.inside(3), &plan.inside(2))
    }

    fn server_on_router(&mut self, lab: &Lab, plan: Plan) -> Result<()> {
        self.add(lab, &["client", "router"])?;
        self.connect(lab, (0, Some(&plan.outside(2))), (1, Some(&plan.outside(1))), 24)?;
        self.server = 1;
        self.routers.push((1, Firewall { control_in: vec!["input"], ..Firewall::default() }));
        self.ends(&plan.outside(1), &plan.outside(2))
    }

    fn client_on_router(&mut self, lab: &Lab, plan: Plan) -> Result<()> {
        self.add(lab, &["router", "server"])?;
        self.connect(lab, (0, Some(&plan.outside(1))), (1, Some(&plan.outside(2))), 24)?;
        self.server = 1;
        self.routers.push((0, Firewall { control_in: vec!["output"], ..Firewall::default() }));
        self.ends(&plan.outside(2), &plan.outside(1))
    }

    fn hairpin(&mut self, lab: &Lab, plan: Plan, ports: &[u16]) -> Result<()> {
        self.add(lab, &["client", "router", "server", "provider"])?;
        let inside = |host| format!("{}/24", plan.inside(host));
        let [router, client, server] = [inside(1), inside(2), inside(3)];
        let members: [(&Host, &[&str]); 3] = [
            (&self.hosts[0], &[client.as_str()]),
            (&self.hosts[1], &[router.as_str()]),
            (&self.hosts[2], &[server.as_str()]),
        ];
        self.switches.push(lab.lan("lan", &members)?);
        self.connect(lab, (1, Some(&plan.outside(1))), (3, Some(&plan.outside(2))), 24)?;
        for end in [0, 2] {
            self.hosts[end].route(&format!("default via {}", plan.inside(1)))?;
        }
        let wan = plan.outside(1);
        let prerouting =
            format!("ip daddr {wan} tcp dport {{ {} }} dnat ip to {}", list(ports), plan.inside(3));
        let postrouting = String::from("iifname \"lan\" oifname \"lan\" masquerade");
        self.server = 2;
        self.routers.push((
            1,
            Firewall { control_in: vec!["forward"], prerouting, postrouting, ..Firewall::default() },
        ));
        self.ends(&wan, &plan.inside(1))
    }

    fn tunnel(&mut self, lab: &Lab, plan: Plan, ports: &[u16], kind: Tunnel) -> Result<()> {
        self.add(lab, &["client", "router", "gateway", "server"])?;
        let near = self.connect(lab, (0, Some(&plan.inside(2))), (1, Some(&plan.inside(1))), 24)?;
        let bare = self.connect(lab, (1, Some(&plan.outside(1))), (2, Some(&plan.outside(2))), 24)?;
        self.connect(lab, (2, Some(&plan.far_inside(1))), (3, Some(&plan.far_inside(2))), 24)?;
        lab.tunnel(
            kind,
            "tunnel",
            (&self.hosts[1], &plan.outside(1), &["172.20.0.1/24"]),
            (&self.hosts[2], &plan.outside(2), &["172.20.0.2/24"]),
        )?;
        self.hosts[0].route(&format!("default via {}", plan.inside(1)))?;
        self.hosts[1].route(&format!("default via {}", plan.outside(2)))?;
        self.hosts[1].route("default via 172.20.0.2 table 100")?;
        // Without a mask: a mark with any other bit in it does not lead there.
        self.hosts[1].ip("rule add pref 200 fwmark 0x1 lookup 100")?;
        // The tunnel's own packets keep the mark of what they carry.
        self.hosts[1].ip(&format!("rule add pref 100 to {} lookup main", plan.outside(2)))?;
        self.hosts[2].forwarding(true)?;
        self.hosts[3].route(&format!("default via {}", plan.far_inside(1)))?;
        let mangle = format!(
            "tcp dport {{ {} }} ct state new ct mark set 0x1
            iifname \"{}\" meta mark set ct mark",
            list(ports),
            near.b
        );
        let postrouting = format!("oifname {{ \"tunnel\", \"{}\" }} masquerade", bare.a);
        self.server = 3;
        self.routers.push((
            1,
            Firewall {
                control_in: vec!["forward"],
                postrouting,
                mangle,
                input: match kind {
                    Tunnel::Vxlan => String::from("udp dport 4789 accept"),
                    Tunnel::Ipip => String::from("ip protocol 4 accept"),
                    Tunnel::Gre => String::from("ip protocol 47 accept"),
                    Tunnel::WireGuard => String::from("udp dport 51820 accept"),
                    Tunnel::Xfrm | Tunnel::Vti => String::from("ip protocol esp accept"),
                },
                ..Firewall::default()
            },
        ));
        self.ends(&plan.far_inside(2), "172.20.0.1")
    }

    fn tunnel6(&mut self, lab: &Lab, ports: &[u16]) -> Result<()> {
        self.add(lab, &["client", "router", "gateway", "server"])?;
        let near = self.connect(lab, (0, Some("fd00:1::2")), (1, Some("fd00:1::1")), 64)?;
        let bare = self.connect(lab, (1, Some("2001:db8:0:2::1")), (2, Some("2001:db8:0:2::2")), 64)?;
        self.connect(lab, (2, Some("2001:db8:0:3::1")), (3, Some("2001:db8:0:3::2")), 64)?;
        for (host, address, interface) in
            [(1, "198.51.100.1", bare.a.as_str()), (2, "198.51.100.2", bare.b.as_str())]
        {
            self.hosts[host].ip(&format!("address add {address}/24 dev {interface}"))?;
        }
        lab.tunnel(
            Tunnel::Vxlan,
            "tunnel",
            (&self.hosts[1], "198.51.100.1", &["2001:db8:0:4::1/64"]),
            (&self.hosts[2], "198.51.100.2", &["2001:db8:0:4::2/64"]),
        )?;
        self.hosts[0].route("default via fd00:1::1")?;
        self.hosts[1].route("default via 2001:db8:0:2::2")?;
        self.hosts[1].route("default via 2001:db8:0:4::2 table 100")?;
        self.hosts[1].ip("-6 rule add pref 200 fwmark 0x1 lookup 100")?;
        self.hosts[2].forwarding(true)?;
        self.hosts[3].route("default via 2001:db8:0:3::1")?;
        let mangle = format!(
            "tcp dport {{ {} }} ct state new ct mark set 0x1
            iifname \"{}\" meta mark set ct mark",
            list(ports),
            near.b
        );
        self.server = 3;
        self.routers.push((
            1,
            Firewall {
                control_in: vec!["forward"],
                postrouting: format!("oifname {{ \"tunnel\", \"{}\" }} masquerade", bare.a),
                mangle,
                input: String::from("udp dport 4789 accept"),
                ..Firewall::default()
            },
        ));
        self.ends("2001:db8:0:3::2", "2001:db8:0:4::1")
    }

    /// Three hosts in a row, the server outside; gives the name of the router's outer interface.
    fn client_router_server(&mut self, lab: &Lab, plan: Plan) -> Result<String> {
        self.add(lab, &["client", "router", "server"])?;
        self.connect(lab, (0, Some(&plan.inside(2))), (1, Some(&plan.inside(1))), 24)?;
        let outside = self.connect(lab, (1, Some(&plan.outside(1))), (2, Some(&plan.outside(2))), 24)?;
        self.hosts[0].route(&format!("default via {}", plan.inside(1)))?;
        self.server = 2;
        Ok(outside.a)
    }

    fn add(&mut self, lab: &Lab, names: &[&str]) -> Result<()> {
        for name in names {
            let is_this_machine = self.router_is_this_machine && *name == "router";
            self.hosts.push(if is_this_machine { lab.this_machine(name)? } else { lab.host(name)? });
        }
        Ok(())
    }

    /// Connects two hosts by a link, or by a bad wire where there is to be disorder. Routers among themselves get
    /// good links, so that what a session loses does not depend on how many there are.
    fn connect(
        &mut self,
        lab: &Lab,
        (a, a_address): (usize, Option<&str>),
        (b, b_address): (usize, Option<&str>),
        prefix: u8,
    ) -> Result<Link> {
        let [a_addresses, b_addresses] =
            [a_address, b_address].map(|address| address.map(|address| format!("{address}/{prefix}")));
        let [a_addresses, b_addresses] = [&a_addresses, &b_addresses]
            .map(|address| address.iter().map(String::as_str).collect::<Vec<_>>());
        let (a_host, b_host) = (&self.hosts[a], &self.hosts[b]);
        let between_routers = [a_host, b_host].iter().all(|host| host.name().ends_with("router"));
        let link = match self.disorder {
            Some(disorder) if !between_routers => {
                let name = format!("wire{}", self.wires.len());
                let wire = lab.wire(&name, (a_host, &a_addresses), (b_host, &b_addresses), disorder)?;
                let link = wire.link.clone();
                self.wires.push(wire);
                link
            }
            _ => lab.link(a_host, &a_addresses, b_host, &b_addresses)?,
        };
        self.links.push(((a, b), link.clone()));
        Ok(link)
    }

    /// What client and server know each other by.
    fn ends(&mut self, dialled: &str, seen: &str) -> Result<()> {
        self.dialled = dialled.parse()?;
        self.seen = seen.parse()?;
        Ok(())
    }
}

/// Ports as nftables lists them.
fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
