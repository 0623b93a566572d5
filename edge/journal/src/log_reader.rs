//! Reading the whole log in the order of positions, across streams: how client sessions catch up.
//! What a session's filters cannot match is passed over, file by file and chunk by chunk.
//!
//! The cleaner's copies are never read here: it leaves alone what sessions need.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_shared::id::{Position, StreamId};

use crate::chunk::Chunk;
use crate::limits::FILE_TABLES_CACHED_MAX;
use crate::log_file::{ChunkPlace, OpenLogFile};
use crate::reader::{JournalReader, ReadError, Shared, read_chunk};
use crate::topics::{TopicProbe, TopicSummary};

/// A file's chunks in the order of their positions.
pub(crate) type Order = Vec<(StreamId, ChunkPlace)>;

/// What is kept of full files for log readers: orders of a few, the summaries of all that were asked.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// The least recently made first.
    orders: Vec<(u64, Arc<Order>)>,
    summaries: BTreeMap<u64, Arc<TopicSummary>>,
}

impl Orders {
    pub(crate) fn put(&mut self, file: u64, order: Arc<Order>) {
        if self.orders.len() >= FILE_TABLES_CACHED_MAX {
            self.orders.remove(0);
        }
        self.orders.push((file, order));
    }

    pub(crate) fn forget(&mut self, file: u64) {
        self.orders.retain(|(sequence, _)| *sequence != file);
        self.summaries.remove(&file);
    }

    fn get(&self, file: u64) -> Option<Arc<Order>> {
        let mut found = self.orders.iter().filter(|(sequence, _)| *sequence == file);
        found.next().map(|(_, order)| Arc::clone(order))
    }
}

/// What a stretch of the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRead {
    /// In the order of positions; those that cannot match are left out.
    pub chunks: Vec<Chunk>,
    /// Everything below it was looked at: read on from here.
    pub next: Position,
    /// Records in chunks that are damaged.
    pub damaged_records: u64,
}

/// A file to look at, and where its part of the log ends.
struct Part {
    file: Arc<OpenLogFile>,
    kind: PartKind,
    end: Position,
}

enum PartKind {
    /// What the active file holds so far of what was asked for.
    Active(Order),
    /// Where a full file's frames end.
    Full(usize),
}

impl JournalReader {
    /// The position that follows everything durable.
    pub fn next_position(&self) -> Position {
        self.lock().next_position
    }

    /// The oldest position that may still be here.
    pub fn first_position(&self) -> Position {
        let shared = self.lock();
        let first = shared.files.values().next();
        first.map_or(shared.next_position, |file| file.header.first_position)
    }

    /// From where on the log takes at most `bytes_max`: the beginning of a file.
    pub fn position_within(&self, bytes_max: u64) -> Position {
        let shared = self.lock();
        let (mut bytes, mut from) = (0, shared.next_position);
        for (sequence, file) in shared.files.iter().rev() {
            let used = shared.state.files.get(sequence).map_or(0, |file| file.used);
            bytes += u64::from(used);
            if bytes > bytes_max {
                break;
            }
            from = file.header.first_position;
        }
        from
    }

    /// Passes over full files in which nothing can match `probe`.
    pub fn pass_over(&self, from: Position, probe: &TopicProbe) -> Result<Position, ReadError> {
        let mut next = from;
        while let Some(Part { file, kind, end }) = self.part(next) {
            let is_active = matches!(kind, PartKind::Active(_));
            let places = self.places(&file, kind, next, probe)?;
            let may_match =
                |(_, place): &(StreamId, ChunkPlace)| probe.may_be_in_chunk(place.topics);
            if is_active || places.iter().any(may_match) {
                break;
            }
            next = end.max(next);
        }
        Ok(next)
    }

