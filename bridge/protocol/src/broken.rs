//! Rules of the bridge and the ledger that a simulation can switch off, one at a time: it must then
//! notice. Without the feature `simulation` every rule holds, and asking costs nothing.

/// A rule that can be left out. Its name is the one that `tests/sim --break` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An answer waits for the commit of what it promises.
    AckBeforeCommit,
    /// A stale session epoch is refused.
    SkipFence,
    /// The hash before an offer, and at the hub's position, is compared.
    IgnoreHash,
    /// A gap that lands is declared.
    DropGap,
    /// The hub says where a stream goes on.
    ResumeByEdge,
    /// What is answered is the result of applying.
    AnswerBeforeApply,
    /// What had landed before makes no fact.
    DoubleFact,
    /// Lanes of before a switch land before the others go on.
    SkipBarrier,
}

#[cfg(feature = "simulation")]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Switches a rule off in this thread, or all of them on again.
#[cfg(feature = "simulation")]
pub fn break_rule(rule: Option<Rule>) {
    BROKEN.set(rule);
}

/// Whether a rule is switched off.
#[cfg(feature = "simulation")]
pub fn broken(rule: Rule) -> bool {
    BROKEN.get() == Some(rule)
}

/// Whether a rule is switched off: never.
#[cfg(not(feature = "simulation"))]
pub const fn broken(_rule: Rule) -> bool {
    false
}
