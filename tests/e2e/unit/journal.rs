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
    let (infos, warnings) = (lines("FTP_SESSION=1", "6")?, lines("FTP_SESSION=1", "4")?);
    ensure!(infos.starts_with("session from ") && infos.contains("logged in client="), "{infos}");
    ensure!(warnings.lines().count() == 1 && warnings.contains("eprt |1|10.0.0.2|99999|"), "{warnings}");
    // The client in front of NAT, the server, and why: each finds the line by itself.
    let client = format!("FTP_CLIENT={}", "10.0.0.2");
    let server = format!("FTP_SERVER={}", router.net.layout.dialled);
    for field in [client.as_str(), server.as_str(), "FTP_REASON=unreadable"] {
        ensure!(lines(field, "4")? == warnings, "{field}: {}", lines(field, "4")?);
    }
    ensure!(lines("FTP_CLIENT=10.0.0.3", "4")?.is_empty(), "of a client that there is not");
    ensure!(lines(&client, "6")? == infos, "{}", lines(&client, "6")?);
    let all = lines("SYSLOG_IDENTIFIER=ftpalg", "6")?;
    ensure!(all.lines().any(|line| line.starts_with("ready: ")), "{all}");
    router.finish([])
}
