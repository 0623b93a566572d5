//! What a client session reads of the journal, as the node's feed does it: a stretch is asked for with
//! the filters of that moment, read some time later, and handed over as fast as the connection takes it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tidegate_edge_journal::{Chunk, JournalReader, TopicProbe};
use tidegate_edge_protocol::mqtt::codec::{Message, Qos};
use tidegate_edge_protocol::mqtt::connection::{
    Connection, DeliverOutcome, Delivery, DeliveryToken,
};
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession};
use tidegate_shared::id::Position;
use tidegate_shared::record::Batch;
use tidegate_shared::topic::TopicFilter;

use super::record::{qos_of, to_message};
use crate::{Stop, violated};

/// Read at once; small, so that a session reads often.
const READ_BYTES_MAX: usize = 4 << 10;

#[derive(Debug)]
struct Stored {
    position: Position,
    message: Arc<Message>,
    qos: Qos,
}

/// What to look for.
#[derive(Debug)]
struct Wanted {
    from: Position,
    until: Position,
    filters: Vec<TopicFilter>,
    /// Taken before, and not at its end.
    begun: BTreeSet<Position>,
}

#[derive(Debug)]
pub(super) struct Feed {
    messages: VecDeque<Stored>,
    /// All below was looked at.
    next: Position,
    /// A read that is under way.
    reading: Option<Wanted>,
}

impl Feed {
    /// Begins at the session's cursor.
    pub(super) fn new(session: &ClientSession) -> Self {
        Self {
            messages: VecDeque::new(),
            next: session.progress().cursor(),
            reading: None,
        }
    }

    /// The read that is under way comes to its end.
    pub(super) fn read(&mut self, reader: &JournalReader) -> Result<(), Stop> {
        let Some(wanted) = self.reading.take() else {
            return Ok(());
        };
        (self.messages, self.next) = wanted.read(reader)?;
        Ok(())
    }

    /// Hands over what fits, and asks for more where there is room; gives what is to be stored.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        durable: Position,
        session: &mut ClientSession,
        machine: &mut Connection,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.reading.is_some() {
            return changes;
        }
        while let Some(stored) = self.messages.pop_front() {
            let room = machine.outbound_has_room() && session.progress().has_room();
            if room {
                session.progress_mut().skipped_to(stored.position);
            }
            if !room || !deliver(&stored, now, session, machine, &mut changes) {
                self.messages.push_front(stored);
                return changes;
            }
        }
        session.progress_mut().skipped_to(self.next);
        self.ask(durable, session, machine);
        changes
    }

    fn ask(&mut self, durable: Position, session: &ClientSession, machine: &Connection) {
        if self.next >= durable || !machine.outbound_has_room() {
            return;
        }
        let subscriptions = session.subscriptions();
        let begun = session.progress().outstanding_from(self.next);
        let begun: BTreeSet<_> = begun.collect();
        if subscriptions.len() == 0 && begun.is_empty() {
            self.next = durable;
            return;
        }
        self.reading = Some(Wanted {
            from: self.next,
            until: durable,
            filters: subscriptions.map(|own| own.filter.filter.clone()).collect(),
            begun,
        });
    }
}

/// False where the connection does not take it.
fn deliver(
    stored: &Stored,
    now: Instant,
    session: &mut ClientSession,
    machine: &mut Connection,
    changes: &mut Vec<Change>,
) -> bool {
    let position = stored.position;
    let Some(due) = session.due(&stored.message.topic, "", position) else {
        session.progress_mut().passed(position);
        return true;
    };
    let qos_max = due.matched.qos_max;
    let delivery = Delivery {
        token: DeliveryToken(position.0),
        message: Arc::clone(&stored.message),
        qos: stored.qos,
        qos_max,
        retain: false,
        subscription_identifiers: due.matched.identifiers,
        expires_at: None,
        resent: due.resent,
        priority: 0,
    };
    match machine.handle_deliver(now, delivery) {
        DeliverOutcome::Queued => {
            session.progress_mut().taken(position);
            if stored.qos.min(qos_max) == Qos::AtMostOnce {
                changes.extend(session.done(position));
            }
        }
        DeliverOutcome::Dropped | DeliverOutcome::TooLarge => {
            session.progress_mut().taken(position);
            changes.extend(session.done(position));
        }
        DeliverOutcome::Overflow | DeliverOutcome::NotConnected => return false,
    }
    true
}

impl Wanted {
    fn read(&self, reader: &JournalReader) -> Result<(VecDeque<Stored>, Position), Stop> {
        let probe = match self.begun.is_empty() {
            true => TopicProbe::new(&self.filters),
            false => TopicProbe::anything(),
        };
        let read = match reader.read_log(self.from, &probe, READ_BYTES_MAX) {
            Ok(read) if read.damaged_records == 0 => read,
            Ok(read) => {
                let what = format!("{} records are damaged", read.damaged_records);
                return violated("a session can read the log", what);
            }
            Err(error) => return violated("a session can read the log", error.to_string()),
        };
        let mut messages = VecDeque::new();
        for chunk in &read.chunks {
            if chunk.position < self.until {
                self.pick(chunk, &mut messages);
            }
        }
        let next = read.next.min(self.until);
        let found: BTreeSet<_> = messages.iter().map(|stored| stored.position).collect();
        let mut begun = self.begun.range(..next);
        match begun.find(|position| !found.contains(position)) {
            Some(gone) => violated("what was begun is in the log", format!("{gone:?}")),
            None => Ok((messages, next)),
        }
    }

    fn pick(&self, chunk: &Chunk, messages: &mut VecDeque<Stored>) {
        let records = Batch::parse(chunk.batch.clone()).and_then(|batch| batch.records());
        for (index, record) in records.into_iter().flatten().flatten().enumerate() {
            let position = chunk.position.plus(index as u64);
            if position < self.from {
                continue;
            }
            let Some(message) = to_message(record.1) else {
                continue;
            };
            let wanted = self.begun.contains(&position)
                || self
                    .filters
                    .iter()
                    .any(|filter| filter.matches(&message.topic));
            if wanted {
                messages.push_back(Stored {
                    position,
                    message: Arc::new(message.detached()),
                    qos: qos_of(chunk.mark(index)),
                });
            }
        }
    }
}
