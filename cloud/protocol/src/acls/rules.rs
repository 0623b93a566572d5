//! The set of rules, by what they are about, so that a decision looks only at those that can matter: the patterns that
//! match the resource's name, and of each what it says about two principals and two hosts.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{
    ANY, ANYBODY, Operation, PatternKind, Permission, Resource, ResourceKind, Rule, RuleFilter, Who,
};

/// Rules that there can be; one more is refused. It bounds what the ledger keeps, and what one removal walks.
pub const RULES_MAX: usize = 10_000;

/// What became of a rule that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    New,
    /// It was there already.
    Known,
    /// There are [`RULES_MAX`].
    Full,
}

/// All rules. Equal sets are equal, however they came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    kinds: BTreeMap<ResourceKind, OfKind>,
    count: usize,
}

/// What somebody may and may not do, of all rules that are about a resource: operations as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants {
    pub(super) allowed: u16,
    pub(super) denied: u16,
    /// Some rule is about the resource, whomever it is for.
    pub(super) is_ruled: bool,
}

/// The patterns for resources of one kind, by their names. None is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfKind {
    literal: BTreeMap<String, OfPattern>,
    prefixed: BTreeMap<String, OfPattern>,
}

/// What a pattern's rules say: by principal, then by host. Nothing in it is empty.
type OfPattern = BTreeMap<String, BTreeMap<String, Said>>;

/// Operations as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    allowed: u16,
    denied: u16,
}

impl Said {
    fn bits(&mut self, permission: Permission) -> &mut u16 {
        match permission {
            Permission::Allow => &mut self.allowed,
            Permission::Deny => &mut self.denied,
        }
    }

    fn is_empty(self) -> bool {
        self.allowed | self.denied == 0
    }
}

impl Rules {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a rule that [`Rule::check`] lets through.
    pub fn add(&mut self, rule: Rule) -> Added {
        if self.has(&rule) {
            return Added::Known;
        }
        if self.count >= RULES_MAX {
            return Added::Full;
        }
        let patterns = self.kinds.entry(rule.resource).or_default();
        let of_pattern = patterns.of_mut(rule.pattern).entry(rule.name).or_default();
        let of_principal = of_pattern.entry(rule.principal).or_default();
        let said = of_principal.entry(rule.host).or_default();
        *said.bits(rule.permission) |= rule.operation.bit();
        self.count += 1;
        Added::New
    }

    fn has(&self, rule: &Rule) -> bool {
        let said = || {
            let patterns = self.kinds.get(&rule.resource)?.of(rule.pattern);
            let of_principal = patterns.get(&rule.name)?.get(&rule.principal)?;
            of_principal.get(&rule.host).copied()
        };
        said().is_some_and(|mut said| *said.bits(rule.permission) & rule.operation.bit() != 0)
    }

    /// Removes a rule; says whether it was there.
    pub fn remove(&mut self, rule: &Rule) -> bool {
        if !self.has(rule) {
            return false;
        }
        self.count -= 1;
        // Whatever has become empty goes, so that nothing looks ruled that is not.
        let Some(of_kind) = self.kinds.get_mut(&rule.resource) else {
            return false;
        };
        let patterns = of_kind.of_mut(rule.pattern);
        if let Some(of_pattern) = patterns.get_mut(&rule.name) {
            if let Some(hosts) = of_pattern.get_mut(&rule.principal) {
                if let Some(said) = hosts.get_mut(&rule.host) {
                    *said.bits(rule.permission) &= !rule.operation.bit();
                }
                hosts.retain(|_, said| !said.is_empty());
                if hosts.is_empty() {
                    of_pattern.remove(&rule.principal);
                }
            }
            if of_pattern.is_empty() {
                patterns.remove(&rule.name);
            }
        }
        if of_kind.literal.is_empty() && of_kind.prefixed.is_empty() {
            self.kinds.remove(&rule.resource);
        }
        true
    }

    /// Every rule, in an order of their own.
    pub fn iter(&self) -> impl Iterator<Item = Rule> {
        self.kinds.iter().flat_map(|(resource, of_kind)| {
            let kinds = PatternKind::ALL_OF_THEM.iter();
            kinds.flat_map(move |pattern| {
                let patterns = of_kind.of(*pattern).iter();
                patterns.flat_map(move |(name, of_pattern)| {
                    rules_of(*resource, *pattern, name, of_pattern)
                })
            })
        })
    }

    /// Those that a filter means.
    pub fn matching(&self, filter: &RuleFilter) -> impl Iterator<Item = Rule> {
        self.iter().filter(|rule| filter.matches(rule))
    }

    /// What the rules that are about a resource say of somebody.
    pub(super) fn grants(&self, who: Who<'_>, resource: Resource<'_>) -> Grants {
        let mut grants = Grants::default();
        let Some(of_kind) = self.kinds.get(&resource.kind()) else {
            return grants;
        };
        let name = resource.name();
        grants.take(of_kind.literal.get(name), who);
        if name != ANY {
            grants.take(of_kind.literal.get(ANY), who);
        }
        for (_, of_pattern) in prefixes(&of_kind.prefixed, name) {
            grants.take(Some(of_pattern), who);
        }
        grants
    }

