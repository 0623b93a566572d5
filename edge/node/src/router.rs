//! Where a message goes: to online subscribers, and by a route into a stream. Subscribers are known here
//! by their connection, or, where they read the journal, by their client id.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tidegate_edge_protocol::mqtt::codec::{Message, Qos, SubscriptionIdentifier, Text};
use tidegate_edge_protocol::mqtt::subscriptions::Subscriptions;
use tidegate_shared::fleet::RouteKey;
use tidegate_shared::id::StreamId;
use tidegate_shared::record::Header;
use tidegate_shared::topic::TopicFilter;

use crate::mqtt::{Letter, Mailbox};

/// A route whose stream is open in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub stream: StreamId,
    pub key: RouteKey,
    /// What each record of the stream says of where it comes from.
    pub origin: Arc<[Header]>,
}

/// A connection's number, never used again while the process lives.
pub(crate) type ConnectionId = u64;

/// What a subscription asks for.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub mailbox: Arc<Mailbox>,
    pub qos_max: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub identifier: Option<SubscriptionIdentifier>,
}

/// Who reads the journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogReader {
    /// A client session, by client id.
    Client(Text),
    /// A shared subscription, by its filter as clients write it.
    Group(Text),
}

#[derive(Debug)]
pub(crate) struct Router {
    /// The route's rank: the first that matches counts.
    routes: Subscriptions<usize, Route>,
    /// Of connections whose session ends with them: they are served as messages come.
    subscriptions: RwLock<Subscriptions<ConnectionId, Subscription>>,
    /// What sessions that read the journal want.
    wanted: RwLock<Subscriptions<LogReader, ()>>,
    /// Keeps what only those want.
    unrouted: StreamId,
}

impl Router {
    pub(crate) fn new(routes: Vec<(TopicFilter, Route)>, unrouted: StreamId) -> Self {
        let mut trie = Subscriptions::new();
        for (rank, (filter, route)) in routes.into_iter().enumerate() {
            trie.subscribe(filter, rank, route);
        }
        Self {
            routes: trie,
            subscriptions: RwLock::default(),
            wanted: RwLock::default(),
            unrouted,
        }
    }

    /// Where a message is kept: by the first route that matches, or because a client session that
    /// reads the journal wants it. `None`: nobody would read it.
    pub(crate) fn kept_in(&self, topic: &str) -> Option<Route> {
        self.route(topic).or_else(|| {
            let mut is_wanted = false;
            let wanted = self.wanted.read().expect("nobody panics with it");
            wanted.matches(topic, |_, ()| is_wanted = true);
            is_wanted.then(|| Route {
                stream: self.unrouted,
                key: RouteKey::None,
                origin: Arc::default(),
            })
        })
    }

    pub(crate) fn want(&self, reader: LogReader, filter: &TopicFilter) {
        let mut wanted = self.wanted.write().expect("nobody panics with it");
        wanted.subscribe(filter.clone(), reader, ());
    }

    pub(crate) fn unwant(&self, reader: &LogReader, filter: &TopicFilter) {
        let mut wanted = self.wanted.write().expect("nobody panics with it");
        wanted.unsubscribe(filter, reader);
    }

    pub(crate) fn unwant_all(&self, reader: &LogReader) {
        let mut wanted = self.wanted.write().expect("nobody panics with it");
        wanted.remove_all(reader);
    }

    /// The first route that matches.
    fn route(&self, topic: &str) -> Option<Route> {
        let mut first: Option<(usize, Route)> = None;
        self.routes.matches(topic, |rank, route| {
            if first.as_ref().is_none_or(|(other, _)| rank < other) {
                first = Some((*rank, route.clone()));
            }
        });
        first.map(|(_, route)| route)
    }

    /// Whether it is a new one.
    pub(crate) fn subscribe(
        &self,
        id: ConnectionId,
        filter: TopicFilter,
        what: Subscription,
    ) -> bool {
        let mut subscriptions = self.subscriptions.write().expect("nobody panics with it");
        subscriptions.subscribe(filter, id, what).is_none()
    }

