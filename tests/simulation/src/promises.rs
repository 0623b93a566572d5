//! What clients were promised, and whether it was kept: all that was published, what each subscriber
//! is owed of it, and what has reached its application.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
use tidegate_shared::topic::TopicFilter;

use crate::{Stop, violated};

/// Each client by its place.
pub type ClientIndex = usize;

#[derive(Debug)]
struct Published {
    publisher: ClientIndex,
    topic: String,
    qos: Qos,
    /// By PUBACK or PUBCOMP.
    acknowledged: bool,
    /// It was refused, or its client has begun anew without an answer.
    abandoned: bool,
    /// Who had a subscription that matches, SUBACK and all, before it was sent.
    owed: Vec<ClientIndex>,
}

#[derive(Debug)]
struct Subscribed {
    filter: TopicFilter,
    qos: Qos,
    granted: bool,
}

#[derive(Debug, Default)]
pub struct Promises {
    published: Vec<Published>,
    subscribed: Vec<Vec<Subscribed>>,
    /// At which QoS each message reached each subscriber, time after time.
    delivered: BTreeMap<(ClientIndex, u64), Vec<Qos>>,
    /// The newest message of a publisher and a topic that reached a subscriber.
    newest: BTreeMap<(ClientIndex, ClientIndex, String), u64>,
    /// A full journal has refused a message: one of an older version comes again behind others.
    has_refusals: bool,
}

impl Promises {
    pub fn new(clients: usize) -> Self {
        Self {
            subscribed: (0..clients).map(|_| Vec::new()).collect(),
            ..Self::default()
        }
    }

    /// A client is about to ask for a filter that it has not asked for before.
    pub fn subscribe(&mut self, client: ClientIndex, filter: &str, qos: Qos) {
        let filter = TopicFilter::new(filter).expect("a run has good filters");
        self.subscribed[client].push(Subscribed {
            filter,
            qos,
            granted: false,
        });
    }

    /// A client gives up a filter: what it was owed for it may come, and need not.
    pub fn leave(&mut self, client: ClientIndex, filter: &str) {
        let mut subscribed = self.subscribed[client].iter_mut();
        let Some(left) = subscribed.find(|found| found.filter.as_str() == filter) else {
            return;
        };
        left.granted = false;
        for published in &mut self.published {
            if left.filter.matches(&published.topic) {
                published.owed.retain(|owed| *owed != client);
            }
        }
    }

    /// A client begins anew: nothing is owed to it any more, and for what it has not seen
    /// acknowledged nothing is owed to anybody.
    pub fn begin_anew(&mut self, client: ClientIndex) {
        for subscribed in &mut self.subscribed[client] {
            subscribed.granted = false;
        }
        for published in &mut self.published {
            published.owed.retain(|owed| *owed != client);
            if published.publisher == client && !published.acknowledged {
                published.abandoned = true;
                published.owed.clear();
            }
        }
    }

    pub fn granted(&mut self, client: ClientIndex, filter: &str) {
        let mut subscribed = self.subscribed[client].iter_mut();
        if let Some(found) = subscribed.find(|found| found.filter.as_str() == filter) {
            found.granted = true;
        }
    }

    /// A client is about to publish; gives the message, whose payload tells it from all others.
    pub fn publish(&mut self, publisher: ClientIndex, topic: &str, qos: Qos) -> (u64, Message) {
        let is_owed = |subscribed: &Vec<Subscribed>| {
            let mut subscribed = subscribed.iter();
            subscribed.any(|one| one.granted && one.filter.matches(topic))
        };
        let clients = self.subscribed.iter().enumerate();
        let owed = clients.filter(|(_, subscribed)| is_owed(subscribed));
        let published = Published {
            publisher,
            topic: topic.to_owned(),
            qos,
            acknowledged: false,
            abandoned: false,
            owed: owed.map(|(client, _)| client).collect(),
        };
        let number = self.published.len() as u64;
        self.published.push(published);
        (number, self.message(number))
    }

    pub fn message(&self, number: u64) -> Message {
        let topic = &self.published[number as usize].topic;
        Message {
            topic: Text::try_from(topic.as_str()).expect("a run has good topics"),
            payload: payload(number),
            ..Message::default()
        }
    }

