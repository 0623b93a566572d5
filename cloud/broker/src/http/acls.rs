//! Rules about who may do what (Kafka's ACLs) over HTTP: list, add, remove. Words are Kafka's, in small letters.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_cloud_protocol::acls::{
    Added, Operation, PatternFilter, PatternKind, Permission, RULES_MAX, ResourceKind, Rule,
    RuleFilter, canonical_host,
};

use super::Context;
use super::answer::{Answer, ApiError, Asked, Sent};
use crate::limits::RULES_AT_ONCE_MAX;

pub(super) fn routes() -> Router<Context> {
    Router::new().route("/acls", get(list).post(add).delete(remove))
}

fn shown(rule: &Rule) -> Value {
    json!({
        "resource_type": rule.resource.name(),
        "resource_name": rule.name,
        "pattern_type": rule.pattern.name(),
        "principal": rule.principal,
        "host": rule.host,
        "operation": rule.operation.name(),
        "permission": rule.permission.name(),
    })
}

fn all_shown<'a>(rules: impl Iterator<Item = &'a Rule>) -> Json<Value> {
    Json(json!({ "rules": rules.map(shown).collect::<Vec<_>>() }))
}

/// Which rules are meant; what is not said may be anything.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    resource_type: Option<String>,
    resource_name: Option<String>,
    /// Also `any`, the default: of exactly this name; and `match`: what a resource of this name is ruled by.
    pattern_type: Option<String>,
    principal: Option<String>,
    host: Option<String>,
    operation: Option<String>,
    permission: Option<String>,
    /// For a removal that says nothing else.
    #[serde(default)]
    all: bool,
}

/// A word of Kafka's.
fn word<T>(
    what: &str,
    name: &str,
    from_name: impl Fn(&str) -> Option<T>,
    all: impl Iterator<Item = &'static str>,
) -> Result<T, ApiError> {
    from_name(name).ok_or_else(|| {
        let all: Vec<&str> = all.collect();
        let all = all.join(", ");
        ApiError::bad_request(format!("{what} {name:?} is not known: {all}"))
    })
}

fn resource_kind(name: &str) -> Result<ResourceKind, ApiError> {
    let all = ResourceKind::ALL_OF_THEM.iter().map(|one| one.name());
    word("resource_type", name, ResourceKind::from_name, all)
}

fn operation(name: &str) -> Result<Operation, ApiError> {
    let all = Operation::ALL_OF_THEM.iter().map(|one| one.name());
    word("operation", name, Operation::from_name, all)
}

fn permission(name: &str) -> Result<Permission, ApiError> {
    let all = Permission::ALL_OF_THEM.iter().map(|one| one.name());
    word("permission", name, Permission::from_name, all)
}

fn pattern_kind(name: &str) -> Result<PatternKind, ApiError> {
    let all = PatternKind::ALL_OF_THEM.iter().map(|one| one.name());
    word("pattern_type", name, PatternKind::from_name, all)
}

fn pattern(name: &str) -> Result<PatternFilter, ApiError> {
    match name {
        "any" => Ok(PatternFilter::Any),
        "match" => Ok(PatternFilter::Match),
        name => pattern_kind(name).map(PatternFilter::Only),
    }
}

impl Wanted {
    fn filter(self) -> Result<RuleFilter, ApiError> {
        let pattern = self.pattern_type.as_deref().map(pattern).transpose()?;
        let filter = RuleFilter {
            resource: self
                .resource_type
                .as_deref()
                .map(resource_kind)
                .transpose()?,
            pattern: pattern.unwrap_or_default(),
            name: self.resource_name,
            principal: self.principal,
            host: self.host.map(|host| canonical_host(&host)),
            operation: self.operation.as_deref().map(operation).transpose()?,
            permission: self.permission.as_deref().map(permission).transpose()?,
        };
        let checked = filter.check();
        checked.map_err(|error| ApiError::bad_request(error.to_string()))?;
        Ok(filter)
    }
}

async fn list(State(context): State<Context>, Asked(wanted): Asked<Wanted>) -> Answer {
    let filter = wanted.filter()?;
    let rules: Vec<Rule> = context
        .broker
        .ledger(|ledger| ledger.rules().matching(&filter).collect());
    Ok(all_shown(rules.iter()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRule {
    resource_type: String,
    resource_name: String,
    #[serde(default = "literal")]
    pattern_type: String,
    principal: String,
    #[serde(default = "any")]
    host: String,
    operation: String,
    #[serde(default = "allow")]
    permission: String,
}

fn literal() -> String {
    PatternKind::Literal.name().to_owned()
}

fn any() -> String {
    tidegate_cloud_protocol::acls::ANY.to_owned()
}

fn allow() -> String {
    Permission::Allow.name().to_owned()
}

impl NewRule {
    fn rule(self) -> Result<Rule, ApiError> {
        let rule = Rule {
            resource: resource_kind(&self.resource_type)?,
            pattern: pattern_kind(&self.pattern_type)?,
            name: self.resource_name,
            principal: self.principal,
            host: canonical_host(&self.host),
            operation: operation(&self.operation)?,
            permission: permission(&self.permission)?,
        };
        let checked = rule.check();
        checked.map_err(|error| ApiError::bad_request(error.to_string()))?;
        Ok(rule)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    rules: Vec<NewRule>,
}

async fn add(State(context): State<Context>, Sent(new): Sent<New>) -> Answer {
    if new.rules.len() > RULES_AT_ONCE_MAX {
        let why = format!("{RULES_AT_ONCE_MAX} rules at once are taken: send them in parts");
        return Err(ApiError::bad_request(why));
    }
    let rules = new.rules.into_iter().map(NewRule::rule);
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let added = context.broker.add_rules(rules.clone()).await?;
    if added.contains(&Added::Full) {
        let why = format!("there are {RULES_MAX} rules, and no more are taken: remove some");
        return Err(ApiError::conflict(why));
    }
    Ok(all_shown(rules.iter()))
}

async fn remove(State(context): State<Context>, Asked(wanted): Asked<Wanted>) -> Answer {
    if wanted == Wanted::default() {
        let why =
            "say which rules are meant (resource_name=…, principal=…), or all=true for every one";
        return Err(ApiError::bad_request(why));
    }
    let filter = wanted.filter()?;
    let removed = context.broker.remove_rules(vec![filter]).await?;
    Ok(all_shown(removed.iter().flatten()))
}
