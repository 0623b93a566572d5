//! What a client session reads of the journal: one stretch after the other, off the connection's task,
//! and from there to the connection as fast as that takes it.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_edge_journal::{Chunk, JournalReader, ReadError, TopicProbe};
use tidegate_edge_protocol::mqtt::codec::{Message, Qos, Text};
use tidegate_edge_protocol::mqtt::connection::{
    Connection, DeliverOutcome, Delivery, DeliveryToken,
};
use tidegate_edge_protocol::mqtt::destination::is_addressed;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession, Place};
use tidegate_shared::id::Position;
use tidegate_shared::topic::TopicFilter;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Clock;
use crate::committer::Committer;
use crate::limits::{FEED_READ_BYTES_MAX, FEED_UNPACKED_BYTES_MAX};
use crate::record::{self, Kept, Mark};

/// A message as the journal has it.
#[derive(Debug)]
pub(super) struct Stored {
    pub position: Position,
    pub message: Arc<Message>,
    publisher: Option<Bytes>,
    pub mark: Mark,
    /// When it was made, by the journal's clock.
    at_ms: u64,
}

impl Stored {
    /// Takes over nothing that would hold the whole chunk.
    fn new(kept: &Kept, chunk: &Chunk) -> Self {
        let publisher = kept.publisher.as_deref();
        Self {
            position: kept.position,
            message: Arc::new(kept.message.detached()),
            publisher: publisher.map(Bytes::copy_from_slice),
            mark: kept.mark,
            at_ms: u64::from(chunk.time_s) * 1_000,
        }
    }

    /// What it takes in memory, roughly.
    fn bytes(&self) -> usize {
        let Message {
            topic,
            payload,
            properties,
        } = &*self.message;
        let text = |text: &Option<Text>| text.as_ref().map_or(0, Text::len);
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let users = properties.user_properties.iter();
        let users = users.map(|(name, value)| name.len() + value.len() + USER_PROPERTY_BYTES);
        topic.len()
            + payload.len()
            + text(&properties.content_type)
            + text(&properties.response_topic)
            + bytes(&properties.correlation_data)
            + bytes(&self.publisher)
            + users.sum::<usize>()
            + STORED_BYTES
    }

    /// By the journal's clock: a step of the wall clock makes nothing old. What is over is not later than
    /// `now`: the session machine, which is given the same `now`, must see that.
    pub(super) fn expires_at(&self, clock: Clock, now: Instant) -> Option<Instant> {
        let expiry_s = self.message.properties.message_expiry_interval_s?;
        let end_ms = self.at_ms + u64::from(expiry_s) * 1_000;
        let left = end_ms.saturating_sub(clock.now_ms());
        Some(now + Duration::from_millis(left))
    }
}

/// What a message takes beside its own bytes, and each user property: allocations and what refers to them.
const STORED_BYTES: usize = 256;
const USER_PROPERTY_BYTES: usize = 64;

/// A stretch of the log.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub messages: VecDeque<Stored>,
    /// All below was looked at.
    pub next: Position,
    damaged_records: u64,
    /// Begun, and not in the journal any more.
    gone: Vec<Position>,
}

/// What a feed waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// A read that is under way.
    Read,
    /// More in the journal.
    Growth,
    /// Room in the connection, which its task sees by itself.
    Room,
}

/// What came of feeding.
#[derive(Debug, Default)]
pub(crate) struct Fed {
    /// To be stored with the next commit.
    pub changes: Vec<Change>,
    pub delivered: u64,
    pub dropped: u64,
}

/// See the module. Of one connection.
pub(crate) struct Feed {
    reader: JournalReader,
    clock: Clock,
    committer: Committer,
    durable: watch::Receiver<Position>,
    reading: Option<JoinHandle<Result<Stretch, ReadError>>>,
    stretch: Stretch,
    wait: Wait,
    /// The journal could not be read: that is tried again.
    fails: bool,
    /// What it waits with where nothing is read: for growth, or for a read to be tried again.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Feed {
    /// Begins at the session's cursor.
    pub(crate) fn new(committer: Committer, clock: Clock, session: &ClientSession) -> Self {
        let next = session.progress().cursor();
        let stretch = Stretch {
            next,
            ..Stretch::default()
        };
        Self {
            reader: committer.reader().clone(),
            durable: committer.durable(),
            committer,
            clock,
            reading: None,
            stretch,
            wait: Wait::Growth,
            fails: false,
            waiting: None,
        }
    }

