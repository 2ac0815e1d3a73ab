//! What the journal has of the daemon's log.

use anyhow::{Result, ensure};

use super::machine::journal;
use super::{Router, property};
use crate::harness::Plan;

#[test]
#[ignore = "needs a machine of its own that systemd has booted: scripts/test-in-vm"]
fn lines_have_their_priority_and_their_session() -> Result<()> {
    let router = Router::start(Plan::ShortInside)?;
    let mut session = router.shifted()?;
    // In small letters, because nobody translates it.
    session.step("say eprt |1|10.0.0.2|99999|")?;
    session.quit()?;
    let this_run = format!("_SYSTEMD_INVOCATION_ID={}", property("InvocationID")?);
    let lines = |of: &str, priority: &str| {
        journal(&["--output", "cat", &this_run, of, &format!("PRIORITY={priority}")])
    };
    let (infos, warnings) = (lines("FTPALG_SESSION=1", "6")?, lines("FTPALG_SESSION=1", "4")?);
    ensure!(infos.starts_with("session from ") && infos.contains("logged in session=1\n"), "{infos}");
    ensure!(warnings.lines().count() == 1 && warnings.contains("eprt |1|10.0.0.2|99999|"), "{warnings}");
    let all = lines("SYSLOG_IDENTIFIER=ftpalg", "6")?;
    ensure!(all.lines().any(|line| line.starts_with("ready: ")), "{all}");
    router.finish([])
}
