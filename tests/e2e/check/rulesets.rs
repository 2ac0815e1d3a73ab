//! Rulesets as firewall programs and how-tos have them, and what is said of each.

use anyhow::{Context, Result, ensure};

use super::router::Router;

/// What a ruleset is written in.
#[derive(Clone, Copy)]
enum Written {
    ByNft,
    ByIptables,
}
use Written::{ByIptables, ByNft};

/// The chains of a ruleset, the chain of `accept-in`, and what is not right of it: one finding, or none.
type Case = (&'static str, Written, &'static str, &'static str, Option<&'static str>);

const NOT_LISTED: Option<&str> = Some("chain-not-in-accept-in");
const BY_INTERFACE: Option<&str> = Some("chain-drops-by-interface");

fn judged_rightly(cases: &[Case]) -> Result<()> {
    cases.iter().try_for_each(|(name, written, rules, accept_in, finding)| {
        let accept_in = if accept_in.is_empty() { "[]".to_owned() } else { format!("[{accept_in:?}]") };
        let before = match written {
            ByNft => format!("table inet filter {{\n{rules}\n}}"),
            ByIptables => "table inet none".to_owned(),
        };
        let mut router = Router::new(&before, &format!("accept-in = {accept_in}"))?;
        if let ByIptables = written {
            let file = router.lab.dir().join("rules");
            std::fs::write(&file, format!("*filter\n{}\nCOMMIT\n", rules.replace("; ", "\n")))?;
            router.host.run("iptables-nft-restore", [file])?.success()?;
        }
        router.start()?;
        match finding {
            None => router.is_all_right(),
            Some(id) => {
                let report = router.check()?;
                let ids: Vec<_> = report.not_right().map(|finding| finding.id.as_str()).collect();
                ensure!(ids == [*id], "{ids:?}: {report:#?}");
                let mend = report.find(id)?.clone();
                router.mend(&mend)?;
                router.is_all_right().with_context(|| format!("mended by {mend:?}"))
            }
        }
        .with_context(|| format!("{name}: {rules}, accept-in = {accept_in}"))
    })
}

const UFW: &str = "chain not_local {
        fib daddr type local return
        fib daddr type multicast return
        limit rate 3/minute burst 10 packets jump log_it
        drop
    }
    chain log_it { log prefix \"[BLOCK] \"; }
    chain input { type filter hook input priority filter; policy drop;
        ct state established,related accept
        jump not_local
        tcp dport 21 accept
    }";

#[test]
fn what_some_packets_leave_a_chain_by() -> Result<()> {
    judged_rightly(&[
        ("ufw", ByNft, UFW, "", NOT_LISTED),
        ("ufw, listed", ByNft, UFW, "inet filter input", None),
        (
            "addresses that may come",
            ByNft,
            "chain near { ip saddr 10.0.0.0/8 return; drop; }
            chain forward { type filter hook forward priority filter; policy drop;
                ct state established,related accept
                tcp dport 21 jump near
                tcp dport 21 accept
            }",
            "",
            NOT_LISTED,
        ),
        (
            "a rate",
            ByNft,
            "chain rate { limit rate 100/second return; drop; }
            chain forward { type filter hook forward priority filter; policy drop;
                ct state established,related accept
                jump rate
                tcp dport 21 accept
            }",
            "",
            NOT_LISTED,
        ),
        (
            "Proxmox VE",
            ByNft,
            "chain host_in { ct state established,related accept; tcp dport 21 return; drop; }
            chain input { type filter hook input priority filter; policy accept; jump host_in; }",
            "",
            NOT_LISTED,
        ),
    ])
}

#[test]
fn what_holds_for_every_first_packet() -> Result<()> {
    let chain = |rules: &str| {
        format!(
            "chain forward {{ type filter hook forward priority filter; policy accept;
                ct state established,related accept
                {rules}
            }}"
        )
    };
    let [by_flags, by_direction, by_map] = [
        "tcp dport 21 accept; iifname \"wan\" tcp flags & (fin | syn | rst | ack) == syn drop",
        "ct direction original iifname \"wan\" drop",
        "tcp dport vmap { 21 : accept, 22 : accept, * : drop }",
    ]
    .map(|rules| &*chain(rules).leak());
    judged_rightly(&[
        ("flags", ByNft, by_flags, "", BY_INTERFACE),
        ("direction", ByNft, by_direction, "", BY_INTERFACE),
        ("what else is in a map", ByNft, by_map, "", NOT_LISTED),
        (
            "a comment",
            ByIptables,
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; -A INPUT -p tcp --dport 21 -j ACCEPT; \
             -A INPUT -m comment --comment \"999 drop all\" -j DROP",
            "",
            NOT_LISTED,
        ),
    ])
}

