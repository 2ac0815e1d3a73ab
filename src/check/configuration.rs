//! The configuration file.

use std::path::Path;

use super::finding::{Finding, Id, Mend};
use crate::config::{Config, ConfigError, DEFAULT_PATH};

/// Reads it. Without one that can be used there is no configuration, and nothing that depends on it can be looked at.
pub fn read(named: Option<&Path>) -> (Option<Config>, Vec<Finding>) {
    let file = file(named);
    match Config::load(named) {
        Ok(config) => {
            let what = if Path::new(&file).exists() {
                format!("{file} can be used")
            } else {
                format!("there is no {file}: every key has its default")
            };
            (Some(config), vec![Finding::right(Id::Configuration, what)])
        }
        Err(ConfigError::Invalid { path, problems }) => {
            let path = path.display();
            let found = problems.iter().map(|problem| {
                let mend = Mend::advice(format!("change line {} of {path}", problem.at.line));
                Finding::wrong(Id::ConfigurationInvalid, format!("{path}:{problem}"), mend)
            });
            (None, found.collect())
        }
        Err(error @ ConfigError::Unreadable { .. }) => {
            let mend = Mend::advice("name a file that can be read with --config");
            (None, vec![Finding::wrong(Id::ConfigurationInvalid, error.to_string(), mend)])
        }
    }
}

/// The configuration file's path, for people.
pub fn file(named: Option<&Path>) -> String {
    named.unwrap_or(Path::new(DEFAULT_PATH)).display().to_string()
}
