//! Where a message goes: to online subscribers, and by a route into a stream. Subscribers are known here
//! by their connection, or, where they read the journal, by their client id.

mod ways;

use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tidegate_edge_protocol::mqtt::codec::{Message, Qos, SubscriptionIdentifier, Text};
use tidegate_edge_protocol::mqtt::subscriptions::Subscriptions;
use tidegate_shared::fleet::RouteKey;
use tidegate_shared::id::StreamId;
use tidegate_shared::record::Header;
use tidegate_shared::topic::TopicFilter;

use crate::mqtt::Mailbox;
use ways::Generation;
pub(crate) use ways::Way;

/// A route whose stream is open in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub stream: StreamId,
    pub key: RouteKey,
    /// What each record of the stream says of where it comes from.
    pub origin: Arc<[Header]>,
    pub priority: u8,
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
    has_priorities: bool,
    /// Of connections whose session ends with them: they are served as messages come.
    subscriptions: RwLock<Subscriptions<ConnectionId, Subscription>>,
    /// What sessions that read the journal want.
    wanted: RwLock<Subscriptions<LogReader, ()>>,
    /// Keeps what only those want.
    unrouted: StreamId,
    generation: Generation,
}

impl Router {
    pub(crate) fn new(routes: Vec<(TopicFilter, Route)>, unrouted: StreamId) -> Self {
        let has_priorities = routes.iter().any(|(_, route)| route.priority > 0);
        let mut trie = Subscriptions::new();
        for (rank, (filter, route)) in routes.into_iter().enumerate() {
            trie.subscribe(filter, rank, route);
        }
        Self {
            routes: trie,
            has_priorities,
            subscriptions: RwLock::default(),
            wanted: RwLock::default(),
            unrouted,
            generation: Generation::default(),
        }
    }

    /// Whether any route has one.
    pub(crate) fn has_priorities(&self) -> bool {
        self.has_priorities
    }

    /// Where the messages of a topic go.
    pub(crate) fn way(&self, topic: &Text) -> Rc<Way> {
        ways::way(self.generation.now(), topic, || self.find(topic.as_str()))
    }

    fn find(&self, topic: &str) -> Way {
        let mut way = Way {
            kept: self.kept_in(topic),
            ..Way::default()
        };
        let subscriptions = self.subscriptions.read().expect("nobody panics with it");
        subscriptions.matches(topic, |id, subscription| way.add(*id, subscription));
        way
    }

    /// Where a message is kept: by the first route that matches, or because a client session that
    /// reads the journal wants it. `None`: nobody would read it.
    fn kept_in(&self, topic: &str) -> Option<Route> {
        self.route(topic).or_else(|| {
            let mut is_wanted = false;
            let wanted = self.wanted.read().expect("nobody panics with it");
            wanted.matches(topic, |_, ()| is_wanted = true);
            is_wanted.then(|| Route {
                stream: self.unrouted,
                key: RouteKey::None,
                origin: Arc::default(),
                priority: 0,
            })
        })
    }

    pub(crate) fn want(&self, reader: LogReader, filter: &TopicFilter) {
        let mut wanted = self.wanted.write().expect("nobody panics with it");
        wanted.subscribe(filter.clone(), reader, ());
        self.generation.changed();
    }

    pub(crate) fn unwant(&self, reader: &LogReader, filter: &TopicFilter) {
        let mut wanted = self.wanted.write().expect("nobody panics with it");
        if wanted.unsubscribe(filter, reader).is_some() {
            self.generation.changed();
        }
    }

    pub(crate) fn unwant_all(&self, reader: &LogReader) {
        let mut wanted = self.wanted.write().expect("nobody panics with it");
        if wanted.remove_all(reader) > 0 {
            self.generation.changed();
        }
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
        let is_new = subscriptions.subscribe(filter, id, what).is_none();
        self.generation.changed();
        is_new
    }

    /// Whether there was such a subscription.
    pub(crate) fn unsubscribe(&self, id: ConnectionId, filter: &TopicFilter) -> bool {
        let mut subscriptions = self.subscriptions.write().expect("nobody panics with it");
        let existed = subscriptions.unsubscribe(filter, &id).is_some();
        if existed {
            self.generation.changed();
        }
        existed
    }

