//! A rumqttc client that waits for what it does. Its two versions are two modules of rumqttc with types of
//! their own; what both have in common is here.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as packets;
use rumqttc::v5::{self, mqttbytes};
use rumqttc::{self as v4, Transport};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Options;
use crate::scenarios::Failure;

/// Nothing here takes longer than this on a slow, busy machine.
const WITHIN: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const SESSION_EXPIRY_S: u32 = 3600;
/// rumqttc's own bound is 10 KiB.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// More than any scenario publishes at once.
const REQUESTS: usize = 200;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub retain: bool,
    pub response_topic: Option<String>,
    pub correlation: Option<String>,
}

/// A message and how it is to be published.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub message: Message,
    pub qos: u8,
}

/// How a client connects.
#[derive(Clone, Debug, Default)]
pub struct How {
    pub persistent: bool,
    /// Topic and payload.
    pub will: Option<(String, String)>,
}

enum Heard {
    Connected { session_present: bool },
    Subscribed { refused: bool },
    Acknowledged,
    Message(Message),
    Said,
    Failed(String),
}

#[derive(Debug)]
enum Link {
    V4(v4::AsyncClient),
    V5(v5::AsyncClient),
}

#[derive(Debug)]
pub struct Client {
    link: Link,
    task: JoinHandle<()>,
    heard: UnboundedReceiver<Heard>,
    messages: VecDeque<Message>,
    pub session_present: bool,
}

impl Client {
    pub async fn connect(options: &Options, role: &str, how: How) -> Result<Self, Failure> {
        let id = format!("{}-{role}", options.name);
        let (say, heard) = unbounded_channel();
        let (link, task) = match options.version_5 {
            false => {
                let (client, events) =
                    v4::AsyncClient::new(v4_options(options, id, how)?, REQUESTS);
                (Link::V4(client), tokio::spawn(drive_v4(events, say)))
            }
            true => {
                let (client, events) =
                    v5::AsyncClient::new(v5_options(options, id, how)?, REQUESTS);
                (Link::V5(client), tokio::spawn(drive_v5(events, say)))
            }
        };
        let mut client = Self {
            link,
            task,
            heard,
            messages: VecDeque::new(),
            session_present: false,
        };
        client.session_present = client
            .until("CONNACK", |heard| match heard {
                Heard::Connected { session_present } => Some(*session_present),
                _ => None,
            })
            .await?;
        Ok(client)
    }

    pub async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<(), Failure> {
        match &self.link {
            Link::V4(client) => client.subscribe(filter, v4_qos(qos)).await?,
            Link::V5(client) => client.subscribe(filter, v5_qos(qos)).await?,
        }
        let refused = self
            .until("SUBACK", |heard| match heard {
                Heard::Subscribed { refused } => Some(*refused),
                _ => None,
            })
            .await?;
        match refused {
            true => Err(Failure(format!("SUBACK refuses {filter}"))),
            false => Ok(()),
        }
    }

    /// Publishes all, and then waits for the acknowledgements.
    pub async fn publish(&mut self, publishes: Vec<Publish>) -> Result<(), Failure> {
        let acknowledged = publishes.iter().filter(|one| one.qos > 0).count();
        for Publish { message, qos } in publishes {
            let Message {
                topic,
                payload,
                retain,
                ..
            } = message.clone();
            match &self.link {
                Link::V4(client) => client.publish(topic, v4_qos(qos), retain, payload).await?,
                Link::V5(client) => {
                    let properties = packets::PublishProperties {
                        response_topic: message.response_topic,
                        correlation_data: message.correlation.map(Into::into),
                        ..Default::default()
                    };
                    let qos = v5_qos(qos);
                    client
                        .publish_with_properties(topic, qos, retain, payload, properties)
                        .await?;
                }
            }
        }
        for _ in 0..acknowledged {
            self.until("an acknowledgement", |heard| {
                matches!(heard, Heard::Acknowledged).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    pub async fn take(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            self.hear("a message").await?;
        }
    }

    pub async fn disconnect(self) -> Result<(), Failure> {
        match &self.link {
            Link::V4(client) => client.disconnect().await?,
            Link::V5(client) => client.disconnect().await?,
        }
        let ended = timeout(WITHIN, self.task).await;
        ended
            .map_err(|_| Failure("DISCONNECT is not sent".to_owned()))?
            .map_err(|error| Failure(error.to_string()))
    }

    /// Its socket is closed without a word.
    pub fn die(self) {
        self.task.abort();
    }

    /// Waits for the first of what comes that is `wanted`; messages wait to be taken.
    async fn until<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&Heard) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            let heard = self.hear(what).await?;
            if let Some(found) = wanted(&heard) {
                return Ok(found);
            }
        }
    }

