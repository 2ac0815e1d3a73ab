//! Connection tracking: whether it sees control connections, and whether it has room.

use super::finding::{Finding, Id, Mend};
use super::packet::{Kind, Truth};
use super::proc;
use super::ruleset::{Rule, Ruleset};
use super::walk::Walk;
use crate::config::Config;

/// From how many of a hundred on the connection tracking's table counts as nearly full.
const NEARLY_FULL: u64 = 90;

/// Priority of conntrack's own hooks (`NF_IP_PRI_CONNTRACK`): what stands behind them exempts nothing.
const TRACKED_AT: i64 = -200;

/// Whether a rule keeps control connections from it, in either direction.
pub fn exempted(config: &Config, ruleset: &Ruleset) -> Vec<Finding> {
    let kinds = config.control_ports.iter().flat_map(|port| Kind::control_both_ways(*port, config.mark));
    let kinds: Vec<_> = kinds.collect();
    let chains = ruleset.base_chains().filter(|(_, base)| {
        ["prerouting", "output"].contains(&base.hook.as_str()) && base.priority < TRACKED_AT
    });
    let exempts = |rule: &Rule| rule.expr.iter().any(|expression| expression.get("notrack").is_some());
    let mut exempting: Vec<(&Rule, Truth)> = Vec::new();
    for (chain, _) in chains {
        for kind in &kinds {
            for (rule, truth) in (Walk { ruleset, kind: *kind }).coming_to(chain, &exempts) {
                match exempting.iter_mut().find(|(known, _)| std::ptr::eq(*known, rule)) {
                    Some((_, known)) => *known = truth.max(*known),
                    None => exempting.push((rule, truth)),
                }
            }
        }
    }
    exempting.into_iter().map(|(rule, truth)| exempted_by(rule, truth)).collect()
}

fn exempted_by(rule: &Rule, concerns: Truth) -> Finding {
    let whose =
        if concerns == Truth::Yes { "control connections" } else { "control connections, or some of them," };
    let what = format!(
        "{rule} keeps {whose} from connection tracking (notrack): without it ftpalg can't follow them, and nothing \
         translates their addresses"
    );
    let mend = Mend::deletion(rule);
    match concerns {
        Truth::Yes => Finding::wrong(Id::ControlNotTracked, what, mend),
        _ => Finding::warning(Id::ControlNotTracked, what, mend),
    }
}

/// Whether it has room for more.
pub fn has_room() -> Option<Finding> {
    let count = proc::sysctl("net.netfilter.nf_conntrack_count")?;
    let most = proc::sysctl("net.netfilter.nf_conntrack_max")?;
    Some(room(count, most))
}

fn room(count: u64, most: u64) -> Finding {
    // 0 stands for no bound.
    if most == 0 || count * 100 < most * NEARLY_FULL {
        return Finding::right(Id::ConntrackRoom, format!("{count} of {most} connections are tracked"));
    }
    let what = format!("{count} of {most} connections are tracked: when none is left, new ones are dropped");
    // A bound that somebody has lowered can lie below the count.
    let mend = Mend::command(format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.max(count) * 2));
    Finding::warning(Id::ConntrackNearlyFull, what, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_are_nearly_full() {
        assert_eq!(room(89, 100).id, Id::ConntrackRoom);
        assert_eq!(room(7, 0).id, Id::ConntrackRoom);
        let full = room(90, 100);
        assert_eq!(full.id, Id::ConntrackNearlyFull);
        assert_eq!(full.mend, Some(Mend::command("sysctl -w net.netfilter.nf_conntrack_max=200")));
        let fuller = room(150, 100);
        assert_eq!(fuller.mend, Some(Mend::command("sysctl -w net.netfilter.nf_conntrack_max=300")));
    }
}