    /// Chunks that may match `probe`, from the one that holds `from`, whole: at least one where
    /// there is one, and then as many as fit `bytes_max`.
    pub fn read_log(
        &self,
        from: Position,
        probe: &TopicProbe,
        bytes_max: usize,
    ) -> Result<LogRead, ReadError> {
        let mut read = LogRead {
            next: from,
            ..LogRead::default()
        };
        let mut bytes = 0;
        while let Some(part) = self.part(read.next) {
            let Part { file, kind, end } = part;
            read.next = read.next.max(file.header.first_position);
            for (stream, place) in self.places(&file, kind, read.next, probe)? {
                if !probe.may_be_in_chunk(place.topics) {
                    continue;
                }
                if bytes > 0 && bytes + place.bytes as usize > bytes_max {
                    read.next = place.position.max(read.next);
                    return Ok(read);
                }
                match read_chunk(&file, stream, &place) {
                    Ok(chunk) => read.chunks.push(chunk),
                    Err(ReadError::Damaged { .. }) => {
                        read.damaged_records += u64::from(place.count);
                    }
                    Err(error) => return Err(error),
                }
                bytes += place.bytes as usize;
                read.next = place.position.plus(u64::from(place.count));
            }
            read.next = read.next.max(end);
        }
        Ok(read)
    }

    /// The file that holds `from`, leased; the next one there is, where it is gone.
    fn part(&self, from: Position) -> Option<Part> {
        let shared = self.lock();
        if from >= shared.next_position {
            return None;
        }
        let holds = |file: &&Arc<OpenLogFile>| file.header.first_position <= from;
        let file = shared.files.values().rev().find(holds);
        let file = Arc::clone(file.or(shared.files.values().next())?);
        let sequence = file.header.sequence;
        let mut behind = shared.files.range(sequence + 1..);
        let end = behind
            .next()
            .map_or(shared.next_position, |(_, file)| file.header.first_position);
        let state = shared.state.files.get(&sequence)?;
        let kind = if state.sealed {
            PartKind::Full(state.used as usize)
        } else {
            PartKind::Active(reaching_past(&shared.active_order, from))
        };
        Some(Part { file, kind, end })
    }

    /// Its chunks that reach past `from`; none where nothing in it can match.
    fn places(
        &self,
        file: &OpenLogFile,
        kind: PartKind,
        from: Position,
        probe: &TopicProbe,
    ) -> Result<Order, ReadError> {
        let sequence = file.header.sequence;
        let end = match kind {
            PartKind::Active(order) => return Ok(order),
            PartKind::Full(end) => end,
        };
        let (order, summary) = {
            let shared = self.lock();
            let summary = shared.orders.summaries.get(&sequence).cloned();
            (shared.orders.get(sequence), summary)
        };
        let (order, summary) = match (order, summary) {
            (_, Some(summary)) if !probe.may_be_in(&summary) => return Ok(Order::new()),
            (Some(order), Some(summary)) => (order, summary),
            _ => {
                let table = self.table_of(file, end)?;
                let order = Arc::new(table.by_position(file.header.first_position));
                let summary = Arc::new(table.summary.clone());
                let mut shared = self.lock();
                remember(&mut shared, sequence, &order, &summary);
                (order, summary)
            }
        };
        if !probe.may_be_in(&summary) {
            return Ok(Order::new());
        }
        let mut places = reaching_past(&order, from);
        places.retain(|(_, place)| probe.may_be_at(&summary, place.at as usize, file.bytes));
        Ok(places)
    }
}

fn remember(shared: &mut Shared, file: u64, order: &Arc<Order>, summary: &Arc<TopicSummary>) {
    // It may have been recycled while its table was read.
    if shared.files.contains_key(&file) {
        let summaries = &mut shared.orders.summaries;
        summaries.insert(file, Arc::clone(summary));
        if shared.orders.get(file).is_none() {
            shared.orders.put(file, Arc::clone(order));
        }
    }
}

fn reaching_past(order: &[(StreamId, ChunkPlace)], from: Position) -> Order {
    let end = |place: &ChunkPlace| place.position.plus(u64::from(place.count));
    let first = order.partition_point(|(_, place)| end(place) <= from);
    order[first..].to_vec()
}
