//! Who may do what: the ledger's rules with the configuration's policy, for every listener.

use tidegate_cloud_protocol::acls::{Added, Operation, Policy, Resource, Rule, RuleFilter, Who};
use tidegate_cloud_protocol::ledger::Effect;
use tidegate_cloud_protocol::ledger::command::{AddRules, Entry, RemoveRules};

use crate::broker::Broker;
use crate::limits::RULES_AT_ONCE_MAX;
use crate::submission::SubmitError;

impl Broker {
    /// Whether a principal (`User:ada`) that comes from a host (an address) may do something. Looks at the ledger, so
    /// not to be asked by who is looking at it: they have [`Broker::policy`].
    pub fn authorize(
        &self,
        principal: &str,
        host: &str,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        let who = Who { principal, host };
        self.ledger(|ledger| self.policy().may(ledger.rules(), who, operation, resource))
    }

    /// What the configuration says beside the rules.
    pub fn policy(&self) -> &Policy {
        &self.shared().policy
    }

    /// Adds rules that [`Rule::check`] lets through; says of each what became of it, once that is durable. Many are
    /// added in parts, one after the other.
    ///
    /// # Errors
    /// As [`Broker::submit`].
    pub async fn add_rules(&self, rules: Vec<Rule>) -> Result<Vec<Added>, SubmitError> {
        let parts = rules.chunks(RULES_AT_ONCE_MAX);
        let entries = parts.map(|rules| {
            let rules = rules.to_vec();
            (Entry::AddRules(AddRules { rules }), None)
        });
        let effects = self.submit(entries.collect()).await?.into_iter();
        let added = effects.map(|effect| match effect {
            Effect::RulesAdded(added) => added,
            _ => Vec::new(),
        });
        Ok(added.flatten().collect())
    }

    /// Removes all rules that one of the filters means, of which there are [`RemoveRules::FILTERS_MAX`] at most; says for
    /// each which these were.
    ///
    /// # Errors
    /// As [`Broker::submit`].
    pub async fn remove_rules(
        &self,
        filters: Vec<RuleFilter>,
    ) -> Result<Vec<Vec<Rule>>, SubmitError> {
        let remove = Entry::RemoveRules(RemoveRules { filters });
        let effects = self.submit(vec![(remove, None)]).await?;
        Ok(match effects.into_iter().next() {
            Some(Effect::RulesRemoved(removed)) => removed,
            _ => Vec::new(),
        })
    }

    /// Tells the operator where nobody may do anything.
    pub(crate) fn warn_if_closed(&self) {
        let policy = self.policy();
        let is_closed = !policy.allow_everyone_if_no_acl_found && policy.super_users.is_empty();
        if is_closed && self.ledger(|ledger| ledger.rules().is_empty()) {
            tracing::warn!(
                "no client may do anything: there are no rules and no authorization.super_users; tidegate acl add makes rules"
            );
        }
    }
}
