//! The administrator's chains.

use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result, ensure};

use super::router::Router;
use super::{FORWARD, RULESET};
use crate::docker::Docker;
use crate::life::wait_until;

/// A router whose accept-in names no chain; in each of the rulesets one more must be named.
#[test]
fn a_chain_that_drops_by_default_and_is_not_in_accept_in() -> Result<()> {
    let by_its_last_rule =
        "table inet filter { chain forward { type filter hook forward priority filter; policy accept;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname \"lan\" tcp dport { 21, 22 } accept
        counter reject with icmpx type admin-prohibited
    }; }";
    let by_a_jump = "table ip filter {
        chain services { tcp dport vmap { 21 : accept, 22 : accept }; }
        chain rest { ct state established,related accept; jump services; log prefix \"no\" drop; }
        chain FORWARD { type filter hook forward priority filter; policy accept;
            jump rest
        }
    }";
    let on_input = "table inet filter { set services { type inet_service; elements = { 21, 22 }; }
        chain input { type filter hook input priority filter; policy drop;
            iifname \"lo\" accept
            ct state established,related accept
            tcp dport @services accept
        }
    }";
    for ruleset in [RULESET, by_its_last_rule, by_a_jump, on_input] {
        let mut router = Router::running(ruleset, "accept-in = []")?;
        router.finds_and_mends("chain-not-in-accept-in", "wrong")?;
    }
    Ok(())
}

/// Accepts by default, and nothing new from outside. In active mode servers dial from there.
#[test]
fn a_chain_that_drops_what_comes_from_one_side() -> Result<()> {
    let plain = "table inet mine { chain forward { type filter hook forward priority filter;
        ct state established,related accept
        iifname \"wan\" drop
    }; }";
    let by_a_jump = "table ip mine {
        chain from_wan { tcp dport { 22, 21 } accept; reject; }
        chain forward { type filter hook forward priority filter;
            ct state vmap { established : accept, related : accept }
            iifname vmap { \"lan\" : accept, \"wan\" : jump from_wan }
        }
    }";
    let from_there = "table inet mine { chain forward { type filter hook forward priority filter;
        iifname \"wan\" ct state established,related accept
        iifname \"wan\" drop
    }; }";
    let to_this_host = "table inet mine { chain input { type filter hook input priority filter;
        ct state established,related accept
        iifname \"wan\" tcp dport 21 accept
        iifname \"wan\" drop
    }; }";
    for ruleset in [plain, by_a_jump, from_there, to_this_host] {
        let mut router = Router::running(ruleset, "accept-in = []")?;
        router.finds_and_mends("chain-drops-by-interface", "warning")?;
    }
    // Two such chains: what is proposed for one holds for both.
    let mut router = Router::running(plain, "accept-in = []")?;
    router.host.nft(&plain.replace("inet mine", "ip other").replace("priority filter", "priority 10"))?;
    router.finds_and_mends("chain-drops-by-interface", "warning")?;
    // ftpalg's rule stands in the chain, but below that.
    router.host.nft("insert rule inet mine forward iifname \"wan\" ct state new drop")?;
    router.finds_and_mends("accept-rule-late", "wrong")?;
    // Nobody else may put it there.
    let owned = plain.replace("inet mine", "ip owned").replace("{ chain", "{\n    chain");
    let owner = Owner::of(&router, &owned)?;
    let report = router.check()?;
    ensure!(
        report.find("chain-owned")?.what.contains("ip owned") && report.not_right().count() == 1,
        "{report:#?}"
    );
    owner.ends()?;
    // Elements of a set that has a limit for each.
    let limit = "table inet mine {
        set flood { type ipv4_addr; flags dynamic; timeout 1m; }
        chain forward { type filter hook forward priority filter;
            iifname \"wan\" ct state new add @flood { ip saddr limit rate over 10/second } drop
        }
    }";
    Router::running(limit, "accept-in = []")?.is_all_right()?;
    // Where control connections do not come in either.
    Router::running(&to_this_host.replace("dport 21", "dport 22"), "accept-in = []")?.is_all_right()?;
    // As libvirt has it: what nobody is to reach is shut to all.
    let shut = "table ip6 virtual {
        chain guest_output { iifname \"virbr0\" reject; }
        chain forward { type filter hook forward priority filter; jump guest_output; }
    }";
    let router = Router::running(RULESET, FORWARD)?;
    router.host.nft(shut)?;
    router.is_all_right()
}

