//! The manual pages, and what is packaged besides the program.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manual_pages() -> Vec<PathBuf> {
    fs::read_dir(root().join("docs/man")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What a program printed; it must end well.
#[track_caller]
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} (scripts/test-packages.txt) cannot be run: {error}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{text}{errors}", output.status);
    text
}

#[test]
fn manual_pages_have_no_mistakes() {
    let pages = manual_pages();
    assert_eq!(pages.len(), 2);
    for page in &pages {
        // It ends with 0 where there is no warning.
        let complaints = output_of("mandoc", &["-Tlint", "-Wwarning", page.to_str().unwrap()]);
        assert_eq!(complaints, "", "{}", page.display());
    }
}

/// Each command has its paragraph in ftpalg(8), and each of its options stands there.
#[test]
fn every_command_is_in_the_manual() {
    let ftpalg = env!("CARGO_BIN_EXE_ftpalg");
    let page = text("docs/man/ftpalg.8");
    let help = output_of(ftpalg, &["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.map_while(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut number = 0;
    for command in commands {
        number += 1;
        assert!(page.contains(&format!("\n.It Cm {command}\n")), "ftpalg(8) does not describe {command}");
        for option in output_of(ftpalg, &[command, "--help"]).split_whitespace() {
            let name = option.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            let Some(name) = name.strip_prefix("--") else { continue };
            let entry = format!("Fl Fl {name}");
            assert!(page.contains(&entry), "ftpalg(8) does not have --{name} of {command}");
        }
    }
    assert!(number >= 3, "no commands found in:\n{help}");
}

/// Each key of the configuration that is installed, which src/config/tests.rs has found complete, is in the manual with
/// the same default.
#[test]
fn every_key_is_in_the_manual() {
    let page = root().join("docs/man/ftpalg.toml.5");
    let printed = output_of("mandoc", &["-Tascii", "-Owidth=1000", page.to_str().unwrap()]);
    // Bold is printed as a letter, a backspace and the letter once more.
    let mut plain = String::new();
    for c in printed.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    let entries: Vec<&str> = plain.lines().map(str::trim).collect();
    let sample = text("systemd/ftpalg.toml");
    let settings = sample.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
    let mut number = 0;
    for setting in settings {
        number += 1;
        assert!(entries.contains(&setting), "ftpalg.toml(5) does not have the entry {setting}");
    }
    assert!(number >= 11, "{number} settings in {sample}");
}

/// The shells that are there take the scripts; all of them name the commands.
#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output_of(env!("CARGO_BIN_EXE_ftpalg"), &["completions", shell]);
        assert!(script.contains("rules") && script.contains("config"), "{shell}:\n{script}");
        let file = std::env::temp_dir().join(format!("ftpalg-completions-{}.{shell}", std::process::id()));
        fs::write(&file, script).unwrap();
        if shell == "bash" || Command::new(shell).arg("--version").output().is_ok() {
            output_of(shell, &["-n", file.to_str().unwrap()]);
        }
        fs::remove_file(file).unwrap();
    }
}

/// `make install` as packagers call it: modes do not depend on who calls it, and nothing names another prefix.
#[test]
fn what_is_installed() {
    use std::os::unix::fs::PermissionsExt;

    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
    if tree.exists() {
        fs::remove_dir_all(&tree).unwrap();
    }
    let directory = root().to_str().unwrap();
    let binary = format!("BINARY={}", env!("CARGO_BIN_EXE_ftpalg"));
    let destination = format!("DESTDIR={}", tree.display());
    let make = format!(
        "umask 077; make -s -C '{directory}' install PACKAGES=no PREFIX=/usr '{binary}' '{destination}'"
    );
    output_of("sh", &["-c", &make]);

    let mut files = vec![];
    let mut directories = vec![tree.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let is_program = path.ends_with("usr/sbin/ftpalg");
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, if is_program { 0o755 } else { 0o644 }, "{}", path.display());
            files.push(path.strip_prefix(&tree).unwrap().to_str().unwrap().to_owned());
        }
    }
    for file in [
        "usr/lib/systemd/system/ftpalg.service",
        "usr/lib/sysusers.d/ftpalg.conf",
        "etc/ftpalg/ftpalg.toml",
        "usr/share/man/man8/ftpalg.8",
        "usr/share/man/man5/ftpalg.toml.5",
        "usr/share/doc/ftpalg/nft-rules/examples/router.nft",
        "usr/share/doc/ftpalg/docs/architecture.md",
    ] {
        assert!(files.iter().any(|installed| installed == file), "{file} is not among {files:#?}");
    }
    let unit = fs::read_to_string(tree.join("usr/lib/systemd/system/ftpalg.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/sbin/ftpalg run\n") && !unit.contains("/usr/local"), "{unit}");
    let pages: Vec<_> = files.iter().filter(|file| file.ends_with(".md")).collect();
    assert!(pages.len() > 20, "{files:#?}");
    for page in pages {
        let page = tree.join(page);
        let text = fs::read_to_string(&page).unwrap();
        assert!(!text.contains("/usr/local/"), "{}", page.display());
        // A link to a place in a page, or to a file that is installed as well.
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for target in targets.filter(|target| !target.is_empty() && !target.contains("://")) {
            assert!(page.parent().unwrap().join(target).exists(), "{}: {target}", page.display());
        }
    }
    fs::remove_dir_all(tree).unwrap();
}