#[test]
fn what_iptables_says_of_connections() -> Result<()> {
    judged_rightly(&[
        (
            "NEW among them",
            ByIptables,
            "-P FORWARD DROP; -A FORWARD -i wan -o lan -m state --state RELATED,ESTABLISHED -j ACCEPT; \
             -A FORWARD -i lan -o wan -m conntrack --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT",
            "",
            NOT_LISTED,
        ),
        (
            "NEW is dropped",
            ByIptables,
            "-A FORWARD -i wan -m state --state NEW,INVALID -j DROP",
            "",
            BY_INTERFACE,
        ),
        (
            "all but ESTABLISHED is dropped",
            ByIptables,
            "-A FORWARD -i wan -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP",
            "",
            BY_INTERFACE,
        ),
        (
            "a rule of one's own",
            ByIptables,
            "-P FORWARD DROP; -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
             -A FORWARD -m conntrack --ctstate NEW -m mark --mark 0x200000/0x200000 -m comment --comment ftp -j ACCEPT; \
             -A FORWARD -p tcp -m multiport --dports 21,80 -j ACCEPT",
            "",
            None,
        ),
    ])
}

#[test]
fn what_belongs_to_a_connection_goes_both_ways() -> Result<()> {
    judged_rightly(&[
        (
            "one way only",
            ByIptables,
            "-P FORWARD DROP; -A FORWARD -i wan -o lan -m state --state ESTABLISHED,RELATED -j ACCEPT; \
             -A FORWARD -i lan -o wan -p tcp -m multiport --dports 21,80 -j ACCEPT",
            "ip filter FORWARD",
            Some("established-not-accepted"),
        ),
        (
            "by its port",
            ByNft,
            "chain forward { type filter hook forward priority filter; policy drop;
                tcp dport 21 ct state new,established accept
                tcp sport 21 ct state established accept
            }",
            "inet filter forward",
            Some("established-not-accepted"),
        ),
    ])
}

#[test]
fn a_control_port_that_is_dropped() -> Result<()> {
    let rules = "table inet filter {
        chain forward { type filter hook forward priority filter; policy accept; tcp dport 1-1023 drop; }
    }";
    Router::running(rules, "accept-in = []")?.check()?.find("control-not-accepted").map(drop)
}

#[test]
fn the_bit_of_the_mark_is_taken_off() -> Result<()> {
    let keeps = |mask: &str| {
        format!(
            "table inet filter {{
                chain early {{ type filter hook forward priority -2; meta mark set meta mark & {mask} | 0x40000; }}
            }}"
        )
    };
    Router::running(&keeps("0xff20ffff"), "accept-in = []")?.is_all_right()?;
    Router::running(&keeps("0xff00ffff"), "accept-in = []")?.check()?.find("mark-in-use").map(drop)
}

const HOME: &str = "chain input { type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" accept
    }
    chain forward { type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" oifname \"wan\" accept
    }";

#[test]
fn where_data_connections_pass_anyway() -> Result<()> {
    judged_rightly(&[
        ("a home router", ByNft, HOME, "inet filter forward", None),
        ("a home router, not listed", ByNft, HOME, "", NOT_LISTED),
        (
            "data ports opened by hand",
            ByNft,
            "chain forward { type filter hook forward priority filter; policy drop;
                ct state established,related accept
                tcp dport { 21, 1024-65535 } accept
            }",
            "",
            None,
        ),
        (
            "a host that only forwards FTP",
            ByNft,
            "chain input { type filter hook input priority filter; policy drop;
                ct state established,related accept
                tcp dport 22 accept
            }
            chain forward { type filter hook forward priority filter; policy accept; }",
            "",
            None,
        ),
        (
            "a reverse-path filter",
            ByNft,
            "chain rpfilter { type filter hook prerouting priority mangle + 10; policy drop;
                udp sport 67 udp dport 68 accept
                fib saddr . mark . iif oif exists accept
            }
            chain forward { type filter hook forward priority filter; policy drop;
                ct state established,related accept
                tcp dport 21 accept
            }",
            "inet filter forward",
            None,
        ),
        (
            "a rule of one's own for each direction",
            ByNft,
            "chain forward { type filter hook forward priority filter; policy drop;
                ct state established,related accept
                iifname \"lan\" oifname \"wan\" tcp dport 21 accept
                iifname \"lan\" oifname \"wan\" meta mark & 0x00200000 != 0 accept
                iifname \"wan\" oifname \"lan\" meta mark & 0x00200000 != 0 accept
            }",
            "",
            None,
        ),
    ])
}

/// As libvirt does when it starts a network.
#[test]
fn what_another_program_puts_above_ftpalg_s_rule() -> Result<()> {
    let mut router = Router::running(&format!("table inet filter {{\n{HOME}\n}}"), super::FORWARD)?;
    router.is_all_right()?;
    router.host.nft("insert rule inet filter forward oifname \"lan\" ct state new reject")?;
    router.finds_and_mends("accept-rule-late", "wrong")
}
