//! Who may do what: rules in the manner of Kafka's ACLs (KIP-11, KIP-290, KIP-679), and the decision about a request.
//!
//! [`Rules`] is the set that the ledger keeps; a [`Policy`] is what the configuration says beside it. Both together
//! decide as Kafka's `StandardAuthorizer` does. It knows nothing of topics or groups but their names, and not who a
//! client really is: that is for who authenticates.

mod filter;
mod kind;
mod policy;
mod rule;
mod rules;
#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;

pub use filter::{PatternFilter, RuleFilter};
pub use kind::{Operation, PatternKind, Permission, ResourceKind};
pub use policy::{ADMINISTRATOR, Policy, Who};
pub use rule::{
    HOST_BYTES_MAX, PRINCIPAL_BYTES_MAX, RESOURCE_NAME_BYTES_MAX, Resource, Rule, RuleError,
    canonical_host, check_principal,
};
pub use rules::{Added, RULES_MAX, Rules};

/// The one resource of the kind [`ResourceKind::Cluster`].
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// Any host; and as a literal pattern, any resource.
pub const ANY: &str = "*";

/// Any principal.
pub const ANYBODY: &str = "User:*";
