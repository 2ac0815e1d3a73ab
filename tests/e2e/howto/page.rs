//! A page of the documentation, as the steps that it tells its reader to take.
//!
//! Every fenced block must say what it is, by what stands behind its language:
//!
//! | block | meaning |
//! | --- | --- |
//! | `console` | commands, each behind a prompt that names its machine (`router# nft …`, `pc$ curl …`), and what they print |
//! | `console fails` | the same for commands that must fail |
//! | `nft file=router:/etc/nftables.conf` | the file's content; the line before names it |
//! | `… not-run="why"` | what can't be run here |
//!
//! A line `<!-- a new machine -->` begins a part of the page that starts with nothing done yet.
//!
//! Of what a command is shown to print, every line must come, in that order; `…` stands for anything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The line that begins a new part.
const ANEW: &str = "<!-- a new machine -->";

/// What the reader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes a file.
    Write { machine: String, path: String, text: String },
    /// Types a command.
    Run { machine: String, command: String, shown: Vec<String>, fails: bool },
}

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Its parts, with their steps, each with the line on which it begins.
    pub parts: Vec<Vec<(usize, Step)>>,
    /// The blocks that are not run, with their reasons.
    pub not_run: Vec<(usize, String)>,
    /// Commands that stand in the text.
    pub mentioned: Vec<(usize, String)>,
}

/// What a command in the text begins with.
const PROGRAMS: [&str; 18] = [
    "conntrack",
    "cp",
    "curl",
    "firewall-cmd",
    "ftpalg",
    "iptables",
    "iptables-save",
    "journalctl",
    "lsmod",
    "modprobe",
    "nft",
    "sed",
    "ss",
    "sysctl",
    "systemctl",
    "tcpdump",
    "uci",
    "ufw",
];

/// Where a page lies; `name` is relative to `docs`.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

impl Page {
    /// Reads one, by its name in `docs`.
    pub fn read(name: &str) -> Result<Page> {
        let path = path(name);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Page::parse(&text).with_context(|| format!("docs/{name}"))
    }

    fn parse(text: &str) -> Result<Page> {
        let mut page = Page { parts: vec![vec![]], not_run: vec![], mentioned: vec![] };
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let mut said = "";
        while let Some((number, line)) = lines.next() {
            if line.trim() == ANEW {
                page.parts.push(vec![]);
            }
            let Some(info) = line.trim_start().strip_prefix("```") else {
                said = if line.is_empty() { said } else { line };
                ensure!(
                    !line.starts_with("    "),
                    "line {number}: a block without a fence, which nothing runs"
                );
                let code = line.split('`').skip(1).step_by(2).filter(|code| is_command(code));
                page.mentioned.extend(code.map(|code| (number, code.to_owned())));
                continue;
            };
            let indent = line.len() - line.trim_start().len();
            let block = lines
                .by_ref()
                .take_while(|(_, line)| line.trim() != "```")
                .map(|(number, line)| (number, line.get(indent..).unwrap_or_default()))
                .collect::<Vec<_>>();
            page.block(number, info, &block, said).with_context(|| format!("line {number}"))?;
        }
        Ok(page)
    }

    /// A block, before which a line was `said`.
    fn block(&mut self, number: usize, info: &str, lines: &[(usize, &str)], said: &str) -> Result<()> {
        if let Some((_, reason)) = info.split_once(" not-run=") {
            let reason = reason.trim_matches('"');
            ensure!(reason.len() > 10, "not run, and no reason is given");
            self.not_run.push((number, reason.to_owned()));
            return Ok(());
        }
        if let Some((_, place)) = info.split_once(" file=") {
            let (machine, path) = place.split_once(':').context("file= names no machine")?;
            ensure!(said.contains(&format!("`{path}`")), "nothing that is seen names the file");
            let text = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
            let write = Step::Write { machine: machine.to_owned(), path: path.to_owned(), text };
            self.steps().push((number, write));
            return Ok(());
        }
        match info.trim() {
            "console" => self.commands(lines, false),
            "console fails" => self.commands(lines, true),
            other => bail!("a block that nothing runs: ```{other}"),
        }
    }

