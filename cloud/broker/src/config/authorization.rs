//! `authorization:` of `cloud.yaml`: what holds beside the rules that clients and people make.

use anyhow::Context as _;
use serde::Deserialize;
use tidegate_cloud_protocol::acls::{Policy, check_principal};

/// Who may do what, beside the rules (ACLs) that are made while the cloud runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizationConfig {
    /// Principals that may do everything, whatever rules say, such as `User:admin` (Kafka's `super.users`). Default:
    /// none.
    pub super_users: Vec<String>,
    /// With a resource that no rule is about, everybody may do everything (Kafka's
    /// `allow.everyone.if.no.acl.found`). Default: true where no listener authenticates, and false where one does.
    pub allow_everyone_if_no_acl_found: Option<bool>,
}

impl AuthorizationConfig {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for principal in &self.super_users {
            check_principal(principal).context("authorization.super_users")?;
        }
        Ok(())
    }

    /// What is meant, given whether any listener knows who its clients are.
    pub(super) fn policy(&self, authenticates: bool) -> Policy {
        Policy {
            super_users: self.super_users.iter().cloned().collect(),
            allow_everyone_if_no_acl_found: self
                .allow_everyone_if_no_acl_found
                .unwrap_or(!authenticates),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn who_is_not_named_is_nobody_where_somebody_is_known() {
        let config = AuthorizationConfig::default();
        assert!(config.policy(false).allow_everyone_if_no_acl_found);
        assert!(!config.policy(true).allow_everyone_if_no_acl_found);
        let yaml =
            "authorization: {super_users: ['User:admin'], allow_everyone_if_no_acl_found: false}";
        let policy = Config::parse(yaml).unwrap().policy();
        assert!(policy.super_users.contains("User:admin"));
        assert!(!policy.allow_everyone_if_no_acl_found);
    }

    #[test]
    fn a_super_user_is_a_principal() {
        let error = Config::parse("authorization: {super_users: [admin]}").unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("User:ada"), "{error}");
        assert!(Config::parse("authorization: {users: []}").is_err());
    }
}
