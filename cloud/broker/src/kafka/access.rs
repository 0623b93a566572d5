//! What the client of a connection may do, in the words of the handlers. The decision is the broker's
//! ([`Broker::authorize`](crate::Broker::authorize)); here are the client's name and Kafka's codes.

use tidegate_cloud_protocol::acls::{Operation, Resource, ResourceKind, Who};
use tidegate_cloud_protocol::ledger::Ledger;
use tidegate_shared::id::TopicId;
use uuid::Uuid;

use super::Context;
use super::refusal::Refusal;

impl Context {
    fn who(&self) -> Who<'_> {
        Who {
            principal: &self.principal,
            // Kafka shows addresses with a slash, and writes them without one in rules.
            host: self.client_host.trim_start_matches('/'),
        }
    }

    /// Whether the client may do it, where it has not asked for it by name: what it may not, it does not see.
    pub(crate) fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        self.broker
            .ledger(|ledger| self.may_in(ledger, operation, resource))
    }

    /// The same for who is looking at the ledger.
    pub(crate) fn may_in(
        &self,
        ledger: &Ledger,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        let policy = self.broker.policy();
        policy.may(ledger.rules(), self.who(), operation, resource)
    }

    /// Refuses what the client may not do.
    pub(super) fn check(
        &self,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        match self.may(operation, resource) {
            true => Ok(()),
            false => Err(self.refuse(operation, resource)),
        }
    }

    /// The same by either of two rights; the second is the one that is missed.
    pub(super) fn check_either(
        &self,
        (operation, resource): (Operation, Resource<'_>),
        otherwise: (Operation, Resource<'_>),
    ) -> Result<(), Refusal> {
        match self.may(operation, resource) {
            true => Ok(()),
            false => self.check(otherwise.0, otherwise.1),
        }
    }

    /// The same for a topic that a request names, or gives by its id. An id that no topic has is not for this to
    /// refuse.
    pub(super) fn check_topic(
        &self,
        operation: Operation,
        name: &str,
        id: Uuid,
    ) -> Result<(), Refusal> {
        // Each fetch asks this of each topic: one look, and nothing is copied but for who is refused.
        let refused = self.broker.ledger(|ledger| {
            let name = match id.is_nil() {
                true => Some(name),
                false => ledger
                    .topic(TopicId(id.as_u128()))
                    .map(|topic| topic.name.as_str()),
            };
            let refused =
                name.filter(|name| !self.may_in(ledger, operation, Resource::Topic(name)));
            refused.map(str::to_owned)
        });
        match refused {
            None => Ok(()),
            Some(name) => Err(self.refuse(operation, Resource::Topic(&name))),
        }
    }

    /// Whether the client may make a topic of this name.
    pub(super) fn may_create(&self, name: &str) -> bool {
        self.broker
            .ledger(|ledger| self.may_create_in(ledger, name))
    }

    /// The same for who is looking at the ledger.
    pub(super) fn may_create_in(&self, ledger: &Ledger, name: &str) -> bool {
        let may = |resource| self.may_in(ledger, Operation::Create, resource);
        may(Resource::Cluster) || may(Resource::Topic(name))
    }

    /// Whether the client may do it with at least one resource of the kind.
    pub(super) fn may_with_any(&self, operation: Operation, kind: ResourceKind) -> bool {
        let policy = self.broker.policy();
        self.broker
            .ledger(|ledger| policy.may_with_any(ledger.rules(), self.who(), operation, kind))
    }

    /// All that the client may do with a resource, as responses tell it.
    pub(super) fn operations(&self, resource: Resource<'_>) -> i32 {
        self.broker
            .ledger(|ledger| self.operations_in(ledger, resource))
    }

    /// The same for who is looking at the ledger.
    pub(super) fn operations_in(&self, ledger: &Ledger, resource: Resource<'_>) -> i32 {
        let policy = self.broker.policy();
        policy.operations(ledger.rules(), self.who(), resource)
    }

    /// All that the client may do with the cluster; nothing is told to who may not describe it.
    pub(super) fn cluster_operations(&self) -> i32 {
        match self.may(Operation::Describe, Resource::Cluster) {
            true => self.operations(Resource::Cluster),
            false => 0,
        }
    }

    pub(super) fn topic_name(&self, id: Uuid) -> Option<String> {
        self.broker.ledger(|ledger| {
            let topic = ledger.topic(TopicId(id.as_u128()))?;
            Some(topic.name.to_string())
        })
    }

    pub(super) fn refuse(&self, operation: Operation, resource: Resource<'_>) -> Refusal {
        self.broker.metrics().kafka_refused_requests.inc();
        // A client that is refused asks again and again: for whoever looks for why.
        tracing::debug!(
            principal = &*self.principal,
            host = self.client_host,
            operation = operation.name(),
            %resource,
            "kafka: the client may not do that"
        );
        Refusal::not_authorized(resource.kind())
    }
}
