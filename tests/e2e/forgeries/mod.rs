//! Forged packets, floods and exhaustion: what hosts can do that keep to no protocol, judged by connections that are
//! really tried through the router, and by honest sessions that go on.
//!
//! The attacks are scripts (tests/e2e/peers/forge), because no real program makes them. Beside the net's own hosts there
//! are an outsider, on another WAN link of the router, and an insider, on another LAN; neither sees what the client and
//! the server say to each other.

mod floods;
mod offpath;
mod pinholes;
mod streams;

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netlab::Host;

use crate::harness::{Alg, Client, Mode, Net, STANDARD, Server, ServerKind, Setup, Topology};

/// How long a script may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The control port of the server that a real program runs, and of the one that scripts run by hand.
const PORTS: [u16; 2] = [21, 2121];

/// Ports of clients that scripts lead by hand (`End` in lab.py). No program gets one of them by chance.
const BY_HAND: &str = "20000-20999";

/// A net with attackers in it.
struct Arena {
    net: Net,
    server: Server,
    outsider: Host,
    insider: Host,
}

impl Arena {
    fn new(topology: Topology, settings: &'static str) -> Result<Arena> {
        let net = Setup::new(topology).alg(Alg::Ftpalg).ports(&PORTS).settings(settings).build()?;
        let server = net.serve(ServerKind::Vsftpd)?;
        let (outsider, insider) = (net.lab.host("outsider")?, net.lab.host("insider")?);
        net.lab.link(&outsider, &["203.0.113.2/24"], net.router(), &["203.0.113.1/24"])?;
        net.lab.link(&insider, &["10.0.9.2/24"], net.router(), &["10.0.9.1/24"])?;
        outsider.route("default via 203.0.113.1")?;
        insider.route("default via 10.0.9.1")?;
        // Kernels know nothing of connections that scripts lead by hand, and would reset them.
        for (host, ports) in [(net.client(), BY_HAND.to_owned()), (net.server(), PORTS[1].to_string())] {
            host.nft(&format!(
                "table inet by_hand {{
                    chain output {{ type filter hook output priority 0;
                        meta mark 7 accept
                        tcp sport {ports} tcp flags & rst == rst drop
                    }}
                }}"
            ))?;
        }
        // Behind the reassembly of fragments (-400), before the tap (-302).
        net.router().nft(
            "table inet witness {
                counter outside { }
                counter inside { }
                counter at_ends { }
                counter marked { }
                counter marked_behind { }
                chain prerouting { type filter hook prerouting priority -350;
                    iifname outsider counter name outside
                    iifname insider counter name inside
                    iifname { client, server } counter name at_ends
                }
                chain forward { type filter hook forward priority -4;
                    meta mark & 0x00200000 != 0 counter name marked
                }
                chain postrouting { type filter hook postrouting priority 400;
                    meta mark & 0x00200000 != 0 counter name marked_behind
                }
            }",
        )?;
        Ok(Arena { net, server, outsider, insider })
    }

    /// Runs a scenario of a script.
    fn run(&self, script: &str, scenario: &str) -> Result<()> {
        let net = &self.net;
        let host = |name: &str, host: &Host, address: &str, interface: &str| {
            let namespace = host.namespace();
            format!(
                "\"{name}\": {{\"namespace\": \"{namespace}\", \"address\": \"{address}\", \
                 \"interface\": \"{interface}\"}}, "
            )
        };
        let text = |address: &dyn ToString| address.to_string();
        let (first, last) = net.layout.links.first().zip(net.layout.links.last()).context("no links")?;
        let own = |host: &Host, interface: &str| -> Result<String> {
            let output = host.run("ip", ["-4", "-o", "address", "show", "dev", interface])?.success()?.stdout;
            let prefix = output.split_whitespace().nth(3).context("no address")?;
            Ok(prefix.split('/').next().unwrap_or_default().to_owned())
        };
        let (client_if, server_if) = (&first.1.a, &last.1.b);
        let mut lab = String::from("{");
        lab += &host("client", net.client(), &own(net.client(), client_if)?, client_if);
        lab += &host("server", net.server(), &own(net.server(), server_if)?, server_if);
        lab += &host("router", net.router(), "", "");
        lab += &host("outsider", &self.outsider, "203.0.113.2", "router");
        lab += &host("insider", &self.insider, "10.0.9.2", "router");
        write!(
            lab,
            "\"dialled\": \"{}\", \"seen\": \"{}\", \"ports\": {PORTS:?}, \"daemon\": {}, \"small\": \"{}\", \
             \"dir\": \"{}\"}}",
            text(&net.layout.dialled),
            text(&net.layout.seen),
            net.daemons[0].process.id(),
            net.files.join("small").display(),
            net.lab.dir().display()
        )?;
        let path = format!("{}/tests/e2e/peers/forge/{script}.py", env!("CARGO_MANIFEST_DIR"));
        // Outside of all hosts: the script enters them.
        let log = net.lab.dir().join(format!("{script}.{scenario}.log"));
        let limit = LIMIT * std::env::var("NETLAB_PATIENCE").ok().and_then(|f| f.parse().ok()).unwrap_or(1);
        let status = std::process::Command::new("timeout")
            .args(["-k", "1", &limit.as_secs().to_string(), "/usr/bin/python3", &path, scenario])
            .env("LAB", lab)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::OpenOptions::new().append(true).open(&log)?)
            .status()
            .context("cannot start python3")?;
        let said = std::fs::read_to_string(&log)?;
        ensure!(status.success() && said.ends_with("ok\n"), "{script} {scenario}: {status}\n{said}");
        Ok(())
    }

    /// A real session of the client, in both modes, works.
    fn honest_session(&self) -> Result<()> {
        self.net.session(Client::Curl, Mode::Port, &self.server, &STANDARD)?;
        self.net.session(Client::Curl, Mode::Pasv, &self.server, &STANDARD)
    }

    /// The end of a test: forged packets may be INVALID to conntrack, those of an honest session are not, no mark is
    /// left on anything, and neither end has had to do with strangers.
    fn finish(self) -> Result<()> {
        self.net.router().run("nft", ["reset", "counters", "table", "inet", "filter"])?.success()?;
        self.honest_session()?;
        ensure!(self.net.router().counter("inet witness marked_behind")? == 0, "a mark has left the router");
        self.net.finish()
    }
}
