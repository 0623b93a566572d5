//! The connection to a broker, by rumqttc: both versions of the protocol behind one face. Nothing is decided here.
//!
//! What rumqttc leaves to its user is kept here: after an error its event loop still gives out what it had read of the
//! connection that has ended, before the next CONNACK.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport, v5};
use tidegate_edge_protocol::mqtt::codec::{Message, PublishProperties, Qos, Text};
use tidegate_shared::fleet::{MqttSourceSpec, MqttVersion};

use super::intake::Receipt;
use crate::limits::{
    CONNECT_TIMEOUT, SOURCE_KEEP_ALIVE, SOURCE_PACKET_BYTES_MAX, SOURCE_UNACKNOWLEDGED_MAX,
};

/// What the session's owner proves with; read anew for each attempt.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub(super) password: Option<String>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
}

/// What comes of a broker.
#[derive(Debug)]
pub(super) enum Event {
    Connected {
        session_present: bool,
        /// How long the broker keeps the session, where it says something else than it was asked for.
        expiry_s: Option<u32>,
    },
    Publish(Arrived),
    /// With which QoS each filter was granted, where it was.
    Subscribed(Vec<Option<u8>>),
    Unsubscribed,
    /// An acknowledgement is written.
    Acknowledged,
    Other,
}

#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    pub(super) properties: PublishProperties,
    pub(super) receipt: Receipt,
    pub(super) retain: bool,
}

impl Arrived {
    /// Under its topic here; `None`: that is no text.
    pub(super) fn message(self, topic: &str) -> Option<Message> {
        Some(Message {
            topic: Text::try_from(topic).ok()?,
            payload: self.payload,
            properties: self.properties.into(),
        })
    }
}

/// Speaks to the broker; the event loop is what hears it.
#[derive(Debug)]
pub(super) enum Speaker {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

pub(super) enum EventLoop {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

impl std::fmt::Debug for EventLoop {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("EventLoop")
    }
}

/// Packets of our own, beside acknowledgements, which are answered; there are never more than a few.
const OUTGOING_MAX: u16 = 16;

/// Acknowledgements, of which there are no more than packet ids, and a few requests.
const REQUESTS_MAX: usize = u16::MAX as usize + 2 * OUTGOING_MAX as usize;

/// `session_expiry`: how long the broker keeps the session; `None`: no longer than the connection.
pub(super) fn open(
    spec: &MqttSourceSpec,
    client_id: &str,
    session_expiry: Option<Duration>,
) -> (Speaker, EventLoop) {
    let server = &spec.server;
    // TCP wants an IPv6 address in brackets, and TLS a name without them: both at once cannot be.
    let host = match server.host.contains(':') {
        true => format!("[{}]", server.host),
        false => server.host.clone(),
    };
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network.set_tcp_nodelay(true);
    match spec.version {
        MqttVersion::V311 => {
            let mut options = rumqttc::MqttOptions::new(client_id, host, server.port);
            options
                .set_clean_session(session_expiry.is_none())
                .set_keep_alive(SOURCE_KEEP_ALIVE)
                .set_manual_acks(true)
                .set_inflight(OUTGOING_MAX)
                .set_max_packet_size(SOURCE_PACKET_BYTES_MAX, SOURCE_PACKET_BYTES_MAX);
            let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
            events.set_network_options(network);
            (Speaker::V311(client), EventLoop::V311(Box::new(events)))
        }
        MqttVersion::V5 => {
            let expiry_s = session_expiry.map_or(0, |expiry| expiry.as_secs());
            let expiry_s = u32::try_from(expiry_s).unwrap_or(u32::MAX);
            let mut options = v5::MqttOptions::new(client_id, host, server.port);
            options
                .set_clean_start(session_expiry.is_none())
                .set_session_expiry_interval(Some(expiry_s))
                .set_receive_maximum(Some(SOURCE_UNACKNOWLEDGED_MAX))
                .set_max_packet_size(Some(SOURCE_PACKET_BYTES_MAX as u32))
                .set_keep_alive(SOURCE_KEEP_ALIVE)
                .set_connection_timeout(CONNECT_TIMEOUT.as_secs())
                .set_manual_acks(true)
                .set_outgoing_inflight_upper_limit(OUTGOING_MAX)
                .set_network_options(network);
            let (client, events) = v5::AsyncClient::new(options, REQUESTS_MAX);
            (Speaker::V5(client), EventLoop::V5(Box::new(events)))
        }
    }
}

impl Speaker {
    /// # Errors
    /// More is asked for than anybody answers.
    pub(super) fn acknowledge(&self, receipt: Receipt) -> Result<(), Clogged> {
        match self {
            Self::V311(client) => {
                let qos = match receipt.qos {
                    Qos::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
                    _ => rumqttc::QoS::AtLeastOnce,
                };
                let mut publish = rumqttc::Publish::new("", qos, Vec::new());
                publish.pkid = receipt.packet;
                client.try_ack(&publish).map_err(|_| Clogged)
            }
            Self::V5(client) => {
                let publish = v5::mqttbytes::v5::Publish {
                    qos: match receipt.qos {
                        Qos::ExactlyOnce => v5::mqttbytes::QoS::ExactlyOnce,
                        _ => v5::mqttbytes::QoS::AtLeastOnce,
                    },
                    pkid: receipt.packet,
                    ..v5::mqttbytes::v5::Publish::default()
                };
                client.try_ack(&publish).map_err(|_| Clogged)
            }
        }
    }

