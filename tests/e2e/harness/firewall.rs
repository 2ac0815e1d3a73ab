//! The administrator's own ruleset on a router. It drops whatever is not a control connection or part of
//! something accepted before, so that data connections pass by the ALG's doing only.

use std::fmt::Write;

use super::Alg;

/// A router's ruleset.
#[derive(Debug, Clone, Default)]
pub struct Firewall {
    /// The filter chains, of `forward`, `input` and `output`, in which a new control connection is accepted.
    pub control_in: Vec<&'static str>,
    /// Further rules of the input filter chain.
    pub input: String,
    /// Rules of the nat prerouting chain.
    pub prerouting: String,
    /// Rules of the nat postrouting chain.
    pub postrouting: String,
    /// Rules of a mangle chain in prerouting.
    pub mangle: String,
}

impl Firewall {
    /// Whether this host's own traffic is filtered as well.
    fn filters_output(&self) -> bool {
        self.control_in.iter().any(|chain| *chain != "forward")
    }

    /// The filter chains, all of policy drop.
    pub fn chains(&self) -> Vec<&'static str> {
        let mut chains = vec!["forward", "input"];
        if self.filters_output() {
            chains.push("output");
        }
        chains
    }

    /// The ruleset, for control connections to `ports`.
    pub fn ruleset(&self, alg: Alg, ports: &[u16]) -> String {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let mut text = String::from("table inet filter {\n");
        for chain in self.chains() {
            let control = if alg == Alg::Open {
                String::from("ct state new accept")
            } else if self.control_in.contains(&chain) {
                format!("tcp dport {{ {ports} }} ct state new accept")
            } else {
                String::new()
            };
            let more = if chain == "input" { self.input.as_str() } else { "" };
            let _ = write!(
                text,
                "counter invalid_{chain} {{ }}
                counter invalid_beside_{chain} {{ }}
                chain {chain} {{
                    type filter hook {chain} priority filter; policy drop;
                    ct state invalid tcp flags rst counter name invalid_beside_{chain} drop
                    ct state invalid tcp dport {{ {ports} }} counter name invalid_{chain} drop
                    ct state invalid tcp sport {{ {ports} }} counter name invalid_{chain} drop
                    ct state invalid counter name invalid_beside_{chain} drop
                    ct state established,related accept
                    meta l4proto {{ icmp, ipv6-icmp }} accept
                    {control}
                    {more}
                }}\n"
            );
        }
        let _ = write!(
            text,
            "}}
            table inet nat {{
                chain prerouting {{ type nat hook prerouting priority dstnat;
                    {}
                }}
                chain postrouting {{ type nat hook postrouting priority srcnat;
                    {}
                }}
            }}
            table inet mangle {{
                chain prerouting {{ type filter hook prerouting priority mangle;
                    {}
                }}
            }}\n",
            self.prerouting, self.postrouting, self.mangle
        );
        if alg == Alg::Kernel {
            text += &kernel_helper(&ports);
        }
        text
    }
}

/// Assigns the kernel's helper to control connections, forwarded ones and this host's own.
fn kernel_helper(ports: &str) -> String {
    let mut text = String::new();
    for family in ["ip", "ip6"] {
        let _ = writeln!(text, "table {family} helper {{ ct helper ftp {{ type \"ftp\" protocol tcp; }}");
        for hook in ["prerouting", "output"] {
            let _ = write!(
                text,
                "chain {hook} {{ type filter hook {hook} priority filter;
                    tcp dport {{ {ports} }} ct helper set \"ftp\"
                }}\n"
            );
        }
        text += "}\n";
    }
    text
}
