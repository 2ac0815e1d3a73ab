//! What the journal has of the daemon's log.

use anyhow::{Result, ensure};

use super::Router;
use super::machine::{journal, run};
use crate::harness::Plan;

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn lines_have_their_priority_and_their_session() -> Result<()> {
    let cursor = run("journalctl", &["--no-pager", "--lines", "0", "--show-cursor"])?;
    let cursor = cursor.lines().filter_map(|line| line.strip_prefix("-- cursor: ")).collect::<String>();
    let after = format!("--after-cursor={cursor}");
    let router = Router::start(Plan::ShortInside)?;
    let mut session = router.shifted()?;
    // In small letters, because nobody translates it.
    session.step("say eprt |1|10.0.0.2|99999|")?;
    session.quit()?;
    let of_session = |priority: &str| {
        journal(&[&after, "--output", "cat", "FTPALG_SESSION=1", &format!("PRIORITY={priority}")])
    };
    let (infos, warnings) = (of_session("6")?, of_session("4")?);
    ensure!(infos.contains("logged in session=1\n") && infos.contains("active data port open: "), "{infos}");
    ensure!(warnings.lines().count() == 1 && warnings.contains("eprt |1|10.0.0.2|99999|"), "{warnings}");
    let all = journal(&[&after, "--output", "cat", "SYSLOG_IDENTIFIER=ftpalg", "PRIORITY=6"])?;
    ensure!(all.lines().any(|line| line.starts_with("ready: ")), "{all}");
    router.finish([])
}
