//! The order of retained messages of one topic: that in which they are handed to the committer, and so that
//! of their rows. What promises something is kept when its commit is durable, QoS 0 at once; whichever was
//! handed over last stays, however late the others come.
//!
//! Who subscribes meanwhile is shown what is on its way: those who are served as messages come have had it
//! already, so it would come to that subscriber never again. If it is refused, what was there is shown again.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Bound;
use std::sync::{Arc, PoisonError};

use tidegate_edge_protocol::mqtt::codec::Text;

use super::{Messages, Retained, RetainedMessage};

/// Of a topic that has messages on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    /// By their numbers.
    messages: BTreeMap<u64, RetainedMessage>,
    /// The number of what is kept; 0 where that was there before.
    kept: u64,
}

impl UnderWay {
    /// What is shown of the topic, where `kept` is kept; an empty payload takes that away.
    fn shown<'a>(&'a self, kept: Option<&'a RetainedMessage>) -> Option<&'a RetainedMessage> {
        match self.messages.last_key_value() {
            Some((number, last)) if *number > self.kept => {
                (!last.message.payload.is_empty()).then_some(last)
            }
            _ => kept,
        }
    }
}

/// A message that is kept once its row is durable; dropped, it never is.
#[derive(Debug)]
pub(crate) struct OnItsWay {
    store: Arc<Retained>,
    number: u64,
    retained: RetainedMessage,
}

impl OnItsWay {
    /// Its row is durable.
    pub(crate) fn durable(self) {
        let mut messages = self.store.messages_mut();
        messages.keep(self.number, self.retained.clone());
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let topic = &self.retained.message.topic;
        let mut messages = self.store.messages_mut();
        if let Some(under_way) = messages.under_way.get_mut(topic) {
            under_way.messages.remove(&self.number);
            if under_way.messages.is_empty() {
                messages.under_way.remove(topic);
            }
        }
    }
}

impl Messages {
    /// Unless a later one is kept already.
    fn keep(&mut self, number: u64, retained: RetainedMessage) {
        let topic = &retained.message.topic;
        if let Some(under_way) = self.under_way.get_mut(topic) {
            if number < under_way.kept {
                return;
            }
            under_way.kept = number;
        }
        self.take_up(retained);
    }

    /// Topics in order, with what is shown of each.
    pub(super) fn shown<'a>(
        &'a self,
        range: (Bound<&Text>, Bound<&Text>),
    ) -> impl Iterator<Item = (&'a Text, Option<&'a RetainedMessage>)> {
        let mut kept = self.by_topic.range(range).peekable();
        let mut under_way = self.under_way.range(range).peekable();
        iter::from_fn(move || {
            let next = kept.peek().map(|(topic, _)| *topic);
            let is_next = |topic: &Text| next.is_none_or(|next| topic <= next);
            match under_way.next_if(|(topic, _)| is_next(topic)) {
                Some((topic, under_way)) => {
                    let kept = kept.next_if(|(kept, _)| *kept == topic);
                    Some((topic, under_way.shown(kept.map(|(_, kept)| kept))))
                }
                None => kept.next().map(|(topic, kept)| (topic, Some(kept))),
            }
        })
    }
}

impl Retained {
    /// Hands a message's row to the committer: `hand_over` must do so before it returns, and nobody else
    /// does meanwhile. It gets what the committer is to call once the row is durable, where that is
    /// promised; where nothing is, the message is kept now.
    pub(crate) fn in_turn(
        self: &Arc<Self>,
        retained: RetainedMessage,
        is_promised: bool,
        hand_over: impl FnOnce(Option<OnItsWay>),
    ) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 1;
        let number = *turn;
        if !is_promised {
            self.messages_mut().keep(number, retained);
            return hand_over(None);
        }
        let topic = retained.message.topic.clone();
        let mut messages = self.messages_mut();
        let under_way = messages.under_way.entry(topic).or_default();
        under_way.messages.insert(number, retained.clone());
        drop(messages);
        hand_over(Some(OnItsWay {
            store: Arc::clone(self),
            number,
            retained,
        }));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
    use tidegate_shared::topic::TopicFilter;

    use super::super::Found;
    use super::*;

    fn retained(payload: &[u8]) -> RetainedMessage {
        let message = Message {
            topic: Text::try_from("t").unwrap(),
            payload: Bytes::copy_from_slice(payload),
            ..Message::default()
        };
        RetainedMessage {
            message: Arc::new(message),
            qos: Qos::AtLeastOnce,
            at_ms: 0,
        }
    }

    fn shown(store: &Retained) -> Option<Bytes> {
        let filter = TopicFilter::new("t").unwrap();
        match store.next(&filter, None, 0, &mut usize::MAX.clone()) {
            Found::Message(retained) => Some(retained.message.payload.clone()),
            _ => None,
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Fate {
        /// QoS 0.
        AtOnce,
        Durable,
        Refused,
    }

    proptest! {
        /// Whatever comes of each and when: what was handed over last is shown, also while it is on its way;
        /// in the end what was last of what came to pass, and nothing is kept of the others.
        #[test]
        fn what_was_handed_over_last_is_shown(
            handed in prop::collection::vec(
                (prop_oneof![Just(Fate::AtOnce), Just(Fate::Durable), Just(Fate::Refused)], any::<bool>(), any::<u8>()),
                1..12,
            )
        ) {
            let store = Arc::new(Retained::default());
            let mut on_their_way = Vec::new();
            let mut last = None;
            for (number, (fate, clears, late)) in handed.into_iter().enumerate() {
                let payload = if clears { Vec::new() } else { vec![number as u8] };
                let is_promised = !matches!(fate, Fate::AtOnce);
                store.in_turn(retained(&payload), is_promised, |handed| {
                    on_their_way.extend(handed.map(|handed| (late, fate, handed)));
                });
                prop_assert_eq!(shown(&store), (!clears).then(|| Bytes::from(payload.clone())));
                if !matches!(fate, Fate::Refused) {
                    last = (!clears).then(|| Bytes::from(payload));
                }
            }
            on_their_way.sort_by_key(|(late, ..)| *late);
            for (_, fate, handed) in on_their_way {
                if matches!(fate, Fate::Durable) {
                    handed.durable();
                }
            }
            prop_assert_eq!(shown(&store), last);
            prop_assert!(store.messages_mut().under_way.is_empty());
        }
    }
}
