//! DescribeAcls, CreateAcls, DeleteAcls (KIP-140, KIP-290): the rules about who may do what. Source: Kafka's `AclApis` and
//! `AclControlManager`.
//!
//! Kafka closes the connection for a number that it does not know; here it is refused by its code.

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{
    Added, Operation, PatternFilter, PatternKind, Permission, Resource, ResourceKind, Rule,
    RuleFilter, canonical_host,
};
use tidegate_cloud_protocol::ledger::command::RemoveRules;

use super::refusal::{Refusal, fields};
use super::{Context, reply_code};

/// Anything. Source: `ResourceType`, `AclOperation` and `AclPermissionType` of Kafka.
const ANY: i8 = 1;

/// Source: `PatternType` of Kafka.
const PATTERN_ANY: i8 = 1;
const PATTERN_MATCH: i8 = 2;

/// Kinds of resources, from "any" on. Source: `ResourceType` of Kafka.
const KINDS: std::ops::RangeInclusive<i8> = 1..=7;

pub(super) fn describe(context: &Context, request: &DescribeAclsRequest) -> DescribeAclsResponse {
    match described(context, request) {
        Ok(resources) => DescribeAclsResponse::default().with_resources(resources),
        Err(refusal) => {
            let (code, message) = refusal.fields();
            DescribeAclsResponse::default()
                .with_error_code(code)
                .with_error_message(message)
        }
    }
}

fn described(
    context: &Context,
    request: &DescribeAclsRequest,
) -> Result<Vec<DescribeAclsResource>, Refusal> {
    context.check(Operation::Describe, Resource::Cluster)?;
    // As Kafka, which has no rules about what it does not know.
    if !KINDS.contains(&request.resource_type_filter) {
        return Ok(Vec::new());
    }
    let filter = Filter {
        resource: request.resource_type_filter,
        pattern: request.pattern_type_filter,
        operation: request.operation,
        permission: request.permission_type,
        name: request.resource_name_filter.as_ref(),
        principal: request.principal_filter.as_ref(),
        host: request.host_filter.as_ref(),
    };
    let filter = filter.parse()?;
    let rules: Vec<Rule> = context
        .broker
        .ledger(|ledger| ledger.rules().matching(&filter).collect());
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    // The rules of one pattern come one after the other.
    for rule in rules {
        let (kind, pattern) = (rule.resource.code() as i8, rule.pattern.code() as i8);
        let acl = AclDescription::default()
            .with_principal(StrBytes::from_string(rule.principal))
            .with_host(StrBytes::from_string(rule.host))
            .with_operation(rule.operation.code() as i8)
            .with_permission_type(rule.permission.code() as i8);
        match resources.last_mut() {
            Some(last)
                if last.resource_type == kind
                    && last.pattern_type == pattern
                    && last.resource_name.as_str() == rule.name =>
            {
                last.acls.push(acl);
            }
            _ => resources.push(
                DescribeAclsResource::default()
                    .with_resource_type(kind)
                    .with_pattern_type(pattern)
                    .with_resource_name(StrBytes::from_string(rule.name))
                    .with_acls(vec![acl]),
            ),
        }
    }
    Ok(resources)
}

pub(super) async fn create(context: &Context, request: CreateAclsRequest) -> CreateAclsResponse {
    let created = created(context, &request.creations).await;
    let results = created.into_iter().map(|created| {
        let (code, message) = fields(created);
        AclCreationResult::default()
            .with_error_code(code)
            .with_error_message(Some(message.unwrap_or_default()))
    });
    CreateAclsResponse::default().with_results(results.collect())
}

/// One result for each.
async fn created(context: &Context, asked: &[AclCreation]) -> Vec<Result<(), Refusal>> {
    if let Err(refusal) = context.check(Operation::Alter, Resource::Cluster) {
        return asked.iter().map(|_| Err(refusal.clone())).collect();
    }
    let rules: Vec<Result<Rule, Refusal>> = asked.iter().map(rule).collect();
    let good = rules.iter().filter_map(|rule| rule.as_ref().ok().cloned());
    let added = context.broker.add_rules(good.collect()).await;
    let mut added = added.map(Vec::into_iter);
    let results = rules.into_iter().map(|rule| {
        rule?;
        match added.as_mut().map(Iterator::next) {
            Ok(Some(Added::New | Added::Known)) => Ok(()),
            Ok(Some(Added::Full)) => Err(full()),
            Ok(None) => Err(Refusal::new(
                reply_code::UNKNOWN_SERVER_ERROR,
                "nothing was decided",
            )),
            Err(error) => Err(Refusal::new(
                reply_code::KAFKA_STORAGE_ERROR,
                error.to_string(),
            )),
        }
    });
    results.collect()
}

fn full() -> Refusal {
    let why = tidegate_cloud_protocol::acls::RULES_MAX;
    let why = format!("there are {why} rules, and no more are taken: delete some");
    Refusal::new(reply_code::POLICY_VIOLATION, why)
}

