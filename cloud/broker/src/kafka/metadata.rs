//! Metadata: which topics there are, and that this node leads all their partitions. One that is
//! missing is made where the client and the configuration allow it.

use std::collections::BTreeSet;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate_cloud_protocol::acls::{Operation, Resource, ResourceKind};
use tidegate_cloud_protocol::ledger::{Ledger, Topic};
use tidegate_shared::id::TopicId;
use uuid::Uuid;

use super::{Context, NODE_ID, reply_code};

/// Versions 10 and 11 tell topics' ids, and do not take them.
const ASKED_BY_ID_SINCE: i16 = 12;

/// `None` when the node stops meanwhile.
pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: &MetadataRequest,
) -> Option<MetadataResponse> {
    if let Some(refused) = check(version, request) {
        return Some(refused);
    }
    let wanted = request.topics.as_ref();
    // Before version 1 there is no null: an empty list means all topics.
    let wanted = wanted.filter(|topics| version > 0 || !topics.is_empty());
    // Before version 4 nobody could say no.
    let creates = version < 4 || request.allow_auto_topic_creation;
    let missing_code = match wanted.filter(|_| creates) {
        Some(topics) => {
            let names = topics.iter().filter_map(|topic| topic.name.as_ref());
            let names = names.map(|name| name.as_str());
            let sees = |name: &&str| context.may(Operation::Describe, Resource::Topic(name));
            let names = names.filter(sees).filter(|name| context.may_create(name));
            context.auto_create.make(&context.broker, names).await?
        }
        None => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
    };
    let look = Look {
        context,
        version,
        with_operations: version >= 8 && request.include_topic_authorized_operations,
        creates: creates && context.auto_create.is_on(),
        missing_code,
    };
    let topics = context.broker.ledger(|ledger| match wanted {
        Some(topics) => {
            // What is asked twice is answered once: a topic can have thousands of partitions.
            let mut asked = BTreeSet::new();
            let topics = topics.iter().filter(|topic| {
                let name = topic.name.as_ref().map(|name| name.as_str().to_owned());
                asked.insert((name, topic.topic_id))
            });
            topics.map(|topic| look.one(ledger, topic)).collect()
        }
        None => {
            let seen = ledger.topics().filter(|(_, topic)| {
                let resource = Resource::Topic(topic.name.as_str());
                context.may_in(ledger, Operation::Describe, resource)
            });
            seen.map(|(id, topic)| look.known(ledger, id, topic))
                .collect()
        }
    });
    let mut broker = MetadataResponseBroker::default();
    broker.node_id = BrokerId(NODE_ID);
    broker.host = StrBytes::from_string(context.advertised_host.clone());
    broker.port = i32::from(context.advertised_port);
    let mut response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_topics(topics);
    if version >= 1 {
        response.controller_id = BrokerId(NODE_ID);
    }
    if version >= 2 {
        let cluster_id = Uuid::from_u128(context.broker.store_id()).simple();
        response.cluster_id = Some(StrBytes::from_string(cluster_id.to_string()));
    }
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = context.cluster_operations();
    }
    Some(response)
}

/// The answer to a request that names a topic in a way that its version does not have: by nothing, or by its id where that
/// is only shown yet.
fn check(version: i16, request: &MetadataRequest) -> Option<MetadataResponse> {
    let topics = request.topics.as_deref().unwrap_or_default();
    let is_bad = |topic: &MetadataRequestTopic| match (&topic.name, topic.topic_id.is_nil()) {
        (None, true) => true,
        (_, is_nil) => version < ASKED_BY_ID_SINCE && (topic.name.is_none() || !is_nil),
    };
    if !topics.iter().any(is_bad) {
        return None;
    }
    let refused = topics.iter().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(reply_code::INVALID_REQUEST)
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    let mut response = MetadataResponse::default()
        .with_controller_id(BrokerId(-1))
        .with_topics(refused.collect());
    if version >= 13 {
        response.error_code = reply_code::INVALID_REQUEST;
    }
    Some(response)
}

