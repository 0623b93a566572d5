//! Random packets that a version can carry.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::mqtt::reply_code::ReasonCode;

pub(crate) fn text() -> impl Strategy<Value = Text> {
    "[a-z0-9 /+#é🌊-]{0,12}".prop_map(|value| Text::try_from(value).unwrap())
}

pub(crate) fn topic() -> impl Strategy<Value = Text> {
    "[a-z$é/]{1,12}".prop_map(|value| Text::try_from(value).unwrap())
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = Qos> {
    select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

pub(crate) fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|value| PacketId::new(value).unwrap())
}

pub(crate) fn identifier() -> impl Strategy<Value = SubscriptionIdentifier> {
    (1..=268_435_455_u32).prop_map(|value| SubscriptionIdentifier::new(value).unwrap())
}

fn user_properties() -> impl Strategy<Value = Vec<UserProperty>> {
    vec((text(), text()), 0..3)
}

pub(crate) fn reason(packet_type: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed = ReasonCode::ALL
        .iter()
        .copied()
        .filter(move |reason| reason.is_allowed_in(packet_type));
    select(allowed.collect::<Vec<_>>())
}

fn only_v5<P: Default + std::fmt::Debug + Clone + 'static>(
    version: Version,
    properties: impl Strategy<Value = P> + 'static,
) -> BoxedStrategy<P> {
    match version {
        Version::V5 => properties.boxed(),
        _ => Just(P::default()).boxed(),
    }
}

fn publish_properties() -> impl Strategy<Value = PublishProperties> {
    (
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic()),
        option::of(binary()),
        user_properties(),
    )
        .prop_map(|(utf8, expiry, content_type, response_topic, data, user)| {
            PublishProperties {
                payload_is_utf8: utf8,
                message_expiry_interval_s: expiry,
                content_type,
                response_topic,
                correlation_data: data,
                user_properties: user,
            }
        })
}

