//! Keeps sessions from holding the journal: one whose backlog is larger than it may be loses its oldest,
//! by count and visibly; one whose filters match nothing of a log file does not need the file.

use tidegate_edge_journal::{JournalReader, ReadError, TopicProbe};
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession};
use tidegate_shared::id::Position;
use tidegate_shared::record::Batch;

use crate::limits::FEED_READ_BYTES_MAX;
use crate::record::{Mark, to_message};

/// What became of a session's backlog.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    /// To be applied and stored.
    pub changes: Vec<Change>,
    /// Messages that will not reach the client.
    pub lost: u64,
}

/// Reads the journal where something is to be counted: not for a task that must not wait.
pub(super) fn trim(
    reader: &JournalReader,
    session: &mut ClientSession,
    backlog_bytes_max: u64,
) -> Result<Trimmed, ReadError> {
    let mut trimmed = Trimmed::default();
    let from = session.progress().cursor();
    let kept_from = reader.position_within(backlog_bytes_max);
    if from < kept_from {
        trimmed.lost = count(reader, session, from, kept_from)?;
        trimmed.changes = session.give_up_below(kept_from);
    } else if session.progress().assigned_positions().next().is_none()
        && from == session.progress().next()
    {
        let probe = TopicProbe::new(session.subscriptions().map(|own| &own.filter.filter));
        let next = reader.pass_over(from, &probe)?;
        session.progress_mut().skipped_to(next);
        trimmed.changes.extend(session.cursor_change());
    }
    Ok(trimmed)
}

/// How many messages of a stretch the session would have got.
fn count(
    reader: &JournalReader,
    session: &ClientSession,
    from: Position,
    to: Position,
) -> Result<u64, ReadError> {
    let probe = TopicProbe::new(session.subscriptions().map(|own| &own.filter.filter));
    let (mut next, mut lost) = (from, 0);
    while next < to {
        let read = reader.read_log(next, &probe, FEED_READ_BYTES_MAX)?;
        for chunk in read.chunks.iter().filter(|chunk| chunk.position < to) {
            let records = Batch::parse(chunk.batch.clone()).and_then(|batch| batch.records());
            for (index, record) in records.into_iter().flatten().flatten().enumerate() {
                let position = chunk.position.plus(index as u64);
                let message = to_message(record.1, Mark::from_byte(chunk.mark(index)));
                let due = message
                    .filter(|_| position >= next)
                    .and_then(|(message, publisher)| {
                        let publisher = publisher.unwrap_or_default();
                        let publisher = std::str::from_utf8(&publisher).unwrap_or_default();
                        session.due(message.topic.as_str(), publisher, position)
                    });
                lost += u64::from(due.is_some());
            }
        }
        lost += read.damaged_records;
        next = read.next;
    }
    Ok(lost)
}
