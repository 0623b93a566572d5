//! Topic aliases towards the client, as it understands them.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::mqtt::codec::{Ack, PublishQos};

/// The CONNECT of MQTT 5 of a client that takes so many aliases, and packets of so many bytes.
fn connect(aliases_max: u16, packet_bytes_max: u32) -> Vec<u8> {
    let mut connect = b"\x10\x16\x00\x04MQTT\x05\x02\x00\x3c\x08\x22".to_vec();
    connect.extend(aliases_max.to_be_bytes());
    connect.push(0x27);
    connect.extend(packet_bytes_max.to_be_bytes());
    connect.extend(b"\x00\x01c");
    connect
}

fn deliver(server: &mut Server, delivery: Delivery) {
    let outcome = server.connection.handle_deliver(server.now, delivery);
    assert_eq!(outcome, DeliverOutcome::Queued);
}

/// [MQTT-3.3.2-8] and 3.3.2.3.4
#[test]
fn the_first_publish_has_topic_and_alias_and_later_ones_the_alias() {
    let mut server = Server::connected(ConnectionLimits::default(), &connect(1, 100));
    for (token, topic) in [(1, "abc"), (2, "abc"), (3, "d")] {
        deliver(&mut server, delivery(token, topic, Qos::AtMostOnce));
    }
    let sent = b"\x30\x0b\x00\x03abc\x03\x23\x00\x01hi\x30\x08\x00\x00\x03\x23\x00\x01hi\
        \x30\x09\x00\x01d\x03\x23\x00\x01hi";
    assert_eq!(server.transmitted(), sent);
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27]
#[test]
fn a_client_that_allows_none_gets_none() {
    let without = connect(0, 100);
    for connect in [V5, V4, &without[..]] {
        let mut server = Server::connected(ConnectionLimits::default(), connect);
        for token in 1..=2 {
            deliver(&mut server, delivery(token, "abc", Qos::AtMostOnce));
        }
        let sent = server.transmitted();
        assert_eq!(sent.windows(3).filter(|part| part == b"abc").count(), 2);
        assert!(!sent.contains(&0x23));
    }
}

/// What the client makes of what it is sent: the topic of each message, by its payload.
struct Client {
    decoder: Decoder,
    aliases: HashMap<NonZeroU16, Text>,
    aliases_max: u16,
    packet_bytes_max: u32,
    topics: BTreeMap<Vec<u8>, Text>,
}

impl Client {
    fn new(aliases_max: u16, packet_bytes_max: u32) -> Self {
        Self {
            decoder: Decoder::client(Version::V5, packet_bytes_max),
            aliases: HashMap::new(),
            aliases_max,
            packet_bytes_max,
            topics: BTreeMap::new(),
        }
    }

    /// Its acknowledgements.
    fn read(&mut self, sent: &[u8]) -> Vec<Packet> {
        let mut input = BytesMut::from(sent);
        let mut answers = Vec::new();
        loop {
            let before = input.len();
            let Some(packet) = self.decoder.decode(&mut input).unwrap() else {
                return answers;
            };
            assert!(before - input.len() <= self.packet_bytes_max as usize);
            match packet {
                Packet::Publish(publish) => {
                    let ack = |id| Ack::new(id, ReasonCode::Success);
                    answers.extend(match publish.qos {
                        PublishQos::AtMostOnce => None,
                        PublishQos::AtLeastOnce(id) => Some(Packet::Puback(ack(id))),
                        PublishQos::ExactlyOnce(id) => Some(Packet::Pubrec(ack(id))),
                    });
                    let topic = self.resolve(publish.topic_alias, publish.message.topic);
                    self.topics.insert(publish.message.payload.to_vec(), topic);
                }
                Packet::Pubrel(ack) => {
                    answers.push(Packet::Pubcomp(Ack::new(
                        ack.packet_id,
                        ReasonCode::Success,
                    )));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn resolve(&mut self, alias: Option<NonZeroU16>, topic: Text) -> Text {
        let Some(alias) = alias else {
            assert!(!topic.is_empty());
            return topic;
        };
        assert!(alias.get() <= self.aliases_max, "[MQTT-3.1.2-26]");
        if topic.is_empty() {
            return self.aliases.get(&alias).expect("it was told").clone();
        }
        self.aliases.insert(alias, topic.clone());
        topic
    }
}

#[derive(Clone, Debug)]
struct Step {
    topic: usize,
    qos: u8,
    payload_bytes: usize,
    expires_ms: Option<u64>,
    resent: bool,
    passes_ms: u64,
    /// Whether what waits goes out, and is acknowledged.
    transmits: bool,
    acknowledges: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (
        (0..8_usize, 0..3_u8, 0..160_usize),
        proptest::option::of(0..100_u64),
        (any::<bool>(), 0..50_u64, any::<bool>(), any::<bool>()),
    )
        .prop_map(|(message, expires_ms, then)| Step {
            topic: message.0,
            qos: message.1,
            payload_bytes: message.2,
            expires_ms,
            resent: then.0,
            passes_ms: then.1,
            transmits: then.2,
            acknowledges: then.3,
        })
}

proptest! {
    /// Whatever expires, is dropped or is sent again: each message that comes has its own topic, and
    /// its packet is no larger than the client takes.
    #[test]
    fn each_message_has_its_own_topic(
        aliases_max in 0_u16..6,
        packet_bytes_max in 30_u32..200,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let limits = ConnectionLimits {
            outbound_queue_messages_max: 6,
            inflight_outbound_max: NonZeroU16::new(3).unwrap(),
            topic_alias_outbound_max: 4,
            topic_alias_outbound_bytes_max: 40,
            ..ConnectionLimits::default()
        };
        let mut server = Server::connected(limits, &connect(aliases_max, packet_bytes_max));
        let mut client = Client::new(aliases_max, packet_bytes_max);
        let (mut wanted, mut answers) = (BTreeMap::new(), Vec::new());
        for (token, step) in (1..).zip(steps) {
            let topic = "t".repeat(1 + 2 * step.topic);
            let mut payload = format!("{token}:").into_bytes();
            payload.resize(payload.len().max(step.payload_bytes), b'.');
            let mut delivery = delivery(token, &topic, Qos::from_bits(step.qos).unwrap());
            Arc::make_mut(&mut delivery.message).payload = payload.clone().into();
            delivery.expires_at = step.expires_ms.map(|ms| server.now + Duration::from_millis(ms));
            // An identifier of an earlier connection's, which nobody else here comes to.
            delivery.resent = step.resent.then(|| packet_id(1_000 + token as u16));
            wanted.insert(payload, text(&topic));
            let _ = server.connection.handle_deliver(server.now, delivery);
            for event in server.events() {
                server.answer(event, 1);
            }
            server.pass(Duration::from_millis(step.passes_ms));
            if step.transmits {
                let sent = server.transmitted();
                answers.extend(client.read(&sent));
            }
            if step.acknowledges {
                for answer in answers.drain(..) {
                    server.connection.handle_packet(server.now, answer);
                }
            }
        }
        for (payload, topic) in &client.topics {
            prop_assert_eq!(wanted.get(payload), Some(topic));
        }
    }
}
