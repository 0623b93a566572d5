//! Which rules a question or a removal means. Source: Kafka's `ResourcePatternFilter` and `AccessControlEntryFilter`.

use super::{ANY, Operation, PatternKind, Permission, ResourceKind, Rule};

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
