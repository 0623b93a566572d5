//! One subscription of a session, and how several that match the same message act as one.

use tidegate_shared::id::Position;

use crate::mqtt::{
    codec::{Qos, SubscriptionIdentifier, SubscriptionOptions},
    connection::SharedFilter,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub filter: SharedFilter,
    pub options: SubscriptionOptions,
    pub identifier: Option<SubscriptionIdentifier>,
    /// Where the log stood when it was made: earlier messages are not for it.
    pub since: Position,
}

/// What the subscriptions that match a message ask for together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// The highest of them `[MQTT-3.3.4-2]`.
    pub qos_max: Qos,
    /// Of any of them.
    pub retain_as_published: bool,
    /// All that they have `[MQTT-3.3.4-3]`.
    pub identifiers: Vec<SubscriptionIdentifier>,
}

/// `own`: the message is of the session's own client.
pub(super) fn matched<'a>(
    subscriptions: impl Iterator<Item = &'a Subscription>,
    topic: &str,
    own: bool,
    position: Position,
) -> Option<Matched> {
    let matching = subscriptions.filter(|subscription| {
        subscription.filter.group.is_none()
            && subscription.since <= position
            // [MQTT-3.8.3-3]
            && !(own && subscription.options.no_local)
            && subscription.filter.filter.matches(topic)
    });
    matching.fold(None, |matched: Option<Matched>, subscription| {
        let mut matched = matched.unwrap_or_default();
        let options = subscription.options;
        matched.qos_max = matched.qos_max.max(options.qos_max);
        matched.retain_as_published |= options.retain_as_published;
        matched.identifiers.extend(subscription.identifier);
        Some(matched)
    })
}
