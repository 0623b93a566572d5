//! Where messages of one topic go, found once and kept: each thread has the ways of the topics that it saw
//! last, for as long as nobody subscribes or unsubscribes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, SubscriptionIdentifier, Text};
use xxhash_rust::xxh3::xxh3_64;

use super::{ConnectionId, Route, Subscription};
use crate::limits::{WAY_ONLINE_KEPT_MAX, WAY_TOPIC_BYTES_KEPT_MAX, WAYS_KEPT_MAX};
use crate::mqtt::{Letter, Mailbox};

/// Where the messages of a topic go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// Those that are served as messages come, each once.
    pub online: Vec<Online>,
    /// `None`: nobody would read it.
    pub kept: Option<Route>,
}

/// A subscriber whose session ends with its connection.
#[derive(Clone, Debug)]
pub(crate) struct Online {
    pub id: ConnectionId,
    pub mailbox: Arc<Mailbox>,
    asked: Asked,
    /// What it asked for of its own messages, where that is something else.
    of_its_own: OfItsOwn,
}

/// All of a subscriber's subscriptions that match, as one: the highest QoS among them `[MQTT-3.3.4-2]`, and
/// the identifiers of all `[MQTT-3.3.4-3]`.
#[derive(Clone, Debug)]
struct Asked {
    qos_max: Qos,
    retain_as_published: bool,
    identifiers: Vec<SubscriptionIdentifier>,
}

#[derive(Clone, Debug)]
enum OfItsOwn {
    Same,
    Nothing,
    Other(Box<Asked>),
}

impl Way {
    /// Another subscription that matches.
    pub(super) fn add(&mut self, id: ConnectionId, subscription: &Subscription) {
        let Some(online) = self.online.iter_mut().find(|online| online.id == id) else {
            self.online.push(Online {
                id,
                mailbox: Arc::clone(&subscription.mailbox),
                asked: Asked::new(subscription),
                of_its_own: match subscription.no_local {
                    true => OfItsOwn::Nothing,
                    false => OfItsOwn::Same,
                },
            });
            return;
        };
        let before = std::mem::replace(&mut online.of_its_own, OfItsOwn::Same);
        online.of_its_own = match (before, subscription.no_local) {
            (OfItsOwn::Same, false) => OfItsOwn::Same,
            (OfItsOwn::Same, true) => OfItsOwn::Other(Box::new(online.asked.clone())),
            (OfItsOwn::Nothing, false) => OfItsOwn::Other(Box::new(Asked::new(subscription))),
            (OfItsOwn::Other(mut other), false) => {
                other.add(subscription);
                OfItsOwn::Other(other)
            }
            (kept, true) => kept,
        };
        online.asked.add(subscription);
    }
}

impl Asked {
    fn new(subscription: &Subscription) -> Self {
        Self {
            qos_max: subscription.qos_max,
            retain_as_published: subscription.retain_as_published,
            identifiers: subscription.identifier.into_iter().collect(),
        }
    }

    fn add(&mut self, subscription: &Subscription) {
        self.qos_max = self.qos_max.max(subscription.qos_max);
        self.retain_as_published |= subscription.retain_as_published;
        self.identifiers.extend(subscription.identifier);
    }
}

impl Online {
    /// `None` where it does not want its own messages.
    pub(crate) fn letter(
        &self,
        publisher: ConnectionId,
        message: &Arc<Message>,
        qos: Qos,
        retain: bool,
        expires_at: Option<Instant>,
        priority: u8,
    ) -> Option<Letter> {
        let asked = match &self.of_its_own {
            OfItsOwn::Nothing if self.id == publisher => return None,
            OfItsOwn::Other(asked) if self.id == publisher => asked,
            _ => &self.asked,
        };
        Some(Letter {
            message: Arc::clone(message),
            qos,
            qos_max: asked.qos_max,
            retain: retain && asked.retain_as_published,
            identifiers: asked.identifiers.clone(),
            expires_at,
            shared: None,
            priority,
        })
    }
}

/// A state of the subscriptions of one router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    router: u64,
    generation: u64,
}

/// Which state is the present one.
#[derive(Debug)]
pub(super) struct Generation {
    router: u64,
    generation: AtomicU64,
}

impl Default for Generation {
    fn default() -> Self {
        static ROUTERS: AtomicU64 = AtomicU64::new(1);
        Self {
            router: ROUTERS.fetch_add(1, Ordering::Relaxed),
            generation: AtomicU64::new(0),
        }
    }
}

impl Generation {
    pub(super) fn now(&self) -> State {
        State {
            router: self.router,
            generation: self.generation.load(Ordering::Acquire),
        }
    }

    /// To be called before the lock is given back under which a subscription was changed: who sees the
    /// old state has looked before that.
    pub(super) fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// One thread's ways; a topic has one place where it can be.
#[derive(Default)]
struct Ways {
    state: State,
    places: Vec<Option<(Bytes, Rc<Way>)>>,
}

thread_local! {
    static WAYS: RefCell<Ways> = RefCell::default();
}

/// The way that is kept, or what `find` finds.
pub(super) fn way(state: State, topic: &Text, find: impl FnOnce() -> Way) -> Rc<Way> {
    WAYS.with_borrow_mut(|ways| {
        if ways.state != state {
            ways.places.clear();
            ways.state = state;
        }
        if topic.len() > WAY_TOPIC_BYTES_KEPT_MAX {
            return Rc::new(find());
        }
        if ways.places.is_empty() {
            ways.places.resize(WAYS_KEPT_MAX, None);
        }
        let at = xxh3_64(topic.as_bytes()) as usize % WAYS_KEPT_MAX;
        match &mut ways.places[at] {
            Some((kept, way)) if kept == topic.as_bytes() => Rc::clone(way),
            place => {
                let way = Rc::new(find());
                if way.online.len() <= WAY_ONLINE_KEPT_MAX {
                    *place = Some((topic.detached().as_bytes().clone(), Rc::clone(&way)));
                }
                way
            }
        }
    })
}
