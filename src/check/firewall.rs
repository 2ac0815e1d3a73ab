//! The administrator's chains: which of them drop by default, whether control connections get through them, and whether
//! the first packets of data connections do, by the bit of the mark that ftpalg gives them.

use super::accept_in;
use super::control;
use super::finding::{Finding, Id, Mend};
use super::packet::{Kind, SOME_PORT, Truth};
use super::proc::{self, Process};
use super::ruleset::{Base, Chain, Rule, Ruleset};
use super::walk::{Fate, Walk};
use super::ways::{Way, Ways};
use crate::config::{ChainName, Config};
use crate::netfilter::Table;

/// The priority at which nft-rules/ftpalg.nft marks the first packet of a data connection, in the hooks behind routing.
/// Chains that come before it do not see the mark.
pub const MARKED_AT: i64 = -5;

/// What the firewall is looked at with.
pub struct Firewall<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Its file, for people.
    pub file: &'a str,
    /// The ruleset.
    pub ruleset: &'a Ruleset,
    /// Whether the daemon runs, and so keeps its rules in the chains of `accept-in`.
    pub daemon_runs: bool,
}

/// A base chain through which what nothing accepts does not come.
pub struct Closed<'a> {
    pub chain: &'a Chain,
    pub base: &'a Base,
    /// The rule that drops the rest; `None`: the policy does.
    by: Option<&'a Rule>,
    /// Of each port, whether new control connections may pass.
    pub control: Vec<Control<'a>>,
    ways: Ways<'a>,
    data: Data<'a>,
}

/// What becomes of new control connections to a port.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    pub may_pass: bool,
    /// By this rule, if it is one that lets them.
    pub by: Option<&'a Rule>,
}

/// What becomes of data connections in a chain that drops by default.
#[derive(Default)]
struct Data<'a> {
    /// The ways through it that control connections may take.
    ways: Vec<Way<'a>>,
    /// Whether data connections are dropped on such a way unless their mark is looked at.
    is_needed: bool,
    /// The first such way on which they are dropped although they are marked, and how.
    shut: Option<(Option<Way<'a>>, Fate<'a>)>,
}

impl Closed<'_> {
    fn accepts_control(&self) -> bool {
        self.control.iter().any(|control| control.may_pass)
    }

    /// How it drops.
    pub fn how(&self) -> String {
        let name = &self.chain.name;
        match self.by {
            Some(rule) => format!("{name} drops by default, by its {rule}"),
            None => format!("{name} drops by default (policy drop)"),
        }
    }

    fn comes_before_the_mark(&self) -> bool {
        let is_routed = ["forward", "input", "output"].contains(&self.base.hook.as_str());
        self.base.hook == "prerouting" || (is_routed && self.base.priority <= MARKED_AT)
    }
}

impl<'a> Firewall<'a> {
    /// Everything about the chains.
    pub fn look(&self) -> Vec<Finding> {
        let closed = self.closed();
        let mut found = self.missing_chains(&closed);
        for one in &closed {
            found.extend(self.data(one, &closed));
        }
        if closed.is_empty() {
            found.push(Finding::right(Id::Chain, "no chain drops by default"));
        }
        found.extend(self.dropping_on_some_way(&closed));
        found.extend(control::look(self, &closed));
        found.extend(self.established(&closed));
        found
    }

