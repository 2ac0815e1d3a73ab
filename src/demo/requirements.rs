//! What the demo needs before it begins: root, and programs that others wrote.

use std::env;
use std::os::unix::fs::MetadataExt;

/// Each program with the Debian package that holds it.
const PROGRAMS: [(&str, &str); 9] = [
    ("curl", "curl"),
    ("env", "coreutils"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("sha256sum", "coreutils"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("tcpdump", "tcpdump"),
    ("vsftpd", "vsftpd"),
];

/// Something that is missing, with its mend.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("the demo makes network namespaces, which needs root: run `sudo ftpalg demo`")]
    Root,
    #[error(
        "the demo runs {}, not found in PATH: `apt install {}`, or `make demo` in ftpalg's source, which installs it",
        list(.0, |(program, _)| program),
        list(.0, |(_, package)| package)
    )]
    Programs(Vec<(&'static str, &'static str)>),
}

/// Whether everything is there.
pub fn check() -> Result<(), Missing> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !is_root {
        return Err(Missing::Root);
    }
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| !in_path(program)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Missing::Programs(missing)) }
}

fn in_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn list(
    missing: &[(&'static str, &'static str)],
    which: impl Fn((&'static str, &'static str)) -> &'static str,
) -> String {
    let mut words: Vec<_> = missing.iter().map(|one| which(*one)).collect();
    words.dedup();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let text = Missing::Programs(vec![("ip", "iproute2"), ("ss", "iproute2")]).to_string();
        assert!(text.contains("runs ip ss, not found") && text.contains("`apt install iproute2`"), "{text}");
    }

    #[test]
    fn the_packages_are_those_that_make_demo_installs() {
        let list = include_str!("../../scripts/demo-packages.txt");
        for (program, package) in PROGRAMS {
            // Debian's base system always has coreutils.
            assert!(package == "coreutils" || list.lines().any(|line| line == package), "{program}");
        }
    }
}