    /// Of rules for all resources of a kind.
    pub(super) fn grants_of_all(&self, who: Who<'_>, kind: ResourceKind) -> Grants {
        let mut grants = Grants::default();
        let of_kind = self.kinds.get(&kind);
        grants.take(of_kind.and_then(|of_kind| of_kind.literal.get(ANY)), who);
        grants
    }

    /// Whether a rule allows it that none outweighs wherever it is meant.
    pub(super) fn allows_with_any(
        &self,
        who: Who<'_>,
        operation: Operation,
        kind: ResourceKind,
    ) -> bool {
        let Some(of_kind) = self.kinds.get(&kind) else {
            return false;
        };
        let bits = operation.denied_by();
        let denies = |of_pattern: &OfPattern| said_of(of_pattern, who).denied & bits != 0;
        let allows = |of_pattern: &OfPattern| said_of(of_pattern, who).allowed & bits != 0;
        let denied_by_prefix = |name: &str| {
            prefixes(&of_kind.prefixed, name).any(|(_, of_pattern)| denies(of_pattern))
        };
        if of_kind.literal.get(ANY).is_some_and(denies) {
            return false;
        }
        if of_kind.literal.get(ANY).is_some_and(allows) {
            return true;
        }
        let mut literal = of_kind.literal.iter();
        let mut prefixed = of_kind.prefixed.iter();
        literal.any(|(name, of_pattern)| {
            allows(of_pattern) && !denies(of_pattern) && !denied_by_prefix(name)
        }) || prefixed.any(|(name, of_pattern)| allows(of_pattern) && !denied_by_prefix(name))
    }
}

impl Grants {
    fn take(&mut self, of_pattern: Option<&OfPattern>, who: Who<'_>) {
        let Some(of_pattern) = of_pattern else {
            return;
        };
        let said = said_of(of_pattern, who);
        self.is_ruled = true;
        self.allowed |= said.allowed;
        self.denied |= said.denied;
    }
}

impl OfKind {
    fn of(&self, pattern: PatternKind) -> &BTreeMap<String, OfPattern> {
        match pattern {
            PatternKind::Literal => &self.literal,
            PatternKind::Prefixed => &self.prefixed,
        }
    }

    fn of_mut(&mut self, pattern: PatternKind) -> &mut BTreeMap<String, OfPattern> {
        match pattern {
            PatternKind::Literal => &mut self.literal,
            PatternKind::Prefixed => &mut self.prefixed,
        }
    }
}

fn said_of(of_pattern: &OfPattern, who: Who<'_>) -> Said {
    let mut all = Said::default();
    for principal in [who.principal, ANYBODY] {
        let Some(hosts) = of_pattern.get(principal) else {
            continue;
        };
        for host in [who.host, ANY] {
            let said = hosts.get(host).copied().unwrap_or_default();
            all.allowed |= said.allowed;
            all.denied |= said.denied;
        }
    }
    all
}

fn rules_of(
    resource: ResourceKind,
    pattern: PatternKind,
    name: &str,
    of_pattern: &OfPattern,
) -> impl Iterator<Item = Rule> {
    of_pattern.iter().flat_map(move |(principal, hosts)| {
        hosts.iter().flat_map(move |(host, said)| {
            let permissions = Permission::ALL_OF_THEM.iter();
            permissions.flat_map(move |permission| {
                let mut said = *said;
                let bits = *said.bits(*permission);
                let operations = Operation::ALL_OF_THEM.iter();
                let said = operations.filter(move |operation| bits & operation.bit() != 0);
                said.map(move |operation| Rule {
                    resource,
                    pattern,
                    name: name.to_owned(),
                    principal: principal.clone(),
                    host: host.clone(),
                    operation: *operation,
                    permission: *permission,
                })
            })
        })
    })
}

/// The entries whose keys a name begins with, the longest first. It steps over what lies between: where the greatest
/// key up to a bound is no prefix, no longer one can be than what both begin with.
fn prefixes<'a, V>(
    map: &'a BTreeMap<String, V>,
    name: &'a str,
) -> impl Iterator<Item = (&'a str, &'a V)> {
    let mut bound = Bound::Included(name);
    std::iter::from_fn(move || {
        loop {
            let mut range = map.range::<str, _>((Bound::Unbounded, bound));
            let (key, value) = range.next_back()?;
            if name.starts_with(key.as_str()) {
                bound = Bound::Excluded(&name[..key.len()]);
                return Some((key.as_str(), value));
            }
            bound = Bound::Included(common(name, key));
        }
    })
}

/// What both begin with, in whole characters.
fn common<'a>(name: &'a str, other: &str) -> &'a str {
    let pairs = name.bytes().zip(other.bytes());
    let bytes = pairs.take_while(|(one, other)| one == other).count();
    let end = (0..=bytes).rev().find(|end| name.is_char_boundary(*end));
    &name[..end.unwrap_or(0)]
}
