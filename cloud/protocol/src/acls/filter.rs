//! Which rules a question or a removal means. Source: Kafka's `ResourcePatternFilter` and `AccessControlEntryFilter`.

use super::rule::check_length;
use super::{
    ANY, HOST_BYTES_MAX, Operation, PRINCIPAL_BYTES_MAX, PatternKind, Permission,
    RESOURCE_NAME_BYTES_MAX, ResourceKind, Rule, RuleError,
};

/// How the name in a filter is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    /// Of patterns of either kind, those of exactly this name.
    #[default]
    Any,
    /// Patterns that would match a resource of this name.
    Match,
    /// Patterns of this kind and exactly this name.
    Only(PatternKind),
}

/// What is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFilter {
    pub resource: Option<ResourceKind>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

fn lets<T: PartialEq + ?Sized>(wanted: Option<&T>, is: &T) -> bool {
    wanted.is_none_or(|wanted| wanted == is)
}

impl RuleFilter {
    /// Refuses what is longer than it is in any rule.
    ///
    /// # Errors
    /// With what is too long.
    pub fn check(&self) -> Result<(), RuleError> {
        check_length(
            "resource's name",
            self.name.as_deref(),
            RESOURCE_NAME_BYTES_MAX,
        )?;
        check_length("principal", self.principal.as_deref(), PRINCIPAL_BYTES_MAX)?;
        check_length("host", self.host.as_deref(), HOST_BYTES_MAX)
    }

    pub fn matches(&self, rule: &Rule) -> bool {
        lets(self.resource.as_ref(), &rule.resource)
            && lets(self.principal.as_deref(), &rule.principal)
            && lets(self.host.as_deref(), &rule.host)
            && lets(self.operation.as_ref(), &rule.operation)
            && lets(self.permission.as_ref(), &rule.permission)
            && self.matches_name(rule)
    }

    fn matches_name(&self, rule: &Rule) -> bool {
        let Some(name) = &self.name else {
            return match self.pattern {
                PatternFilter::Only(kind) => kind == rule.pattern,
                PatternFilter::Any | PatternFilter::Match => true,
            };
        };
        match (self.pattern, rule.pattern) {
            (PatternFilter::Any, _) => *name == rule.name,
            (PatternFilter::Only(kind), pattern) => kind == pattern && *name == rule.name,
            (PatternFilter::Match, PatternKind::Literal) => *name == rule.name || rule.name == ANY,
            (PatternFilter::Match, PatternKind::Prefixed) => name.starts_with(&rule.name),
        }
    }
}
