use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::strategies::{filter, host, name, operation, principal, rule};
use super::*;

fn topic_rule(
    (pattern, name): (PatternKind, &str),
    principal: &str,
    operation: Operation,
    permission: Permission,
) -> Rule {
    Rule {
        resource: ResourceKind::Topic,
        pattern,
        name: name.to_owned(),
        principal: principal.to_owned(),
        host: ANY.to_owned(),
        operation,
        permission,
    }
}

fn rules(all: impl IntoIterator<Item = Rule>) -> Rules {
    let mut rules = Rules::default();
    for rule in all {
        assert_eq!(rule.check(), Ok(()));
        rules.add(rule);
    }
    rules
}

const ADA: Who<'_> = Who {
    principal: "User:ada",
    host: "192.0.2.7",
};

fn strict() -> Policy {
    Policy::default()
}

fn open() -> Policy {
    Policy {
        allow_everyone_if_no_acl_found: true,
        ..Policy::default()
    }
}

use Operation::*;
use PatternKind::{Literal, Prefixed};
use Permission::{Allow, Deny};

#[test]
fn what_denies_outweighs_what_allows() {
    let rules = rules([
        topic_rule((Literal, "a"), "User:ada", Read, Allow),
        topic_rule((Prefixed, "a"), ANYBODY, Read, Deny),
    ]);
    assert!(!open().may(&rules, ADA, Read, Resource::Topic("a")));
    // What is denied is only what was said.
    assert!(strict().may(&rules, ADA, Describe, Resource::Topic("a")));
    let super_users = BTreeSet::from(["User:ada".to_owned()]);
    let policy = Policy {
        super_users,
        ..strict()
    };
    assert!(policy.may(&rules, ADA, Read, Resource::Topic("a")));
    assert!(policy.may(&rules, ADA, Alter, Resource::Cluster));
}

#[test]
fn a_resource_that_a_rule_is_about_is_closed_to_all_others() {
    let rules = rules([topic_rule((Literal, "a"), "User:bob", Read, Allow)]);
    assert!(!open().may(&rules, ADA, Read, Resource::Topic("a")));
    assert!(open().may(&rules, ADA, Read, Resource::Topic("b")));
    assert!(!strict().may(&rules, ADA, Read, Resource::Topic("b")));
    assert!(open().may(&rules, ADA, Read, Resource::Group("a")));
}

#[test]
fn operations_imply_others_only_where_they_are_allowed() {
    for (allowed, implied) in [
        (Read, Describe),
        (Write, Describe),
        (Delete, Describe),
        (Alter, Describe),
        (AlterConfigs, DescribeConfigs),
        (All, Create),
    ] {
        let allow = rules([topic_rule((Literal, "*"), "User:ada", allowed, Allow)]);
        assert!(
            strict().may(&allow, ADA, implied, Resource::Topic("a")),
            "{allowed:?}"
        );
        let deny = rules([
            topic_rule((Literal, "*"), "User:ada", allowed, Deny),
            topic_rule((Literal, "*"), "User:ada", implied, Allow),
        ]);
        let may = strict().may(&deny, ADA, implied, Resource::Topic("a"));
        assert_eq!(may, allowed != All, "{allowed:?}");
    }
    let create = rules([topic_rule((Literal, "*"), "User:ada", Create, Allow)]);
    assert!(!strict().may(&create, ADA, Describe, Resource::Topic("a")));
}

#[test]
fn what_may_be_done_is_told_in_kafkas_bits() {
    let rules = rules([
        topic_rule((Literal, "a"), "User:ada", All, Allow),
        topic_rule((Literal, "a"), "User:ada", Delete, Deny),
    ]);
    let told = strict().operations(&rules, ADA, Resource::Topic("a"));
    let expected = [
        Read,
        Write,
        Create,
        Alter,
        Describe,
        DescribeConfigs,
        AlterConfigs,
    ];
    let bits = expected
        .iter()
        .fold(0, |bits, one| bits | 1 << i32::from(one.code()));
    assert_eq!(told, bits);
    // As DescribeCluster tells whoever may do all.
    let none = Rules::default();
    assert_eq!(open().operations(&none, ADA, Resource::Cluster), 8096);
    assert_eq!(strict().operations(&none, ADA, Resource::Cluster), 0);
}