fn rule(asked: &AclCreation) -> Result<Rule, Refusal> {
    let rule = Rule {
        resource: word(
            "resource type",
            asked.resource_type,
            ResourceKind::from_code,
        )?,
        pattern: word(
            "pattern type",
            asked.resource_pattern_type,
            PatternKind::from_code,
        )?,
        name: asked.resource_name.as_str().to_owned(),
        principal: asked.principal.as_str().to_owned(),
        host: canonical_host(&asked.host),
        operation: word("operation", asked.operation, Operation::from_code)?,
        permission: word(
            "permission type",
            asked.permission_type,
            Permission::from_code,
        )?,
    };
    rule.check().map_err(|error| invalid(error.to_string()))?;
    Ok(rule)
}

fn invalid(why: String) -> Refusal {
    Refusal::new(reply_code::INVALID_REQUEST, why)
}

/// One of Kafka's numbers.
fn word<T>(what: &str, code: i8, from_code: impl Fn(u8) -> Option<T>) -> Result<T, Refusal> {
    let word = u8::try_from(code).ok().and_then(from_code);
    word.ok_or_else(|| invalid(format!("Invalid {what} {code}")))
}

pub(super) async fn delete(context: &Context, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let deleted = deleted(context, &request.filters).await;
    let results = deleted.into_iter().map(|deleted| match deleted {
        Ok(rules) => DeleteAclsFilterResult::default()
            .with_error_message(None)
            .with_matching_acls(rules.into_iter().map(matching).collect()),
        Err(refusal) => {
            let (code, message) = refusal.fields();
            DeleteAclsFilterResult::default()
                .with_error_code(code)
                .with_error_message(message)
        }
    });
    DeleteAclsResponse::default().with_filter_results(results.collect())
}

/// One result for each.
async fn deleted(context: &Context, asked: &[DeleteAclsFilter]) -> Vec<Result<Vec<Rule>, Refusal>> {
    let all = |refusal: Refusal| asked.iter().map(|_| Err(refusal.clone())).collect();
    if let Err(refusal) = context.check(Operation::Alter, Resource::Cluster) {
        return all(refusal);
    }
    let filters_max = RemoveRules::FILTERS_MAX;
    if asked.len() > filters_max {
        let (count, why) = (asked.len(), "one request can have");
        return all(invalid(format!("{why} {filters_max} filters, not {count}")));
    }
    let filters = asked.iter().map(|asked| {
        let filter = Filter {
            resource: asked.resource_type_filter,
            pattern: asked.pattern_type_filter,
            operation: asked.operation,
            permission: asked.permission_type,
            name: asked.resource_name_filter.as_ref(),
            principal: asked.principal_filter.as_ref(),
            host: asked.host_filter.as_ref(),
        };
        filter.parse()
    });
    let filters: Vec<Result<RuleFilter, Refusal>> = filters.collect();
    let good = filters
        .iter()
        .filter_map(|filter| filter.as_ref().ok().cloned());
    let removed = match context.broker.remove_rules(good.collect()).await {
        Ok(removed) => removed,
        Err(error) => return all(error.into()),
    };
    let mut removed = removed.into_iter();
    let results = filters.into_iter().map(|filter| {
        filter?;
        Ok(removed.next().unwrap_or_default())
    });
    results.collect()
}

fn matching(rule: Rule) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_error_message(None)
        .with_resource_type(rule.resource.code() as i8)
        .with_resource_name(StrBytes::from_string(rule.name))
        .with_pattern_type(rule.pattern.code() as i8)
        .with_principal(StrBytes::from_string(rule.principal))
        .with_host(StrBytes::from_string(rule.host))
        .with_operation(rule.operation.code() as i8)
        .with_permission_type(rule.permission.code() as i8)
}

/// A filter as requests have it.
struct Filter<'a> {
    resource: i8,
    pattern: i8,
    operation: i8,
    permission: i8,
    name: Option<&'a StrBytes>,
    principal: Option<&'a StrBytes>,
    host: Option<&'a StrBytes>,
}

impl Filter<'_> {
    fn parse(self) -> Result<RuleFilter, Refusal> {
        let text = |text: Option<&StrBytes>| text.map(|text| text.as_str().to_owned());
        let filter = RuleFilter {
            resource: any("resource type", self.resource, ResourceKind::from_code)?,
            pattern: match self.pattern {
                PATTERN_ANY => PatternFilter::Any,
                PATTERN_MATCH => PatternFilter::Match,
                kind => PatternFilter::Only(word("pattern type", kind, PatternKind::from_code)?),
            },
            name: text(self.name),
            principal: text(self.principal),
            host: self.host.map(|host| canonical_host(host)),
            operation: any("operation", self.operation, Operation::from_code)?,
            permission: any("permission type", self.permission, Permission::from_code)?,
        };
        filter.check().map_err(|error| invalid(error.to_string()))?;
        Ok(filter)
    }
}

fn any<T>(what: &str, code: i8, from_code: impl Fn(u8) -> Option<T>) -> Result<Option<T>, Refusal> {
    match code {
        ANY => Ok(None),
        code => word(what, code, from_code).map(Some),
    }
}