/// How the topics of one request are looked at.
struct Look<'a> {
    context: &'a Context,
    version: i16,
    /// Whether to tell what the client may do with each.
    with_operations: bool,
    /// Whether what is missing would have been made.
    creates: bool,
    /// For what is missing nevertheless.
    missing_code: i16,
}

impl Look<'_> {
    fn one(&self, ledger: &Ledger, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
        let name = wanted.name.as_ref().map(|name| name.as_str());
        let id = match name {
            Some(name) => ledger.topic_id(name),
            None => Some(TopicId(wanted.topic_id.as_u128())),
        };
        let found = id.and_then(|id| Some((id, ledger.topic(id)?)));
        let known_name = found.map(|(_, topic)| topic.name.as_str());
        // What has no name nobody can be refused.
        let resource = name.or(known_name).map(Resource::Topic);
        let refused = resource.filter(|resource| {
            let context = self.context;
            !context.may_in(ledger, Operation::Describe, *resource)
        });
        match (found, refused) {
            // Not whether there is one of this name. An id is no secret.
            (_, Some(resource)) => {
                let refusal = self.context.refuse(Operation::Describe, resource);
                self.error(wanted, refusal.code)
            }
            (Some((id, topic)), None) => self.known(ledger, id, topic),
            (None, None) => {
                let topic = self.error(wanted, self.code_of_missing(ledger, name));
                match resource {
                    Some(resource) => self.told(ledger, resource, topic),
                    None => topic,
                }
            }
        }
    }

    fn code_of_missing(&self, ledger: &Ledger, name: Option<&str>) -> i16 {
        let valid = |name| tidegate_shared::id::TopicName::new(name).is_ok();
        match name {
            None => reply_code::UNKNOWN_TOPIC_ID,
            Some(name) if self.creates && !self.context.may_create_in(ledger, name) => {
                reply_code::not_authorized(ResourceKind::Topic).0
            }
            Some(name) if !valid(name) => reply_code::INVALID_TOPIC,
            Some(_) => self.missing_code,
        }
    }

    fn error(&self, wanted: &MetadataRequestTopic, code: i16) -> MetadataResponseTopic {
        let mut topic = MetadataResponseTopic::default().with_error_code(code);
        topic.name.clone_from(&wanted.name);
        if topic.name.is_none() && self.version < 12 {
            topic.name = Some(TopicName::default());
        }
        if self.version >= 10 {
            topic.topic_id = wanted.topic_id;
        }
        topic
    }

    fn known(&self, ledger: &Ledger, id: TopicId, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.partitions().iter().enumerate().map(|(index, state)| {
            let mut partition = MetadataResponsePartition::default();
            partition.partition_index = i32::try_from(index).expect("made from an i32");
            partition.leader_id = BrokerId(NODE_ID);
            partition.replica_nodes = vec![BrokerId(NODE_ID)];
            partition.isr_nodes = vec![BrokerId(NODE_ID)];
            if self.version >= 7 {
                partition.leader_epoch = state.leader_epoch;
            }
            partition
        });
        let mut found = MetadataResponseTopic::default().with_partitions(partitions.collect());
        found.name = Some(TopicName(StrBytes::from_string(topic.name.to_string())));
        if self.version >= 10 {
            found.topic_id = Uuid::from_u128(id.0);
        }
        self.told(ledger, Resource::Topic(topic.name.as_str()), found)
    }

    /// With what the client may do with it, where it asks for that.
    fn told(
        &self,
        ledger: &Ledger,
        resource: Resource<'_>,
        topic: MetadataResponseTopic,
    ) -> MetadataResponseTopic {
        match self.with_operations {
            true => {
                let operations = self.context.operations_in(ledger, resource);
                topic.with_topic_authorized_operations(operations)
            }
            false => topic,
        }
    }
}
