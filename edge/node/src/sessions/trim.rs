//! Keeps sessions from holding the journal: one whose backlog is larger than it may be loses its oldest,
//! by count and visibly; one whose filters match nothing of a log file does not need the file.

use tidegate_edge_journal::{JournalReader, ReadError, TopicProbe};
use tidegate_edge_protocol::mqtt::codec::Message;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession};
use tidegate_shared::id::Position;
use tidegate_shared::topic::TopicFilter;

use crate::limits::FEED_READ_BYTES_MAX;
use crate::record;

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
        let due = |message: &Message, publisher: &str, position| {
            let topic = message.topic.as_str();
            session.due(topic, publisher, position).is_some()
        };
        trimmed.lost = count(reader, &filters(session), from, kept_from, due)?;
        trimmed.changes = session.give_up_below(kept_from);
    } else if session.progress().assigned_positions().next().is_none()
        && from == session.progress().next()
    {
        let probe = TopicProbe::new(filters(session));
        let next = reader.pass_over(from, &probe)?;
        session.progress_mut().skipped_to(next);
        trimmed.changes.extend(session.cursor_change());
    }
    Ok(trimmed)
}

/// What it reads for by itself; a shared subscription has its group's cursor.
fn filters(session: &ClientSession) -> Vec<&TopicFilter> {
    let subscriptions = session.subscriptions();
    let own = subscriptions.filter(|own| own.filter.group.is_none());
    own.map(|own| &own.filter.filter).collect()
}

/// How many messages of a stretch match the filters and are due.
pub(super) fn count(
    reader: &JournalReader,
    filters: &[&TopicFilter],
    from: Position,
    to: Position,
    is_due: impl Fn(&Message, &str, Position) -> bool,
) -> Result<u64, ReadError> {
    let probe = TopicProbe::new(filters.iter().copied());
    let (mut next, mut lost) = (from, 0);
    while next < to {
        let read = reader.read_log(next, &probe, FEED_READ_BYTES_MAX)?;
        for chunk in read.chunks.iter().filter(|chunk| chunk.position < to) {
            for kept in record::messages(chunk, next) {
                let publisher = kept.publisher.unwrap_or_default();
                let publisher = std::str::from_utf8(&publisher).unwrap_or_default();
                let topic = kept.message.topic.as_str();
                let matches = filters.iter().any(|filter| filter.matches(topic));
                lost += u64::from(matches && is_due(&kept.message, publisher, kept.position));
            }
        }
        lost += read.damaged_records;
        next = read.next;
    }
    Ok(lost)
}
