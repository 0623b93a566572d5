//! Who may publish and subscribe to what: rules from a file, and what comes of them for one client. Pure: it reads no
//! file, and knows neither sessions nor packets; the driver asks it at CONNECT, PUBLISH and SUBSCRIBE.
//!
//! A rule that denies counts before any that allows, wherever it stands. With any rule, what none allows is denied.

mod levels;
mod pattern;
mod rule;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;

pub use pattern::NamedFilter;
pub(super) use pattern::is_one_level;
pub use rule::{Action, Rule, RuleError, RulesForm};

use super::destination::final_topic;
use levels::Levels;
use rule::Verdict;

/// Rules of one node: each is looked at when a client connects.
pub const RULES_MAX: usize = 10_000;

/// Topic patterns of all rules together.
pub const PATTERNS_MAX: usize = 50_000;

/// More than is looked through for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RulesError {
    #[error("{0} rules are more than {RULES_MAX}")]
    Rules(usize),
    #[error("{0} topics in all rules are more than {PATTERNS_MAX}")]
    Patterns(usize),
}

/// Who is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// As it was proved; a name that is only said is none.
    pub user: Option<&'a str>,
    pub id: &'a str,
}

/// All rules, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// What they say for everybody: all clients have it together.
    everybody: Arc<Both>,
}

impl Rules {
    /// # Errors
    /// There are more than are looked through.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RulesError> {
        if rules.len() > RULES_MAX {
            return Err(RulesError::Rules(rules.len()));
        }
        let patterns = rules.iter().map(|rule| rule.patterns.len()).sum();
        if patterns > PATTERNS_MAX {
            return Err(RulesError::Patterns(patterns));
        }
        let mut everybody = Both::default();
        for rule in rules.iter().filter(|rule| rule.concerns_everybody()) {
            let fixed = rule.patterns.iter().filter_map(|pattern| pattern.fixed());
            fixed.for_each(|levels| everybody.add(rule, levels));
        }
        Ok(Self {
            rules,
            everybody: Arc::new(everybody),
        })
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Without rules, everybody may do everything.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What one client may do.
    pub fn rights(&self, client: Client<'_>) -> Rights {
        let mut own = Both::default();
        for rule in self.rules.iter().filter(|rule| rule.concerns(client)) {
            for pattern in &rule.patterns {
                let levels = match (pattern.fixed(), rule.verdict) {
                    (Some(_), _) if rule.concerns_everybody() => None,
                    (Some(levels), _) => Some(levels.clone()),
                    (None, Verdict::Allow) => pattern.granted_to(client),
                    (None, Verdict::Deny) => Some(pattern.denied_to(client)),
                };
                levels.iter().for_each(|levels| own.add(rule, levels));
            }
        }
        Rights {
            is_open: self.is_empty(),
            everybody: Arc::clone(&self.everybody),
            own,
        }
    }
}

/// What one client may do: the rules that concern it, with its names filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    is_open: bool,
    everybody: Arc<Both>,
    /// Beside that.
    own: Both,
}

/// For each action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Both {
    publish: Patterns,
    subscribe: Patterns,
}

impl Both {
    fn add(&mut self, rule: &Rule, levels: &Levels) {
        for action in &rule.actions {
            let patterns = match action {
                Action::Publish => &mut self.publish,
                Action::Subscribe => &mut self.subscribe,
            };
            patterns.of_mut(rule.verdict).push(levels.clone());
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Patterns {
    allowed: Vec<Levels>,
    denied: Vec<Levels>,
}

impl Patterns {
    fn of_mut(&mut self, verdict: Verdict) -> &mut Vec<Levels> {
        match verdict {
            Verdict::Allow => &mut self.allowed,
            Verdict::Deny => &mut self.denied,
        }
    }
}

impl Rights {
    /// Whether it may publish to a topic, as a will too.
    /// Of a delayed message it is the topic that it has in the end.
    pub fn may_publish(&self, topic: &str) -> bool {
        let topic = final_topic(topic);
        let matches = |levels: &Levels| levels.matches(topic);
        self.allow(|both| &both.publish, matches, matches)
    }

    /// Whether it may have all that a filter matches; of a shared subscription it is the filter behind the
    /// group's name. One allowing pattern must cover the whole filter, and no denying one may overlap it.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        let overlaps = |levels: &Levels| levels.overlaps(filter);
        let covers = |levels: &Levels| levels.covers(filter);
        self.allow(|both| &both.subscribe, overlaps, covers)
    }

    fn allow(
        &self,
        of: impl Fn(&Both) -> &Patterns,
        is_denied: impl Fn(&Levels) -> bool,
        is_allowed: impl Fn(&Levels) -> bool,
    ) -> bool {
        let all = [of(&self.own), of(&self.everybody)];
        let mut denied = all.iter().flat_map(|patterns| &patterns.denied);
        let mut allowed = all.iter().flat_map(|patterns| &patterns.allowed);
        self.is_open || (!denied.any(is_denied) && allowed.any(is_allowed))
    }
}