#[test]
fn with_any_topic_is_with_one_that_nothing_closes() {
    let may = |all: &[Rule]| {
        let rules = rules(all.iter().cloned());
        strict().may_with_any(&rules, ADA, Write, ResourceKind::Topic)
    };
    let allow = |pattern| topic_rule(pattern, "User:ada", Write, Allow);
    let deny = |pattern| topic_rule(pattern, ANYBODY, Write, Deny);
    assert!(!may(&[]));
    assert!(may(&[allow((Literal, "*"))]));
    assert!(may(&[allow((Literal, "a"))]));
    assert!(may(&[allow((Prefixed, "a"))]));
    assert!(!may(&[topic_rule((Literal, "a"), "User:ada", Read, Allow)]));
    assert!(!may(&[allow((Literal, "a")), deny((Literal, "*"))]));
    assert!(!may(&[allow((Literal, "ab")), deny((Prefixed, "a"))]));
    assert!(!may(&[allow((Literal, "a")), deny((Literal, "a"))]));
    assert!(may(&[allow((Prefixed, "a")), deny((Prefixed, "ab"))]));
    assert!(!may(&[allow((Prefixed, "ab")), deny((Prefixed, "a"))]));
    let none = Rules::default();
    assert!(open().may_with_any(&none, ADA, Write, ResourceKind::Topic));
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused() {
    let good = topic_rule((Literal, "a"), "User:ada", Read, Allow);
    let with = |change: fn(&mut Rule)| {
        let mut rule = good.clone();
        change(&mut rule);
        rule.check().is_err()
    };
    assert!(!with(|_| {}));
    assert!(with(|rule| rule.name.clear()));
    assert!(with(|rule| rule.host.clear()));
    assert!(with(|rule| rule.principal = "ada".to_owned()));
    assert!(with(|rule| rule.principal = "User:".to_owned()));
    assert!(with(|rule| rule.resource = ResourceKind::Cluster));
    assert!(with(
        |rule| rule.name = "a".repeat(RESOURCE_NAME_BYTES_MAX + 1)
    ));
    assert!(with(|rule| rule.host = "a".repeat(HOST_BYTES_MAX + 1)));
}

#[test]
fn an_address_has_one_way_to_be_written() {
    assert_eq!(canonical_host("0:0:0:0:0:0:0:1"), "::1");
    assert_eq!(canonical_host("::ffff:192.0.2.7"), "192.0.2.7");
    assert_eq!(canonical_host("*"), "*");
}

#[test]
fn there_are_never_more_rules_than_there_can_be() {
    let numbered =
        |number: usize| topic_rule((Literal, &number.to_string()), "User:ada", Read, Allow);
    let mut all = rules((0..RULES_MAX).map(numbered));
    assert_eq!(all.len(), RULES_MAX);
    assert_eq!(all.add(numbered(RULES_MAX)), Added::Full);
    assert_eq!(all.add(numbered(0)), Added::Known);
    assert!(all.remove(&numbered(0)));
    assert_eq!(all.add(numbered(RULES_MAX)), Added::New);
}

#[test]
fn words_are_read_as_people_write_them() {
    let read = |name| Operation::from_name(name);
    assert_eq!(read("describe-configs"), Some(DescribeConfigs));
    assert_eq!(read("DescribeConfigs"), Some(DescribeConfigs));
    assert_eq!(read("DESCRIBE_CONFIGS"), Some(DescribeConfigs));
    assert_eq!(read("describes"), None);
    for operation in Operation::ALL_OF_THEM {
        assert_eq!(read(operation.name()), Some(*operation));
        assert_eq!(Operation::from_code(operation.code()), Some(*operation));
    }
}

/// The decision as Kafka's documentation tells it, by a walk over all rules.
fn walked(
    policy: &Policy,
    all: &[Rule],
    who: Who<'_>,
    operation: Operation,
    resource: Resource<'_>,
) -> bool {
    let is_about = |rule: &Rule| {
        rule.resource == resource.kind()
            && match rule.pattern {
                Literal => rule.name == ANY || rule.name == resource.name(),
                Prefixed => resource.name().starts_with(&rule.name),
            }
    };
    let is_for = |rule: &Rule| {
        (rule.principal == ANYBODY || rule.principal == who.principal)
            && (rule.host == ANY || rule.host == who.host)
    };
    let implies = |said: Operation| match operation {
        Describe => matches!(said, Describe | Read | Write | Delete | Alter),
        DescribeConfigs => matches!(said, DescribeConfigs | AlterConfigs),
        _ => said == operation,
    };
    if policy.super_users.contains(who.principal) {
        return true;
    }
    let about: Vec<&Rule> = all.iter().filter(|rule| is_about(rule)).collect();
    let mut of_who = about.iter().filter(|rule| is_for(rule));
    if of_who.clone().any(|rule| {
        rule.permission == Deny && (rule.operation == All || rule.operation == operation)
    }) {
        return false;
    }
    let allows = of_who
        .any(|rule| rule.permission == Allow && (rule.operation == All || implies(rule.operation)));
    allows || about.is_empty() && policy.allow_everyone_if_no_acl_found
}

fn policy() -> impl Strategy<Value = Policy> {
    let super_users = prop::option::weighted(0.1, Just("User:ada".to_owned()));
    (super_users, any::<bool>()).prop_map(|(super_users, allow)| Policy {
        super_users: super_users.into_iter().collect(),
        allow_everyone_if_no_acl_found: allow,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_index_decides_as_a_walk_over_all_rules(
        policy in policy(),
        all in vec(rule(), 0..40),
        gone in vec(any::<prop::sample::Index>(), 0..10),
        (principal, host) in (principal(), host()),
        operation in operation(),
        (kind, name) in (0..3u8, name()),
    ) {
        let mut set: BTreeSet<Rule> = all.iter().cloned().collect();
        let mut rules = rules(all.clone());
        for rule in gone.iter().filter(|_| !all.is_empty()).map(|index| index.get(&all)) {
            prop_assert_eq!(rules.remove(rule), set.remove(rule));
        }
        let left: Vec<Rule> = set.iter().cloned().collect();
        prop_assert_eq!(rules.len(), left.len());
        let who = Who { principal: &principal, host: &host };
        let resource = match kind {
            0 => Resource::Topic(&name),
            1 => Resource::Group(&name),
            _ => Resource::Cluster,
        };
        let walked = |operation| walked(&policy, &left, who, operation, resource);
        prop_assert_eq!(policy.may(&rules, who, operation, resource), walked(operation));
        let told = policy.operations(&rules, who, resource);
        for operation in resource.kind().operations() {
            prop_assert_eq!(told >> operation.code() & 1 == 1, walked(*operation));
        }
    }
}

proptest! {
    #[test]
    fn rules_are_what_was_added_and_not_removed(
        mut all in vec(rule(), 0..40),
        removed in filter(),
    ) {
        let mut rules = rules(all.clone());
        all.sort();
        all.dedup();
        let mut listed: Vec<Rule> = rules.iter().collect();
        listed.sort();
        prop_assert_eq!(&listed, &all);
        let mut matching: Vec<Rule> = rules.matching(&removed).collect();
        matching.sort();
        let expected: Vec<Rule> = all.iter().filter(|rule| removed.matches(rule)).cloned().collect();
        prop_assert_eq!(&matching, &expected);
        for rule in &matching {
            prop_assert!(rules.remove(rule));
        }
        all.retain(|rule| !removed.matches(rule));
        prop_assert_eq!(rules, self::rules(all));
    }

    #[test]
    fn a_filter_of_a_name_means_what_kafka_means(rule in rule(), name in name()) {
        let filter = |pattern| RuleFilter {
            pattern,
            name: Some(name.clone()),
            ..RuleFilter::default()
        };
        let would_match = match rule.pattern {
            Literal => rule.name == name || rule.name == ANY,
            Prefixed => name.starts_with(&rule.name),
        };
        prop_assert_eq!(filter(PatternFilter::Match).matches(&rule), would_match);
        prop_assert_eq!(filter(PatternFilter::Any).matches(&rule), rule.name == name);
        for pattern in [Literal, Prefixed] {
            let is_it = rule.pattern == pattern && rule.name == name;
            prop_assert_eq!(filter(PatternFilter::Only(pattern)).matches(&rule), is_it);
        }
    }

    #[test]
    fn with_any_is_allowed_only_where_some_name_is(
        all in vec(rule(), 0..12),
        operation in select(&[Read, Write, Create][..]),
    ) {
        let rules = rules(all.clone());
        if strict().may_with_any(&rules, ADA, operation, ResourceKind::Topic) {
            // One that a rule allows: its name, or with a prefix, a longer one that no other rule has.
            let names = all.iter().flat_map(|rule| [rule.name.clone(), format!("{}!", rule.name)]);
            let mut names = names.chain(["?".to_owned()]);
            let any = names.any(|name| strict().may(&rules, ADA, operation, Resource::Topic(&name)));
            prop_assert!(any);
        }
    }
}
