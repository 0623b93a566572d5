//! Who may do what, as the ledger keeps it.

use super::command::{AddRules, RemoveRules};
use super::{Effect, Ledger};
use crate::acls::{Rule, Rules};

impl Ledger {
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn add_rules(&mut self, add: AddRules) -> Effect {
        let rules = add.rules.into_iter();
        let added = rules.map(|rule| self.rules.add(rule));
        Effect::RulesAdded(added.collect())
    }

    /// A rule that several filters mean is told with the first of them: so an answer is never longer than there are
    /// rules.
    pub(super) fn remove_rules(&mut self, remove: &RemoveRules) -> Effect {
        let removed = remove.filters.iter().map(|filter| {
            let rules: Vec<Rule> = self.rules.matching(filter).collect();
            for rule in &rules {
                self.rules.remove(rule);
            }
            rules
        });
        Effect::RulesRemoved(removed.collect())
    }
}
