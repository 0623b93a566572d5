//! The filters of SUBSCRIBE and UNSUBSCRIBE, parsed and held against what the server offers.

use crate::mqtt::{
    codec::{Subscribe, SubscriptionOptions, Text},
    connection::{
        event::{SharedFilter, SubscriptionRequest},
        inbound::Violation,
    },
    limits::ConnectionLimits,
    reply_code::ReasonCode,
};

const INVALID: Violation = (
    ReasonCode::TopicFilterInvalid,
    "a topic filter is not valid",
);

pub(super) fn parse(name: Text) -> Result<SharedFilter, Violation> {
    SharedFilter::parse(name).map_err(|_| INVALID)
}

pub(super) fn requests(
    subscribe: Subscribe,
    limits: &ConnectionLimits,
) -> Result<Vec<SubscriptionRequest>, Violation> {
    let identified = subscribe.properties.subscription_identifier.is_some();
    if identified && !limits.subscription_identifier_available {
        let reason = ReasonCode::SubscriptionIdentifiersNotSupported;
        return Err((reason, "subscription identifiers are not offered"));
    }
    let filters = subscribe.filters.into_iter();
    filters
        .map(|(name, options)| request(name, options, limits))
        .collect()
}

fn request(
    name: Text,
    mut options: SubscriptionOptions,
    limits: &ConnectionLimits,
) -> Result<SubscriptionRequest, Violation> {
    // It outlives the packet, and must not keep what was read with it.
    let filter = parse(name.detached())?;
    if !limits.allows_levels(filter.filter.as_str()) {
        let message = "a topic filter has more levels than the server takes";
        return Err((ReasonCode::TopicFilterInvalid, message));
    }
    if filter.group.is_some() && !limits.shared_subscription_available {
        let reason = ReasonCode::SharedSubscriptionsNotSupported;
        return Err((reason, "shared subscriptions are not offered"));
    }
    if filter.group.is_some() && options.no_local {
        // [MQTT-3.8.3-4]
        return Err((
            ReasonCode::ProtocolError,
            "a shared subscription has no No Local",
        ));
    }
    if filter.filter.as_str().contains(['+', '#']) && !limits.wildcard_subscription_available {
        let reason = ReasonCode::WildcardSubscriptionsNotSupported;
        return Err((reason, "wildcards are not offered"));
    }
    options.qos_max = options.qos_max.min(limits.qos_max);
    Ok(SubscriptionRequest { filter, options })
}
