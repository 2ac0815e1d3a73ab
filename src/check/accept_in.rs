//! Where ftpalg's rule stands in the ruleset.

use super::packet::Kind;
use super::ruleset::{Chain, Ruleset};
use super::walk::Walk;
use crate::config::{ChainName, Config};

/// The chain that Docker leaves to the administrator.
const DOCKERS_USER_CHAIN: &str = "DOCKER-USER";

/// The chain of `accept-in` in which ftpalg's rule lets data connections through another: that one, or one that it hands
/// everything on to first.
pub fn covering<'a>(config: &Config, ruleset: &'a Ruleset, chain: &'a Chain) -> Option<&'a Chain> {
    let is_meant = |name: &&ChainName| **name == chain.name || is_first(config, ruleset, chain, name);
    ruleset.chain(config.accept_in.iter().find(is_meant)?)
}

/// The chain in which the rule for another belongs. Docker puts its own rules on top whenever it starts, but leaves one
/// chain that comes before them to the administrator.
pub fn place<'a>(config: &Config, ruleset: &'a Ruleset, chain: &'a Chain) -> &'a ChainName {
    let name = ChainName { chain: DOCKERS_USER_CHAIN.to_owned(), ..chain.name.clone() };
    let theirs = ruleset.chain(&name).filter(|theirs| is_first(config, ruleset, chain, &theirs.name));
    theirs.map_or(&chain.name, |theirs| &theirs.name)
}

fn is_first(config: &Config, ruleset: &Ruleset, chain: &Chain, name: &ChainName) -> bool {
    Walk { ruleset, kind: Kind::new_data(config.mark, true) }.hands_on(chain, name)
}
