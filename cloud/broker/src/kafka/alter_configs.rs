//! AlterConfigs (KIP-133): a topic's settings become what the request says, and all others the default. What it has
//! in common with IncrementalAlterConfigs is here. Source: Kafka's `ConfigAdminManager`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use tidegate_cloud_protocol::acls::{Operation, Resource as Of};
use tidegate_cloud_protocol::ledger::command::{AlterTopic, Entry};
use tidegate_cloud_protocol::ledger::{Effect, TopicSettings};
use tidegate_shared::id::TopicId;

use super::configs::{self, Asked, BROKER, Mode, TOPIC};
use super::describe_configs::is_this_node;
use super::refusal::{Refusal, fields};
use super::{Context, reply_code};

pub(super) async fn handle(
    context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mode = Mode::of(request.validate_only);
    let named = request.resources.iter();
    let times = times(named.map(|one| (one.resource_type, one.resource_name.as_str())));
    let mut done = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let asked = resource.configs.iter();
        let asked = asked.map(|one| {
            let value = one.value.as_ref().map(|value| value.as_str().to_owned());
            (one.name.as_str().to_owned(), value)
        });
        let target = Resource {
            kind: resource.resource_type,
            name: resource.resource_name.as_str(),
        };
        done.push(match times[&(target.kind, target.name)] {
            1 => replace(context, target, asked.collect(), mode).await,
            _ => Err(twice()),
        });
    }
    let responses = request.resources.into_iter().zip(done);
    let responses = responses.map(|(resource, done)| {
        let (code, message) = fields(done);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

async fn replace(
    context: &Context,
    target: Resource<'_>,
    settings: Vec<(String, Option<String>)>,
    mode: Mode,
) -> Result<(), Refusal> {
    target.check(context)?;
    check_names(settings.iter().map(|(name, _)| name.as_str()))?;
    let without = settings.iter().filter(|(_, value)| value.is_none());
    no_nulls(without.map(|(name, _)| name.as_str()))?;
    let Some((topic_id, now)) = target.topic(context, &settings)? else {
        return Ok(());
    };
    // Only what is a setting has a default.
    let defaults = configs::of_topic(context, &TopicSettings::default());
    let mut asked: Asked = defaults
        .into_iter()
        .map(|row| (row.name.to_owned(), None))
        .collect();
    asked.extend(settings);
    configs::check_store(context, &now, &asked)?;
    alter(context, (target.name, topic_id), &asked, mode).await
}

/// What settings are of.
#[derive(Clone, Copy)]
pub(super) struct Resource<'a> {
    pub(super) kind: i8,
    pub(super) name: &'a str,
}

impl Resource<'_> {
    /// Refuses who may not change its settings.
    pub(super) fn check(self, context: &Context) -> Result<(), Refusal> {
        match self.kind {
            TOPIC => context.check(Operation::AlterConfigs, Of::Topic(self.name)),
            BROKER => context.check(Operation::AlterConfigs, Of::Cluster),
            // It is refused for what it is.
            _ => Ok(()),
        }
    }

    /// The topic that it is, and its settings; `None`: this broker, of which nothing is to be changed.
    pub(super) fn topic<V>(
        self,
        context: &Context,
        settings: &[(String, V)],
    ) -> Result<Option<(TopicId, TopicSettings)>, Refusal> {
        match self.kind {
            TOPIC => {
                let found = context.broker.ledger(|ledger| {
                    let id = ledger.topic_id(self.name)?;
                    Some((id, ledger.topic(id)?.settings))
                });
                found.ok_or_else(|| unknown(self.name)).map(Some)
            }
            BROKER => {
                if !self.name.is_empty() {
                    is_this_node(self.name)?;
                }
                let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
                match names.is_empty() {
                    true => Ok(None),
                    false => {
                        let why = format!(
                            "Cannot update these configs dynamically: {}",
                            names.join(", ")
                        );
                        Err(Refusal::new(reply_code::INVALID_REQUEST, why))
                    }
                }
            }
            other => {
                let why = format!("Unknown resource type {other}");
                Err(Refusal::new(reply_code::INVALID_REQUEST, why))
            }
        }
    }
}

fn unknown(topic: &str) -> Refusal {
    let why = format!("The topic '{topic}' does not exist.");
    Refusal::new(reply_code::UNKNOWN_TOPIC_OR_PARTITION, why)
}

/// How often each resource is in the request.
pub(super) fn times<'a>(
    resources: impl Iterator<Item = (i8, &'a str)>,
) -> BTreeMap<(i8, &'a str), usize> {
    let mut times = BTreeMap::new();
    for resource in resources {
        *times.entry(resource).or_default() += 1;
    }
    times
}

pub(super) fn twice() -> Refusal {
    let why = "Each resource must appear at most once.";
    Refusal::new(reply_code::INVALID_REQUEST, why)
}

/// No setting may be named twice.
pub(super) fn check_names<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    match names.all(|name| seen.insert(name)) {
        true => Ok(()),
        false => {
            let why = "Error due to duplicate config keys";
            Err(Refusal::new(reply_code::INVALID_REQUEST, why))
        }
    }
}

/// Refuses if there are any: names of settings without a value.
pub(super) fn no_nulls<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let names: Vec<&str> = names.collect();
    match names.is_empty() {
        true => Ok(()),
        false => {
            let why = format!("Null value not supported for : {}", names.join(", "));
            Err(Refusal::new(reply_code::INVALID_REQUEST, why))
        }
    }
}

/// Changes a topic's settings.
pub(super) async fn alter(
    context: &Context,
    (name, topic_id): (&str, TopicId),
    asked: &Asked,
    mode: Mode,
) -> Result<(), Refusal> {
    let changes = configs::wanted(context, asked, mode).await?.changes;
    if mode == Mode::Look {
        return Ok(());
    }
    let alter = Entry::AlterTopic(AlterTopic { topic_id, changes });
    match context.broker.submit(vec![(alter, None)]).await?[..] {
        [Effect::TopicAltered { .. }] => Ok(()),
        _ => Err(unknown(name)),
    }
}
