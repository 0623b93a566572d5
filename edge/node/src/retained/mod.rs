//! Retained messages: the last of each topic that asked for it, in memory and as rows of the journal. Who
//! subscribes reads them from here, bit by bit ([`Reading`]).

mod message;
mod order;
mod reading;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Instant;

use tidegate_edge_journal::{Journal, RowEntry, RowOperation, RowTable};
use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_shared::topic::TopicFilter;

use crate::limits::{RETAINED_BYTES_MAX, RETAINED_MESSAGES_MAX, RETAINED_SWEPT_MAX};

pub(crate) use message::RetainedMessage;
pub(crate) use order::OnItsWay;
use order::UnderWay;
pub(crate) use reading::{Read, Reading, Wanted};
use refused::Refused;

/// All of them, by topic.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: RwLock<Messages>,
    /// The number of the message that was handed to the committer last, and the right to do so.
    turn: Mutex<u64>,
    refused: Refused,
}

#[derive(Debug, Default)]
struct Messages {
    by_topic: BTreeMap<Text, RetainedMessage>,
    /// Those that expire, by when.
    by_expiry: BTreeSet<(u64, Text)>,
    bytes: usize,
    under_way: BTreeMap<Text, UnderWay>,
}

impl Messages {
    fn remove(&mut self, topic: &Text) -> Option<RetainedMessage> {
        let removed = self.by_topic.remove(topic)?;
        self.bytes -= removed.bytes();
        if let Some(at_ms) = removed.expires_at_ms() {
            self.by_expiry.remove(&(at_ms, topic.clone()));
        }
        Some(removed)
    }

    fn insert(&mut self, retained: RetainedMessage) {
        let topic = retained.message.topic.clone();
        self.remove(&topic);
        self.bytes += retained.bytes();
        if let Some(at_ms) = retained.expires_at_ms() {
            self.by_expiry.insert((at_ms, topic.clone()));
        }
        self.by_topic.insert(topic, retained);
    }

    /// An empty payload takes away what is there.
    fn take_up(&mut self, retained: RetainedMessage) {
        if retained.message.payload.is_empty() {
            self.remove(&retained.message.topic);
        } else {
            self.insert(retained);
        }
    }
}

/// There is no room for another retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainedFull;

/// What a look for the next message gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Message(RetainedMessage),
    /// Nothing up to this topic, and it was enough for now.
    NotYet(Option<Text>),
    Nothing,
}

impl Retained {
    /// Reads the rows of a journal that was just opened.
    pub(crate) fn load(journal: &Journal) -> anyhow::Result<Self> {
        let mut messages = Messages::default();
        for (topic, row) in journal.rows(RowTable::Retained)? {
            match row.value.and_then(RetainedMessage::decode) {
                Some(retained) => messages.insert(retained),
                None => {
                    let topic = String::from_utf8_lossy(&topic);
                    tracing::error!(?topic, "a retained message cannot be read: it is lost");
                }
            }
        }
        Ok(Self {
            messages: RwLock::new(messages),
            turn: Mutex::default(),
            refused: Refused::default(),
        })
    }

    /// The row of a message with RETAIN, if there is room for it; an empty payload takes the topic's
    /// message away `[MQTT-3.3.1-6]`.
    pub(crate) fn row(&self, retained: &RetainedMessage) -> Result<RowEntry, RetainedFull> {
        let topic = &retained.message.topic;
        if retained.message.payload.is_empty() {
            return Ok(row(topic, RowOperation::Delete));
        }
        let value = self.has_room_for(retained).then(|| retained.encode());
        match value.flatten() {
            Some(value) => Ok(row(topic, RowOperation::Put(value))),
            None => {
                if let Some(refused) = self.refused.add(Instant::now()) {
                    let topic = topic.as_str();
                    tracing::warn!(topic, refused, "no room for more retained messages");
                }
                Err(RetainedFull)
            }
        }
    }

    fn has_room_for(&self, retained: &RetainedMessage) -> bool {
        let messages = self.messages.read().expect("nobody panics with it");
        let is_known = messages.by_topic.contains_key(&retained.message.topic);
        let has_place = is_known || messages.by_topic.len() < RETAINED_MESSAGES_MAX;
        has_place && messages.bytes + retained.bytes() <= RETAINED_BYTES_MAX
    }

