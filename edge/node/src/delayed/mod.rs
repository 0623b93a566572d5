//! Delayed messages: those published to `$delayed/<seconds>/<topic>`, in memory and as rows of the journal, until they are
//! due. Then each is appended as any message is, and its row goes in the same commit.

mod message;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_edge_journal::{Journal, RowEntry, RowOperation, RowTable};
use tokio::sync::Notify;

use crate::limits::{DELAYED_BYTES_MAX, DELAYED_MESSAGES_MAX, DELAYED_PUBLISHER_SHARE};

pub(crate) use message::DelayedMessage;

/// When a message is due, by the journal's clock, and a number: those that are due together keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub at_ms: u64,
    number: u64,
}

impl Due {
    fn key(self) -> Bytes {
        let mut key = BytesMut::with_capacity(16);
        key.put_u64(self.at_ms);
        key.put_u64(self.number);
        key.freeze()
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        let (at_ms, number) = key.split_at_checked(8)?;
        Some(Self {
            at_ms: u64::from_be_bytes(at_ms.try_into().ok()?),
            number: u64::from_be_bytes(number.try_into().ok()?),
        })
    }

    /// The row that goes once the message is published.
    pub(crate) fn settled(self) -> RowEntry {
        row(self, RowOperation::Delete)
    }
}

fn row(due: Due, operation: RowOperation) -> RowEntry {
    RowEntry {
        table: RowTable::Delayed,
        key: due.key(),
        operation,
    }
}

/// There is no room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DelayedFull;

/// A message whose row is not handed over yet; it has its room already.
#[derive(Debug)]
pub(crate) struct Accepted {
    due: Due,
    message: DelayedMessage,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    inner: Mutex<Inner>,
    /// The next may be due earlier than it was.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: BTreeMap<Due, DelayedMessage>,
    /// Of those that wait, and of those that are accepted and do not yet.
    taken: Taken,
    /// The same of each publisher, by client id: one alone can't keep all others out.
    by_publisher: BTreeMap<Bytes, Taken>,
    next_number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    messages: usize,
    bytes: usize,
}

impl Taken {
    fn has_room_for(&self, bytes: usize, share: usize) -> bool {
        self.messages < DELAYED_MESSAGES_MAX / share
            && self.bytes + bytes <= DELAYED_BYTES_MAX / share
    }

    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

impl Inner {
    fn take(&mut self, message: &DelayedMessage) {
        let bytes = message.bytes();
        self.taken.add(bytes);
        let publisher = message.publisher.clone();
        self.by_publisher.entry(publisher).or_default().add(bytes);
    }

    fn has_room_for(&self, message: &DelayedMessage) -> bool {
        let bytes = message.bytes();
        let of_publisher = self.by_publisher.get(&message.publisher);
        let of_publisher = of_publisher.copied().unwrap_or_default();
        self.taken.has_room_for(bytes, 1)
            && of_publisher.has_room_for(bytes, DELAYED_PUBLISHER_SHARE)
    }

