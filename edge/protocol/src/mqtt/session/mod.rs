//! The durable part of a client session as a value: subscriptions, a cursor into the log, and the
//! packet identifiers in flight. It reads and writes nothing; a driver turns a connection's events
//! into [`Change`]s, makes them durable in order, and answers the connection.
//!
//! Which changes must be durable before the connection is answered:
//!
//! | event | change | before |
//! |---|---|---|
//! | `Publish`, QoS 2 | `InboundReceived`, in the message's own commit | `handle_committed` |
//! | `Release` | `InboundReleased` | `handle_released` |
//! | `Assign` | `OutboundAssigned` | `handle_assigned` |
//! | `Received` | `OutboundReceived` | `handle_received` |
//! | `Connect` | all that earlier connections of the session have left | `handle_accepted` |
//! | `Subscribe`, `Unsubscribe` | `Subscribed`, `Unsubscribed` | the answer |
//!
//! `OutboundCompleted` and `CursorMoved` ride with the next commit: a crash that loses them costs a
//! repeated PUBREL, or a repeated message of QoS 1. A driver applies a change when it submits it.
//!
//! To take a session up: take in the earlier connection's `Closed` ([`Progress::sent`]), wait for all
//! that it submitted, accept with [`ClientSession::received`] and [`Progress::packet_ids`], and work
//! off [`Progress::resume`]. Each message goes through [`ClientSession::due`], before and after: it
//! knows what is done, and which identifier a message has already.

mod change;
mod encode;
mod progress;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_shared::id::Position;

pub use change::Change;
pub use progress::{Again, Place, Progress, Resume};
pub use subscription::{Matched, Subscription};

use super::{
    codec::{PacketId, Qos, Text, Will},
    limits::{SESSION_SUBSCRIPTIONS_BYTES_MAX, SESSION_SUBSCRIPTIONS_MAX},
};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSession {
    client_id: Text,
    /// `None` is the same as `NOTHING`: clients whose session ends with their connection have none.
    kept: Option<Box<Kept>>,
}

/// What there is to be kept of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    state: State,
    /// 0 ends the session with its connection; `u32::MAX` keeps it for ever.
    expiry_interval_s: u32,
    /// By the filter as the client wrote it, `$share/…` included.
    subscriptions: BTreeMap<Text, Subscription>,
    /// What those filters take.
    subscriptions_bytes: usize,
    /// QoS 2 identifiers of the client that wait for their PUBREL.
    received: BTreeSet<PacketId>,
    progress: Progress,
    will: Option<Box<Will>>,
}

static NOTHING: Kept = Kept {
    state: State::Ended,
    expiry_interval_s: 0,
    subscriptions: BTreeMap::new(),
    subscriptions_bytes: 0,
    received: BTreeSet::new(),
    progress: Progress::new(),
    will: None,
};

/// Times are those of a clock that neither steps nor restarts, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not begun yet, or ended: there is nothing to keep.
    Ended,
    Connected,
    Disconnected {
        at_ms: u64,
    },
}

/// One message for the client, as the session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The identifier that it has already: `Delivery::resent`.
    pub resent: Option<PacketId>,
    pub matched: Matched,
}

impl ClientSession {
    /// Nothing until it has begun.
    pub fn new(client_id: Text) -> Self {
        Self {
            client_id,
            kept: None,
        }
    }

    fn kept(&self) -> &Kept {
        self.kept.as_deref().unwrap_or(&NOTHING)
    }

    fn kept_mut(&mut self) -> &mut Kept {
        self.kept.get_or_insert_with(|| Box::new(NOTHING.clone()))
    }

    pub fn client_id(&self) -> &Text {
        &self.client_id
    }

    /// Whether there is a session at all.
    pub fn is_present(&self) -> bool {
        self.kept().state != State::Ended
    }

    pub fn is_connected(&self) -> bool {
        self.kept().state == State::Connected
    }

    pub fn expiry_interval_s(&self) -> u32 {
        self.kept().expiry_interval_s
    }

    /// Since when the client is away.
    pub fn disconnected_at_ms(&self) -> Option<u64> {
        match self.kept().state {
            State::Disconnected { at_ms } => Some(at_ms),
            State::Ended | State::Connected => None,
        }
    }

    /// When it ends if the client stays away `[MQTT-4.1.0-2]`.
    pub fn expires_at_ms(&self) -> Option<u64> {
        let expiry_interval_s = self.expiry_interval_s();
        match self.kept().state {
            State::Disconnected { at_ms } if expiry_interval_s < u32::MAX => {
                Some(at_ms.saturating_add(u64::from(expiry_interval_s) * 1_000))
            }
            _ => None,
        }
    }

    pub fn subscriptions(&self) -> impl ExactSizeIterator<Item = &Subscription> {
        self.kept().subscriptions.values()
    }

    pub fn subscription(&self, name: &Text) -> Option<&Subscription> {
        self.kept().subscriptions.get(name)
    }

    /// Whether one more filter, or this one again, is within `SESSION_SUBSCRIPTIONS_MAX` and
    /// `SESSION_SUBSCRIPTIONS_BYTES_MAX`.
    pub fn may_subscribe(&self, name: &Text) -> bool {
        let kept = self.kept();
        let fits = kept.subscriptions.len() < SESSION_SUBSCRIPTIONS_MAX
            && kept.subscriptions_bytes + name.len() <= SESSION_SUBSCRIPTIONS_BYTES_MAX;
        fits || kept.subscriptions.contains_key(name)
    }

