//! The example rulesets load, load again over themselves, leave other tables alone, and have the chains that they
//! tell the administrator to name in `accept-in`. Each is loaded in a network namespace that ends with its test.

#![cfg(test)]

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

/// Runs `script` with `$1` as the path of the example `name`, in a network namespace of its own; who is not root is
/// root of that one. Returns what it printed.
#[track_caller]
fn in_own_network(name: &str, script: &str) -> String {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let output = Command::new("unshare")
        .args(if is_root { &["--net"][..] } else { &["--net", "--map-root-user"] })
        .args(["sh", "-ec", script, "sh"])
        .arg(example(name))
        .output()
        .unwrap_or_else(|error| panic!("unshare (of util-linux) cannot be run: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nft-rules/examples").join(name)
}

/// The chains of the line `#   accept-in = ["inet filter forward"]`.
fn accept_in(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(example(name)).unwrap();
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("#   accept-in = "))
        .unwrap_or_else(|| panic!("{name} does not say what accept-in it wants"));
    toml::from_str::<toml::Table>(&format!("chains = {list}")).unwrap()["chains"]
        .as_array()
        .unwrap()
        .iter()
        .map(|chain| chain.as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn check(name: &str) {
    // Loaded twice over a stranger's table, as `systemctl reload nftables` does.
    let listing =
        in_own_network(name, "nft add table inet stranger; nft -f \"$1\"; nft -f \"$1\"; nft list ruleset");
    assert!(listing.contains("table inet stranger"), "{name} empties tables that are not its own");
    assert_eq!(listing.matches("table inet filter").count(), 1);
    assert_eq!(
        listing.matches("ct state invalid counter").count(),
        listing.matches("ct state established").count()
    );

    let chains = accept_in(name);
    assert!(!chains.is_empty(), "{name} names no chain for accept-in");
    for chain in chains {
        let script = format!(
            "nft -f \"$1\"; nft insert rule {chain} 'meta mark & 0x00200000 != 0 accept'; nft list chain {chain}"
        );
        let listing = in_own_network(name, &script);
        assert!(listing.contains("policy drop"), "{chain} of {name} needs no accept rule:\n{listing}");
        let rules: Vec<&str> = listing.lines().skip_while(|line| !line.contains("policy drop")).collect();
        assert_eq!(rules[1].trim(), "meta mark & 0x00200000 != 0x00000000 accept", "{listing}");
    }
}

#[test]
fn router() {
    check("router.nft");
}

#[test]
fn server_behind_nat() {
    check("server-behind-nat.nft");
}

#[test]
fn firewall() {
    check("firewall.nft");
}

#[test]
fn host() {
    check("host.nft");
}

#[test]
fn every_example_has_its_test() {
    let mut names: Vec<String> = std::fs::read_dir(example("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["firewall.nft", "host.nft", "router.nft", "server-behind-nat.nft"]);
}
