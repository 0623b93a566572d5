//! What a connection tells its driver, and what the driver answers.

use std::{num::NonZeroU32, sync::Arc, time::Instant};

use bytes::Bytes;
use tidegate_shared::topic::{TopicError, TopicFilter, split_share};

use crate::mqtt::{
    codec::{
        Connect, Message, PacketId, Publish, Qos, SubscriptionIdentifier, SubscriptionOptions,
        Text, UserProperty, Version, Will,
    },
    reply_code::ReasonCode,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answer with `handle_accepted` or `handle_rejected`.
    Connect(Box<ConnectRequest>),
    /// With a token: answer with `handle_committed`. Without (QoS 0): nothing is expected. The
    /// topic is there, whether or not the client used an alias. If QoS 2, the packet identifier
    /// (`publish.qos.packet_id()`) belongs to the same commit as the message: an identifier that
    /// is in flight already is not reported again.
    Publish {
        token: Option<PublishToken>,
        publish: Publish,
    },
    /// A message that was withheld (`handle_withheld`): answer as for `Publish`. The first of them is a
    /// probe, and nothing else is under way; the others follow when it was taken. Subscribers
    /// who are served as messages come have had it.
    PublishAgain {
        token: PublishToken,
        publish: Publish,
        is_probe: bool,
    },
    /// The client has let go of a QoS 2 message: once it is durable that its identifier is free,
    /// answer with `handle_released`.
    Release {
        token: ReleaseToken,
        packet_id: PacketId,
    },
    /// Answer with `handle_subscribed`, one reason per filter.
    Subscribe {
        token: SubscribeToken,
        filters: Vec<SubscriptionRequest>,
        subscription_identifier: Option<SubscriptionIdentifier>,
    },
    /// Answer with `handle_unsubscribed`, one reason per filter.
    Unsubscribe {
        token: SubscribeToken,
        filters: Vec<SharedFilter>,
    },
    /// A QoS 2 delivery has a place in the window. It goes out once it is durable that the
    /// identifier is this delivery's, and `handle_assigned` says so; what is behind it waits. Many
    /// may wait at once.
    Assign {
        token: DeliveryToken,
        packet_id: PacketId,
    },
    /// The client has a QoS 2 message: it must never be sent again. Once that is durable, answer
    /// with `handle_received`, and its PUBREL goes out.
    Received {
        token: DeliveryToken,
        packet_id: PacketId,
    },
    /// A QoS 1 or 2 delivery has come to its end, and its identifier is free. One of QoS 0 has
    /// come to its end as soon as `handle_deliver` returns: no event follows.
    DeliveryDone {
        token: DeliveryToken,
        outcome: DeliveryOutcome,
    },
    /// The connection ended in a way that makes its will due `[MQTT-3.1.2-8]`. Its delay is the
    /// driver's business.
    WillDue(Box<Will>),
    /// The last event of a connection, and the only one that each has.
    Closed(Closed),
}

/// What a CONNECT asks for, with the defaults of its version filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    pub version: Version,
    /// `None`: the server must assign one.
    pub client_id: Option<Text>,
    pub clean_start: bool,
    /// What the client asked for; 0 is none.
    pub keep_alive_s: u16,
    pub username: Option<Text>,
    pub password: Option<Bytes>,
    pub will: Option<Will>,
    /// `u32::MAX` is for ever, as is a session that is not clean before MQTT 5.
    pub session_expiry_interval_s: u32,
    pub receive_maximum: u16,
    pub packet_bytes_max: Option<NonZeroU32>,
    pub topic_alias_max: u16,
    /// Who the client has proved to be (`Connection::offer_authentication`).
    pub authenticated_name: Option<Text>,
    /// What that was checked by, as [`Users::known`](crate::mqtt::authentication::Users::known) has it.
    pub proved_by: Option<u64>,
    pub request_response_information: bool,
    pub request_problem_information: bool,
    pub user_properties: Vec<UserProperty>,
}