    /// For `Accepted::received`.
    pub fn received(&self) -> impl ExactSizeIterator<Item = PacketId> {
        self.kept().received.iter().copied()
    }

    pub fn will(&self) -> Option<&Will> {
        self.kept().will.as_deref()
    }

    pub fn progress(&self) -> &Progress {
        &self.kept().progress
    }

    /// For what is not durable: `taken`, `passed`, `skipped_to`, `sent`.
    pub fn progress_mut(&mut self) -> &mut Progress {
        &mut self.kept_mut().progress
    }

    /// What the message at `position` is to this session, by its own subscriptions (a shared one
    /// has its group's cursor). `None`: it is not for this client, or done: `Progress::passed`.
    pub fn due(&self, topic: &str, publisher_client_id: &str, position: Position) -> Option<Due> {
        let in_flight = match self.progress().place(position) {
            Place::Done => return None,
            Place::Open => None,
            Place::Sent(packet_id) => Some((packet_id, Qos::AtLeastOnce)),
            Place::Assigned(packet_id) => Some((packet_id, Qos::ExactlyOnce)),
        };
        let matched = self.matches(topic, publisher_client_id, position);
        match in_flight {
            None => matched.map(|matched| Due {
                resent: None,
                matched,
            }),
            // What was begun is completed as it began [MQTT-3.10.4-3].
            Some((packet_id, qos)) => Some(Due {
                resent: Some(packet_id),
                matched: Matched {
                    qos_max: qos,
                    ..matched.unwrap_or_default()
                },
            }),
        }
    }

    /// The subscriptions that the message matches, as one `[MQTT-3.3.4-2]`, `[MQTT-3.3.4-3]`.
    pub fn matches(
        &self,
        topic: &str,
        publisher_client_id: &str,
        position: Position,
    ) -> Option<Matched> {
        let own = self.client_id == *publisher_client_id;
        subscription::matched(self.subscriptions(), topic, own, position)
    }

    /// The delivery of this position has come to its end, as `DeliveryDone` says or because it can't
    /// be made. Gives the change that says so, which is
    /// to be applied and stored, where the delivery had an identifier of QoS 2.
    pub fn done(&mut self, position: Position) -> Option<Change> {
        let packet_id = self.progress_mut().done(position)?;
        Some(Change::OutboundCompleted(packet_id))
    }

    /// Where the cursor stands, if that is further than what was stored. It is to be applied and
    /// stored with the next commit.
    pub fn cursor_change(&self) -> Option<Change> {
        let cursor = self.progress().cursor();
        (cursor > self.progress().stored_cursor()).then_some(Change::CursorMoved(cursor))
    }

    /// The session has more waiting than it may: what is below `position` is lost to it. Gives the
    /// changes that say so, which are to be applied and stored. An identifier of QoS 2 is released and
    /// not just free: the client may have it, and would take the next message under it for the same.
    pub fn give_up_below(&mut self, position: Position) -> Vec<Change> {
        let given_up = self.progress_mut().give_up_below(position).into_iter();
        let released = given_up.map(Change::OutboundReceived);
        released.chain([Change::CursorMoved(position)]).collect()
    }

    /// Takes a change in. Each is applied once, in the order in which they become durable; what is
    /// not begun changes only by beginning.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Begun {
                expiry_interval_s,
                position,
            } => {
                self.kept = Some(Box::new(Kept {
                    state: State::Connected,
                    expiry_interval_s: *expiry_interval_s,
                    progress: Progress::begin(*position),
                    ..NOTHING.clone()
                }));
            }
            Change::Ended => self.kept = None,
            _ if self.is_present() => self.kept_mut().apply(change),
            _ => {}
        }
    }
}

impl Kept {
    fn apply(&mut self, change: &Change) {
        match change {
            // These are the whole session's.
            Change::Begun { .. } | Change::Ended => {}
            Change::Subscribed(subscription) => self.subscribe(subscription.clone()),
            Change::Unsubscribed(name) => {
                let removed = self.subscriptions.remove(name);
                self.subscriptions_bytes -= removed.map_or(0, |_| name.len());
            }
            Change::InboundReceived(packet_id) => {
                self.received.insert(*packet_id);
            }
            Change::InboundReleased(packet_id) => {
                self.received.remove(packet_id);
            }
            Change::CursorMoved(position) => self.progress.store_cursor(*position),
            Change::OutboundAssigned {
                packet_id,
                position,
            } => self.progress.assigned(*packet_id, *position),
            Change::OutboundReceived(packet_id) => self.progress.received(*packet_id),
            Change::OutboundCompleted(packet_id) => self.progress.completed(*packet_id),
            Change::ExpiryChanged { expiry_interval_s } => {
                self.expiry_interval_s = *expiry_interval_s;
            }
            Change::Connected => self.state = State::Connected,
            Change::Disconnected { at_ms } => self.state = State::Disconnected { at_ms: *at_ms },
            Change::WillSet(will) => self.will = Some(will.clone()),
            Change::WillCleared => self.will = None,
        }
    }

    /// A subscription replaces the one of the same filter `[MQTT-3.8.4-3]`; what that one was owed
    /// already is not lost by it `[MQTT-3.8.4-4]`.
    fn subscribe(&mut self, mut subscription: Subscription) {
        let name = subscription.filter.name.clone();
        if let Some(before) = self.subscriptions.get(&name) {
            subscription.since = subscription.since.min(before.since);
        }
        let name_bytes = name.len();
        let replaced = self.subscriptions.insert(name, subscription);
        self.subscriptions_bytes += replaced.map_or(name_bytes, |_| 0);
    }
}