    pub fn acknowledged(&mut self, number: u64) {
        self.published[number as usize].acknowledged = true;
    }

    /// Some message was refused, whether or not its client has heard.
    pub fn note_refusals(&mut self) {
        self.has_refusals = true;
    }

    /// The server said that it does not take it; of QoS 1 it may have an earlier copy.
    pub fn refused(&mut self, number: u64) {
        let published = &mut self.published[number as usize];
        published.abandoned = true;
        published.owed.clear();
    }

    /// The number of a message that somebody published, with all that it was published with.
    pub fn number_of(&self, message: &Message) -> Result<u64, Stop> {
        let number = message
            .payload
            .first_chunk()
            .map(|n| u64::from_le_bytes(*n));
        let published = number.and_then(|number| self.published.get(number as usize));
        match (number, published) {
            (Some(number), Some(published))
                if message.topic == published.topic.as_str()
                    && message.payload == payload(number) =>
            {
                Ok(number)
            }
            _ => violated(
                "only what was published is there",
                format!("{number:?} to {}", message.topic),
            ),
        }
    }

    /// A message reached a subscriber's application.
    pub fn deliver(
        &mut self,
        subscriber: ClientIndex,
        message: &Message,
        qos: Qos,
    ) -> Result<u64, Stop> {
        let number = self.number_of(message)?;
        let published = &self.published[number as usize];
        let matching = self.subscribed[subscriber].iter();
        let matching: Vec<_> = matching
            .filter(|one| one.filter.matches(&published.topic))
            .collect();
        let who = format!("{number} from {} to {subscriber}", published.publisher);
        let qos_max = matching.iter().map(|one| one.qos).max();
        if qos_max.is_none_or(|max| qos > published.qos.min(max)) {
            return violated("a message comes as it was asked for", who);
        }
        let is_exact = published.qos == Qos::ExactlyOnce
            && matching.iter().all(|one| one.qos == Qos::ExactlyOnce);
        let times = self.delivered.entry((subscriber, number)).or_default();
        if times.contains(&Qos::ExactlyOnce) || (is_exact && !times.is_empty()) {
            return violated("QoS 2 is delivered exactly once", format!("{who} again"));
        }
        times.push(qos);
        // What it was not yet subscribed to may come late, where its publisher sent it again.
        let is_owed = published.owed.contains(&subscriber);
        let has_order = is_owed && !self.has_refusals;
        if times.len() == 1 && qos > Qos::AtMostOnce && has_order {
            let of = (subscriber, published.publisher, published.topic.clone());
            if let Some(before) = self.newest.insert(of, number)
                && before > number
            {
                let what = format!("{who}, after {before}");
                return violated("messages of a topic stay in order", what);
            }
        }
        Ok(number)
    }

    /// When all has come to rest, nothing is owed any more.
    pub fn check_kept(&self) -> Result<(), Stop> {
        for (number, published) in self.published.iter().enumerate() {
            if published.qos == Qos::AtMostOnce || published.abandoned {
                continue;
            }
            let number = number as u64;
            let (publisher, qos) = (published.publisher, published.qos);
            if !published.acknowledged {
                let what = format!("{number} from {publisher} at {qos:?}");
                return violated("every publish is acknowledged in the end", what);
            }
            let missing = published.owed.iter();
            let mut missing = missing.filter(|to| !self.delivered.contains_key(&(**to, number)));
            if let Some(subscriber) = missing.next() {
                let what = format!("{number} from {publisher} at {qos:?} to {subscriber}");
                return violated("what was acknowledged reaches its subscribers", what);
            }
        }
        Ok(())
    }

    /// Messages and deliveries, for the trace.
    pub fn counts(&self) -> (usize, usize) {
        let deliveries = self.delivered.values().map(Vec::len).sum();
        (self.published.len(), deliveries)
    }
}

/// The number, and as many bytes more as it says.
fn payload(number: u64) -> Bytes {
    let bytes = match number % 13 {
        0 => 1_500,
        _ => 16 + (number % 50) as usize,
    };
    let mut payload = vec![number as u8; bytes];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload.into()
}
