//! What became of each line.

use std::fmt;
use std::path::PathBuf;

use super::lines::Line;

/// A file and a line, from 1; 0: the file as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}", self.file.display()),
            line => write!(formatter, "{}:{line}", self.file.display()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is in the result.
    Mapped,
    /// The node does so without being told.
    IsSo,
    /// It is in the result, or needs not be, and something is otherwise here.
    Differs,
    /// Somebody has to do something, or do without.
    NotCarried,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(super) place: Place,
    /// As it is written there; never a password.
    pub(super) what: String,
    pub(super) fate: Fate,
    pub(super) why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            what,
            fate,
            why,
        } = self;
        let fate = match fate {
            Fate::Mapped => "carried over",
            Fate::IsSo => "is so here anyway",
            Fate::Differs => "differs",
            Fate::NotCarried => "NOT CARRIED OVER",
        };
        write!(formatter, "{place}: {what}: {fate}: {why}")
    }
}

/// All findings, in the order of the files' lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

/// Options whose value nobody is to read.
const SECRETS: [&str; 5] = [
    "password",
    "remote_password",
    "local_password",
    "bridge_psk",
    "tls_engine_kpass_sha1",
];

impl Report {
    pub(super) fn add(&mut self, line: &Line, fate: Fate, why: impl Into<String>) {
        let is_secret = SECRETS.contains(&line.option.as_str())
            || line.option.starts_with("auth_opt_")
            || line.option.starts_with("plugin_opt_");
        let what = match line.value.is_empty() || is_secret {
            true => line.option.clone(),
            false => format!("{} {}", line.option, line.value),
        };
        self.findings.push(Finding {
            place: line.place.clone(),
            what,
            fate,
            why: why.into(),
        });
    }

    pub(super) fn not_carried(&mut self, line: &Line, why: impl Into<String>) {
        self.add(line, Fate::NotCarried, why);
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Those of a kind.
    pub(crate) fn of(&self, fate: Fate) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.fate == fate)
    }

    /// What somebody should read.
    pub(crate) fn worth_reading(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.fate >= Fate::Differs)
    }

    pub(super) fn sort(&mut self) {
        self.findings
            .sort_by(|one, other| one.place.cmp(&other.place));
    }
}