/// Of a chain that Docker hands all packets to first, its own rules come on top again whenever it starts.
#[test]
fn dockers_rules() -> Result<()> {
    for (docker, id, mark, chain) in [
        (Docker::V20, "chain-not-in-accept-in", "wrong", "ip filter DOCKER-USER"),
        (Docker::V28, "chain-drops-by-interface", "warning", "ip filter DOCKER-USER"),
        (Docker::V29, "chain-drops-by-interface", "warning", "ip filter DOCKER-USER"),
        (Docker::V29Nftables, "chain-drops-by-interface", "warning", "ip docker-bridges filter-FORWARD"),
    ] {
        let mut router = Router::running("table inet none", "accept-in = []")?;
        docker.load(&router.host)?;
        router.finds_and_mends(id, mark).with_context(|| format!("{docker:?}"))?;
        let config = fs::read_to_string(&router.config)?;
        ensure!(config.contains(&format!("accept-in = [{chain:?}]\n")), "{docker:?}: {config}");
    }
    let router = Router::running("table inet none", "accept-in = []")?;
    Docker::V29Nftables.load(&router.host)?;
    Docker::accept_the_mark(&router.host)?;
    router.is_all_right()
}

/// A second table with a chain of its own, as other firewall programs load them: a packet must pass both.
#[test]
fn a_second_firewall_counts_as_well() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.is_all_right()?;
    router.host.nft(&RULESET.replace("inet filter", "ip other").replace("priority filter", "priority 10"))?;
    router.finds_and_mends("chain-not-in-accept-in", "wrong")
}

/// A server behind output rules dials out in active mode.
#[test]
fn an_output_chain_in_front_of_a_server_counts_as_well() -> Result<()> {
    let ruleset = "table inet filter {
        chain input { type filter hook input priority filter; policy drop;
            ct state established,related accept
            tcp dport 21 accept
        }
        chain output { type filter hook output priority filter; policy drop;
            ct state established,related accept
            udp dport 53 accept
        }
    }";
    let mut router = Router::running(ruleset, r#"accept-in = ["inet filter input"]"#)?;
    router.finds_and_mends("chain-not-in-accept-in", "wrong")
}

#[test]
fn a_rule_of_the_administrator_s_own_accepts_the_mark() -> Result<()> {
    let router = Router::running(RULESET, "accept-in = []")?;
    router.host.nft("insert rule inet filter forward meta mark & 0x00200000 != 0 accept")?;
    router.is_all_right()
}

#[test]
fn a_chain_of_accept_in_that_does_not_exist() -> Result<()> {
    let names = r#"accept-in = ["inet filter forward", "inet filter nowhere"]"#;
    Router::running(RULESET, names)?.finds_and_mends("accept-in-missing", "warning")?;
    // Without a ruleset it is that which is missing.
    let router = Router::running("table inet filter", FORWARD)?;
    let report = router.check()?;
    let mend = report.find("accept-in-missing")?.mend.as_ref().and_then(|mend| mend["advice"].as_str());
    ensure!(mend.is_some_and(|mend| mend.contains("load the firewall's ruleset")), "{report:#?}");
    router.host.nft(RULESET)?;
    router.is_all_right()
}

/// The daemon has not read yet that it is to put its rule there.
#[test]
fn an_accept_rule_that_is_not_there() -> Result<()> {
    let mut router = Router::running(RULESET, "accept-in = []")?;
    router.set(FORWARD)?;
    router.finds_and_mends("accept-rule-missing", "wrong")
}

#[test]
fn a_rule_that_drops_above_the_accept_rule() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.nft(
        "insert rule inet filter forward ct state new drop
        insert rule inet filter forward tcp dport 21 ct state new accept",
    )?;
    router.finds_and_mends("accept-rule-late", "wrong")
}

/// In an earlier chain nobody can tell data connections yet. What to do about it is advice.
#[test]
fn a_chain_that_drops_before_packets_are_marked() -> Result<()> {
    let early = RULESET.replace("priority filter", "priority mangle");
    let router = Router::running(&early, FORWARD)?;
    let report = router.check()?;
    let finding = report.find("chain-before-mark")?;
    ensure!(finding.what.contains("hook forward, priority -150"), "{finding:?}");
    ensure!(finding.mark == "wrong" && report.not_right().count() == 1, "{report:#?}");
    router.host.nft(&format!("delete table inet filter\n{RULESET}"))?;
    router.is_all_right()
}

