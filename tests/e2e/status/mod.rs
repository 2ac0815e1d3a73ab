//! `ftpalg status`: what it says of real sessions, and that nobody who asks does harm.

mod clients;
mod sessions;
mod watch;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use netlab::Output;
use serde_json::Value;

use crate::harness::Net;

/// Runs `ftpalg status` on the router.
fn status(net: &Net, args: &[&str]) -> Result<Output> {
    let daemon = &net.daemons[0];
    let config = daemon.config.display().to_string();
    let program = daemon.program.display().to_string();
    net.router().run(&program, ["status", "--config", &config].iter().chain(args))
}

/// The document.
pub fn document(net: &Net) -> Result<Value> {
    let output = status(net, &["--json"])?.success()?;
    let document: Value = serde_json::from_str(&output.stdout)?;
    ensure!(document["version"] == 1, "{document}");
    Ok(document)
}

/// The only session.
fn session(net: &Net) -> Result<Value> {
    let document = document(net)?;
    let sessions = document["sessions"].as_array().context("no list")?;
    ensure!(sessions.len() == 1, "{document:#}");
    Ok(sessions[0].clone())
}

/// Checks members of an object.
#[track_caller]
fn says(object: &Value, members: &[(&str, Value)]) {
    for (name, value) in members {
        let found = name.split('.').fold(object, |object, name| &object[name]);
        assert_eq!(found, value, "{name} in {object:#}");
    }
}

/// How a program ended, and what it wrote.
fn ran(command: &mut Command) -> Result<(Option<i32>, String)> {
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}
