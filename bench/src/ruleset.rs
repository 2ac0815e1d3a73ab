//! The router's rules, but for those that a program brings.

use crate::contender::Contender;
use crate::peer::{CROWD_PORT, LOAD_PORT};

/// The router's firewall: closed but for control connections, so that data gets through by the contender's doing.
pub fn ruleset(contender: Contender) -> String {
    let new = match contender {
        Contender::Bare => String::from("ip saddr 10.0.0.0/24 ct state new accept"),
        _ => format!("tcp dport {{ {LOAD_PORT}, {CROWD_PORT} }} ct state new accept"),
    };
    let helper = match contender {
        Contender::Kernel | Contender::AcceptAll | Contender::Beside => helper_rules(),
        _ => String::new(),
    };
    format!(
        "table inet filter {{
            chain forward {{
                type filter hook forward priority filter; policy drop
                ct state established,related accept
                {new}
            }}
            chain input {{
                type filter hook input priority filter; policy drop
                ct state established,related accept
                meta l4proto {{ icmp, ipv6-icmp }} accept
            }}
        }}
        table inet nat {{
            chain postrouting {{
                type nat hook postrouting priority srcnat
                oifname \"server\" masquerade
            }}
        }}
        {helper}\n"
    )
}

/// What gives control connections the helper of the name "ftp", whoever has put it into the kernel. Where nobody has, the kernel
/// loads its own.
pub fn helper_rules() -> String {
    format!(
        "table ip helper {{
            ct helper ftp {{ type \"ftp\" protocol tcp; }}
            chain prerouting {{
                type filter hook prerouting priority filter
                tcp dport {{ {LOAD_PORT}, {CROWD_PORT} }} ct helper set \"ftp\"
            }}
        }}"
    )
}
