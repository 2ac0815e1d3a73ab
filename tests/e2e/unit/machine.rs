//! This machine: its services, its journal, and the hosts on either side of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Net, Plan, Server, ServerKind, Setup, Topology};
use crate::life::{Session, Wiretap};

/// Where `make install` puts it.
pub const PROGRAM: &str = "/usr/local/sbin/ftpalg";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nft-rules/examples/router.nft");
pub const CONFIG: &str = "/etc/ftpalg/ftpalg.toml";
const SHIPPED_CONFIG: &str = "/usr/local/share/doc/ftpalg/systemd/ftpalg.toml";
/// A drop-in of the tests' own, beside the one that scripts/test-in-vm puts there.
const DROP_IN: &str = "/run/systemd/system/ftpalg.service.d/test.conf";
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a program to its end; what it wrote to standard output. Standard error goes into the error.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("cannot start {program}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{program} {args:?} ended with {}: {}{}",
        output.status,
        text(&output.stderr),
        text(&output.stdout)
    );
    Ok(text(&output.stdout))
}

/// Runs `systemctl`; `args` is split at white space.
pub fn systemctl(args: &str) -> Result<String> {
    let args = args.split_whitespace().collect::<Vec<_>>();
    run("systemctl", &args).with_context(|| journal(&["-n", "30"]).unwrap_or_default())
}

/// A property of the unit, as `systemctl show` has it.
pub fn property(name: &str) -> Result<String> {
    Ok(systemctl(&format!("show --value --property {name} ftpalg"))?.trim().to_owned())
}

/// The unit's part of the journal, with everything that it has been given.
pub fn journal(args: &[&str]) -> Result<String> {
    run("journalctl", &["--sync"])?;
    let unit = ["--no-pager", "--boot", "--unit", "ftpalg"];
    run("journalctl", &[&unit[..], args].concat())
}

/// Waits until something is so. Everything is slow here.
pub fn wait_until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < LIMIT, "still not: {what}; {}", journal(&["-n", "30"])?);
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The whole ruleset.
pub fn ruleset() -> Result<String> {
    run("nft", &["list", "ruleset"])
}

/// Adds these lines to the unit's `[Service]` section until the next test begins.
pub fn override_service(lines: &str) -> Result<()> {
    let directory = Path::new(DROP_IN).parent().context("no directory")?;
    fs::create_dir_all(directory)?;
    fs::write(DROP_IN, format!("[Service]\n{lines}\n"))?;
    systemctl("daemon-reload").map(drop)
}

/// The configuration that is installed, with these settings in place of its own.
pub fn configure(settings: &[(&str, &str)]) -> Result<()> {
    let shipped = fs::read_to_string(SHIPPED_CONFIG)?;
    let lines = shipped.lines().map(|line| {
        let setting = settings.iter().find(|(key, _)| line.starts_with(&format!("{key} =")));
        setting.map_or_else(|| line.to_owned(), |(key, value)| format!("{key} = {value}"))
    });
    fs::write(CONFIG, lines.collect::<Vec<_>>().join("\n"))?;
    Ok(())
}

/// The machine as after its installation: configured as the example ruleset says, nothing running.
pub fn reset() -> Result<()> {
    systemctl("stop ftpalg")?;
    if Path::new(DROP_IN).exists() {
        fs::remove_file(DROP_IN)?;
        systemctl("daemon-reload")?;
    }
    systemctl("reset-failed")?;
    configure(&[("accept-in", "[\"inet filter forward\"]")])
}

/// This machine as a router, with the unit active and hosts on either side.
pub struct Router {
    pub net: Net,
    pub server: Server,
    wiretap: Wiretap,
    restarts: u32,
}

impl Router {
    /// Loads the example ruleset, starts the unit and a server outside.
    pub fn start(plan: Plan) -> Result<Router> {
        reset()?;
        Router::at_work(plan)
    }

    /// The same with the unit as it is installed and configured.
    pub fn at_work(plan: Plan) -> Result<Router> {
        write_ruleset(plan)?;
        systemctl("restart nftables")?;
        systemctl("start ftpalg")?;
        ensure!(property("ActiveState")? == "active", "not active");
        // Links go a little later than the hosts that they led to.
        wait_until("the last test's links are gone", || {
            let links = run("ip", &["-o", "link"])?;
            Ok(!links.contains(": client@") && !links.contains(": server@"))
        })?;
        let net = Setup::new(Topology::Masquerade).plan(plan).router_is_this_machine().build()?;
        let server = net.serve(ServerKind::Vsftpd)?;
        let wiretap = Wiretap::start(&net)?;
        Ok(Router { net, server, wiretap, restarts: 0 })
    }

    /// A session that has been edited in either mode.
    pub fn shifted(&self) -> Result<Session> {
        let mut session = Session::open(&self.net, &self.server)?;
        session.fetch_in_all_modes()?;
        Ok(session)
    }

    /// Makes systemd start the daemon anew, and waits for that.
    pub fn replaced(&mut self, what: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = property("MainPID")?;
        what()?;
        wait_until("there is a new daemon", || {
            let now = property("MainPID")?;
            Ok(now != "0" && now != before && property("SubState")? == "running")
        })
    }

    /// The same, where systemd does it by itself (`Restart=`).
    pub fn restarted(&mut self, what: impl FnOnce() -> Result<()>) -> Result<()> {
        self.replaced(what)?;
        self.restarts += 1;
        Ok(())
    }

    /// The same, where the administrator does it: systemd begins to count anew.
    pub fn restarts_are_counted_anew(&mut self, what: impl FnOnce() -> Result<()>) -> Result<()> {
        self.replaced(what)?;
        self.restarts = 0;
        Ok(())
    }

    /// Ends the sessions and checks all that passed: that no byte was wrong, that no packet was INVALID, and that
    /// the daemon ended as often as it was ended.
    pub fn finish(self, sessions: impl IntoIterator<Item = Session>) -> Result<()> {
        for session in sessions {
            session.quit()?;
        }
        let restarts = property("NRestarts")?;
        ensure!(
            restarts == self.restarts.to_string(),
            "restarted {restarts} times: {}",
            journal(&["-n", "50"])?
        );
        let rules = ruleset()?;
        for rule in rules.lines().filter(|line| line.contains("ct state invalid")) {
            ensure!(rule.contains("packets 0 "), "{rule}");
        }
        self.wiretap.check(&self.net)?;
        self.net.finish()
    }
}

/// /etc/nftables.conf: the example, with this machine's names and addresses.
fn write_ruleset(plan: Plan) -> Result<()> {
    let lan = match plan {
        Plan::ShortInside => "10.0.0.0/24",
        Plan::LongInside => "192.168.100.0/24",
    };
    let mut text = fs::read_to_string(EXAMPLE)?;
    for (from, to) in [
        ("define wan = \"eth0\"", "define wan = \"server\"".to_owned()),
        ("define lan = \"eth1\"", "define lan = \"client\"".to_owned()),
        ("define lan4 = 192.168.1.0/24", format!("define lan4 = {lan}")),
    ] {
        ensure!(text.contains(from), "{EXAMPLE} has no line {from}");
        text = text.replace(from, &to);
    }
    fs::write("/etc/nftables.conf", text)?;
    Ok(())
}