    async fn hear(&mut self, what: &str) -> Result<Heard, Failure> {
        let heard = timeout(WITHIN, self.heard.recv()).await;
        match heard.map_err(|_| Failure(format!("not within {WITHIN:?}: {what}")))? {
            Some(Heard::Failed(error)) => Err(Failure(format!("{what}: {error}"))),
            Some(Heard::Message(message)) => {
                self.messages.push_back(message);
                Ok(Heard::Said)
            }
            Some(heard) => Ok(heard),
            None => Err(Failure(format!("the connection has ended: {what}"))),
        }
    }
}

/// Host and port; rumqttc takes a WebSocket's whole URL for its host.
fn address(url: &str) -> Result<(String, u16, Transport), Failure> {
    let wrong = || {
        Failure(format!(
            "no address of a transport that this client has: {url}"
        ))
    };
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let authority = rest.split('/').next().unwrap_or(rest);
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    match scheme {
        "mqtt" => Ok((host.to_owned(), port, Transport::Tcp)),
        "ws" => Ok((url.to_owned(), port, Transport::Ws)),
        _ => Err(wrong()),
    }
}

fn v4_options(options: &Options, id: String, how: How) -> Result<v4::MqttOptions, Failure> {
    let (host, port, transport) = address(&options.url)?;
    let mut made = v4::MqttOptions::new(id, host, port);
    made.set_transport(transport)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
        .set_clean_session(!how.persistent);
    if let Some((topic, payload)) = how.will {
        made.set_last_will(v4::LastWill::new(topic, payload, v4_qos(1), false));
    }
    Ok(made)
}

fn v5_options(options: &Options, id: String, how: How) -> Result<v5::MqttOptions, Failure> {
    let (host, port, transport) = address(&options.url)?;
    let mut made = v5::MqttOptions::new(id, host, port);
    made.set_transport(transport)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(Some(PACKET_BYTES_MAX as u32))
        .set_clean_start(!how.persistent);
    if how.persistent {
        made.set_session_expiry_interval(Some(SESSION_EXPIRY_S));
    }
    if let Some((topic, payload)) = how.will {
        made.set_last_will(packets::LastWill::new(
            topic,
            payload,
            v5_qos(1),
            false,
            None,
        ));
    }
    Ok(made)
}

async fn drive_v4(mut events: v4::EventLoop, say: UnboundedSender<Heard>) {
    use v4::{Event, Outgoing, Packet, SubscribeReasonCode};
    loop {
        let heard = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => Heard::Connected {
                session_present: ack.session_present,
            },
            Ok(Event::Incoming(Packet::SubAck(ack))) => Heard::Subscribed {
                refused: ack.return_codes.contains(&SubscribeReasonCode::Failure),
            },
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Heard::Acknowledged,
            Ok(Event::Incoming(Packet::Publish(publish))) => Heard::Message(Message {
                topic: publish.topic,
                payload: text(&publish.payload),
                retain: publish.retain,
                ..Message::default()
            }),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => Heard::Said,
            Err(error) => Heard::Failed(error.to_string()),
        };
        let failed = matches!(heard, Heard::Failed(_));
        if say.send(heard).is_err() || failed {
            return;
        }
    }
}

async fn drive_v5(mut events: v5::EventLoop, say: UnboundedSender<Heard>) {
    use packets::{Packet, SubscribeReasonCode};
    loop {
        let heard = match events.poll().await {
            Ok(v5::Event::Incoming(Packet::ConnAck(ack))) => Heard::Connected {
                session_present: ack.session_present,
            },
            Ok(v5::Event::Incoming(Packet::SubAck(ack))) => Heard::Subscribed {
                refused: (ack.return_codes.iter())
                    .any(|code| !matches!(code, SubscribeReasonCode::Success(_))),
            },
            Ok(v5::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Heard::Acknowledged,
            Ok(v5::Event::Incoming(Packet::Publish(publish))) => {
                let properties = publish.properties.unwrap_or_default();
                Heard::Message(Message {
                    topic: text(&publish.topic),
                    payload: text(&publish.payload),
                    retain: publish.retain,
                    response_topic: properties.response_topic,
                    correlation: properties.correlation_data.map(|data| text(&data)),
                })
            }
            Ok(v5::Event::Outgoing(v4::Outgoing::Disconnect)) => return,
            Ok(_) => Heard::Said,
            Err(error) => Heard::Failed(error.to_string()),
        };
        let failed = matches!(heard, Heard::Failed(_));
        if say.send(heard).is_err() || failed {
            return;
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn v4_qos(qos: u8) -> v4::QoS {
    v4::qos(qos).expect("scenarios know three")
}

fn v5_qos(qos: u8) -> mqttbytes::QoS {
    mqttbytes::qos(qos).expect("scenarios know three")
}