impl ConnectRequest {
    pub(super) fn new(connect: Connect) -> Self {
        let properties = connect.properties;
        let default_expiry_s = match (connect.version, connect.clean_start) {
            (Version::V3_1 | Version::V3_1_1, false) => u32::MAX,
            _ => 0,
        };
        Self {
            version: connect.version,
            client_id: Some(connect.client_id).filter(|client_id| !client_id.is_empty()),
            clean_start: connect.clean_start,
            keep_alive_s: connect.keep_alive_s,
            username: connect.username,
            password: connect.password,
            will: connect.will,
            session_expiry_interval_s: properties
                .session_expiry_interval_s
                .unwrap_or(default_expiry_s),
            receive_maximum: properties.receive_maximum.map_or(u16::MAX, |max| max.get()),
            packet_bytes_max: properties.packet_bytes_max,
            topic_alias_max: properties.topic_alias_max.unwrap_or(0),
            authenticated_name: None,
            proved_by: None,
            request_response_information: properties.request_response_information.unwrap_or(false),
            request_problem_information: properties.request_problem_information.unwrap_or(true),
            user_properties: properties.user_properties,
        }
    }
}

/// What the CONNACK of an accepted connection says beyond the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    pub session_present: bool,
    /// Needed where the request had no client id.
    pub assigned_client_id: Option<Text>,
    /// Where it differs from what the client asked for.
    pub session_expiry_interval_s: Option<u32>,
    pub response_information: Option<Text>,
    pub user_properties: Vec<UserProperty>,
    /// QoS 2 identifiers that earlier connections of this session received and did not see
    /// released. All that those connections were about to commit must be durable by now.
    pub received: Vec<PacketId>,
    /// Identifiers of deliveries that will be handed in with them (`Delivery::resent`,
    /// `handle_release_again`); until then no other delivery gets them.
    pub unacknowledged: Vec<PacketId>,
}

/// Where the client is to go instead (4.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The Server Reference.
    pub server: Text,
    /// For good, rather than for now.
    pub is_permanent: bool,
}

impl Redirect {
    pub fn reason_code(&self) -> ReasonCode {
        match self.is_permanent {
            true => ReasonCode::ServerMoved,
            false => ReasonCode::UseAnotherServer,
        }
    }
}

/// A PUBLISH of QoS 1 or 2 that waits for its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishToken(pub(super) u64);

/// A PUBREL that waits for its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseToken(pub(super) u64);

/// A SUBSCRIBE or UNSUBSCRIBE that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscribeToken(pub(super) u64);

/// The driver's own name for a delivery; of those in flight, no two may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryToken(pub u64);

/// Why a PUBLISH was not taken. A client of an older version can't be told: its connection is
/// closed without the PUBACK or PUBREC, if its driver does not have it wait (`handle_withheld`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    NotAuthorized,
    QuotaExceeded,
    TopicNameInvalid,
    PayloadFormatInvalid,
    /// No PUBACK or PUBREC may say so: the connection is closed with 0x95.
    TooLarge,
    /// 0x83: the server's own rules.
    ImplementationSpecific,
    Unspecified,
}

impl PublishRefused {
    pub fn reason_code(self) -> ReasonCode {
        match self {
            Self::NotAuthorized => ReasonCode::NotAuthorized,
            Self::QuotaExceeded => ReasonCode::QuotaExceeded,
            Self::TopicNameInvalid => ReasonCode::TopicNameInvalid,
            Self::PayloadFormatInvalid => ReasonCode::PayloadFormatInvalid,
            Self::TooLarge => ReasonCode::PacketTooLarge,
            Self::ImplementationSpecific => ReasonCode::ImplementationSpecificError,
            Self::Unspecified => ReasonCode::UnspecifiedError,
        }
    }
}

/// A filter, and the group of a shared subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SharedFilter {
    /// As the client wrote it, `$share/…` included.
    pub name: Text,
    pub group: Option<String>,
    pub filter: TopicFilter,
}