    /// Takes away what has expired. `store` hands the deletions to the committer, and does not wait.
    pub(crate) fn sweep(&self, now_ms: u64, store: impl FnOnce(Vec<RowEntry>)) {
        // Nobody hands a new message of such a topic over meanwhile.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut messages = self.messages_mut();
        let expired = messages.by_expiry.iter();
        let expired = expired.take_while(|(at_ms, _)| *at_ms <= now_ms);
        let expired = expired.map(|(_, topic)| topic);
        // What is on its way would be deleted with it.
        let expired = expired.filter(|topic| !messages.under_way.contains_key(*topic));
        let expired: Vec<_> = expired.take(RETAINED_SWEPT_MAX).cloned().collect();
        let delete = |topic: Text| {
            messages.remove(&topic);
            row(&topic, RowOperation::Delete)
        };
        let rows: Vec<_> = expired.into_iter().map(delete).collect();
        if !rows.is_empty() {
            store(rows);
        }
    }

    /// Shows a message that has no row.
    pub(crate) fn take_up(&self, retained: RetainedMessage) {
        self.messages_mut().take_up(retained);
    }

    fn messages_mut(&self) -> RwLockWriteGuard<'_, Messages> {
        self.messages
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The first that a filter matches and that has not expired, behind topic `after`. Looks at no more
    /// topics than `looks`, and takes what it looked at from it.
    pub(crate) fn next(
        &self,
        filter: &TopicFilter,
        after: Option<&Text>,
        now_ms: u64,
        looks: &mut usize,
    ) -> Found {
        let messages = self.messages.read().expect("nobody panics with it");
        // Topics lie in order: those that share the filter's plain beginning lie together.
        let plain = filter.as_str().split(['+', '#']).next().unwrap_or_default();
        let is_plain = plain.len() == filter.as_str().len();
        // `a/#` matches `a` too.
        let plain = plain
            .strip_suffix('/')
            .filter(|_| !is_plain)
            .unwrap_or(plain);
        let Ok(first) = Text::try_from(plain) else {
            return Found::Nothing;
        };
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let to = match is_plain {
            true => Bound::Included(&first),
            false => Bound::Unbounded,
        };
        if is_plain && after.is_some() {
            return Found::Nothing;
        }
        let mut candidates = messages.shown((from, to));
        let mut looked_at = after;
        loop {
            if *looks == 0 {
                return Found::NotYet(looked_at.cloned());
            }
            let candidate = candidates.next();
            let Some((topic, shown)) =
                candidate.filter(|(topic, _)| topic.as_str().starts_with(plain))
            else {
                return Found::Nothing;
            };
            *looks -= 1;
            let is_alive = |retained: &&RetainedMessage| {
                let expires_at_ms = retained.expires_at_ms();
                expires_at_ms.is_none_or(|at_ms| now_ms < at_ms)
            };
            if filter.matches(topic.as_str())
                && let Some(retained) = shown.filter(is_alive)
            {
                return Found::Message(retained.clone());
            }
            looked_at = Some(topic);
        }
    }

    pub(crate) fn len(&self) -> usize {
        let messages = self.messages.read().expect("nobody panics with it");
        messages.by_topic.len()
    }
}

