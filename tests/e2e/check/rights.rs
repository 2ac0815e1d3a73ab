//! What it cannot look at it does not call right.

use std::fs;

use anyhow::{Result, ensure};

use super::router::{Report, Router, report_of};
use super::{FORWARD, RULESET};

#[test]
fn without_rights_it_says_what_it_has_not_seen() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    let report =
        report_of(&router.host, &["setpriv", "--bounding-set=-all", "--inh-caps=-all"], &router.config)?;
    ensure!(report.exit_code == 77, "{report:#?}");
    let unseen = report.find("not-looked-at")?;
    ensure!(unseen.mark == "unseen" && unseen.what.contains("firewall"), "{unseen:?}");
    let depends = ["chain", "table", "kernel", "daemon", "control", "mark"];
    ensure!(report.findings.iter().all(|finding| !depends.contains(&finding.id.as_str())), "{report:#?}");
    let mend = report.find("rights-missing")?.mend.clone();
    // sudo would run the same as root, which this is.
    ensure!(mend.as_ref().and_then(|mend| mend["command"].as_str()) == Some("sudo ftpalg check"), "{mend:?}");
    router.is_all_right()?;
    router.daemon()?.terminate(std::time::Duration::from_secs(10)).map(drop)
}

/// With the one right that the daemon needs, but not the one to try its table somewhere else.
#[test]
fn without_a_place_to_try_the_table_the_table_is_not_called_whole() -> Result<()> {
    let router = Router::running(RULESET, FORWARD)?;
    let net_admin = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all"];
    let report = report_of(&router.host, &net_admin, &router.config)?;
    ensure!(report.exit_code == 3 && report.find("not-looked-at")?.mark == "unseen", "{report:#?}");
    ensure!(report.findings.iter().all(|finding| !["table", "kernel"].contains(&finding.id.as_str())));
    ensure!(report.findings.iter().any(|finding| finding.id == "chain" && finding.mark == "right"));
    Ok(())
}

/// The whole list of what is wrong with the file, each with its place.
#[test]
fn configuration_errors_come_out_in_the_same_report() -> Result<()> {
    let router = Router::running(RULESET, FORWARD)?;
    let text = fs::read_to_string(&router.config)?;
    fs::write(&router.config, format!("queue = 70000\nquue = 1\n{text}"))?;
    let report = router.check()?;
    ensure!(report.exit_code == 78, "{report:#?}");
    let errors: Vec<_> = report.not_right().filter(|one| one.id == "configuration-invalid").collect();
    ensure!(
        errors.len() == 2 && errors[0].what.contains("ftpalg.toml:1:9: queue: found 70000"),
        "{errors:#?}"
    );
    ensure!(errors[1].what.contains("ftpalg.toml:2:1: quue"), "{errors:#?}");
    ensure!(report.find("not-looked-at")?.mark == "unseen");
    ensure!(report.findings.iter().any(|one| one.id == "kernel" && one.mark == "right"), "{report:#?}");
    // The mend: change these lines.
    fs::write(&router.config, text)?;
    router.is_all_right()?;
    let output = router.host.run(super::router::FTPALG, ["check", "--json", "--config", "/nowhere.toml"])?;
    let report = Report::of(output.status, &output.stdout)?;
    ensure!(report.exit_code == 78 && report.find("configuration-invalid")?.what.contains("no such file"));
    Ok(())
}
