//! What the configuration says beside the rules, and the decision that both make together.

use std::collections::BTreeSet;

use super::rules::Grants;
use super::{Operation, Resource, ResourceKind, Rules};

/// Who wants something.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// `User:ada`.
    pub principal: &'a str,
    /// The address, as [`canonical_host`](super::canonical_host) writes it.
    pub host: &'a str,
}

/// Kafka's `super.users` and `allow.everyone.if.no.acl.found`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// They may do everything, whatever rules say.
    pub super_users: BTreeSet<String>,
    /// With a resource that no rule is about, everybody may do everything; else nobody may.
    pub allow_everyone_if_no_acl_found: bool,
}

/// Whoever shows the node's own token: may do everything. No user and no certificate has such a name, and rules are about none.
pub const ADMINISTRATOR: &str = "Administrator:local";

impl Policy {
    /// Whether somebody may do something. As Kafka's `StandardAuthorizer`: a super user may; a rule that denies
    /// outweighs all that allow; a resource that any rule is about is closed to who is not allowed.
    pub fn may(
        &self,
        rules: &Rules,
        who: Who<'_>,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        self.is_super_user(who) || self.lets(rules.grants(who, resource), operation)
    }

    /// All that somebody may do with a resource, a bit for each operation at Kafka's number for it. Only what can be
    /// done with such a resource is told.
    pub fn operations(&self, rules: &Rules, who: Who<'_>, resource: Resource<'_>) -> i32 {
        let grants = rules.grants(who, resource);
        let may_all = self.is_super_user(who);
        let operations = resource.kind().operations().iter();
        let may = operations.filter(|operation| may_all || self.lets(grants, **operation));
        may.fold(0, |bits, operation| bits | i32::from(operation.bit()))
    }

    /// Whether somebody may do something with at least one resource of a kind (KIP-679). Source: Kafka's
    /// `Authorizer.authorizeByResourceType`, which looks at a rule's own operation, not at what that implies.
    pub fn may_with_any(
        &self,
        rules: &Rules,
        who: Who<'_>,
        operation: Operation,
        kind: ResourceKind,
    ) -> bool {
        if self.is_super_user(who) {
            return true;
        }
        // A resource that only rules for all are about: what may be done with it, may be with all but few.
        let of_all = rules.grants_of_all(who, kind);
        self.lets(of_all, operation) || rules.allows_with_any(who, operation, kind)
    }

    fn is_super_user(&self, who: Who<'_>) -> bool {
        who.principal == ADMINISTRATOR || self.super_users.contains(who.principal)
    }

    fn lets(&self, grants: Grants, operation: Operation) -> bool {
        if grants.denied & operation.denied_by() != 0 {
            return false;
        }
        let is_allowed = grants.allowed & operation.allowed_by() != 0;
        is_allowed || !grants.is_ruled && self.allow_everyone_if_no_acl_found
    }
}
