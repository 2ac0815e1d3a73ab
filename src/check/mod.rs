//! `ftpalg check`: reads the configuration, the kernel and the live ruleset, and says what is right and what is not, each
//! with its mend. It changes nothing and opens no queue; docs/check.md explains every finding.

mod accept_in;
mod again;
mod configuration;
mod control;
mod daemon;
mod finding;
mod firewall;
mod flowtable;
mod helper;
mod kernel;
mod mark;
mod memo;
mod mss;
mod packet;
mod page;
mod proc;
mod routing;
mod ruleset;
mod state;
mod table;
mod tracking;
mod walk;
mod ways;
mod xtables;

use std::io;
use std::path::Path;

use crate::cli::exit;
use crate::config::Config;
use crate::netfilter::{FirewallError, Listing, ListingError};
use daemon::Reader;
use finding::{Finding, Id, Mark, Mend};
use firewall::Firewall;
use page::Looks;
use ruleset::{Chain, Ruleset};

/// Looks at everything and prints what it finds. Returns the exit code.
pub fn run(config: Option<&Path>, is_json: bool) -> u8 {
    let findings = examine(config);
    let code = exit_code(&findings);
    let mut out = io::stdout().lock();
    let written = if is_json {
        page::write_json(&mut out, code, &findings)
    } else {
        page::write(&mut out, Looks::of_stdout(), &findings)
    };
    // Whoever reads it may have read enough.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => exit::FAILURE,
        _ => code,
    }
}

/// The worst counts; a configuration that can't be used and rights that are missing come before all else, because they
/// leave the rest unseen.
fn exit_code(findings: &[Finding]) -> u8 {
    let has = |id: Id| findings.iter().any(|finding| finding.id == id);
    if has(Id::ConfigurationInvalid) {
        return exit::BAD_CONFIGURATION;
    }
    if has(Id::RightsMissing) {
        return exit::NO_PERMISSION;
    }
    match findings.iter().map(|finding| finding.mark).max() {
        Some(Mark::Wrong) => exit::FAILURE,
        Some(Mark::Warning | Mark::Unseen) => exit::WARNINGS,
        Some(Mark::Right) | None => exit::OK,
    }
}

fn examine(path: Option<&Path>) -> Vec<Finding> {
    let file = configuration::file(path);
    let (config, mut findings) = configuration::read(path);
    let (is_allowed, rights) = kernel::rights();
    findings.push(rights);
    match (&config, is_allowed) {
        (Some(config), true) => findings.extend(all(config, &file)),
        (Some(config), false) => {
            findings.extend(for_everybody(config));
            findings
                .push(unseen("the kernel's parts, the daemon, its table, the firewall", "sudo ftpalg check"));
        }
        (None, true) => {
            findings.extend(kernel::look(&Config::default()).1);
            findings.push(unseen_without_configuration());
        }
        (None, false) => findings.push(unseen_without_configuration()),
    }
    findings
}

/// What can be looked at with all rights.
fn all(config: &Config, file: &str) -> Vec<Finding> {
    let (trial, mut findings) = kernel::look(config);
    let (reader, found) = daemon::look(config, file);
    findings.extend(found);
    let ruled = Listing::open().and_then(|mut listing| {
        match (&reader, &trial) {
            // Its table is that of the configuration with which it was started.
            (Reader::OfOthers(_), _) => {}
            (Reader::Nobody, _) => findings.extend(table::left(&mut listing)?),
            (_, Some(trial)) => findings.extend(table::look(&mut listing, trial)?),
            (_, None) => findings.push(unseen("whether the daemon's table is whole", "sudo ftpalg check")),
        }
        let daemon_runs = reader != Reader::Nobody;
        let has_rules = |(_, found): &(Ruleset, Vec<Finding>)| {
            found.iter().all(|finding| finding.id != Id::AcceptRuleMissing)
        };
        let (ruleset, found) = again::until(has_rules, || {
            let ruleset = read(&mut listing)?;
            let found = Firewall { config, file, ruleset: &ruleset, daemon_runs }.look();
            Ok::<_, ListingError>((ruleset, found))
        })?;
        findings.extend(found);
        findings.extend(firewall::legacy());
        findings.extend(helper::look(config, &ruleset));
        findings.extend(tracking::exempted(config, &ruleset));
        findings.extend(flowtable::look(config, &ruleset, &mut listing)?);
        findings.extend(mss::look(config, &ruleset, &mut listing)?);
        findings.extend(routing::forwarding(config, &ruleset));
        findings.extend(mark::look(config, file, &ruleset));
        Ok(())
    });
    match ruled {
        Ok(()) => {}
        Err(ListingError::Firewall(FirewallError::Crash(crash))) => findings.push(kernel::crash(&crash)),
        Err(error) => findings.push(unseen(&format!("the firewall ({error})"), "nft -j list ruleset")),
    }
    findings.push(state::directory(config, file, reader.daemon()));
    findings.push(routing::reverse_path());
    findings.extend(helper::automatic(config));
    findings.extend(tracking::has_room());
    findings
}

/// What everybody can look at.
fn for_everybody(config: &Config) -> Vec<Finding> {
    let mut findings = vec![routing::reverse_path()];
    findings.extend(helper::automatic(config));
    findings.extend(tracking::has_room());
    findings
}

/// The ruleset, with those sets and maps that its rules look into. Others may be large.
fn read(listing: &mut Listing) -> Result<Ruleset, ListingError> {
    let listings = listing.ruleset()?;
    let unreadable = |error: serde_json::Error| ListingError::List {
        what: "ruleset".to_owned(),
        error: error.to_string(),
    };
    let mut ruleset = Ruleset::parse(&listings).map_err(unreadable)?;
    ruleset.owned = listing.owned_tables()?;
    let is_foreign = |chain: &&mut Chain| chain.rules.iter().any(|rule| xtables::is_foreign(&rule.expr));
    for chain in ruleset.chains.iter_mut().filter(is_foreign) {
        // Rules that have gone meanwhile stay as they were.
        let texts = listing.rules(&chain.name).unwrap_or_default();
        for rule in &mut chain.rules {
            if let Some(text) = texts.get(&rule.handle) {
                xtables::translate(&mut rule.expr, text);
            }
        }
    }
    for place in ruleset.sets_referred_to() {
        let (family, table, name) = &place;
        let set = listing.set(family, table, name).or_else(|_| listing.map(family, table, name));
        // One that has gone meanwhile stays unknown.
        if let Ok(text) = set {
            ruleset.sets.insert(place, ruleset::elements(&text));
        }
    }
    Ok(ruleset)
}

fn unseen(what: &str, command: &str) -> Finding {
    Finding::unseen(Id::NotLookedAt, format!("not looked at: {what}"), Mend::command(command))
}

fn unseen_without_configuration() -> Finding {
    let mend = Mend::advice("mend the configuration first");
    Finding::unseen(Id::NotLookedAt, "not looked at: whatever depends on the configuration", mend)
}
