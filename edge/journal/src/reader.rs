//! Reading what is durable, from any thread, beside the committer.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::id::{
    BoundaryHash, ClusterIncarnation, EdgeOffset, Incarnation, Position, SessionEpoch, StoreId,
    StreamId, StreamName, TopicName,
};
use tidegate_shared::record::Batch;

use crate::chunk::{self, Chunk};
use crate::clock::JournalTime;
use crate::entry::{CHUNK_FIELDS_BYTES, ChunkEntry};
use crate::gap::Gap;
use crate::limits::FILE_TABLES_CACHED_MAX;
use crate::log_file::{ChunkPlace, FileTable, OpenLogFile};
use crate::log_reader::{Order, Orders};
use crate::retention::StreamPolicy;
use crate::state::State;

/// What committer and readers share. The lock is held for look-ups, never for I/O.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub state: State,
    pub files: BTreeMap<u64, Arc<OpenLogFile>>,
    /// Chunks in the active file.
    pub active_table: FileTable,
    /// The same in the order of positions.
    pub active_order: Order,
    /// The position that follows everything durable.
    pub next_position: Position,
    /// What log readers keep of full files.
    pub orders: Orders,
    /// What is being dropped below these offsets: nobody sends it any more.
    pub dropping: BTreeMap<StreamId, EdgeOffset>,
    /// Policies of streams whose commit is still to come.
    pub policies_of_new: BTreeMap<StreamId, StreamPolicy>,
    /// Tables of full files, the least recently used first.
    tables: Vec<(u64, Arc<FileTable>)>,
}

impl Shared {
    fn cached_table(&mut self, file: u64) -> Option<Arc<FileTable>> {
        let at = self
            .tables
            .iter()
            .position(|(sequence, _)| *sequence == file)?;
        let entry = self.tables.remove(at);
        let table = Arc::clone(&entry.1);
        self.tables.push(entry);
        Some(table)
    }

    pub(crate) fn cache_table(&mut self, file: u64, table: Arc<FileTable>) {
        self.tables.retain(|(sequence, _)| *sequence != file);
        if self.tables.len() >= FILE_TABLES_CACHED_MAX {
            self.tables.remove(0);
        }
        self.tables.push((file, table));
    }

    pub(crate) fn drop_file(&mut self, file: u64) -> Option<Arc<OpenLogFile>> {
        self.tables.retain(|(sequence, _)| *sequence != file);
        self.orders.forget(file);
        self.files.remove(&file)
    }
}

/// How a stream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    pub stream: StreamId,
    pub name: StreamName,
    pub topic: TopicName,
    /// 0 before the cloud granted one.
    pub incarnation: Incarnation,
    /// The oldest offset that is still here.
    pub first: EdgeOffset,
    /// The next offset; everything below it is durable.
    pub next: EdgeOffset,
    /// The hash at `next`.
    pub hash: BoundaryHash,
    pub landed: EdgeOffset,
    pub landed_hash: BoundaryHash,
    /// The counter of the cluster incarnation in which it landed so far.
    pub landed_life: u32,
    /// Records that were ever declared lost.
    pub gap_records: u64,
    /// Those of them that were under way then, and landed all the same.
    pub gap_records_landed: u64,
    /// What is lost and not landed.
    pub gaps: Vec<Gap>,
    /// Boundaries whose data is gone and whose hashes are kept, since they may have been sent.
    pub boundaries: usize,
    /// Batch bytes that live.
    pub bytes: u64,
    pub policy: StreamPolicy,
}

