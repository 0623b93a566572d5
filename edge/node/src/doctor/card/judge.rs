//! What is there after the cut, and what that shows of the card.
//!
//! The order of the writes, each synced before the next: block 1, promise 1, block 2, promise 2, … So on an honest disk
//! the newest promise k says that all blocks up to k are there, and nothing after block k + 1 is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::wear::Measured;

pub const LIES_ADVICE: &str = "do not keep messages on it: after a power cut acknowledged ones are gone. Take another card or disk (one with power-loss protection, or an eMMC), a USB bridge that passes flushes on, or a supply that outlasts a cut";

/// What was found on the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The newest promise; 0: none.
    pub promised: u64,
    /// The newest block.
    pub newest: u64,
    /// Blocks and promises up to the newest promise that must be there, and are not or are torn; the first of them.
    pub missing: u64,
    pub first_missing: u64,
    /// The plug was to be pulled from this block on.
    pub pull_from: u64,
    /// Neither the machine nor the file system was started anew since.
    pub same_life: bool,
    /// The newest block that a person was shown, where that is known; 0: it is not.
    #[serde(default)]
    pub shown: u64,
    #[serde(default)]
    pub measured: Measured,
    /// When it was looked at, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What is known of the card's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// All that it had called stored was there.
    Word,
    /// There was no cut, or too early.
    NotShown,
    Broken,
}

/// A judgement, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub kept: Kept,
    pub facts: Facts,
    says: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.says, self.facts.measured)
    }
}

/// `last`: the number that the terminal showed last, where somebody has noted it.
pub fn judge(facts: Facts, last: Option<u64>) -> Verdict {
    let Facts {
        promised,
        newest,
        missing,
        first_missing,
        pull_from,
        ..
    } = facts;
    let verdict = |kept, says| Verdict { kept, facts, says };
    if missing > 0 {
        return verdict(
            Kept::Broken,
            format!(
                "the card did not keep its word: {missing} blocks that it had called stored before it stored promise {promised} are missing or torn, the first of them {first_missing}"
            ),
        );
    }
    if newest > promised + 1 {
        let lost = newest - 1;
        return verdict(
            Kept::Broken,
            format!(
                "the card did not keep its word: block {newest} is there, and promise {lost}, which it had called stored before, is not"
            ),
        );
    }
    if let Some(last) = last.filter(|last| *last > promised) {
        return verdict(
            Kept::Broken,
            format!(
                "the card did not keep its word: it had called block {last} stored, and the newest that is there is {promised}"
            ),
        );
    }
    if facts.same_life {
        return verdict(
            Kept::NotShown,
            format!(
                "nothing is shown: all {promised} blocks are there, and there was no power cut since"
            ),
        );
    }
    if last.is_none() && promised < pull_from.max(1) {
        return verdict(
            Kept::NotShown,
            format!(
                "it is not shown that the card keeps its word: the newest block is {promised}, and the plug was to be pulled from {pull_from} on. Either it was pulled sooner, or the card has lost what came later: `tidegate-edge doctor disk --check --last N`, with the number that was shown last, tells which"
            ),
        );
    }
    let beside = match last {
        Some(last) => format!("the {last} that were shown among them"),
        None => "no later one contradicts it; --check --last N holds it against the number that was shown last".to_owned(),
    };
    verdict(
        Kept::Word,
        format!(
            "the card kept its word over this power cut: {promised} blocks were called stored and are there, {beside}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::cost::Cost;
    use super::*;

    const NOTHING: Measured = Measured {
        cost: Cost {
            commits: 0,
            mean_us: 0,
            median_us: 0,
            p99_us: 0,
            max_us: 0,
        },
        load_bytes_per_second: 0,
        rated_bytes: 0,
    };

    const HONEST: Facts = Facts {
        promised: 1_000,
        newest: 1_001,
        missing: 0,
        first_missing: 0,
        pull_from: 500,
        same_life: false,
        shown: 0,
        measured: NOTHING,
        at_ms: 0,
    };

    fn kept(facts: Facts, last: Option<u64>) -> Kept {
        judge(facts, last).kept
    }

    #[test]
    fn an_honest_card_is_believed() {
        for newest in [1_000, 1_001] {
            let facts = Facts { newest, ..HONEST };
            assert_eq!(kept(facts, None), Kept::Word);
            assert_eq!(kept(facts, Some(1_000)), Kept::Word);
            assert_eq!(kept(facts, Some(990)), Kept::Word, "a terminal lags");
        }
    }

    #[test]
    fn each_contradiction_is_found() {
        let lost_a_block = Facts {
            missing: 1,
            first_missing: 999,
            ..HONEST
        };
        assert_eq!(kept(lost_a_block, None), Kept::Broken);
        let lost_a_promise = Facts {
            newest: 1_002,
            ..HONEST
        };
        assert_eq!(kept(lost_a_promise, None), Kept::Broken);
        assert_eq!(kept(HONEST, Some(1_001)), Kept::Broken);
        // Also without a cut.
        let same_life = true;
        let told = Facts {
            same_life,
            ..HONEST
        };
        assert_eq!(kept(told, Some(1_001)), Kept::Broken);
    }

    #[test]
    fn what_shows_nothing_is_not_called_good() {
        let same_life = true;
        assert_eq!(
            kept(
                Facts {
                    same_life,
                    ..HONEST
                },
                None
            ),
            Kept::NotShown
        );
        let early = Facts {
            promised: 499,
            newest: 499,
            ..HONEST
        };
        assert_eq!(kept(early, None), Kept::NotShown);
        assert_eq!(kept(early, Some(499)), Kept::Word, "it was pulled early");
        assert_eq!(kept(early, Some(700)), Kept::Broken);
        assert_eq!(
            kept(
                Facts {
                    promised: 0,
                    newest: 0,
                    ..HONEST
                },
                Some(1)
            ),
            Kept::Broken
        );
    }
}
