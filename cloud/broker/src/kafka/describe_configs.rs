//! DescribeConfigs (KIP-133, KIP-226, KIP-569) of topics and of this broker. Source: Kafka's `ConfigHelper`.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::TopicSettings;
use tidegate_shared::id::TopicName;

use super::configs::{self, BROKER, FROM_DEFAULT, FROM_TOPIC, Row, TOPIC};
use super::refusal::Refusal;
use super::{Context, NODE_ID, reply_code};
use crate::topic_settings;

pub(super) fn handle(
    context: &Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let shows = Shows {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
        segment_bytes: context.broker.pack_rule().segment_bytes,
    };
    let mut seen = BTreeSet::new();
    let mut resources = request.resources;
    // Once each, however often it is asked for.
    resources.retain(|one| seen.insert((one.resource_type, one.resource_name.clone())));
    let results = resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match rows(context, &resource) {
            Ok((rows, is_read_only)) => {
                let rows = rows.into_iter().filter(|row| is_wanted(&resource, row));
                let configs = rows.map(|row| config(row, is_read_only, &shows));
                result
                    .with_error_message(Some(StrBytes::new()))
                    .with_configs(configs.collect())
            }
            Err(refusal) => {
                let (code, message) = refusal.fields();
                result.with_error_code(code).with_error_message(message)
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// A resource's settings, and that they can't be changed.
fn rows(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Result<(Vec<Row>, bool), Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            context.check(Operation::DescribeConfigs, Resource::Topic(name))?;
            let invalid = |why: String| Refusal::new(reply_code::INVALID_TOPIC, why);
            TopicName::new(name).map_err(|error| invalid(error.to_string()))?;
            let settings = context.broker.ledger(|ledger| {
                let topic = ledger.topic(ledger.topic_id(name)?)?;
                Some(topic.settings)
            });
            let unknown = || {
                let why = format!("There is no topic {name}.");
                Refusal::new(reply_code::UNKNOWN_TOPIC_OR_PARTITION, why)
            };
            let settings = settings.ok_or_else(unknown)?;
            Ok((configs::of_topic(context, &settings), false))
        }
        BROKER => {
            context.check(Operation::DescribeConfigs, Resource::Cluster)?;
            if name.is_empty() {
                // What is set for all brokers together: nothing can be.
                return Ok((Vec::new(), true));
            }
            is_this_node(name)?;
            Ok((configs::of_broker(context), true))
        }
        other => {
            let why = format!("Unsupported resource type: {other}");
            Err(Refusal::new(reply_code::INVALID_REQUEST, why))
        }
    }
}

/// Whether a resource's name is this node's id.
pub(super) fn is_this_node(name: &str) -> Result<(), Refusal> {
    let why = match name.parse::<i32>() {
        Ok(NODE_ID) => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {NODE_ID}, but received {name}"),
        Err(_) => format!("Node id must be an integer, but it is: {name}"),
    };
    Err(Refusal::new(reply_code::INVALID_REQUEST, why))
}

fn is_wanted(resource: &DescribeConfigsResource, row: &Row) -> bool {
    let keys = resource.configuration_keys.as_ref();
    // No keys are all keys.
    let keys = keys.filter(|keys| !keys.is_empty());
    keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == row.name))
}

/// What is asked for beside the values.
struct Shows {
    synonyms: bool,
    documentation: bool,
    /// The cluster's, which is a topic's default.
    segment_bytes: u64,
}

/// Where a value comes from, the nearest first: the topic itself, and the broker's setting of the same meaning.
fn synonyms(row: &Row, is_of_broker: bool, segment_bytes: u64) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: &'static str, value: String, source| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_source(source)
    };
    if is_of_broker {
        return vec![synonym(row.name, row.value.clone(), FROM_DEFAULT)];
    }
    let own = (!row.is_default).then(|| synonym(row.name, row.value.clone(), FROM_TOPIC));
    let default = TopicSettings::default();
    let mut defaults = topic_settings::show(&default, segment_bytes);
    let of_broker = broker_name(row.name).and_then(|broker_name| {
        let (_, value, _) = defaults.find(|(name, ..)| *name == row.name)?;
        Some(synonym(broker_name, value, FROM_DEFAULT))
    });
    own.into_iter().chain(of_broker).collect()
}

/// What Kafka calls a topic's setting where it is a broker's default for all topics. (That of `retention.ms` counts hours.)
fn broker_name(name: &str) -> Option<&'static str> {
    match name {
        "cleanup.policy" => Some("log.cleanup.policy"),
        "delete.retention.ms" => Some("log.cleaner.delete.retention.ms"),
        "retention.bytes" => Some("log.retention.bytes"),
        _ => None,
    }
}

fn config(row: Row, is_read_only: bool, shows: &Shows) -> DescribeConfigsResourceResult {
    let source = row.source();
    let synonyms = match shows.synonyms {
        true => synonyms(&row, is_read_only, shows.segment_bytes),
        false => Vec::new(),
    };
    let documentation = StrBytes::from_static_str(row.documentation);
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(row.name))
        .with_value(Some(StrBytes::from_string(row.value)))
        .with_read_only(is_read_only)
        .with_config_source(source)
        .with_config_type(row.kind as i8)
        .with_synonyms(synonyms)
        .with_documentation(shows.documentation.then_some(documentation))
}