impl SharedFilter {
    /// Takes `$share/group/filter` apart, and checks the filter.
    pub fn parse(name: Text) -> Result<Self, TopicError> {
        let (group, filter) = match split_share(&name)? {
            Some((group, filter)) => (Some(group.to_owned()), TopicFilter::new(filter)?),
            None => (None, TopicFilter::new(name.as_str())?),
        };
        Ok(Self {
            name,
            group,
            filter,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRequest {
    pub filter: SharedFilter,
    /// The QoS is already no more than the server offers.
    pub options: SubscriptionOptions,
}

impl SubscriptionRequest {
    /// The SUBACK code that grants it.
    pub fn granted(&self) -> ReasonCode {
        match self.options.qos_max {
            Qos::AtMostOnce => ReasonCode::Success,
            Qos::AtLeastOnce => ReasonCode::GrantedQos1,
            Qos::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }
}

/// One message for this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub token: DeliveryToken,
    pub message: Arc<Message>,
    /// Of the PUBLISH that came in.
    pub qos: Qos,
    /// Of the subscription; the lower of both counts `[MQTT-3.8.4-8]`.
    pub qos_max: Qos,
    pub retain: bool,
    pub subscription_identifiers: Vec<SubscriptionIdentifier>,
    /// Not sent once this has passed `[MQTT-3.3.2-5]`; what is left is sent `[MQTT-3.3.2-6]`.
    pub expires_at: Option<Instant>,
    /// The identifier that an earlier connection of this session had for it without seeing it
    /// acknowledged (QoS 2: without a PUBREC) `[MQTT-4.4.0-1]`. It goes out as a duplicate, without
    /// `Event::Assign`, and does not expire. No other delivery may have the identifier. Hand all
    /// deliveries in by their position, these among them: that keeps the order
    /// `[MQTT-4.6.0-1]`, `[MQTT-4.6.0-5]`.
    pub resent: Option<PacketId>,
    /// It goes before those that wait with a lower one.
    pub priority: u8,
}

/// What became of a delivery at once.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverOutcome {
    /// It is queued. If QoS 1 or 2, `DeliveryDone` or `Closed` follows.
    Queued,
    /// QoS 0 and no room: dropped and counted.
    Dropped,
    /// Larger than the client takes: skipped and counted `[MQTT-3.1.2-25]`.
    TooLarge,
    /// QoS 1 or 2 and no room: not taken. Read it again later (`outbound_has_room`), or disconnect the
    /// client with `handle_shutdown(now, ReasonCode::QuotaExceeded)`.
    Overflow,
    /// The connection is closed, or its CONNECT not accepted yet: not taken.
    NotConnected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// By PUBACK or PUBCOMP.
    Acknowledged,
    /// The client's PUBACK or PUBREC had an error code; it counts as delivered `[MQTT-4.4.0-2]`.
    RefusedByClient(ReasonCode),
    /// It expired before it was sent or (QoS 2) assigned an identifier.
    Expired,
}

/// What was not delivered, since the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundCounters {
    pub dropped_qos0: u64,
    pub skipped_too_large: u64,
    pub expired: u64,
}

/// Packets that were handed out for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub packets: u64,
    /// PUBLISH among them, those sent again included.
    pub publishes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub reason: CloseReason,
    /// What a DISCONNECT of the client set it to.
    pub session_expiry_interval_s: Option<u32>,
    /// What has an identifier and is not acknowledged, in the order of deliveries: sent by this
    /// connection or an earlier one, or about to be (QoS 2). What else was queued is not among
    /// them.
    pub unacknowledged: Vec<Unacknowledged>,
}

/// A delivery that the next connection of the session must take up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacknowledged {
    pub packet_id: PacketId,
    pub token: DeliveryToken,
    pub stage: DeliveryStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStage {
    /// QoS 1, sent: the next connection resends it.
    AtLeastOnce,
    /// QoS 2, between `Event::Assign` and `Event::Received`: the next connection resends it.
    ExactlyOnceAssigned,
    /// QoS 2, after `Event::Received`: the next connection hands it to `handle_release_again`.
    ExactlyOnceReleased,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    ClientDisconnected(ReasonCode),
    /// The network connection ended.
    NetworkClosed,
    ConnectTimeout,
    KeepAliveTimeout,
    /// The driver's `handle_rejected`, or a CONNECT that no server accepts.
    Rejected(ReasonCode),
    /// The driver's `handle_shutdown`.
    Shutdown(ReasonCode),
    /// A PUBLISH was refused, and the client's version has no code for that.
    PublishRefused(PublishRefused),
    /// The client broke the protocol or a limit.
    PeerError {
        reason: ReasonCode,
        message: String,
    },
}
