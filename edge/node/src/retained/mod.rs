//! Retained messages: the last of each topic that asked for it, in memory and as rows of the journal. Who
//! subscribes reads them from here, bit by bit ([`Reading`]).

mod message;
mod order;
mod reading;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError, RwLock, RwLockWriteGuard};

use tidegate_edge_journal::{Journal, RowEntry, RowOperation, RowTable};
use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_shared::topic::TopicFilter;

use crate::limits::{RETAINED_BYTES_MAX, RETAINED_MESSAGES_MAX};

pub(crate) use message::RetainedMessage;
pub(crate) use order::OnItsWay;
use order::UnderWay;
pub(crate) use reading::{Read, Reading, Wanted};

/// All of them, by topic.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: RwLock<Messages>,
    /// The number of the message that was handed to the committer last, and the right to do so.
    turn: Mutex<u64>,
}

#[derive(Debug, Default)]
struct Messages {
    by_topic: BTreeMap<Text, RetainedMessage>,
    bytes: usize,
    under_way: HashMap<Text, UnderWay>,
}

impl Messages {
    fn remove(&mut self, topic: &Text) -> Option<RetainedMessage> {
        let removed = self.by_topic.remove(topic)?;
        self.bytes -= removed.bytes();
        Some(removed)
    }

    fn insert(&mut self, retained: RetainedMessage) {
        let topic = retained.message.topic.clone();
        self.remove(&topic);
        self.bytes += retained.bytes();
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
                    tracing::error!(%topic, "a retained message cannot be read: it is lost");
                }
            }
        }
        Ok(Self {
            messages: RwLock::new(messages),
            turn: Mutex::default(),
        })
    }

    /// The row of a message with RETAIN, if there is room for it; an empty payload takes the topic's
    /// message away `[MQTT-3.3.1-6]`.
    pub(crate) fn row(&self, retained: &RetainedMessage) -> Result<RowEntry, RetainedFull> {
        let topic = &retained.message.topic;
        let row = |operation| RowEntry {
            table: RowTable::Retained,
            key: topic.as_bytes().clone(),
            operation,
        };
        if retained.message.payload.is_empty() {
            return Ok(row(RowOperation::Delete));
        }
        let messages = self.messages.read().expect("nobody panics with it");
        let is_new = !messages.by_topic.contains_key(topic);
        if is_new && messages.by_topic.len() >= RETAINED_MESSAGES_MAX
            || messages.bytes + retained.bytes() > RETAINED_BYTES_MAX
        {
            return Err(RetainedFull);
        }
        let value = retained.encode().ok_or(RetainedFull)?;
        Ok(row(RowOperation::Put(value)))
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
        let mut candidates = messages.by_topic.range((from, to));
        let mut looked_at = after;
        loop {
            if *looks == 0 {
                return Found::NotYet(looked_at.cloned());
            }
            let candidate = candidates.next();
            let Some((topic, retained)) =
                candidate.filter(|(topic, _)| topic.as_str().starts_with(plain))
            else {
                return Found::Nothing;
            };
            *looks -= 1;
            if filter.matches(topic.as_str())
                && retained.expires_at_ms().is_none_or(|at_ms| now_ms < at_ms)
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
}
