//! The order of retained messages of one topic: that in which they are handed to the committer, and so that
//! of their rows. What promises something is shown when its commit is durable, QoS 0 at once; whichever was
//! handed over last stays, however late the others come.

use std::sync::{Arc, PoisonError};

use super::{Messages, Retained, RetainedMessage};

/// Of a topic that has messages on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    count: usize,
    /// The number of what is shown; 0 where that was there before.
    shown: u64,
}

/// A message that is shown once its row is durable; dropped, it never is.
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
        messages.show(self.number, self.retained.clone());
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let topic = &self.retained.message.topic;
        let mut messages = self.store.messages_mut();
        if let Some(under_way) = messages.under_way.get_mut(topic) {
            under_way.count -= 1;
            if under_way.count == 0 {
                messages.under_way.remove(topic);
            }
        }
    }
}

impl Messages {
    /// Unless a later one is shown already.
    fn show(&mut self, number: u64, retained: RetainedMessage) {
        let topic = &retained.message.topic;
        if let Some(under_way) = self.under_way.get_mut(topic) {
            if number < under_way.shown {
                return;
            }
            under_way.shown = number;
        }
        self.take_up(retained);
    }
}

impl Retained {
    /// Hands a message's row to the committer: `hand_over` must do so before it returns, and nobody else
    /// does meanwhile. It gets what the committer is to call once the row is durable, where that is
    /// promised; where nothing is, the message is shown now.
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
            self.messages_mut().show(number, retained);
            return hand_over(None);
        }
        let topic = retained.message.topic.clone();
        let mut messages = self.messages_mut();
        messages.under_way.entry(topic).or_default().count += 1;
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
        /// Whatever comes of each and when: what was handed over last, of what came to pass, is shown in the
        /// end, and nothing is kept of the others.
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
