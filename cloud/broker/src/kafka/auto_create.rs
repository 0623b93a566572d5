//! Topics that are made because a client asks for them (Kafka's `auto.create.topics.enable`): one at a time asks the
//! ledger for them, so that there are never more than the bound.

use std::collections::BTreeSet;

use tidegate_cloud_protocol::ledger::Command;
use tidegate_cloud_protocol::ledger::command::CreateTopic;
use tidegate_shared::id::{TopicId, TopicName};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::create_topics::collision;
use super::reply_code;
use crate::broker::Broker;
use crate::limits::{AUTO_CREATED_AT_ONCE_MAX, AUTO_CREATED_TOPICS_MAX, TOPIC_PARTITIONS_DEFAULT};

/// See the module.
#[derive(Debug)]
pub(crate) struct AutoCreate {
    is_on: bool,
    turn: Mutex<()>,
}

impl AutoCreate {
    pub(crate) fn new(is_on: bool) -> Self {
        Self {
            is_on,
            turn: Mutex::new(()),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Makes those that are missing, and durable. Says what a name that is valid and still missing is answered with;
    /// `None` when the node stops meanwhile.
    pub(super) async fn make(
        &self,
        broker: &Broker,
        names: impl Iterator<Item = &str>,
    ) -> Option<i16> {
        let names: Vec<TopicName> = names.filter_map(|name| TopicName::new(name).ok()).collect();
        let missing = || {
            broker.ledger(|ledger| {
                let is_missing = |name: &&TopicName| ledger.topic_id(name.as_str()).is_none();
                let missing: BTreeSet<_> = names.iter().filter(is_missing).cloned().collect();
                (missing, ledger.topics().count())
            })
        };
        let collides = |name: &TopicName| {
            let collision = broker.ledger(|ledger| collision(ledger, name));
            collision.is_some()
        };
        // Mostly all are there, and nobody waits.
        if !self.is_on || missing().0.is_empty() {
            return Some(reply_code::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let _turn = self.turn.lock().await;
        let (missing, topics) = missing();
        let asked = missing.len();
        let room = AUTO_CREATED_TOPICS_MAX.saturating_sub(topics);
        let (is_full, mut made) = (asked > room, 0);
        // Each is a sync of its own, for which all others wait.
        for name in missing.into_iter().take(room.min(AUTO_CREATED_AT_ONCE_MAX)) {
            if collides(&name) {
                continue;
            }
            made += 1;
            tracing::info!(topic = %name, "kafka: a client asks for a topic that is not there: it is made");
            let create = CreateTopic {
                name,
                topic_id: TopicId(Uuid::new_v4().as_u128()),
                partitions: TOPIC_PARTITIONS_DEFAULT,
                changes: Vec::new(),
            };
            broker.command(Command::CreateTopic(create)).await.ok()?;
        }
        if is_full {
            tracing::warn!(
                "kafka: a client asks for a topic that is not there, and there are {AUTO_CREATED_TOPICS_MAX}: it is not made"
            );
            return Some(reply_code::POLICY_VIOLATION);
        }
        Some(match made < asked.min(AUTO_CREATED_AT_ONCE_MAX) {
            true => reply_code::INVALID_TOPIC,
            false => reply_code::UNKNOWN_TOPIC_OR_PARTITION,
        })
    }
}
