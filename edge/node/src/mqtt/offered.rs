//! What the YAML says of connections, in the session machine's terms.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use prometheus_client::metrics::gauge::Gauge;
use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_edge_protocol::mqtt::connection::Redirect;
use tidegate_edge_protocol::mqtt::limits::{ConnectionLimits, SESSION_SUBSCRIPTIONS_MAX};
use tidegate_shared::fleet::{ByteSize, LimitsSpec, MqttSpec, RedirectSpec, RedirectWhen};

use crate::limits::{CONNECTION_SUBSCRIPTIONS_MAX, INFLIGHT_INBOUND_MAX};

/// In whole seconds, as MQTT says it.
fn keep_alive_s_max(spec: &MqttSpec) -> Option<NonZeroU16> {
    let seconds = spec.keep_alive_max?.0.as_secs();
    u16::try_from(seconds).ok().and_then(NonZeroU16::new)
}

/// Where clients are sent instead, by when they are told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redirects {
    pub at_connect: Option<Redirect>,
    pub at_shutdown: Option<Redirect>,
}

impl Redirects {
    pub(super) fn new(spec: Option<&RedirectSpec>) -> Self {
        let redirect = spec.and_then(|spec| {
            let server = Text::try_from(spec.server.as_str()).ok()?;
            let is_permanent = spec.permanent;
            Some(Redirect {
                server,
                is_permanent,
            })
        });
        let when = spec.map(|spec| spec.when);
        Self {
            at_connect: redirect
                .clone()
                .filter(|_| when == Some(RedirectWhen::Always)),
            at_shutdown: redirect,
        }
    }
}

/// What each connection of one listener may take.
pub(super) fn connection_limits(spec: &MqttSpec, limits: &LimitsSpec) -> ConnectionLimits {
    let defaults = ConnectionLimits::default();
    let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
    let packet_bytes_max = limits.packet_bytes_max.unwrap_or(spec.packet_bytes_max);
    let packet_bytes_max = u32::try_from(packet_bytes_max.0).ok();
    let inflight = |max: Option<u16>| max.and_then(NonZeroU16::new);
    ConnectionLimits {
        packet_bytes_max: packet_bytes_max
            .and_then(NonZeroU32::new)
            .unwrap_or(defaults.packet_bytes_max),
        keep_alive_s_max: keep_alive_s_max(spec),
        messages_per_second_max: limits.messages_per_second_max.and_then(NonZeroU32::new),
        bytes_per_second_max: limits
            .bytes_per_second_max
            .and_then(|size| NonZeroU64::new(size.0)),
        inflight_inbound_max: inflight(limits.inflight_max).unwrap_or(INFLIGHT_INBOUND_MAX),
        inflight_outbound_max: inflight(limits.outbound_inflight_max)
            .unwrap_or(defaults.inflight_outbound_max),
        outbound_queue_messages_max: limits
            .outbound_queue_messages_max
            .unwrap_or(defaults.outbound_queue_messages_max),
        outbound_queue_bytes_max: limits
            .outbound_queue_bytes_max
            .map_or(defaults.outbound_queue_bytes_max, bytes),
        topic_levels_max: limits.topic_levels_max.and_then(NonZeroU32::new),
        ..defaults
    }
}

/// One listener, as all its connections see it.
#[derive(Clone, Debug)]
pub(crate) struct ListenerLimits {
    pub connections_max: usize,
    /// How many it has now.
    pub connections: Gauge,
    /// Filters of one client.
    pub subscriptions_max: usize,
}

impl ListenerLimits {
    pub(super) fn new(limits: &LimitsSpec, connections: Gauge) -> Self {
        Self {
            connections_max: limits.connections_max.unwrap_or(usize::MAX),
            connections,
            subscriptions_max: limits
                .subscriptions_max
                .unwrap_or(CONNECTION_SUBSCRIPTIONS_MAX),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        let open = usize::try_from(self.connections.get()).unwrap_or(0);
        open >= self.connections_max
    }
}

const _: () = {
    // So that the bounds of a client session hold whatever a listener says.
    assert!(CONNECTION_SUBSCRIPTIONS_MAX <= SESSION_SUBSCRIPTIONS_MAX);
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use tidegate_shared::fleet::{Span, parse_yaml};

    use super::*;

    /// Each number stands here once, so that two keys that are swapped cannot go unnoticed.
    const LIMITS: &str = "
        connections_max: 11
        packet_bytes_max: 12KiB
        messages_per_second_max: 13
        bytes_per_second_max: 14KiB
        inflight_max: 15
        outbound_inflight_max: 16
        outbound_queue_messages_max: 17
        outbound_queue_bytes_max: 18KiB
        subscriptions_max: 19
        topic_levels_max: 20
    ";

    #[test]
    fn each_limit_of_the_yaml_is_the_session_machines_own() {
        let limits = parse_yaml::<LimitsSpec>(LIMITS).unwrap();
        let spec = MqttSpec {
            keep_alive_max: Some(Span(Duration::from_secs(21))),
            ..MqttSpec::default()
        };
        let expected = ConnectionLimits {
            packet_bytes_max: NonZeroU32::new(12 << 10).unwrap(),
            keep_alive_s_max: NonZeroU16::new(21),
            messages_per_second_max: NonZeroU32::new(13),
            bytes_per_second_max: NonZeroU64::new(14 << 10),
            inflight_inbound_max: NonZeroU16::new(15).unwrap(),
            inflight_outbound_max: NonZeroU16::new(16).unwrap(),
            outbound_queue_messages_max: 17,
            outbound_queue_bytes_max: 18 << 10,
            topic_levels_max: NonZeroU32::new(20),
            ..ConnectionLimits::default()
        };
        assert_eq!(connection_limits(&spec, &limits), expected);
        let listener = ListenerLimits::new(&limits, Gauge::default());
        assert_eq!(listener.connections_max, 11);
        assert_eq!(listener.subscriptions_max, 19);
    }
}