    /// Whether the journal has more for it than the connection takes now.
    pub(crate) fn is_behind(&self) -> bool {
        self.wait == Wait::Room
    }

    /// All of the journal that is below was there when it was asked for.
    pub(crate) fn end(&self) -> Position {
        *self.durable.borrow()
    }

    /// Whether all below has been handed over, is not for this session, or cannot be read.
    pub(crate) fn is_past(&self, position: Position) -> bool {
        let first = self.stretch.messages.front();
        self.fails || first.map_or(self.stretch.next, |stored| stored.position) >= position
    }

    /// Ready when there is a reason to pump, which may turn out to be none.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context));
            self.reading = None;
            let why = match read {
                Ok(Ok(stretch)) => {
                    self.stretch = stretch;
                    self.fails = false;
                    return Poll::Ready(());
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(why, "a client session cannot read the journal");
            self.fails = true;
            self.waiting = Some(Box::pin(tokio::time::sleep(READ_AGAIN)));
            return self.poll_waiting(context);
        }
        if self.wait == Wait::Growth && self.waiting.is_none() {
            self.waiting = Some(Box::pin(growth(self.durable.clone())));
        }
        self.poll_waiting(context)
    }

    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else {
            return Poll::Pending;
        };
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(())
    }

    /// Hands over what fits and stands below `until`, and reads on where there is room for more.
    pub(crate) fn pump(
        &mut self,
        session: &mut ClientSession,
        machine: &mut Connection,
        until: Option<Position>,
        may_have: impl Fn(&str) -> bool,
    ) -> Fed {
        let mut fed = Fed::default();
        let waits_to_read_again = self.fails && self.waiting.is_some();
        if self.reading.is_some() || waits_to_read_again {
            return fed;
        }
        if self.stretch.damaged_records > 0 {
            let records = std::mem::take(&mut self.stretch.damaged_records);
            tracing::error!(records, "messages for a client session are damaged");
            fed.dropped += records;
        }
        for position in std::mem::take(&mut self.stretch.gone) {
            // Nothing else would end it, and the session would hold the log from here on.
            fed.changes.extend(session.done(position));
        }
        while let Some(stored) = self.stretch.messages.pop_front() {
            let has_room = machine.outbound_has_room() && session.progress().has_room();
            if !has_room || until.is_some_and(|until| stored.position >= until) {
                self.stretch.messages.push_front(stored);
                self.wait = Wait::Room;
                return fed;
            }
            session.progress_mut().skipped_to(stored.position);
            if is_forbidden(&stored, session, &may_have) {
                // Begun by a connection of another name, or under other rules.
                session.progress_mut().taken(stored.position);
                fed.changes.extend(session.done(stored.position));
                fed.dropped += 1;
                continue;
            }
            if let Some(not_taken) = self.deliver(stored, session, machine, &mut fed) {
                self.stretch.messages.push_front(not_taken);
                self.wait = Wait::Room;
                return fed;
            }
        }
        session.progress_mut().skipped_to(self.stretch.next);
        match until {
            Some(until) if self.stretch.next >= until => self.wait = Wait::Room,
            _ => self.read_on(session, machine),
        }
        fed
    }

    fn deliver(
        &self,
        stored: Stored,
        session: &mut ClientSession,
        machine: &mut Connection,
        fed: &mut Fed,
    ) -> Option<Stored> {
        let position = stored.position;
        let topic = stored.message.topic.as_str();
        let publisher = stored.publisher.as_deref().unwrap_or_default();
        let publisher = std::str::from_utf8(publisher).unwrap_or_default();
        let Some(due) = session.due(topic, publisher, position) else {
            session.progress_mut().passed(position);
            return None;
        };
        let now = Instant::now();
        let qos_max = due.matched.qos_max;
        let delivery = Delivery {
            token: DeliveryToken(position.0),
            message: Arc::clone(&stored.message),
            qos: stored.mark.qos,
            qos_max,
            retain: stored.mark.retain && due.matched.retain_as_published,
            subscription_identifiers: due.matched.identifiers,
            expires_at: stored.expires_at(self.clock, now),
            resent: due.resent,
            // They come in the log's order.
            priority: 0,
        };
        match machine.handle_deliver(now, delivery) {
            DeliverOutcome::Queued => {
                fed.delivered += 1;
                session.progress_mut().taken(position);
                if stored.mark.qos.min(qos_max) == Qos::AtMostOnce {
                    fed.changes.extend(session.done(position));
                }
            }
            DeliverOutcome::Dropped | DeliverOutcome::TooLarge => {
                fed.dropped += 1;
                session.progress_mut().taken(position);
                fed.changes.extend(session.done(position));
            }
            DeliverOutcome::Overflow | DeliverOutcome::NotConnected => return Some(stored),
        }
        None
    }

    fn read_on(&mut self, session: &ClientSession, machine: &Connection) {
        let until = *self.durable.borrow_and_update();
        if self.stretch.next >= until {
            self.wait = Wait::Growth;
            return;
        }
        if !machine.outbound_has_room() {
            self.wait = Wait::Room;
            return;
        }
        let own = session
            .subscriptions()
            .filter(|own| own.filter.group.is_none());
        let filters: Vec<_> = own.map(|own| own.filter.filter.clone()).collect();
        let begun = session.progress().outstanding_from(self.stretch.next);
        let begun: BTreeSet<_> = begun.collect();
        // Who publishes only, and all that shares, has no other filters: it does not read for nothing.
        let waits_for_addressed = self.stretch.next >= self.committer.addressed_until()
            && filters.iter().all(|filter| is_addressed(filter.as_str()));
        if (filters.is_empty() || waits_for_addressed) && begun.is_empty() {
            self.stretch.next = until;
            self.wait = Wait::Growth;
            return;
        }
        let reader = self.reader.clone();
        let wanted = Wanted {
            from: self.stretch.next,
            until,
            filters,
            begun,
        };
        self.wait = Wait::Read;
        self.reading = Some(tokio::task::spawn_blocking(move || wanted.read(&reader)));
    }
}

