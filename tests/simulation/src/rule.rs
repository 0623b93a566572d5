//! The rules of the production code that a run can be told to break: each must then be violated
//! before long, or the simulation would not notice if it were gone.

use std::str::FromStr;

use tidegate_bridge_protocol::broken;

use crate::bridge::Break;

/// What is left out, and of which world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Sessions(Rule),
    Bridge(Break),
}

/// The rules of the bridge, by the names that they are asked for.
pub const OF_BRIDGE: [(&str, Break); 9] = [
    (
        "ack-before-commit",
        Break::Bridge(broken::Rule::AckBeforeCommit),
    ),
    ("skip-fence", Break::Bridge(broken::Rule::SkipFence)),
    ("ignore-hash", Break::Bridge(broken::Rule::IgnoreHash)),
    ("drop-gap", Break::Bridge(broken::Rule::DropGap)),
    ("resume-by-edge", Break::Bridge(broken::Rule::ResumeByEdge)),
    ("recycle-early", Break::RecycleEarly),
    (
        "answer-before-apply",
        Break::Bridge(broken::Rule::AnswerBeforeApply),
    ),
    ("double-fact", Break::Bridge(broken::Rule::DoubleFact)),
    ("skip-barrier", Break::Bridge(broken::Rule::SkipBarrier)),
];

impl Broken {
    /// As it is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sessions(rule) => rule.name(),
            Self::Bridge(broken) => {
                let known = OF_BRIDGE.iter().find(|(_, rule)| *rule == broken);
                known.map_or("", |(name, _)| name)
            }
        }
    }

    /// Every name.
    pub fn names() -> Vec<&'static str> {
        let of_bridge = OF_BRIDGE.iter().map(|(name, _)| *name);
        of_bridge.chain(Rule::ALL.map(Rule::name)).collect()
    }
}

impl FromStr for Broken {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some((_, rule)) = OF_BRIDGE.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Bridge(*rule));
        }
        let rule = Rule::ALL.into_iter().find(|rule| rule.name() == name);
        let names = || Self::names().join(" ");
        let rule =
            rule.ok_or_else(|| format!("there is no rule {name}; there are: {}", names()))?;
        Ok(Self::Sessions(rule))
    }
}

/// A rule of the client sessions.
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