    /// All in one packet, answered by [`Event::Subscribed`].
    pub(super) fn subscribe(&self, filters: &[(String, u8)]) -> Result<(), Clogged> {
        match self {
            Self::V311(client) => {
                let filters = filters.iter().map(|(filter, qos)| {
                    let qos = match qos {
                        0 => rumqttc::QoS::AtMostOnce,
                        _ => rumqttc::QoS::AtLeastOnce,
                    };
                    rumqttc::SubscribeFilter::new(filter.clone(), qos)
                });
                client.try_subscribe_many(filters).map_err(|_| Clogged)
            }
            Self::V5(client) => {
                use v5::mqttbytes::v5::{Filter, RetainForwardRule};
                let filters = filters.iter().map(|(filter, qos)| {
                    let qos = match qos {
                        0 => v5::mqttbytes::QoS::AtMostOnce,
                        _ => v5::mqttbytes::QoS::AtLeastOnce,
                    };
                    let mut filter = Filter::new(filter.clone(), qos);
                    // What is retained there is to be retained here, also what comes later.
                    filter.preserve_retain = true;
                    filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
                    filter
                });
                client.try_subscribe_many(filters).map_err(|_| Clogged)
            }
        }
    }

    /// Answered by [`Event::Unsubscribed`].
    pub(super) fn unsubscribe(&self, filter: &str) -> Result<(), Clogged> {
        match self {
            Self::V311(client) => client.try_unsubscribe(filter).map_err(|_| Clogged),
            Self::V5(client) => client.try_unsubscribe(filter).map_err(|_| Clogged),
        }
    }

    /// After all that was said before. The session stays.
    pub(super) fn disconnect(&self) -> Result<(), Clogged> {
        match self {
            Self::V311(client) => client.try_disconnect().map_err(|_| Clogged),
            Self::V5(client) => client.try_disconnect().map_err(|_| Clogged),
        }
    }
}

/// The event loop has as many requests as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clogged;

impl EventLoop {
    /// For the next attempt to connect; what the last connection left to be said is forgotten.
    pub(super) fn prepare(&mut self, user: Option<&str>, proof: Proof) {
        let Proof { password, tls } = proof;
        let transport = tls.map_or_else(Transport::tcp, |tls| {
            Transport::tls_with_config(TlsConfiguration::Rustls(tls))
        });
        let credentials = user.map(|user| (user, password.unwrap_or_default()));
        match self {
            Self::V311(events) => {
                events.pending.clear();
                events.mqtt_options.set_transport(transport);
                if let Some((user, password)) = credentials {
                    events.mqtt_options.set_credentials(user, password);
                }
            }
            Self::V5(events) => {
                events.pending.clear();
                events.options.set_transport(transport);
                if let Some((user, password)) = credentials {
                    events.options.set_credentials(user, password);
                }
            }
        }
    }

