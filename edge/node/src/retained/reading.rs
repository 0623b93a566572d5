//! What a connection still has to be sent of retained messages: a place per filter, and no message. It is
//! read as the connection has room, so that a subscriber costs the same whatever its filters match.

use std::collections::BTreeMap;

use tidegate_edge_protocol::mqtt::codec::{SubscriptionIdentifier, SubscriptionOptions, Text};
use tidegate_edge_protocol::mqtt::connection::SharedFilter;
use tidegate_shared::id::Position;

use super::{Found, Retained, RetainedMessage};

/// A filter whose retained messages are to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub filter: SharedFilter,
    pub options: SubscriptionOptions,
    pub identifier: Option<SubscriptionIdentifier>,
}

/// Filters in the order in which they were asked for; there are no more than the client has
/// subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Reading(Option<Box<Places>>);

#[derive(Debug, Default)]
struct Places {
    places: BTreeMap<u64, Place>,
    by_filter: BTreeMap<Text, u64>,
    asked: u64,
}

#[derive(Debug)]
struct Place {
    wanted: Wanted,
    behind: Position,
    /// The topic that was read last.
    after: Option<Text>,
}

/// What a read gave.
#[derive(Debug)]
pub(crate) enum Read {
    Message(
        RetainedMessage,
        SubscriptionOptions,
        Option<SubscriptionIdentifier>,
    ),
    /// There may be more; others have their turn first.
    NotYet,
    Nothing,
}

impl Reading {
    /// A filter that is read already begins anew `[MQTT-3.8.4-3]`. What the client's session has below `behind` comes
    /// first: what is retained is as new, or newer.
    pub(crate) fn want(&mut self, wanted: Wanted, behind: Position) {
        self.0.get_or_insert_default().want(wanted, behind);
    }

    /// What the client's session has below comes before the next message.
    pub(crate) fn behind(&self) -> Option<Position> {
        let (_, next) = self.0.as_ref()?.places.first_key_value()?;
        Some(next.behind)
    }

    /// The client has unsubscribed.
    pub(crate) fn forget(&mut self, name: &Text) {
        if let Some(places) = &mut self.0 {
            places.forget(name);
            self.rest();
        }
    }

    fn rest(&mut self) {
        self.0.take_if(|places| places.places.is_empty());
    }

    /// The next message, by the oldest filter that has one. Takes the topics that it looked at from
    /// `looks`.
    pub(crate) fn next<'a>(
        &mut self,
        store_of: impl Fn(&SharedFilter) -> &'a Retained,
        now_ms: u64,
        looks: &mut usize,
    ) -> Read {
        let places = self.0.as_mut();
        let read = places.map_or(Read::Nothing, |places| places.next(store_of, now_ms, looks));
        self.rest();
        read
    }
}

impl Places {
    fn want(&mut self, wanted: Wanted, behind: Position) {
        self.forget(&wanted.filter.name);
        self.by_filter
            .insert(wanted.filter.name.clone(), self.asked);
        let place = Place {
            wanted,
            behind,
            after: None,
        };
        self.places.insert(self.asked, place);
        self.asked += 1;
    }

    fn forget(&mut self, name: &Text) {
        if let Some(asked) = self.by_filter.remove(name) {
            self.places.remove(&asked);
        }
    }

    fn next<'a>(
        &mut self,
        store_of: impl Fn(&SharedFilter) -> &'a Retained,
        now_ms: u64,
        looks: &mut usize,
    ) -> Read {
        let first = self.places.first_key_value();
        let behind = first.map(|(_, place)| place.behind);
        loop {
            let Some(oldest) = self.places.first_entry() else {
                return Read::Nothing;
            };
            // What waited when that one was asked for comes first.
            if Some(oldest.get().behind) != behind {
                return Read::NotYet;
            }
            // A filter that matches nothing is a look, too.
            if *looks == 0 {
                return Read::NotYet;
            }
            let Place { wanted, after, .. } = oldest.get();
            let store = store_of(&wanted.filter);
            match store.next(&wanted.filter.filter, after.as_ref(), now_ms, looks) {
                Found::Message(retained) => {
                    let place = oldest.into_mut();
                    place.after = Some(retained.message.topic.clone());
                    let Wanted {
                        options,
                        identifier,
                        ..
                    } = place.wanted;
                    return Read::Message(retained, options, identifier);
                }
                Found::NotYet(after) => {
                    oldest.into_mut().after = after;
                    return Read::NotYet;
                }
                Found::Nothing => {
                    *looks = looks.saturating_sub(1);
                    self.by_filter.remove(&oldest.get().wanted.filter.name);
                    oldest.remove();
                }
            }
        }
    }
}
