//! Who may do what: the ledger's rules with the configuration's policy, for every listener.

use tidegate_cloud_protocol::acls::{Operation, Policy, Resource, Who};

use crate::broker::Broker;

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