pub(crate) fn will(version: Version) -> impl Strategy<Value = Will> {
    let properties =
        (option::of(any::<u32>()), publish_properties()).prop_map(|(delay, from)| WillProperties {
            will_delay_interval_s: delay,
            payload_is_utf8: from.payload_is_utf8,
            message_expiry_interval_s: from.message_expiry_interval_s,
            content_type: from.content_type,
            response_topic: from.response_topic,
            correlation_data: from.correlation_data,
            user_properties: from.user_properties,
        });
    let properties = only_v5(version, properties);
    (qos(), any::<bool>(), topic(), binary(), properties).prop_map(
        |(qos, retain, topic, payload, properties)| Will {
            qos,
            retain,
            topic,
            payload,
            properties,
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    (
        option::of(any::<u32>()),
        option::of(any::<NonZeroU16>()),
        option::of(any::<NonZeroU32>()),
        option::of(any::<u16>()),
        option::of(any::<bool>()),
        option::of((text(), option::of(binary()))),
        user_properties(),
    )
        .prop_map(|(expiry, receive, bytes, alias, flag, method, user)| {
            let (method, data) = method.map_or((None, None), |(method, data)| (Some(method), data));
            ConnectProperties {
                session_expiry_interval_s: expiry,
                receive_maximum: receive,
                packet_bytes_max: bytes,
                topic_alias_max: alias,
                request_response_information: flag,
                request_problem_information: flag.map(|flag| !flag),
                authentication_method: method,
                authentication_data: data,
                user_properties: user,
            }
        })
}

pub(crate) fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let login = option::of((text(), option::of(binary())));
    let properties = only_v5(version, connect_properties());
    (
        any::<bool>(),
        any::<u16>(),
        text(),
        option::of(will(version)),
        login,
        properties,
    )
        .prop_map(
            move |(clean_start, keep_alive_s, client_id, will, login, properties)| {
                let (username, password) =
                    login.map_or((None, None), |(name, password)| (Some(name), password));
                Packet::Connect(Box::new(Connect {
                    version,
                    clean_start,
                    keep_alive_s,
                    client_id,
                    will,
                    username,
                    password,
                    properties,
                }))
            },
        )
}

fn connack(version: Version) -> impl Strategy<Value = Packet> {
    let reasons: Vec<_> = ReasonCode::ALL
        .iter()
        .copied()
        .filter(|reason| match version {
            Version::V5 => reason.is_allowed_in(PacketType::Connack),
            _ => (0..=5).any(|code| ReasonCode::from_connack_return_code(code) == Some(*reason)),
        })
        .collect();
    let properties = (
        connect_properties(),
        option::of(select(vec![Qos::AtMostOnce, Qos::AtLeastOnce])),
        option::of(any::<bool>()),
        option::of(text()),
    )
        .prop_map(|(from, qos_max, flag, string)| ConnackProperties {
            session_expiry_interval_s: from.session_expiry_interval_s,
            receive_maximum: from.receive_maximum,
            qos_max,
            retain_available: flag,
            packet_bytes_max: from.packet_bytes_max,
            assigned_client_id: string.clone(),
            topic_alias_max: from.topic_alias_max,
            reason_string: string.clone(),
            wildcard_subscription_available: flag,
            subscription_identifier_available: flag,
            shared_subscription_available: flag,
            server_keep_alive_s: from.topic_alias_max,
            response_information: string.clone(),
            server_reference: string,
            authentication_method: from.authentication_method,
            authentication_data: from.authentication_data,
            user_properties: from.user_properties,
        });
    let properties = only_v5(version, properties);
    (any::<bool>(), select(reasons), properties).prop_map(move |(present, reason, properties)| {
        Packet::Connack(Box::new(Connack {
            session_present: present && version > Version::V3_1 && !reason.is_error(),
            reason,
            properties,
        }))
    })
}

pub(crate) fn publish(version: Version) -> impl Strategy<Value = Packet> {
    let delivery = (option::of(any::<NonZeroU16>()), vec(identifier(), 0..3));
    let delivery = only_v5(version, delivery);
    let properties = only_v5(version, publish_properties());
    let packet = (any::<bool>(), qos(), packet_id(), any::<bool>());
    (packet, delivery, topic(), binary(), properties).prop_map(
        |((duplicate, qos, packet_id, retain), delivery, topic, payload, properties)| {
            let qos = match qos {
                Qos::AtMostOnce => PublishQos::AtMostOnce,
                Qos::AtLeastOnce => PublishQos::AtLeastOnce(packet_id),
                Qos::ExactlyOnce => PublishQos::ExactlyOnce(packet_id),
            };
            Packet::Publish(Publish {
                duplicate: duplicate && qos != PublishQos::AtMostOnce,
                qos,
                retain,
                topic_alias: delivery.0,
                subscription_identifiers: delivery.1,
                message: Message {
                    topic,
                    payload,
                    properties: properties.into(),
                },
            })
        },
    )
}

fn ack_properties(version: Version) -> BoxedStrategy<AckProperties> {
    let properties =
        (option::of(text()), user_properties()).prop_map(|(reason_string, user_properties)| {
            AckProperties {
                reason_string,
                user_properties,
            }
        });
    only_v5(version, properties)
}

fn reason_in(version: Version, packet_type: PacketType) -> BoxedStrategy<ReasonCode> {
    match version {
        Version::V5 => reason(packet_type).boxed(),
        _ => Just(ReasonCode::Success).boxed(),
    }
}

type MakeAck = fn(Ack) -> Packet;

fn ack(version: Version) -> impl Strategy<Value = Packet> {
    let kinds: Vec<(PacketType, MakeAck)> = vec![
        (PacketType::Puback, Packet::Puback),
        (PacketType::Pubrec, Packet::Pubrec),
        (PacketType::Pubrel, Packet::Pubrel),
        (PacketType::Pubcomp, Packet::Pubcomp),
    ];
    select(kinds).prop_flat_map(move |(packet_type, make)| {
        let reason = reason_in(version, packet_type);
        (packet_id(), reason, ack_properties(version)).prop_map(
            move |(packet_id, reason, properties)| {
                make(Ack {
                    packet_id,
                    reason,
                    properties,
                })
            },
        )
    })
}

pub(crate) fn options(version: Version) -> impl Strategy<Value = SubscriptionOptions> {
    let handling = select(vec![
        RetainHandling::AtSubscribe,
        RetainHandling::AtNewSubscribe,
        RetainHandling::Never,
    ]);
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(qos_max, no_local, retain_as_published, retain_handling)| match version {
            Version::V5 => SubscriptionOptions {
                qos_max,
                no_local,
                retain_as_published,
                retain_handling,
            },
            _ => SubscriptionOptions {
                qos_max,
                ..SubscriptionOptions::default()
            },
        },
    )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let properties = (option::of(identifier()), user_properties()).prop_map(
        |(subscription_identifier, user_properties)| SubscribeProperties {
            subscription_identifier,
            user_properties,
        },
    );
    let filters = vec((text(), options(version)), 1..4);
    (packet_id(), filters, only_v5(version, properties)).prop_map(
        |(packet_id, filters, properties)| {
            Packet::Subscribe(Subscribe {
                packet_id,
                filters,
                properties,
            })
        },
    )
}