    /// Those of the last part.
    fn steps(&mut self) -> &mut Vec<(usize, Step)> {
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    fn commands(&mut self, lines: &[(usize, &str)], fails: bool) -> Result<()> {
        let mut lines = lines.iter();
        while let Some((number, line)) = lines.next() {
            if let Some((machine, command)) = prompt(line) {
                let mut command = command.to_owned();
                while let Some(begun) = command.strip_suffix('\\') {
                    let (_, rest) = lines.next().context("a command that does not end")?;
                    command = format!("{begun}{}", rest.trim_start());
                }
                let run = Step::Run { machine: machine.to_owned(), command, shown: vec![], fails };
                self.steps().push((*number, run));
                continue;
            }
            match self.steps().last_mut() {
                Some((_, Step::Run { shown, .. })) => shown.push((*line).to_owned()),
                _ => bail!("line {number}: output of no command"),
            }
        }
        Ok(())
    }
}

/// Whether a piece of code in the text is a command: a known program and what it is to do.
fn is_command(code: &str) -> bool {
    code.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program))
}

/// The machine and the command of a line `machine# command` or `machine$ command`.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (machine, command) = line.split_once("# ").or_else(|| line.split_once("$ "))?;
    let is_name = !machine.is_empty() && machine.chars().all(|c| c.is_ascii_lowercase());
    is_name.then_some((machine, command))
}

/// The first line of `shown` that did not come, if any.
pub fn missing<'a>(shown: &'a [String], printed: &str) -> Option<&'a str> {
    let mut printed = printed.lines();
    shown
        .iter()
        .map(String::as_str)
        .filter(|line| !matches!(line.trim(), "" | "…"))
        .find(|line| !printed.any(|printed| matches(line, printed)))
}

/// Whether a line is what a pattern shows; white space counts once.
fn matches(pattern: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (words(pattern), words(line));
    let parts = pattern.split('…').map(str::trim).collect::<Vec<_>>();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn blocks_become_steps() {
    let page = Page::parse(
        "Text with `a word` and `nft list ruleset`.\n\n`/etc/nftables.conf`:\n\n```nft file=router:/etc/nftables.conf\ntable inet t {\n}\n```\n\n- a list\n\n  ```console\n  \
         router# nft \\\n      list ruleset\n  table inet t {\n  …\n  ```\n\n```sh not-run=\"needs another system\"\nx\n```\n\
         <!-- a new machine -->\n```console fails\npc$ curl x\n```\n",
    )
    .unwrap();
    let run = |machine: &str, command: &str, shown: &[&str], fails| Step::Run {
        machine: machine.to_owned(),
        command: command.to_owned(),
        shown: shown.iter().map(|&line| line.to_owned()).collect(),
        fails,
    };
    let write = Step::Write {
        machine: "router".to_owned(),
        path: "/etc/nftables.conf".to_owned(),
        text: "table inet t {\n}\n".to_owned(),
    };
    assert_eq!(
        page.parts,
        [
            vec![(5, write), (13, run("router", "nft list ruleset", &["table inet t {", "…"], false))],
            vec![(24, run("pc", "curl x", &[], true))]
        ]
    );
    assert_eq!(page.mentioned, [(1, "nft list ruleset".to_owned())]);
    assert_eq!(page.not_run, [(19, "needs another system".to_owned())]);
}

#[test]
fn what_nothing_would_run_is_refused() {
    for text in ["```\nnft list ruleset\n```\n", "```nft\ntable inet t {}\n```\n", "    nft list ruleset\n"] {
        assert!(Page::parse(text).is_err(), "{text}");
    }
    assert!(Page::parse("```console\nnft list ruleset\n```\n").is_err(), "a command without a prompt");
    assert!(Page::parse("x\n```nft file=router:/etc/x\n```\n").is_err(), "a file that is not named");
    assert!(Page::parse("```sh not-run=\"\"\nx\n```\n").is_err(), "no reason");
}

#[test]
fn what_is_shown_must_come_in_its_order() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let printed = "one  line\nsession from 10.0.0.1:4000 to 10.0.0.2:21\nlast\n";
    assert_eq!(missing(&shown("one line\n…\nlast"), printed), None);
    assert_eq!(missing(&shown("session from … to 10.0.0.2:21"), printed), None);
    assert_eq!(
        missing(&shown("session from … to 10.0.0.2:22"), printed),
        Some("session from … to 10.0.0.2:22")
    );
    assert_eq!(missing(&shown("last\none line"), printed), Some("one line"));
    assert_eq!(missing(&shown("line"), printed), Some("line"));
}