/// What an earlier connection has begun is completed whatever the subscriptions are by now, but not against the rules.
fn is_forbidden(stored: &Stored, session: &ClientSession, may_have: impl Fn(&str) -> bool) -> bool {
    let is_begun = !matches!(
        session.progress().place(stored.position),
        Place::Open | Place::Done
    );
    is_begun && !may_have(&stored.message.topic)
}

/// Returns when the log has more that is durable.
async fn growth(mut durable: watch::Receiver<Position>) {
    if durable.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// After a read that failed.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(1);

/// What to look for. A subscription that is made later is not among it, so it does not read past
/// where the log stood when it was asked for.
pub(super) struct Wanted {
    pub from: Position,
    pub until: Position,
    pub filters: Vec<TopicFilter>,
    /// Taken before, and not at its end: to be looked at whatever the filters say by now.
    pub begun: BTreeSet<Position>,
}

impl Wanted {
    /// One chunk at least, and then as many as are small enough, packed and unpacked.
    pub(super) fn read(&self, reader: &JournalReader) -> Result<Stretch, ReadError> {
        let probe = match self.begun.is_empty() {
            true => TopicProbe::new(&self.filters),
            false => TopicProbe::anything(),
        };
        let mut read = reader.read_log(self.from, &probe, FEED_READ_BYTES_MAX)?;
        if read.damaged_records > 0 {
            // Nothing says where in a stretch damage lies: of one that is left in the middle it would be
            // counted again. So it is one chunk, or its damage.
            read = reader.read_log(self.from, &probe, 0)?;
        }
        let mut messages = VecDeque::new();
        let mut bytes = 0;
        let mut next = read.next.min(self.until);
        for chunk in &read.chunks {
            if bytes >= FEED_UNPACKED_BYTES_MAX {
                next = chunk.position.min(next);
            }
            if chunk.position >= next {
                break;
            }
            bytes += self.pick(chunk, &mut messages);
        }
        let found: BTreeSet<_> = messages.iter().map(|stored| stored.position).collect();
        let begun = self.begun.range(..next);
        let gone = begun.filter(|position| !found.contains(position));
        Ok(Stretch {
            gone: gone.copied().collect(),
            messages,
            next,
            damaged_records: read.damaged_records,
        })
    }

    /// Gives what the chunk's messages take that are wanted.
    fn pick(&self, chunk: &Chunk, messages: &mut VecDeque<Stored>) -> usize {
        let mut bytes = 0;
        for kept in record::messages(chunk, self.from) {
            let topic = kept.message.topic.as_str();
            let wanted = self.begun.contains(&kept.position)
                || self.filters.iter().any(|filter| filter.matches(topic));
            if wanted {
                let stored = Stored::new(&kept, chunk);
                bytes += stored.bytes();
                messages.push_back(stored);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
