//! Random rules for property tests: few names that begin alike, so that they meet.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Names of resources, as rules and as requests have them.
pub(crate) fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just(ANY.to_owned()),
        8 => "[aäb.]{1,5}",
    ]
}

pub(crate) fn principal() -> impl Strategy<Value = String> {
    select(&["User:ada", "User:bob", "User:*", "User:ANONYMOUS"][..]).prop_map(str::to_owned)
}

pub(crate) fn host() -> impl Strategy<Value = String> {
    select(&["*", "127.0.0.1", "192.0.2.7"][..]).prop_map(str::to_owned)
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    select(Operation::ALL_OF_THEM)
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let resource = select(
        &[
            ResourceKind::Topic,
            ResourceKind::Group,
            ResourceKind::Cluster,
        ][..],
    );
    let about = (resource, select(PatternKind::ALL_OF_THEM), name());
    let says = (operation(), select(Permission::ALL_OF_THEM));
    (about, principal(), host(), says).prop_map(
        |((resource, pattern, name), principal, host, (operation, permission))| Rule {
            resource,
            pattern,
            name: match resource {
                ResourceKind::Cluster => CLUSTER_NAME.to_owned(),
                _ => name,
            },
            principal,
            host,
            operation,
            permission,
        },
    )
}

pub(crate) fn filter() -> impl Strategy<Value = RuleFilter> {
    let pattern = select(
        &[
            PatternFilter::Any,
            PatternFilter::Match,
            PatternFilter::Only(PatternKind::Literal),
            PatternFilter::Only(PatternKind::Prefixed),
        ][..],
    );
    let resource = prop::option::of(select(ResourceKind::ALL_OF_THEM));
    let about = (resource, pattern, prop::option::of(name()));
    let says = (
        prop::option::of(operation()),
        prop::option::of(select(Permission::ALL_OF_THEM)),
    );
    let who = (prop::option::of(principal()), prop::option::of(host()));
    (about, who, says).prop_map(
        |((resource, pattern, name), (principal, host), (operation, permission))| RuleFilter {
            resource,
            pattern,
            name,
            principal,
            host,
            operation,
            permission,
        },
    )
}