#[test]
fn control_ports_that_no_rule_accepts() -> Result<()> {
    for rule in ["tcp dport 22 accept", "tcp dport 21 ct state established accept", "udp dport 21 accept"] {
        let ruleset = RULESET.replace("tcp dport 21 ct state new accept", rule);
        Router::running(&ruleset, FORWARD)?.finds_and_mends("control-not-accepted", "warning")?;
    }
    // Accepted by one chain and not by the next.
    let second = RULESET.replace("forward {", "later {").replace("priority filter", "priority 10");
    let second = second.replace("dport 21", "dport 22").replace("inet filter", "inet other");
    let both = r#"accept-in = ["inet filter forward", "inet other later"]"#;
    Router::running(&format!("{RULESET}\n{second}"), both)?.finds_and_mends("control-not-accepted", "warning")
}

/// One of two control ports is forgotten.
#[test]
fn each_control_port_counts() -> Result<()> {
    let mut router = Router::running(RULESET, &format!("{FORWARD}\ncontrol-ports = [21, 2121]"))?;
    router.finds_and_mends("control-not-accepted", "warning")
}

#[test]
fn established_connections_that_no_rule_accepts() -> Result<()> {
    let ruleset = RULESET.replace("ct state established,related accept", "ct state invalid drop");
    Router::running(&ruleset, FORWARD)?.finds_and_mends("established-not-accepted", "warning")
}

/// iptables of today, whose conditions nftables can't read.
#[test]
fn rules_of_iptables() -> Result<()> {
    let mut router = Router::running("", "accept-in = []")?;
    let iptables = |line: &str| router.host.run("iptables-nft", line.split_whitespace())?.success().map(drop);
    iptables("-P FORWARD DROP")?;
    iptables("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")?;
    let report = router.check()?;
    ensure!(report.find("chain-not-in-accept-in").is_err(), "{report:#?}");
    let iptables = |line: &str| router.host.run("iptables-nft", line.split_whitespace())?.success().map(drop);
    iptables("-A FORWARD -p tcp -m conntrack --ctstate NEW -m tcp --dport 21 -j ACCEPT")?;
    router.finds_and_mends("chain-not-in-accept-in", "wrong")
}

/// The old iptables, whose rules nftables does not show at all; a table of theirs stays until the kernel's module goes.
#[test]
fn rules_of_the_old_iptables_are_said_not_to_be_looked_at() -> Result<()> {
    let router = Router::running(RULESET, FORWARD)?;
    router.is_all_right()?;
    router.host.run("iptables-legacy", ["-P", "FORWARD", "DROP"])?.success()?;
    let report = router.check()?;
    let finding = report.find("legacy-rules")?;
    ensure!(finding.mark == "unseen" && finding.what.contains("ip filter"), "{finding:?}");
    ensure!(report.exit_code == 3 && report.not_right().count() == 1, "{report:#?}");
    Ok(())
}

/// Another program's firewall in a table that belongs to it, as firewalld's may, which libnftables can't list as JSON; and
/// one that is switched off.
#[test]
fn tables_with_flags() -> Result<()> {
    let router = Router::running(RULESET, FORWARD)?;
    let other = RULESET.replace("inet filter", "ip other").replace("priority filter", "priority 10");
    router.host.nft(&other.replace("{\n    chain", "{\n    flags dormant;\n    chain"))?;
    router.is_all_right()?;
    router.host.nft("delete table ip other")?;
    let owner = Owner::of(&router, &other)?;
    for _ in 0..20 {
        let report = router.check()?;
        let finding = report.find("chain-owned")?;
        ensure!(finding.what.contains("table ip other is nft (process "), "{report:#?}");
        ensure!(report.not_right().count() == 1, "{report:#?}");
    }
    owner.ends()?;
    router.is_all_right()
}