fn suback(version: Version) -> impl Strategy<Value = Packet> {
    let reason = reason(PacketType::Suback).prop_map(move |reason| match version {
        Version::V5 => reason,
        _ if reason.is_error() => ReasonCode::UnspecifiedError,
        _ => reason,
    });
    (packet_id(), vec(reason, 1..4), ack_properties(version)).prop_map(
        |(packet_id, reasons, properties)| {
            Packet::Suback(Suback {
                packet_id,
                reasons,
                properties,
            })
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Packet> {
    let properties =
        user_properties().prop_map(|user_properties| UnsubscribeProperties { user_properties });
    let properties = only_v5(version, properties);
    (packet_id(), vec(text(), 1..4), properties).prop_map(|(packet_id, filters, properties)| {
        Packet::Unsubscribe(Unsubscribe {
            packet_id,
            filters,
            properties,
        })
    })
}

fn unsuback(version: Version) -> impl Strategy<Value = Packet> {
    let reasons = only_v5(version, vec(reason(PacketType::Unsuback), 1..4));
    (packet_id(), reasons, ack_properties(version)).prop_map(|(packet_id, reasons, properties)| {
        Packet::Unsuback(Suback {
            packet_id,
            reasons,
            properties,
        })
    })
}

fn disconnect(version: Version) -> impl Strategy<Value = Packet> {
    let properties = (
        option::of(any::<u32>()),
        option::of(text()),
        user_properties(),
    )
        .prop_map(|(expiry, string, user_properties)| DisconnectProperties {
            session_expiry_interval_s: expiry,
            reason_string: string.clone(),
            server_reference: string,
            user_properties,
        });
    let reason = reason_in(version, PacketType::Disconnect);
    (reason, only_v5(version, properties))
        .prop_map(|(reason, properties)| Packet::Disconnect(Disconnect { reason, properties }))
}

fn auth() -> impl Strategy<Value = Packet> {
    let properties = (option::of(text()), option::of(binary()), user_properties()).prop_map(
        |(method, data, user_properties)| AuthProperties {
            authentication_method: method.clone(),
            authentication_data: data,
            reason_string: method,
            user_properties,
        },
    );
    (reason(PacketType::Auth), properties)
        .prop_map(|(reason, properties)| Packet::Auth(Box::new(Auth { reason, properties })))
}

pub(crate) fn version() -> impl Strategy<Value = Version> {
    select(vec![Version::V3_1, Version::V3_1_1, Version::V5])
}

/// Any packet but CONNECT, with whether a server sends it.
pub(crate) fn later_packet(version: Version) -> BoxedStrategy<(bool, Packet)> {
    let to_server = |packet| (false, packet);
    let to_client = |packet| (true, packet);
    let both = prop_oneof![3 => publish(version), 2 => ack(version)];
    let common = prop_oneof![
        4 => (any::<bool>(), both),
        1 => subscribe(version).prop_map(to_server),
        1 => unsubscribe(version).prop_map(to_server),
        1 => Just(Packet::Pingreq).prop_map(to_server),
        1 => disconnect(version).prop_map(to_server),
        1 => connack(version).prop_map(to_client),
        1 => suback(version).prop_map(to_client),
        1 => unsuback(version).prop_map(to_client),
        1 => Just(Packet::Pingresp).prop_map(to_client),
    ];
    match version {
        Version::V5 => prop_oneof![
            9 => common,
            1 => (any::<bool>(), auth()),
            1 => disconnect(version).prop_map(to_client),
        ]
        .boxed(),
        _ => common.boxed(),
    }
}
