//! `ftpalg check`: each finding is provoked on a router of its own, and goes away when the very mend that it prints is
//! carried out.

mod daemon;
mod firewall;
mod flowtable;
mod rights;
mod router;
mod routing;
mod rulesets;
mod state;

use anyhow::{Context, Result, ensure};

use crate::harness::{Client, Mode, STANDARD, ServerKind, Setup, Topology};
pub use router::Report;
use router::{Router, report_of};

/// A forward chain as an office has it, and its accept-in.
const RULESET: &str = "table inet filter {
    chain forward { type filter hook forward priority filter; policy drop;
        ct state established,related accept
        tcp dport 21 ct state new accept
    }
}";
const FORWARD: &str = r#"accept-in = ["inet filter forward"]"#;

/// Each example, with the accept-in that it asks for: nothing but what is right.
#[test]
fn the_examples_are_all_right() -> Result<()> {
    for name in ["router.nft", "server-behind-nat.nft", "firewall.nft", "host.nft"] {
        let path = format!("{}/nft-rules/examples/{name}", env!("CARGO_MANIFEST_DIR"));
        let ruleset = std::fs::read_to_string(path)?;
        let accept_in = ruleset.lines().find_map(|line| line.strip_prefix("#   accept-in = "));
        let accept_in = accept_in.with_context(|| format!("{name} does not say what accept-in it wants"))?;
        let mut router = Router::new(&ruleset, &format!("accept-in = {accept_in}"))?;
        router.start()?;
        router.is_all_right().with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Looks while sessions go on: nothing of theirs is disturbed.
#[test]
fn it_disturbs_no_session() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let config = net.daemons[0].config.clone();
    std::thread::scope(|scope| -> Result<()> {
        let looks = scope.spawn(|| (0..6).map(|_| report_of(net.router(), &[], &config)).collect::<Vec<_>>());
        for (client, mode) in [(Client::Curl, Mode::Port), (Client::Lftp, Mode::Epsv)] {
            net.session(client, mode, &server, &STANDARD)?;
        }
        for report in looks.join().map_err(|_| anyhow::anyhow!("a look has panicked"))? {
            let report = report?;
            // The lab's directory may be on a disk.
            let others: Vec<_> =
                report.not_right().filter(|finding| finding.id != "state-dir-on-disk").collect();
            ensure!(others.is_empty(), "{others:#?}");
        }
        Ok(())
    })?;
    let log = net.daemons[0].log();
    ensure!(!log.contains("is back") && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
    net.finish()
}

#[test]
fn lines_for_people_name_the_command() -> Result<()> {
    let router = Router::new(RULESET, FORWARD)?;
    let output = router.run_check(&["env", "LC_ALL=C.UTF-8"], &[])?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    for text in ["✗ daemon", "# systemctl start ftpalg", "✓ mark", "1 keeps ftpalg from working"] {
        ensure!(output.stdout.contains(text), "no {text:?} in:\n{}", output.stdout);
    }
    let output = router.run_check(&["env", "LC_ALL=C"], &[])?;
    ensure!(output.stdout.is_ascii() && output.stdout.contains("x daemon"), "{}", output.stdout);
    Ok(())
}