    fn closed(&self) -> Vec<Closed<'a>> {
        let hooks = ["prerouting", "forward", "input", "output", "postrouting"];
        let filters = self.ruleset.base_chains();
        let filters = filters.filter(|(_, base)| base.kind != "nat" && hooks.contains(&base.hook.as_str()));
        let mut closed: Vec<_> = filters
            .filter_map(|(chain, base)| {
                let by = match self.walk(self.data_kind(false)).fate(chain) {
                    Fate::Passes => return None,
                    Fate::DroppedBy(rule) => Some(rule),
                    Fate::DroppedByPolicy => None,
                };
                let control = self.control_kinds().into_iter().map(|kind| {
                    let walk = self.walk(kind);
                    Control { may_pass: walk.may_pass(chain), by: walk.accepting(chain) }
                });
                let ways = Ways::of(self.ruleset, chain);
                Some(Closed { chain, base, by, control: control.collect(), ways, data: Data::default() })
            })
            .collect();
        let judged: Vec<_> = closed.iter().map(|one| self.judge(one, &closed)).collect();
        for (one, data) in closed.iter_mut().zip(judged) {
            one.data = data;
        }
        closed
    }

    /// The chains of the forward and input hooks that are none of the closed ones.
    pub fn open(&self, closed: &[Closed<'a>]) -> impl Iterator<Item = (&'a Chain, &'a Base)> {
        let is_closed = |chain: &Chain| closed.iter().any(|one| one.chain.name == chain.name);
        self.ruleset.base_chains().filter(move |(chain, base)| {
            base.kind != "nat" && ["forward", "input"].contains(&base.hook.as_str()) && !is_closed(chain)
        })
    }

    /// Walks the ruleset with packets of a kind.
    pub fn walk(&self, kind: Kind<'a>) -> Walk<'a> {
        Walk { ruleset: self.ruleset, kind }
    }

    /// The first packet of a control connection.
    pub fn control_kind(&self, port: u16) -> Kind<'a> {
        Kind::new_control(port, self.config.mark)
    }

    fn control_kinds(&self) -> Vec<Kind<'a>> {
        self.config.control_ports.iter().map(|port| self.control_kind(*port)).collect()
    }

    /// The first packet of a data connection, with the bit of the mark or without.
    fn data_kind(&self, is_marked: bool) -> Kind<'a> {
        Kind { destination: Some(SOME_PORT), ..Kind::new_data(self.config.mark, is_marked) }
    }

    /// The chain of `accept-in` by which data connections pass a chain.
    pub fn covering(&self, chain: &'a Chain) -> Option<&'a Chain> {
        accept_in::covering(self.config, self.ruleset, chain)
    }

    /// What becomes of data connections, on the ways that control connections take.
    fn judge(&self, one: &Closed<'a>, all: &[Closed<'a>]) -> Data<'a> {
        let control = self.control_kinds();
        // A server on this host is dialled through input, and dials through output.
        let is_dialled = |way: Way<'a>| {
            let inputs = all.iter().filter(|other| other.base.hook == "input" && other.accepts_control());
            let there = Way { comes_in: way.goes_out, goes_out: None };
            one.base.hook == "output" && inputs.into_iter().any(|input| input.ways.is_for(&control, there))
        };
        let is_for = |way: &Way<'a>| one.ways.is_for(&control, *way) || is_dialled(*way);
        let ways: Vec<_> = one.ways.all().into_iter().filter(is_for).collect();
        let on = |way, is_marked| one.ways.fate(way, self.data_kind(is_marked));
        let passes = |fate: &Fate<'_>| matches!(fate, Fate::Passes);
        let shut = if ways.is_empty() {
            Some((None, self.walk(self.data_kind(true)).fate(one.chain)))
        } else {
            ways.iter().map(|way| (Some(*way), on(*way, true))).find(|(_, fate)| !passes(fate))
        };
        let is_needed = ways.iter().any(|way| !passes(&on(*way, false)));
        Data { is_needed, shut: shut.filter(|(_, fate)| !passes(fate)), ways }
    }

    /// Whether data connections get through a chain that drops by default.
    fn data(&self, one: &Closed<'a>, all: &[Closed<'a>]) -> Option<Finding> {
        let (name, how) = (&one.chain.name, one.how());
        let right = |what: String| Some(Finding::right(Id::Chain, what));
        let covering = self.covering(one.chain);
        let Data { ways, is_needed, shut } = &one.data;
        let is_needed = *is_needed;
        if (covering.is_some() || is_needed) && one.comes_before_the_mark() {
            let what = format!(
                "{how}, before ftpalg has marked data connections (hook {}, priority {}): no rule there can tell them",
                one.base.hook, one.base.priority
            );
            let mend = format!(
                "in your ruleset let it drop nothing by default, and do that in a chain of hook forward or input with \
                 a priority above {MARKED_AT}, such as filter"
            );
            return Some(Finding::wrong(Id::ChainBeforeMark, what, Mend::advice(mend)));
        }
        let owned = self.owner_of(name);
        if let Some(table) = owned.filter(|_| shut.is_some() && (covering.is_some() || is_needed)) {
            return Some(in_owned_table(&how, table));
        }
        match (covering, shut) {
            (Some(_), None) => right(format!("{how}; data connections pass it by ftpalg's rule")),
            (Some(listed), Some(_)) if !self.daemon_runs => right(format!(
                "{how}; accept-in names {}, so the daemon puts its rule there when it starts",
                listed.name
            )),
            (Some(listed), Some((Some(way), Fate::DroppedBy(rule)))) => {
                Some(self.without_rule(listed, &format!("{name} drops what is new {way}, by its {rule}")))
            }
            (Some(listed), Some(_)) => Some(self.without_rule(listed, &how)),
            (None, None) if is_needed => {
                right(format!("{how}; a rule of yours accepts data connections by their mark"))
            }
            (None, Some(_)) if is_needed => Some(self.not_listed(one, all)),
            (None, _) if !ways.is_empty() => {
                right(format!("{how}, but no data connections wherever control connections may pass"))
            }
            (None, _) => right(format!(
                "{how}, control connections as well: FTP does not pass it, and needs no rule there"
            )),
        }
    }

    /// Chains that accept by default, except on some way from one interface to another or to this host.
    fn dropping_on_some_way(&self, closed: &[Closed<'a>]) -> Vec<Finding> {
        let open = self.open(closed).filter(|(_, base)| base.priority > MARKED_AT);
        let (control, data) = (self.control_kinds(), self.data_kind(true));
        let mut found = Vec::new();
        let mut dropping = Vec::new();
        for (chain, _) in open {
            let ways = Ways::of(self.ruleset, chain);
            match ways.shut(&control, data) {
                Some((way, fate)) => dropping.push((chain, way, fate)),
                None if !ways.are_all => found.push(not_all_looked_at(&chain.name)),
                None => {}
            }
        }
        let unlisted: Vec<_> = dropping
            .iter()
            .map(|(chain, ..)| *chain)
            .filter(|chain| self.covering(chain).is_none())
            .collect();
        let line = self.accept_in(closed, &unlisted);
        for (chain, way, fate) in dropping {
            let by = match fate {
                Fate::DroppedBy(rule) => rule.to_string(),
                _ => "policy".to_owned(),
            };
            let how = format!("{} accepts by default, but its {by} drops what is new {way}", chain.name);
            if let Some(table) = self.owner_of(&chain.name) {
                found.push(in_owned_table(&how, table));
            } else if let Some(listed) = self.covering(chain) {
                found.extend(self.daemon_runs.then(|| self.without_rule(listed, &how)));
            } else {
                let what = format!(
                    "{how}, and accept-in does not name it: data connections that go that way are dropped"
                );
                let mend = Mend::Setting { file: self.file.to_owned(), line: line.clone() };
                found.push(Finding::warning(Id::ChainDropsByInterface, what, mend));
            }
        }
        found
    }

    fn owner_of(&self, name: &ChainName) -> Option<&'a Table> {
        self.ruleset.owned.iter().find(|table| table.has(name))
    }

    /// About the rule in a chain of `accept-in` that does not let data connections through.
    fn without_rule(&self, listed: &Chain, how: &str) -> Finding {
        let marked = self.walk(self.data_kind(true));
        let has_rule = listed.rules.iter().any(|rule| rule.has("accept") && marked.meets(rule) == Truth::Yes);
        let reload = Mend::command("systemctl reload ftpalg");
        if has_rule {
            let what = format!("{how}, above ftpalg's rule: data connections do not get as far as that");
            Finding::wrong(Id::AcceptRuleLate, what, reload)
        } else {
            let what = format!("{how}, and ftpalg's rule is not there: data connections are dropped");
            Finding::wrong(Id::AcceptRuleMissing, what, reload)
        }
    }

    fn not_listed(&self, one: &Closed<'_>, all: &[Closed<'a>]) -> Finding {
        let what = format!(
            "{}, and accept-in does not name it: control connections pass it, their data connections do not",
            one.how()
        );
        Finding::wrong(Id::ChainNotInAcceptIn, what, self.setting(all))
    }

    fn setting(&self, all: &[Closed<'a>]) -> Mend {
        Mend::Setting { file: self.file.to_owned(), line: self.accept_in(all, &[]) }
    }

    /// `accept-in` as it should be: what exists of it, and every chain besides that needs to be there.
    fn accept_in(&self, all: &[Closed<'a>], besides: &[&'a Chain]) -> String {
        let mut names: Vec<_> = self.config.accept_in.iter().filter(|name| self.exists(name)).collect();
        let is_lacking =
            |one: &&Closed<'a>| one.data.is_needed && one.data.shut.is_some() && !one.comes_before_the_mark();
        let lacking = all.iter().filter(is_lacking).map(|one| one.chain);
        for chain in lacking.chain(besides.iter().copied()) {
            let name = accept_in::place(self.config, self.ruleset, chain);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        format!("accept-in = {names:?}")
    }

    fn exists(&self, name: &ChainName) -> bool {
        self.ruleset.chain(name).is_some()
    }

    fn missing_chains(&self, all: &[Closed<'a>]) -> Vec<Finding> {
        let missing = self.config.accept_in.iter().filter(|name| !self.exists(name));
        missing
            .map(|name| {
                let what = format!(
                    "accept-in names {name}, and there is no such chain: the ruleset is not loaded, or it has another \
                     name"
                );
                let mend = if self.ruleset.base_chains().next().is_some() {
                    self.setting(all)
                } else {
                    Mend::advice("load the firewall's ruleset first: there is not one chain")
                };
                Finding::warning(Id::AcceptInMissing, what, mend)
            })
            .collect()
    }

    fn established(&self, closed: &[Closed<'a>]) -> Vec<Finding> {
        // Only the first packet of a data connection is marked.
        let port = Some(SOME_PORT);
        let kind = Kind { state: "established", source: port, dialled: port, ..self.data_kind(false) };
        let lacking = closed.iter().filter(|one| {
            let Data { ways, is_needed, .. } = &one.data;
            let matters = *is_needed || self.covering(one.chain).is_some();
            let is_accepted = match ways.as_slice() {
                [] => self.walk(kind).may_pass(one.chain),
                ways => ways.iter().all(|way| one.ways.lets_both(*way, kind)),
            };
            matters && !is_accepted
        });
        lacking
            .map(|one| {
                let what = format!(
                    "{}, and no rule was seen that accepts all established connections, both ways: of some only the first packets pass",
                    one.how()
                );
                let rule = format!("nft insert rule {} ct state established,related accept", one.chain.name);
                Finding::warning(Id::EstablishedNotAccepted, what, Mend::command(rule))
            })
            .collect()
    }
}

fn not_all_looked_at(chain: &ChainName) -> Finding {
    let what = format!(
        "not looked at: some of the ways through {chain}, because its table's rules name too many interfaces"
    );
    Finding::unseen(Id::NotLookedAt, what, Mend::command(format!("nft list chain {chain}")))
}

fn in_owned_table(how: &str, table: &Table) -> Finding {
    let owner = table.owner.and_then(Process::of_port_id);
    let of = owner
        .as_ref()
        .map_or("another program".to_owned(), |one| format!("{} (process {})", one.name, one.pid));
    let what = format!(
        "{how}, and table {} {} is {of}'s own (flags owner): nobody else may put a rule into it, and data connections are \
         dropped",
        table.family, table.name
    );
    let mend = if owner.is_some_and(|one| one.name == "firewalld") {
        Mend::command(
            "sed -i '/^NftablesTableOwner=/d' /etc/firewalld/firewalld.conf && echo NftablesTableOwner=no \
             >>/etc/firewalld/firewalld.conf && systemctl restart firewalld",
        )
    } else {
        Mend::advice("have that program make its table without `flags owner`, or accept the mark itself")
    };
    Finding::wrong(Id::ChainOwned, what, mend)
}

/// Rules that nftables does not show.
pub fn legacy() -> Option<Finding> {
    let names =
        |file| proc::net(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let tables: Vec<_> = [("ip", "ip_tables_names"), ("ip6", "ip6_tables_names")]
        .into_iter()
        .flat_map(|(family, file)| names(file).into_iter().map(move |name| format!("{family} {name}")))
        .collect();
    if tables.is_empty() {
        return None;
    }
    let what = format!(
        "the old iptables has tables here ({}): nftables does not show their rules, and they are not looked at",
        tables.join(", ")
    );
    let mend = "`iptables-legacy-save` and `ip6tables-legacy-save` show them; what stands above about chains that drop \
                by default is true of theirs, too, which need a rule with `-m mark --mark MARK/MARK -j ACCEPT`; \
                iptables-nft-restore moves them to nftables";
    Some(Finding::unseen(Id::LegacyRules, what, Mend::advice(mend)))
}
