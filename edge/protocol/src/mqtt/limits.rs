//! Every bound of the MQTT server, by name and unit. Drivers fill the structs from configuration;
//! the defaults are what an edge runs with when it says nothing.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::codec::Qos;

/// The largest value of a variable byte integer, and so of a remaining length `[MQTT-1.5.5-1]`.
pub const VARIABLE_INTEGER_MAX: u32 = 268_435_455;

/// A string or binary field carries its length in two bytes.
pub const FIELD_BYTES_MAX: usize = 65_535;

/// What a fixed header takes at most: the type, and four bytes of remaining length.
pub const FIXED_HEADER_BYTES_MAX: usize = 5;

/// The largest packet by default.
pub const PACKET_BYTES_MAX_DEFAULT: NonZeroU32 = NonZeroU32::new(1024 * 1024).unwrap();

/// A CONNECT: whoever sends one is not known yet, and may not make us keep a packet of any size. A client id,
/// a will and credentials that are far longer than anyone's still fit.
pub const CONNECT_BYTES_MAX: u32 = 128 << 10;

/// Packet identifiers of one direction of a session: 1 to 65,535.
pub const PACKET_IDS_MAX: usize = u16::MAX as usize;

/// Subscriptions of one session.
pub const SESSION_SUBSCRIPTIONS_MAX: usize = 10_000 + 2;

/// Their filters, as the client writes them. A session is stored as a whole now and then: it must fit
/// into a frame of the journal.
pub const SESSION_SUBSCRIPTIONS_BYTES_MAX: usize = 1 << 20;

/// Positions that a session keeps in mind beyond its cursor: in flight, or (QoS 2) done while an
/// earlier one is not. Reading for the session stops there.
pub const SESSION_AHEAD_MAX: usize = 4_096;

/// Unacknowledged messages in each direction by default.
pub const INFLIGHT_MAX_DEFAULT: NonZeroU16 = NonZeroU16::new(128).unwrap();

/// The bounds of one connection, and what the server offers on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of a packet from the client, fixed header included; announced as Maximum Packet Size.
    pub packet_bytes_max: NonZeroU32,
    /// From the connection's start to its CONNECT.
    pub connect_timeout: Duration,
    /// Stands in for a longer or absent keep alive of an MQTT 5 client.
    pub keep_alive_s_max: Option<NonZeroU16>,
    /// QoS 1 and 2 messages from the client that are not acknowledged yet (QoS 2: until PUBCOMP);
    /// announced as Receive Maximum. An MQTT 5 client that exceeds it is disconnected. An older
    /// one was never told: it is not read from while so many wait for their commit.
    pub inflight_inbound_max: NonZeroU16,
    /// PUBLISH packets from the client, and bytes of all its packets, over time; a second's worth may come
    /// at once. Past either it is not read from for a while.
    pub messages_per_second_max: Option<NonZeroU32>,
    pub bytes_per_second_max: Option<NonZeroU64>,
    /// Levels of a topic or a filter from the client, if fewer than any topic may have. One that has
    /// more ends the connection.
    pub topic_levels_max: Option<NonZeroU32>,
    /// Publishes of an MQTT 3 client that wait for space in the journal, and what they take; past
    /// either the client is not read from. What was under way before is kept beyond them.
    pub withheld_messages_max: usize,
    pub withheld_bytes_max: usize,
    /// After a message found no space, those bounds hold for so long for what is under way too: space
    /// that comes in drops must not let a whole window in each time.
    pub withheld_caution: Duration,
    /// The oldest of them is tried again so often.
    pub withheld_retry_interval: Duration,
    /// QoS 1 and 2 messages to the client that it has not acknowledged yet (QoS 2: until PUBCOMP),
    /// those that earlier connections of its session have released among them.
    pub inflight_outbound_max: NonZeroU16,
    /// Messages that wait for the in-flight window or the socket.
    pub outbound_queue_messages_max: usize,
    /// What they take as packets. At least `packet_bytes_max`.
    pub outbound_queue_bytes_max: usize,
    /// Announced as Topic Alias Maximum.
    pub topic_alias_inbound_max: u16,
    /// Topics that the client is sent an alias for, where it allows as many, and what they take.
    pub topic_alias_outbound_max: u16,
    pub topic_alias_outbound_bytes_max: usize,
    /// SUBSCRIBE and UNSUBSCRIBE packets that are not answered yet; past it the client is not read
    /// from.
    pub subscribes_pending_max: usize,
    /// Replies that wait for the socket; past it the client is not read from.
    pub replies_queued_max: usize,
    /// Packets that a client may send before its CONNECT is answered.
    pub early_packets_max: usize,
    /// One `poll_transmit` stops at the first packet that reaches it.
    pub transmit_bytes_max: usize,
    /// Announced as Maximum QoS; subscriptions are granted at most this.
    pub qos_max: Qos,
    pub retain_available: bool,
    pub wildcard_subscription_available: bool,
    pub subscription_identifier_available: bool,
    pub shared_subscription_available: bool,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            packet_bytes_max: PACKET_BYTES_MAX_DEFAULT,
            connect_timeout: Duration::from_secs(10),
            keep_alive_s_max: None,
            inflight_inbound_max: INFLIGHT_MAX_DEFAULT,
            messages_per_second_max: None,
            bytes_per_second_max: None,
            topic_levels_max: None,
            withheld_messages_max: 64,
            withheld_bytes_max: 256 * 1024,
            withheld_caution: Duration::from_secs(10),
            withheld_retry_interval: Duration::from_millis(250),
            inflight_outbound_max: INFLIGHT_MAX_DEFAULT,
            outbound_queue_messages_max: 4_096,
            outbound_queue_bytes_max: 8 * 1024 * 1024,
            topic_alias_inbound_max: 16,
            topic_alias_outbound_max: 64,
            topic_alias_outbound_bytes_max: 4 * 1024,
            subscribes_pending_max: 16,
            replies_queued_max: 1_024,
            early_packets_max: 64,
            transmit_bytes_max: 64 * 1024,
            qos_max: Qos::ExactlyOnce,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_identifier_available: true,
            shared_subscription_available: true,
        }
    }
}

impl ConnectionLimits {
    pub(super) fn allows_levels(&self, topic: &str) -> bool {
        let levels = |topic: &str| 1 + topic.bytes().filter(|byte| *byte == b'/').count();
        self.topic_levels_max
            .is_none_or(|max| levels(topic) <= max.get() as usize)
    }

    /// The relations between the limits.
    pub(super) fn assert_valid(&self) {
        // Otherwise a message that one client may send could never reach another.
        assert!(self.outbound_queue_bytes_max >= self.packet_bytes_max.get() as usize);
        assert!(self.outbound_queue_messages_max > 0);
        // In flight, left in flight by an earlier connection, or queued with its identifier: one
        // must be left for who needs another.
        let inflight_max = usize::from(self.inflight_outbound_max.get());
        assert!(2 * inflight_max + self.outbound_queue_messages_max < PACKET_IDS_MAX);
        // A client that is never read from can't be answered.
        assert!(self.subscribes_pending_max > 0);
        assert!(self.withheld_messages_max > 0 && self.withheld_bytes_max > 0);
        assert!(self.replies_queued_max > 0);
        assert!(self.transmit_bytes_max > 0);
    }
}