    fn give_back(&mut self, message: &DelayedMessage) {
        let bytes = message.bytes();
        self.taken.remove(bytes);
        if let Some(taken) = self.by_publisher.get_mut(&message.publisher) {
            taken.remove(bytes);
            if taken.messages == 0 {
                self.by_publisher.remove(&message.publisher);
            }
        }
    }
}

impl Delayed {
    /// Reads the rows of a journal that was just opened.
    pub(crate) fn load(journal: &Journal) -> anyhow::Result<Self> {
        let mut inner = Inner::default();
        for (key, row) in journal.rows(RowTable::Delayed)? {
            let message = row.value.and_then(DelayedMessage::decode);
            let Some((due, message)) = Due::of_key(&key).zip(message) else {
                tracing::error!(?key, "a delayed message cannot be read: it is lost");
                continue;
            };
            inner.take(&message);
            inner.next_number = inner.next_number.max(due.number + 1);
            inner.waiting.insert(due, message);
        }
        Ok(Self {
            inner: Mutex::new(inner),
            changed: Notify::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with it")
    }

    /// Gives the row that stores a message, and what `waits` takes once that is handed over.
    pub(crate) fn accept(
        &self,
        message: DelayedMessage,
        delay_s: u32,
    ) -> Result<(RowEntry, Accepted), DelayedFull> {
        let value = message.encode().ok_or(DelayedFull)?;
        let mut inner = self.inner();
        if !inner.has_room_for(&message) {
            return Err(DelayedFull);
        }
        inner.take(&message);
        let due = Due {
            at_ms: message.at_ms + u64::from(delay_s) * 1_000,
            number: inner.next_number,
        };
        inner.next_number += 1;
        Ok((
            row(due, RowOperation::Put(value)),
            Accepted { due, message },
        ))
    }

    /// Its row is handed over: what publishes it comes behind that.
    pub(crate) fn waits(&self, accepted: Accepted) {
        let mut inner = self.inner();
        inner.waiting.insert(accepted.due, accepted.message);
        drop(inner);
        self.changed.notify_one();
    }

    /// When the first is due, by the journal's clock.
    pub(crate) fn first_at_ms(&self) -> Option<u64> {
        let inner = self.inner();
        inner.waiting.first_key_value().map(|(due, _)| due.at_ms)
    }

    /// Returns when that may have changed. For one task.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The first that are due, in their order. They stay until they are settled.
    pub(crate) fn due(&self, now_ms: u64, at_most: usize) -> Vec<(Due, DelayedMessage)> {
        let inner = self.inner();
        let due = inner.waiting.iter();
        let due = due.take_while(|(due, _)| due.at_ms <= now_ms);
        due.take(at_most)
            .map(|(due, message)| (*due, message.clone()))
            .collect()
    }

    /// It is published, or has expired.
    pub(crate) fn settle(&self, due: Due) {
        let mut inner = self.inner();
        if let Some(message) = inner.waiting.remove(&due) {
            inner.give_back(&message);
        }
    }

    /// Messages and bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.taken.messages, inner.taken.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_edge_journal::RowCommit;
    use tidegate_edge_journal::limits::Limits;
    use tidegate_edge_journal::media::Directory;
    use tidegate_shared::id::StoreId;

    use super::message::delayed;
    use super::*;

    fn topics(due: Vec<(Due, DelayedMessage)>) -> Vec<String> {
        let topics = due.iter().map(|(_, it)| it.message.topic.to_string());
        topics.collect()
    }

    #[test]
    fn they_are_due_in_their_order_and_wait_until_they_are_settled() {
        let kept = Delayed::default();
        let accept = |topic, delay_s| {
            let (row, accepted) = kept.accept(delayed(topic, None), delay_s).unwrap();
            kept.waits(accepted);
            row
        };
        assert_eq!(kept.first_at_ms(), None);
        let rows = [
            accept("b", 5),
            accept("c", 5),
            accept("a", 2),
            accept("d", 0),
        ];
        assert!(rows.iter().is_sorted_by(|a, b| a.key != b.key));
        assert_eq!(kept.first_at_ms(), Some(1_000));
        assert_eq!(topics(kept.due(999, 9)), [""; 0]);
        assert_eq!(topics(kept.due(6_000, 3)), ["d", "a", "b"]);
        assert_eq!(topics(kept.due(3_000, 9)), ["d", "a"]);
        for (due, _) in kept.due(6_000, 3) {
            assert_eq!(due.settled().operation, RowOperation::Delete);
            kept.settle(due);
        }
        assert_eq!(topics(kept.due(6_000, 9)), ["c"]);
        let (due, _) = kept.due(6_000, 9).remove(0);
        kept.settle(due);
        assert_eq!(kept.waiting(), (0, 0));
    }

    #[test]
    fn a_full_store_takes_no_more() {
        let kept = Delayed::default();
        let mut large = delayed("x", None);
        let mut message = (*large.message).clone();
        message.payload = vec![0; 1 << 20].into();
        large.message = Arc::new(message);
        let accepted_of = |publisher: &'static str| {
            let mut large = large.clone();
            large.publisher = Bytes::from_static(publisher.as_bytes());
            std::iter::from_fn(|| kept.accept(large.clone(), 1).ok()).count()
        };
        let share = DELAYED_BYTES_MAX / DELAYED_PUBLISHER_SHARE;
        let [first, second] = ["a", "b"].map(accepted_of);
        assert_eq!([first, second], [(share >> 20) - 1; 2]);
        let others = ["c", "d", "e"].map(accepted_of);
        let all = first + second + others.iter().sum::<usize>();
        assert_eq!(all, (DELAYED_BYTES_MAX >> 20) - 1);
    }

    #[test]
    fn they_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let limits = Limits {
                free_disk_min_bytes: 0,
                ..Limits::default()
            };
            let medium = Arc::new(Directory::open(folder.path()).unwrap());
            Journal::open(medium, limits, StoreId(7)).unwrap().0
        };
        let mut journal = open();
        let kept = Delayed::default();
        for (topic, delay_s) in [("late", 9), ("early", 3), ("later", 9)] {
            let (row, _) = kept.accept(delayed(topic, None), delay_s).unwrap();
            journal.stage_row(row, RowCommit::Awaited).unwrap();
        }
        journal.commit().unwrap();
        drop(journal);
        let kept = Delayed::load(&open()).unwrap();
        assert_eq!(topics(kept.due(u64::MAX, 9)), ["early", "late", "later"]);
        let (_, accepted) = kept.accept(delayed("x", None), 0).unwrap();
        assert_eq!(accepted.due.number, 3);
    }
}