    /// The next event; connects where there is no connection. Not safe to cancel: what it was about to write would be
    /// lost.
    ///
    /// # Errors
    /// In one line, why there is no connection any more, or none yet.
    pub(super) async fn next(&mut self) -> Result<Event, String> {
        match self {
            Self::V311(events) => {
                let event = events.poll().await.map_err(|error| error.to_string())?;
                Ok(v311_event(event))
            }
            Self::V5(events) => {
                let event = events.poll().await.map_err(|error| error.to_string())?;
                Ok(v5_event(event))
            }
        }
    }
}

fn v311_event(event: rumqttc::Event) -> Event {
    use rumqttc::{Outgoing, Packet, SubscribeReasonCode};
    match event {
        rumqttc::Event::Incoming(Packet::ConnAck(connack)) => Event::Connected {
            session_present: connack.session_present,
            expiry_s: None,
        },
        rumqttc::Event::Incoming(Packet::Publish(publish)) => Event::Publish(Arrived {
            topic: publish.topic.into(),
            payload: publish.payload,
            properties: PublishProperties::default(),
            receipt: Receipt {
                packet: publish.pkid,
                qos: qos(publish.qos as u8),
            },
            retain: publish.retain,
        }),
        rumqttc::Event::Incoming(Packet::SubAck(suback)) => {
            let codes = suback.return_codes.iter();
            let granted = codes.map(|code| match code {
                SubscribeReasonCode::Success(qos) => Some(*qos as u8),
                SubscribeReasonCode::Failure => None,
            });
            Event::Subscribed(granted.collect())
        }
        rumqttc::Event::Incoming(Packet::UnsubAck(_)) => Event::Unsubscribed,
        rumqttc::Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => Event::Acknowledged,
        _ => Event::Other,
    }
}

fn v5_event(event: v5::Event) -> Event {
    use rumqttc::Outgoing;
    use v5::mqttbytes::v5::{Packet, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Packet::ConnAck(connack)) => Event::Connected {
            session_present: connack.session_present,
            expiry_s: connack
                .properties
                .and_then(|properties| properties.session_expiry_interval),
        },
        v5::Event::Incoming(Packet::Publish(publish)) => Event::Publish(Arrived {
            topic: publish.topic,
            payload: publish.payload,
            properties: publish.properties.map(properties).unwrap_or_default(),
            receipt: Receipt {
                packet: publish.pkid,
                qos: qos(publish.qos as u8),
            },
            retain: publish.retain,
        }),
        v5::Event::Incoming(Packet::SubAck(suback)) => {
            let codes = suback.return_codes.iter();
            let granted = codes.map(|code| match code {
                SubscribeReasonCode::Success(qos) => Some(*qos as u8),
                _ => None,
            });
            Event::Subscribed(granted.collect())
        }
        v5::Event::Incoming(Packet::UnsubAck(_)) => Event::Unsubscribed,
        v5::Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => Event::Acknowledged,
        _ => Event::Other,
    }
}

fn qos(value: u8) -> Qos {
    match value {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

/// Those that are the message's own. A text that MQTT does not allow is left out: the message is not to be lost for it.
fn properties(properties: v5::mqttbytes::v5::PublishProperties) -> PublishProperties {
    let text = |value: String| Text::try_from(value).ok();
    let users = properties.user_properties.into_iter();
    PublishProperties {
        payload_is_utf8: properties.payload_format_indicator.map(|value| value == 1),
        message_expiry_interval_s: properties.message_expiry_interval,
        content_type: properties.content_type.and_then(text),
        response_topic: properties.response_topic.and_then(text),
        correlation_data: properties.correlation_data,
        user_properties: users
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect(),
    }
}