/// Why a read failed.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("stream {0} does not exist")]
    UnknownStream(StreamId),
    #[error("stream {stream} has nothing at {from}: it begins at {first}")]
    Gone {
        stream: StreamId,
        from: EdgeOffset,
        first: EdgeOffset,
    },
    #[error("stream {stream} has lost {} to {}: {}", gap.from, gap.to, gap.reason)]
    Lost { stream: StreamId, gap: Gap },
    #[error("log file {file} is damaged at byte {at}: {why}")]
    Damaged { file: u64, at: u32, why: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A leased file, and places of chunks in it.
pub(crate) type Located = (Arc<OpenLogFile>, Vec<ChunkPlace>);

/// Reads durable chunks; cheap to clone.
#[derive(Clone, Debug)]
pub struct JournalReader {
    pub(crate) shared: Arc<Mutex<Shared>>,
}

impl JournalReader {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared
            .lock()
            .expect("no thread panics while it holds the journal's state")
    }

    pub fn store_id(&self) -> StoreId {
        self.lock().state.meta.store_id
    }

    /// The last wall clock that could be believed, in milliseconds since 1970; 0: none ever.
    pub fn wall_ms(&self) -> i64 {
        self.lock().state.meta.wall_ms
    }

    /// The journal's clock, as it was last told.
    pub fn time(&self) -> JournalTime {
        self.lock().state.meta.time
    }

    /// The newest cluster incarnation and session epoch that this edge has stored.
    pub fn session(&self) -> (ClusterIncarnation, SessionEpoch) {
        let meta = self.lock().state.meta;
        (meta.cluster_incarnation, meta.session_epoch)
    }

    /// Every stream, by id.
    pub fn streams(&self) -> Vec<StreamStatus> {
        let shared = self.lock();
        shared
            .state
            .streams
            .keys()
            .filter_map(|id| status(&shared.state, *id))
            .collect()
    }

    pub fn stream(&self, stream: StreamId) -> Option<StreamStatus> {
        status(&self.lock().state, stream)
    }

    pub fn find(&self, name: &StreamName) -> Option<StreamId> {
        self.lock().state.names.get(name).copied()
    }

    /// Whole chunks of `stream` from the one that holds `from`: at least one where there is one,
    /// and then as many as fit `bytes_max`, up to a gap. Empty at the stream's end.
    pub fn read(
        &self,
        stream: StreamId,
        from: EdgeOffset,
        bytes_max: usize,
    ) -> Result<Vec<Chunk>, ReadError> {
        let mut chunks = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        loop {
            let (file, places) = match self.locate(stream, next, bytes_max - bytes) {
                Ok(Some(located)) => located,
                Ok(None) => break,
                // What was read before it is good.
                Err(_) if !chunks.is_empty() => break,
                Err(error) => return Err(error),
            };
            for place in places {
                if !chunks.is_empty() && bytes + place.bytes as usize > bytes_max {
                    return Ok(chunks);
                }
                let chunk = match read_chunk(&file, stream, &place) {
                    Err(_) if !chunks.is_empty() => return Ok(chunks),
                    read => read?,
                };
                bytes += place.bytes as usize;
                next = chunk.end();
                chunks.push(chunk);
            }
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(chunks)
    }

    /// The hash at a chunk boundary; `None` where `offset` is none, or its chunk is gone.
    pub fn hash_at(
        &self,
        stream: StreamId,
        offset: EdgeOffset,
    ) -> Result<Option<BoundaryHash>, ReadError> {
        {
            let shared = self.lock();
            let state = shared.state.streams.get(&stream);
            let state = state.ok_or(ReadError::UnknownStream(stream))?;
            if let Some(hash) = state.kept_hash(offset) {
                return Ok(Some(hash));
            }
            if offset < state.first() || offset > state.next || state.gap_at(offset).is_some() {
                return Ok(None);
            }
        }
        let chunks = self.read(stream, offset, 1)?;
        let at_boundary = chunks.first().filter(|chunk| chunk.base_offset == offset);
        Ok(at_boundary.map(|chunk| chunk.hash_before))
    }

    /// The file with `from`, leased, and the places of chunks in it that begin there.
    fn locate(
        &self,
        stream: StreamId,
        from: EdgeOffset,
        bytes_max: usize,
    ) -> Result<Option<Located>, ReadError> {
        let limit = {
            let shared = self.lock();
            let state = shared.state.streams.get(&stream);
            let state = state.ok_or(ReadError::UnknownStream(stream))?;
            if from >= state.next {
                return Ok(None);
            }
            if let Some(gap) = state.gap_at(from) {
                return Err(ReadError::Lost { stream, gap: *gap });
            }
            if from < state.first() {
                return Err(ReadError::Gone {
                    stream,
                    from,
                    first: state.first(),
                });
            }
            state.next_gap(from)
        };
        let Some((file, places)) = self.run_of(stream, from)? else {
            return Ok(None);
        };
        let first = places.partition_point(|place| place.end() <= from);
        let end = places.partition_point(|place| place.base_offset < limit);
        let places = &places[first.min(end)..end];
        let holds = places
            .first()
            .is_some_and(|place| place.base_offset <= from);
        if !holds {
            let why = format!("offset {from} of stream {stream} cannot be found in it");
            return Err(ReadError::Damaged {
                file: file.header.sequence,
                at: 0,
                why,
            });
        }
        let places = bounded(places, bytes_max);
        Ok(Some((file, places)))
    }

    /// The log file that holds `offset`, leased, and the chunks of the stream's run there.
    pub(crate) fn run_of(
        &self,
        stream: StreamId,
        offset: EdgeOffset,
    ) -> io::Result<Option<Located>> {
        let (file, run, end) = {
            let shared = self.lock();
            let Some(state) = shared.state.streams.get(&stream) else {
                return Ok(None);
            };
            let at = state.runs.partition_point(|run| run.next <= offset);
            let Some(run) = state.runs.get(at).copied() else {
                return Ok(None);
            };
            let sequence = run.file;
            let file = Arc::clone(&shared.files[&sequence]);
            if !shared.state.files[&sequence].sealed {
                let places = shared.active_table.places_within(stream, &run);
                return Ok(Some((file, places.to_vec())));
            }
            (file, run, shared.state.files[&sequence].used as usize)
        };
        let table = self.table_of(&file, end)?;
        let places = table.places_within(stream, &run).to_vec();
        Ok(Some((file, places)))
    }

    /// The table of a full file, whose frames end at `end`.
    pub(crate) fn table_of(&self, file: &OpenLogFile, end: usize) -> io::Result<Arc<FileTable>> {
        let sequence = file.header.sequence;
        let cached = self.lock().cached_table(sequence);
        if let Some(table) = cached {
            return Ok(table);
        }
        let table = Arc::new(file.load_table(end)?);
        self.lock().cache_table(sequence, Arc::clone(&table));
        Ok(table)
    }

    pub(crate) fn run_places(
        &self,
        stream: StreamId,
        offset: EdgeOffset,
    ) -> io::Result<Vec<ChunkPlace>> {
        Ok(self
            .run_of(stream, offset)?
            .map_or_else(Vec::new, |(_, places)| places))
    }

    /// A chunk's fields without its batch.
    pub(crate) fn read_fields(
        &self,
        file: &OpenLogFile,
        place: &ChunkPlace,
    ) -> io::Result<ChunkEntry> {
        let mut fields = BytesMut::zeroed(CHUNK_FIELDS_BYTES);
        file.file.read_at(u64::from(place.at), &mut fields)?;
        check_fields(place, &fields).map_err(io::Error::other)?;
        ChunkEntry::decode_fields(fields.freeze()).map_err(io::Error::other)
    }
}

pub(crate) fn status(state: &State, id: StreamId) -> Option<StreamStatus> {
    let stream = state.streams.get(&id)?;
    Some(StreamStatus {
        stream: id,
        name: stream.name.clone(),
        topic: stream.topic.clone(),
        incarnation: stream.incarnation,
        first: stream.first(),
        next: stream.next,
        hash: stream.hash,
        landed: stream.landed,
        landed_hash: stream.landed_hash,
        landed_life: stream.landed_life,
        gap_records: stream.gap_records,
        gap_records_landed: stream.gap_records_landed,
        gaps: stream.gaps.clone(),
        boundaries: stream.boundaries.len(),
        bytes: stream.living_bytes(),
        policy: stream.policy,
    })
}

/// The first place, and what follows it without a hole within `bytes_max`.
fn bounded(places: &[ChunkPlace], bytes_max: usize) -> Vec<ChunkPlace> {
    let (mut bytes, mut next) = (0, None);
    let fits = places.iter().enumerate().take_while(|(index, place)| {
        bytes += place.bytes as usize;
        let follows = next.is_none_or(|next| next == place.base_offset);
        next = Some(place.end());
        *index == 0 || (follows && bytes <= bytes_max)
    });
    fits.map(|(_, place)| *place).collect()
}

pub(crate) fn read_chunk(
    file: &OpenLogFile,
    stream: StreamId,
    place: &ChunkPlace,
) -> Result<Chunk, ReadError> {
    let mut body = BytesMut::zeroed(place.bytes as usize);
    file.file.read_at(u64::from(place.at), &mut body)?;
    check_chunk(stream, place, body.freeze()).map_err(|why| ReadError::Damaged {
        file: file.header.sequence,
        at: place.at,
        why,
    })
}

fn check_fields(place: &ChunkPlace, body: &[u8]) -> Result<(), String> {
    let fields = body.get(..CHUNK_FIELDS_BYTES).unwrap_or(body);
    match crc32c::crc32c(fields) == place.fields_crc {
        true => Ok(()),
        false => Err("the CRC of its fields is another".to_owned()),
    }
}

fn check_chunk(stream: StreamId, place: &ChunkPlace, body: Bytes) -> Result<Chunk, String> {
    check_fields(place, &body)?;
    let entry = ChunkEntry::decode(body).map_err(|error| error.to_string())?;
    let (base_offset, count) = (entry.base_offset, entry.count);
    if entry.stream != stream || (base_offset, count) != (place.base_offset, place.count) {
        return Err(format!(
            "stream {} at {} lies there",
            entry.stream, entry.base_offset
        ));
    }
    let batch = Batch::parse(entry.batch).map_err(|error| error.to_string())?;
    // What a batch's CRC does not cover: a cloud may rewrite it, here it is as it was sealed.
    let header = batch.header();
    if (header.base_offset as u64, header.leader_epoch) != (base_offset.0, 0) {
        return Err("its batch is not the one that was sealed".to_owned());
    }
    let batch = batch.bytes().clone();
    Ok(Chunk {
        stream,
        base_offset: entry.base_offset,
        count: entry.count,
        position: entry.position,
        marks: entry.marks,
        time_s: place.time_s,
        hash_before: entry.hash_before,
        hash_after: chunk::hash_after(entry.hash_before, &batch),
        batch,
    })
}