    /// What a connection is served as it comes.
    pub(crate) fn filters_of(&self, id: ConnectionId) -> Vec<TopicFilter> {
        let subscriptions = self.subscriptions.read().expect("nobody panics with it");
        subscriptions.filters_of(&id).cloned().collect()
    }

    /// Puts a message of the server's own into the mailbox of each online subscriber.
    pub(crate) fn fan_out(
        &self,
        publisher: ConnectionId,
        message: &Arc<Message>,
        qos: Qos,
        retain: bool,
    ) {
        let expires_at = expires_at(message);
        for online in &self.way(&message.topic).online {
            if let Some(letter) = online.letter(publisher, message, qos, retain, expires_at, 0) {
                online.mailbox.deliver(letter);
            }
        }
    }

    /// Forgets a connection.
    pub(crate) fn leave(&self, id: ConnectionId) {
        let mut subscriptions = self.subscriptions.write().expect("nobody panics with it");
        if subscriptions.remove_all(&id) > 0 {
            self.generation.changed();
        }
    }

    pub(crate) fn subscriptions(&self) -> usize {
        let online = self.subscriptions.read().expect("nobody panics with it");
        online.len() + self.wanted.read().expect("nobody panics with it").len()
    }
}

/// For who is served as messages come: it was made just now.
pub(crate) fn expires_at(message: &Message) -> Option<Instant> {
    let expiry_s = message.properties.message_expiry_interval_s?;
    Some(Instant::now() + Duration::from_secs(expiry_s.into()))
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
            priority: 0,
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
    fn a_way_is_as_the_subscriptions_are_now() {
        let router = Router::new(Vec::new(), StreamId(9));
        let (topic, filter) = (
            Text::try_from("x/1").unwrap(),
            TopicFilter::new("x/+").unwrap(),
        );
        let readers = || {
            let way = router.way(&topic);
            way.online
                .iter()
                .map(|online| online.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(readers(), [0; 0]);
        let what = Subscription {
            mailbox: Arc::default(),
            qos_max: Qos::AtMostOnce,
            no_local: false,
            retain_as_published: false,
            identifier: None,
        };
        router.subscribe(1, filter.clone(), what.clone());
        assert_eq!(readers(), [1]);
        router.subscribe(2, filter.clone(), what.clone());
        router.unsubscribe(1, &filter);
        assert_eq!(readers(), [2]);
        router.leave(2);
        assert_eq!(readers(), [0; 0]);
        // Another node in the same process has its own.
        let other = Router::new(Vec::new(), StreamId(9));
        other.subscribe(7, filter, what);
        assert_eq!(other.way(&topic).online.len(), 1);
        assert_eq!(readers(), [0; 0]);
    }

    #[test]
    fn overlapping_subscriptions_are_one_and_own_messages_may_be_another() {
        let router = Router::new(Vec::new(), StreamId(9));
        let topic = Text::try_from("x/1").unwrap();
        let what = |qos_max, no_local, identifier| Subscription {
            mailbox: Arc::default(),
            qos_max,
            no_local,
            retain_as_published: no_local,
            identifier: SubscriptionIdentifier::new(identifier),
        };
        let filter = |filter: &str| TopicFilter::new(filter).unwrap();
        router.subscribe(1, filter("x/+"), what(Qos::AtLeastOnce, true, 5));
        router.subscribe(1, filter("#"), what(Qos::AtMostOnce, false, 6));
        router.subscribe(2, filter("#"), what(Qos::AtMostOnce, true, 7));
        let message = Arc::new(Message::default());
        let got = |publisher| {
            let way = router.way(&topic);
            let letters = way.online.iter().filter_map(|online| {
                let letter = online.letter(publisher, &message, Qos::ExactlyOnce, true, None, 0)?;
                let mut identifiers: Vec<_> =
                    letter.identifiers.iter().map(|id| id.get()).collect();
                identifiers.sort_unstable();
                Some((online.id, letter.qos_max, letter.retain, identifiers))
            });
            let mut letters: Vec<_> = letters.collect();
            letters.sort_unstable();
            letters
        };
        let to_1 = (1, Qos::AtLeastOnce, true, vec![5, 6]);
        let to_2 = (2, Qos::AtMostOnce, true, vec![7]);
        assert_eq!(got(3), [to_1.clone(), to_2.clone()]);
        assert_eq!(got(2), [to_1]);
        assert_eq!(got(1), [(1, Qos::AtMostOnce, false, vec![6]), to_2]);
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
