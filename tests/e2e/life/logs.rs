//! What the log says of a session.

use anyhow::{Result, ensure};

use super::Session;
use crate::harness::{ServerKind, Setup, Topology};

#[test]
fn a_session_s_events_are_a_line_each_with_its_number() -> Result<()> {
    let net = Setup::new(Topology::Masquerade).build()?;
    let server = net.serve(ServerKind::Vsftpd)?;
    let mut session = Session::open(&net, &server)?;
    session.step("fetch PORT")?;
    session.step("fetch PASV")?;
    session.step("say PORT 10,0,0,9,200,1")?;
    session.step("say PORT 10,0,0,2,0,22")?;
    session.step("say EPRT |1|10.0.0.2|99999|")?;
    session.quit()?;
    super::wait_until("the end", || Ok(net.daemons[0].log().contains("ended")))?;
    let log = net.daemons[0].log();
    let lines = log.lines().filter(|line| line.ends_with("session=1")).collect::<Vec<_>>();
    let expected = [
        &["INFO session from 198.51.100.200:", " to 198.51.100.201:21"][..],
        &["INFO logged in"],
        &["INFO active data port open: 198.51.100.201 -> 198.51.100.200:", ", leads to 10.0.0.2:"],
        &["INFO passive data port open: 10.0.0.2 -> 198.51.100.201:"],
        &["WARN", "\"PORT 10,0,0,9,200,1\"", "policy.allow-third-party"],
        &["WARN", "\"PORT 10,0,0,2,0,22\"", "below 1024"],
        &["WARN", "\"EPRT |1|10.0.0.2|99999|\"", "not valid"],
        &["INFO ended"],
    ];
    ensure!(lines.len() == expected.len(), "{} lines in:\n{log}", lines.len());
    for (line, parts) in lines.iter().zip(expected) {
        ensure!(parts.iter().all(|part| line.contains(part)), "{parts:?} in: {line}");
    }
    net.finish()
}