/// A number that the route's MTU does not tell, for a way with a smaller one further on.
#[test]
fn an_mss_that_is_set_below_the_accept_rule() -> Result<()> {
    let mut router = Router::running(RULESET, FORWARD)?;
    router.host.nft(
        "insert rule inet filter forward oifname \"wan\" tcp flags syn tcp option maxseg size set 1412",
    )?;
    router.finds_and_mends("mss-clamp-passed-by", "warning")?;
    // The conditions that lead there are not the rule's own.
    let router = Router::running(RULESET, FORWARD)?;
    router.host.nft(
        "add chain inet filter out
         insert rule inet filter forward oifname vmap { \"wan\" : jump out, \"lan\" : continue }
         add rule inet filter out tcp flags syn tcp option maxseg size set 1412",
    )?;
    let report = router.check()?;
    let mend = report.find("mss-clamp-passed-by")?.mend.clone().unwrap_or_default();
    ensure!(mend["advice"].is_string(), "{mend}");
    // One for IPv4 says nothing of IPv6.
    router.host.nft(
        "table ip mss { chain forward { type filter hook forward priority mangle;
            tcp flags syn tcp option maxseg size set 1412; }; }",
    )?;
    router.check()?.find("mss-clamp-passed-by")?;
    let router = Router::running(RULESET, FORWARD)?;
    router.host.nft("insert rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu")?;
    router.is_all_right()
}

/// A program that has a table of its own, as firewalld does from 2.1 on.
struct Owner {
    program: Child,
    orders: ChildStdin,
}

impl Owner {
    /// Its ruleset is of one table.
    fn of(router: &Router, ruleset: &str) -> Result<Owner> {
        let file = router.lab.dir().join("owned.nft");
        fs::write(&file, ruleset.replace("{\n    chain", "{\n    flags owner;\n    chain"))?;
        let mut program = router.host.command("nft", ["-i"]);
        let mut program = program.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut orders = program.stdin.take().context("no standard input")?;
        writeln!(orders, "include \"{}\"", file.display())?;
        wait_until("the table is there", || {
            Ok(router.host.run("nft", ["list", "ruleset"])?.stdout.contains("flags owner"))
        })?;
        Ok(Owner { program, orders })
    }

    /// The kernel takes its table away.
    fn ends(mut self) -> Result<()> {
        drop(self.orders);
        ensure!(self.program.wait()?.success(), "it failed");
        Ok(())
    }
}

/// Nobody else can put a rule into such a table. The daemon does its work all the same, says so, and puts the rule in as
/// soon as it may.
#[test]
fn a_chain_in_a_table_with_an_owner() -> Result<()> {
    let other = RULESET.replace("inet filter", "ip other").replace("priority filter", "priority 10");
    let mut router = Router::new(RULESET, r#"accept-in = ["inet filter forward", "ip other forward"]"#)?;
    let has_rule = |router: &Router, chain: &str| -> Result<bool> {
        let listed = router.host.run("nft", ["list", "chain", chain])?.success()?.stdout;
        Ok(listed.contains("negotiated FTP"))
    };
    let owner = Owner::of(&router, &other)?;
    router.start()?;
    let says = "table ip other is another program's own";
    ensure!(router.daemon()?.log().contains(says), "{}", router.daemon()?.log());
    ensure!(has_rule(&router, "inet filter forward")? && !has_rule(&router, "ip other forward")?, "not so");
    let report = router.check()?;
    ensure!(report.find("chain-owned")?.what.contains("table ip other is nft (process "), "{report:#?}");
    ensure!(report.not_right().count() == 1, "{report:#?}");

    owner.ends()?;
    router.host.nft(&other)?;
    router.is_all_right()?;
    ensure!(has_rule(&router, "ip other forward")?, "no rule");

    // It gets its owner while the daemon runs.
    router.host.nft("delete table ip other")?;
    let before = router.daemon()?.log().matches(says).count();
    let owner = Owner::of(&router, &other)?;
    let log = || Ok::<_, anyhow::Error>(router.daemon.as_ref().context("no daemon")?.log());
    wait_until("it is told", || Ok(log()?.matches(says).count() > before))?;
    let repairs = || Ok::<_, anyhow::Error>(log()?.matches("is back").count());
    let settled = repairs()?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    ensure!(repairs()? == settled && !log()?.contains("can't be put back"), "{}", log()?);
    ensure!(has_rule(&router, "inet filter forward")?, "no rule");
    router.daemon()?.terminate(std::time::Duration::from_secs(10))?;
    ensure!(!has_rule(&router, "inet filter forward")?, "a rule was left");
    owner.ends()
}
