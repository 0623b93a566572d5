//! DeleteTopics, by name or by id (KIP-516). Source: Kafka's `ControllerApis`.

use std::collections::BTreeMap;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource, ResourceKind};
use tidegate_cloud_protocol::ledger::command::DeleteTopic;
use tidegate_cloud_protocol::ledger::{Command, Effect};
use tidegate_shared::id::TopicId;
use uuid::Uuid;

use super::refusal::{Refusal, fields};
use super::{Context, reply_code};

/// A topic as the request names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    name: Option<TopicName>,
    id: Uuid,
}

pub(super) async fn handle(
    context: &Context,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| Asked {
        name: Some(name),
        id: Uuid::nil(),
    });
    let either = request.topics.into_iter().map(|topic| Asked {
        name: topic.name,
        id: topic.topic_id,
    });
    let asked: Vec<Asked> = by_name.chain(either).collect();
    let mut times = BTreeMap::<Asked, usize>::new();
    for one in &asked {
        *times.entry(one.clone()).or_default() += 1;
    }
    // A topic that one entry names and another gives by its id is asked for twice, too.
    let found = times.keys().map(|one| (one.clone(), find(context, one)));
    let mut found: BTreeMap<Asked, _> = found.collect();
    let mut ids = BTreeMap::<TopicId, usize>::new();
    for id in found
        .values()
        .filter_map(|found| found.as_ref().ok().copied())
    {
        *ids.entry(id).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(times.len());
    for one in asked {
        // What is asked twice is answered once.
        let (Some(times), Some(found)) = (times.remove(&one), found.remove(&one)) else {
            continue;
        };
        // Whoever gives its id and names it, too, is told so with the name.
        let is_named_too = |id| one.name.is_none() && ids.get(id).is_some_and(|times| *times > 1);
        if times == 1 && found.as_ref().is_ok_and(is_named_too) {
            continue;
        }
        let (name, id, deleted) = delete(context, &one, (found, times), &ids).await;
        let (code, message) = fields(deleted);
        let response = DeletableTopicResult::default()
            .with_name(name)
            .with_topic_id(id)
            .with_error_code(code)
            .with_error_message(message);
        responses.push(response);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

/// Also returns the topic's name and id, as far as they are known.
async fn delete(
    context: &Context,
    asked: &Asked,
    (found, times): (Result<TopicId, Refusal>, usize),
    ids: &BTreeMap<TopicId, usize>,
) -> (Option<TopicName>, Uuid, Result<(), Refusal>) {
    let invalid = |why: &str| Err(Refusal::new(reply_code::INVALID_REQUEST, why));
    let found = match found {
        Err(refusal) if refusal.code == reply_code::INVALID_REQUEST => Err(refusal),
        _ if times > 1 && asked.name.is_some() => invalid("Duplicate topic name."),
        _ if times > 1 => invalid("Duplicate topic id."),
        Ok(id) if ids.get(&id).is_some_and(|times| *times > 1) => {
            let why = "The provided topic name maps to an ID that was already supplied.";
            let refusal = Refusal::new(reply_code::INVALID_REQUEST, why);
            return (asked.name.clone(), Uuid::from_u128(id.0), Err(refusal));
        }
        found => found,
    };
    let topic_id = match found {
        Ok(topic_id) => topic_id,
        Err(refusal) => {
            let name = match refusal.code == reply_code::not_authorized(ResourceKind::Topic).0 {
                true => asked.name.clone().or_else(|| seen_name(context, asked.id)),
                false => asked.name.clone(),
            };
            return (name, asked.id, Err(refusal));
        }
    };
    let name = context.broker.ledger(|ledger| {
        let name = ledger.topic(topic_id)?.name.to_string();
        Some(TopicName(StrBytes::from_string(name)))
    });
    let command = Command::DeleteTopic(DeleteTopic { topic_id });
    let deleted = match context.broker.command(command).await {
        Ok(Effect::TopicDeleted { .. }) => Ok(()),
        // Somebody else has deleted it meanwhile.
        Ok(_) => Err(unknown(asked)),
        Err(error) => Err(error.into()),
    };
    (name, Uuid::from_u128(topic_id.0), deleted)
}

fn find(context: &Context, asked: &Asked) -> Result<TopicId, Refusal> {
    let invalid = |why| Err(Refusal::new(reply_code::INVALID_REQUEST, why));
    match (&asked.name, asked.id.is_nil()) {
        (None, true) => invalid("Neither topic name nor id were specified."),
        (Some(_), false) => invalid("You may not specify both topic name and topic id."),
        (name, _) => {
            let name = name.as_ref().map_or("", |name| name.as_str());
            may_delete(context, name, asked.id)?;
            let found = context.topic_id(name, asked.id);
            found.ok_or_else(|| unknown(asked))
        }
    }
}

/// Whoever may not delete a topic that is named, and may not see it, is not told whether there is one. An id is no
/// secret.
fn may_delete(context: &Context, name: &str, id: Uuid) -> Result<(), Refusal> {
    if context.may(Operation::Delete, Resource::Cluster) {
        return Ok(());
    }
    if id.is_nil() {
        context.check(Operation::Describe, Resource::Topic(name))?;
        if context.topic_id(name, id).is_none() {
            return Ok(());
        }
    }
    context.check_topic(Operation::Delete, name, id)
}

/// The name of a topic that the client gave by its id, if it may see that.
fn seen_name(context: &Context, id: Uuid) -> Option<TopicName> {
    let name = context.topic_name(id)?;
    let may_see = context.may(Operation::Describe, Resource::Topic(&name));
    may_see.then(|| TopicName(StrBytes::from_string(name)))
}

fn unknown(asked: &Asked) -> Refusal {
    match &asked.name {
        Some(name) => {
            let why = format!("There is no topic {}.", name.as_str());
            Refusal::new(reply_code::UNKNOWN_TOPIC_OR_PARTITION, why)
        }
        None => {
            let why = format!("There is no topic with the id {}.", asked.id);
            Refusal::new(reply_code::UNKNOWN_TOPIC_ID, why)
        }
    }
}