fn row(topic: &Text, operation: RowOperation) -> RowEntry {
    RowEntry {
        table: RowTable::Retained,
        key: topic.as_bytes().clone(),
        operation,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tidegate_edge_protocol::mqtt::codec::{Message, Qos};

    use super::*;

    fn message(topic: &str, payload: &'static str) -> Arc<Message> {
        let mut message = Message {
            topic: Text::try_from(topic).unwrap(),
            payload: Bytes::from_static(payload.as_bytes()),
            ..Message::default()
        };
        message.properties.content_type = Some(Text::try_from("text/plain").unwrap());
        Arc::new(message)
    }

    /// Looking at so many topics at once.
    fn topics_by(retained: &Retained, filter: &str, looks: usize) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            match retained.next(&filter, after.as_ref(), 0, &mut looks.clone()) {
                Found::Message(RetainedMessage { message, .. }) => {
                    found.push(message.topic.as_str().to_owned());
                    after = Some(message.topic.clone());
                }
                Found::NotYet(at) => after = at,
                Found::Nothing => return found,
            }
        }
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let found = topics_by(retained, filter, usize::MAX);
        assert_eq!(topics_by(retained, filter, 1), found, "in small bits");
        found
    }

    fn retained(topic: &str, payload: &'static str) -> RetainedMessage {
        RetainedMessage {
            message: message(topic, payload),
            qos: Qos::AtLeastOnce,
            at_ms: 5,
        }
    }

    #[test]
    fn the_last_of_each_topic_is_kept() {
        let kept = Retained::default();
        for topic in ["a", "a/b", "a/b/c", "a-b", "b", "$x/a"] {
            kept.take_up(retained(topic, "1"));
        }
        assert_eq!(topics(&kept, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&kept, "+"), ["a", "a-b", "b"]);
        assert_eq!(topics(&kept, "a/+"), ["a/b"]);
        assert_eq!(topics(&kept, "a/b"), ["a/b"]);
        let cleared = retained("a/b", "");
        let row = kept.row(&cleared).unwrap();
        assert_eq!(row.operation, RowOperation::Delete);
        // Until it is durable, it stands; and asked again, it is stored again.
        assert_eq!(topics(&kept, "a/b"), ["a/b"]);
        kept.take_up(cleared.clone());
        assert_eq!(topics(&kept, "a/b"), Vec::<String>::new());
        assert_eq!(kept.row(&cleared).unwrap().operation, RowOperation::Delete);
    }

    #[test]
    fn what_is_on_its_way_lies_among_the_others() {
        let kept = Arc::new(Retained::default());
        for topic in ["a/b", "a/d"] {
            kept.take_up(retained(topic, "1"));
        }
        let mut on_their_way = Vec::new();
        for (topic, payload) in [
            ("a", "2"),
            ("a/b", "2"),
            ("a/c", "2"),
            ("a/d", ""),
            ("a/e", "2"),
        ] {
            kept.in_turn(retained(topic, payload), true, |handed| {
                on_their_way.extend(handed)
            });
        }
        assert_eq!(topics(&kept, "a/#"), ["a", "a/b", "a/c", "a/e"]);
        assert_eq!(topics(&kept, "a/c"), ["a/c"]);
        assert_eq!(topics(&kept, "a/d"), Vec::<String>::new());
        drop(on_their_way);
        assert_eq!(topics(&kept, "a/#"), ["a/b", "a/d"]);
    }

    fn expiring(topic: &str, after_s: u32) -> RetainedMessage {
        let mut expiring = retained(topic, "x");
        let message = Arc::make_mut(&mut expiring.message);
        message.properties.message_expiry_interval_s = Some(after_s);
        expiring
    }

    #[test]
    fn what_has_expired_takes_no_room() {
        let kept = Arc::new(Retained::default());
        let swept = |now_ms| {
            let mut topics = Vec::new();
            kept.sweep(now_ms, |rows| {
                topics.extend(rows.into_iter().map(|row| row.key))
            });
            topics
        };
        kept.take_up(expiring("early", 1));
        kept.take_up(expiring("prolonged", 1));
        kept.take_up(expiring("prolonged", 9));
        kept.take_up(expiring("cleared", 1));
        kept.take_up(retained("cleared", ""));
        kept.take_up(retained("for ever", "x"));
        kept.take_up(expiring("renewed", 1));
        let mut on_its_way = None;
        kept.in_turn(retained("renewed", "y"), true, |handed| on_its_way = handed);
        assert_eq!(swept(1_004), Vec::<Bytes>::new());
        assert_eq!(swept(1_005), ["early"]);
        on_its_way.unwrap().durable();
        assert_eq!(swept(1_005), Vec::<Bytes>::new());
        assert_eq!(swept(9_005), ["prolonged"]);
        assert_eq!(topics(&kept, "#"), ["for ever", "renewed"]);
        let bytes = retained("for ever", "x").bytes() + retained("renewed", "y").bytes();
        assert_eq!(kept.messages_mut().bytes, bytes);
    }
}
