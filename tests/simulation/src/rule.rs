//! The rules of the production code that a run can be told to break: each must then be violated
//! before long, or the simulation would not notice if it were gone.

use std::str::FromStr;

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Syncs do nothing.
    Fsync,
    /// A log file is used again before the checkpoint that records its death is durable.
    RecycleBeforeCheckpoint,
    /// The others answer before what they promise is committed.
    PubackBeforeCommit,
    PubrecBeforeCommit,
    PubcompBeforeCommit,
    ConnackBeforeCommit,
    SubackBeforeCommit,
    /// The PUBLISH of a QoS 2 delivery goes out before its identifier is committed.
    AssignBeforeCommit,
    /// The PUBREL of a QoS 2 delivery goes out before its PUBREC is committed.
    ReceivedBeforeCommit,
    /// A connection lets go of its session although a full journal may still refuse what it took.
    LetGoUnsure,
    /// A session's row is written anew although a full journal may still refuse what it has received.
    FoldUnsure,
    /// The journal is not told what client sessions still read.
    NeededFrom,
}

impl Rule {
    pub const ALL: [Self; 12] = [
        Self::Fsync,
        Self::RecycleBeforeCheckpoint,
        Self::PubackBeforeCommit,
        Self::PubrecBeforeCommit,
        Self::PubcompBeforeCommit,
        Self::ConnackBeforeCommit,
        Self::SubackBeforeCommit,
        Self::AssignBeforeCommit,
        Self::ReceivedBeforeCommit,
        Self::LetGoUnsure,
        Self::FoldUnsure,
        Self::NeededFrom,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::RecycleBeforeCheckpoint => "recycle-before-checkpoint",
            Self::PubackBeforeCommit => "puback-before-commit",
            Self::PubrecBeforeCommit => "pubrec-before-commit",
            Self::PubcompBeforeCommit => "pubcomp-before-commit",
            Self::ConnackBeforeCommit => "connack-before-commit",
            Self::SubackBeforeCommit => "suback-before-commit",
            Self::AssignBeforeCommit => "assign-before-commit",
            Self::ReceivedBeforeCommit => "received-before-commit",
            Self::LetGoUnsure => "let-go-unsure",
            Self::FoldUnsure => "fold-unsure",
            Self::NeededFrom => "needed-from",
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut rules = Self::ALL.into_iter();
        rules.find(|rule| rule.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(" ");
            format!("there is no rule {name}; there are: {names}")
        })
    }
}
