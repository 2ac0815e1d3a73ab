//! What `ftpalg check` finds: one thing that is right, or not, with its mend.

use serde::{Serialize, Serializer};

use super::ruleset::Rule;

/// How it stands; what is worse comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It is as it should be.
    Right,
    /// It could not be looked at.
    Unseen,
    /// It may keep ftpalg from working, or some sessions.
    Warning,
    /// It keeps ftpalg from working.
    Wrong,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mend {
    /// A command for a root shell.
    Command(String),
    /// A line for the configuration file, in place of the one with the same key; then a reload.
    Setting {
        /// The file.
        file: String,
        /// The line.
        line: String,
    },
    /// What no single command does.
    Advice(String),
}

/// Gives each finding its name, which scripts may rely on, and the topic under which it is shown. docs/check.md
/// explains each.
macro_rules! ids {
    ($($topic:literal { $($id:ident = $name:literal,)+ })+) => {
        /// The findings, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Id { $($(#[doc = $name] $id,)+)+ }

        impl Id {
            /// All of them.
            #[cfg(test)]
            pub const ALL: &[Id] = &[$($(Id::$id,)+)+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $($(Id::$id => $name,)+)+ }
            }

            /// What it is about.
            pub fn topic(self) -> &'static str {
                match self { $($(Id::$id)|+ => $topic,)+ }
            }
        }
    };
}

ids! {
    "configuration" {
        Configuration = "configuration",
        ConfigurationInvalid = "configuration-invalid",
    }
    "rights" {
        Rights = "rights",
        RightsMissing = "rights-missing",
        NotLookedAt = "not-looked-at",
    }
    "kernel" {
        Kernel = "kernel",
        KernelNftablesMissing = "kernel-nftables-missing",
        KernelConntrackMissing = "kernel-conntrack-missing",
        KernelQueueMissing = "kernel-queue-missing",
        KernelTableRefused = "kernel-table-refused",
        KernelOwnerMissing = "kernel-owner-missing",
        LibnftablesCrashes = "libnftables-crashes",
    }
    "daemon" {
        Daemon = "daemon",
        DaemonNotRunning = "daemon-not-running",
        DaemonStopped = "daemon-stopped",
        DaemonRestartNeeded = "daemon-restart-needed",
        QueueTaken = "queue-taken",
    }
    "table" {
        Table = "table",
        TableMissing = "table-missing",
        TableChanged = "table-changed",
        TableLeft = "table-left",
        GuardWaiting = "guard-waiting",
    }
    "firewall" {
        Chain = "chain",
        ChainNotInAcceptIn = "chain-not-in-accept-in",
        ChainBeforeMark = "chain-before-mark",
        ChainDropsByInterface = "chain-drops-by-interface",
        ChainOwned = "chain-owned",
        AcceptInMissing = "accept-in-missing",
        AcceptRuleMissing = "accept-rule-missing",
        AcceptRuleLate = "accept-rule-late",
        Control = "control",
        ControlNotAccepted = "control-not-accepted",
        EstablishedNotAccepted = "established-not-accepted",
        MssClampPassedBy = "mss-clamp-passed-by",
        LegacyRules = "legacy-rules",
    }
    "kernel helper" {
        KernelHelper = "kernel-helper",
        KernelHelperAssigned = "kernel-helper-assigned",
        KernelHelperPossible = "kernel-helper-possible",
        KernelHelperAutomatic = "kernel-helper-automatic",
    }
    "flowtable" {
        Flowtable = "flowtable",
        FlowtableTakesControl = "flowtable-takes-control",
    }
    "routing" {
        Forwarding = "forwarding",
        ForwardingOff = "forwarding-off",
        ReversePath = "reverse-path",
        ReversePathStrict = "reverse-path-strict",
    }
    "mark" {
        MarkBit = "mark",
        MarkInUse = "mark-in-use",
    }
    "state" {
        StateDir = "state-dir",
        StateDirOnDisk = "state-dir-on-disk",
        StateDirUnusable = "state-dir-unusable",
        StateDirFull = "state-dir-full",
    }
    "conntrack" {
        ConntrackRoom = "conntrack-room",
        ConntrackNearlyFull = "conntrack-nearly-full",
        ControlNotTracked = "control-not-tracked",
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub id: Id,
    /// How it stands.
    pub mark: Mark,
    /// What was seen, and what it means.
    pub what: String,
    /// What to do about it, where it is not right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<Mend>,
}

impl Finding {
    /// Something that is right.
    pub fn right(id: Id, what: impl Into<String>) -> Self {
        Self { id, mark: Mark::Right, what: what.into(), mend: None }
    }

    /// Something that could not be looked at.
    pub fn unseen(id: Id, what: impl Into<String>, mend: Mend) -> Self {
        Self { id, mark: Mark::Unseen, what: what.into(), mend: Some(mend) }
    }

    /// Something that may keep sessions from working.
    pub fn warning(id: Id, what: impl Into<String>, mend: Mend) -> Self {
        Self { id, mark: Mark::Warning, what: what.into(), mend: Some(mend) }
    }

    /// Something that keeps ftpalg from working.
    pub fn wrong(id: Id, what: impl Into<String>, mend: Mend) -> Self {
        Self { id, mark: Mark::Wrong, what: what.into(), mend: Some(mend) }
    }
}

impl Mend {
    /// A command for a root shell.
    pub fn command(line: impl Into<String>) -> Self {
        Self::Command(line.into())
    }

    /// A rule is not to be there.
    pub fn deletion(rule: &Rule) -> Self {
        Self::Command(format!("nft delete rule {} handle {}", rule.chain, rule.handle))
    }

    /// What no single command does.
    pub fn advice(text: impl Into<String>) -> Self {
        Self::Advice(text.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The first column of the tables in docs/check.md.
    fn documented() -> Vec<&'static str> {
        let page = include_str!("../../docs/check.md");
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(id, _)| id).collect()
    }

    #[test]
    fn the_page_explains_each_finding_once_and_no_other() {
        let documented = documented();
        let known: BTreeSet<_> = Id::ALL.iter().map(|id| id.name()).collect();
        assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!((documented.len(), known.len()), (Id::ALL.len(), Id::ALL.len()));
    }

    #[test]
    fn a_finding_as_json() {
        let mend = Mend::Setting { file: "f.toml".to_owned(), line: "mark = 1".to_owned() };
        let finding = Finding::warning(Id::MarkInUse, "somebody", mend);
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"id":"mark-in-use","mark":"warning","what":"somebody","mend":{"setting":{"file":"f.toml","line":"mark = 1"}}}"#
        );
        let finding = Finding::right(Id::Rights, "all");
        assert_eq!(
            serde_json::to_string(&finding).unwrap(),
            r#"{"id":"rights","mark":"right","what":"all"}"#
        );
    }
}
