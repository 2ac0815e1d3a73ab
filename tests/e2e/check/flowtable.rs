//! Flowtables, which this project's own machines have no kernel for.

use anyhow::Result;

use super::FORWARD;
use super::router::Router;

#[test]
#[ignore = "needs Debian's kernel: run by scripts/test-in-vm"]
fn a_flowtable_that_takes_control_connections() -> Result<()> {
    for (rule, ports) in [
        ("ip protocol { tcp, udp } flow add @f", "[21]"),
        ("ct state established tcp dport != 21 flow add @f", "[21, 2121]"),
    ] {
        let ruleset = format!(
            "table inet filter {{
                flowtable f {{ hook ingress priority 0; devices = {{ lo }}; }}
                chain forward {{ type filter hook forward priority filter; policy drop;
                    {rule}
                    ct state established,related accept
                    tcp dport {{ 21, 2121 }} ct state new accept
                }}
            }}"
        );
        let settings = format!("{FORWARD}\ncontrol-ports = {ports}");
        Router::running(&ruleset, &settings)?.finds_and_mends("flowtable-takes-control", "wrong")?;
    }
    Ok(())
}