    /// Whether there was such a subscription.
    pub(crate) fn unsubscribe(&self, id: ConnectionId, filter: &TopicFilter) -> bool {
        let mut subscriptions = self.subscriptions.write().expect("nobody panics with it");
        subscriptions.unsubscribe(filter, &id).is_some()
    }

    /// Puts the message into the mailbox of each online subscriber, once, with the identifiers of
    /// all its subscriptions that match `[MQTT-3.3.4-3]`, at the highest QoS among them
    /// `[MQTT-3.3.4-2]`. Returns how many there are.
    pub(crate) fn fan_out(
        &self,
        publisher: ConnectionId,
        message: &Arc<Message>,
        qos: Qos,
        retain: bool,
    ) -> usize {
        let expiry_s = message.properties.message_expiry_interval_s;
        let expires_at = expiry_s.map(|s| Instant::now() + Duration::from_secs(s.into()));
        let mut letters: Vec<(ConnectionId, Arc<Mailbox>, Letter)> = Vec::new();
        {
            let subscriptions = self.subscriptions.read().expect("nobody panics with it");
            if subscriptions.is_empty() {
                return 0;
            }
            subscriptions.matches(message.topic.as_str(), |id, subscription| {
                if subscription.no_local && *id == publisher {
                    return;
                }
                let retain = retain && subscription.retain_as_published;
                let identifier = subscription.identifier;
                match letters.iter_mut().find(|(other, ..)| other == id) {
                    Some((.., letter)) => {
                        letter.qos_max = letter.qos_max.max(subscription.qos_max);
                        letter.retain |= retain;
                        letter.identifiers.extend(identifier);
                    }
                    None => {
                        let letter = Letter {
                            message: Arc::clone(message),
                            qos,
                            qos_max: subscription.qos_max,
                            retain,
                            identifiers: identifier.into_iter().collect(),
                            expires_at,
                            shared: None,
                        };
                        letters.push((*id, Arc::clone(&subscription.mailbox), letter));
                    }
                }
            });
        }
        let count = letters.len();
        letters
            .into_iter()
            .for_each(|(_, mailbox, letter)| mailbox.deliver(letter));
        count
    }

    /// Forgets a connection.
    pub(crate) fn leave(&self, id: ConnectionId) {
        let mut subscriptions = self.subscriptions.write().expect("nobody panics with it");
        subscriptions.remove_all(&id);
    }

    pub(crate) fn subscriptions(&self) -> usize {
        let online = self.subscriptions.read().expect("nobody panics with it");
        online.len() + self.wanted.read().expect("nobody panics with it").len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_matches_counts() {
        let route = |stream| Route {
            stream: StreamId(stream),
            key: RouteKey::Topic,
            origin: Arc::default(),
        };
        let filter = |filter: &str| TopicFilter::new(filter).unwrap();
        let routes = vec![
            (filter("alarms/#"), route(0)),
            (filter("+/7"), route(1)),
            (filter("#"), route(2)),
        ];
        let router = Router::new(routes, StreamId(9));
        let stream = |topic| router.route(topic).map(|route| route.stream.0);
        assert_eq!(stream("alarms/7"), Some(0));
        assert_eq!(stream("plant/7"), Some(1));
        assert_eq!(stream("plant/8"), Some(2));
        assert_eq!(stream("$SYS/uptime"), None);
    }

    #[test]
    fn what_only_a_session_wants_is_kept_apart() {
        let router = Router::new(Vec::new(), StreamId(9));
        let (client, filter) = (
            Text::try_from("a").unwrap(),
            TopicFilter::new("x/+").unwrap(),
        );
        assert!(router.kept_in("x/1").is_none());
        let reader = LogReader::Client(client);
        router.want(reader.clone(), &filter);
        assert_eq!(
            router.kept_in("x/1").map(|route| route.stream),
            Some(StreamId(9))
        );
        assert!(router.kept_in("y").is_none());
        router.unwant(&reader, &filter);
        assert!(router.kept_in("x/1").is_none());
    }
}
