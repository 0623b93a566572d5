//! One log file: its header, its table, and reading frames out of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_shared::id::{EdgeOffset, Position, StoreId, StreamId};
use tidegate_shared::wire::Reader;

use crate::entry::Entry;
use crate::frame::{self, FrameError, FrameHeader, FrameKind};
use crate::limits::{FRAME_ALIGN_BYTES, LOG_FILE_HEADER_BYTES};
use crate::media::{LogFile, Slot};
use crate::state::Run;
use crate::topics::{TopicKeys, TopicSummary};

const MAGIC: &[u8; 8] = b"TIDELOG\0";
const LOG_FILE_VERSION: u32 = 1;
const HEADER_FIELDS_BYTES: usize = 53;

/// A log file's first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogFileHeader {
    pub store_id: StoreId,
    pub sequence: u64,
    pub first_position: Position,
    /// The CRC of the last frame in the file before: the chain goes on across files.
    pub previous_crc: u32,
    /// Made while opening, out of frames that also lie elsewhere. It counts only once a checkpoint
    /// names it.
    pub rewritten: bool,
}

impl LogFileHeader {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LOG_FILE_HEADER_BYTES);
        out.put_slice(MAGIC);
        out.put_u32_le(LOG_FILE_VERSION);
        out.put_u128_le(self.store_id.0);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.first_position.0);
        out.put_u32_le(self.previous_crc);
        out.put_u8(u8::from(self.rewritten));
        out.put_u32_le(crc32c::crc32c(&out));
        out.put_bytes(0, LOG_FILE_HEADER_BYTES - out.len());
        out.freeze()
    }

    /// `None` where there is no good header: a fresh or half-recycled file.
    pub(crate) fn decode(block: Bytes) -> Option<Self> {
        let crc = crc32c::crc32c(block.get(..HEADER_FIELDS_BYTES - 4)?);
        let mut reader = Reader::new(block);
        let magic = reader.take("magic", MAGIC.len()).ok()?;
        let version = reader.u32("version").ok()?;
        let header = Self {
            store_id: StoreId(reader.u128("store id").ok()?),
            sequence: reader.u64("sequence").ok()?,
            first_position: Position(reader.u64("first position").ok()?),
            previous_crc: reader.u32("previous crc").ok()?,
            rewritten: reader.u8("rewritten").ok()? != 0,
        };
        let good =
            &magic[..] == MAGIC && version == LOG_FILE_VERSION && reader.u32("crc").ok()? == crc;
        good.then_some(header)
    }
}

/// Where a chunk lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub base_offset: EdgeOffset,
    pub count: u32,
    /// Where the entry's body begins in the file, and its length.
    pub at: u32,
    pub bytes: u32,
    /// The position of its first message.
    pub position: Position,
    /// Which topics may be in it; see [`crate::topics`].
    pub topics: u64,
    /// When it was made, in seconds of the journal's clock.
    pub time_s: u32,
    /// CRC-32C of the entry's fields; the batch behind them has its own.
    pub fields_crc: u32,
}

impl ChunkPlace {
    /// The offset after the chunk.
    pub(crate) fn end(&self) -> EdgeOffset {
        self.base_offset.plus(u64::from(self.count))
    }
}

/// All chunks of one file, by stream, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileTable {
    pub streams: BTreeMap<StreamId, Vec<ChunkPlace>>,
    pub summary: TopicSummary,
    chunks: usize,
}

impl FileTable {
    pub(crate) fn push(&mut self, stream: StreamId, place: ChunkPlace) {
        let places = self.streams.entry(stream).or_default();
        // In order as they are written, but for copies of older chunks.
        let at = places.partition_point(|other| other.base_offset < place.base_offset);
        match places.get_mut(at) {
            Some(other) if other.base_offset == place.base_offset => *other = place,
            _ => {
                places.insert(at, place);
                self.chunks += 1;
            }
        }
    }

    /// Chunks in the order of their positions, from `first` on: what is older are copies.
    pub(crate) fn by_position(&self, first: Position) -> Vec<(StreamId, ChunkPlace)> {
        let streams = self.streams.iter();
        let mut places: Vec<_> = streams
            .flat_map(|(stream, places)| places.iter().map(|place| (*stream, *place)))
            .filter(|(_, place)| place.position >= first)
            .collect();
        places.sort_unstable_by_key(|(_, place)| place.position);
        places
    }

    /// Bytes that the table takes at the end of its file, at most.
    pub(crate) fn frame_bytes(&self, file_bytes: usize) -> usize {
        let entries = self.streams.len() * (frame::ENTRY_HEADER_BYTES + 4);
        let summary = frame::ENTRY_HEADER_BYTES + TopicSummary::encoded_bytes(file_bytes);
        frame::aligned(frame::FRAME_HEADER_BYTES + summary + entries + self.chunks * PLACE_BYTES)
    }

    /// What a table of so many chunks takes at the most.
    pub(crate) fn frame_bytes_max(file_bytes: usize, chunks: usize) -> usize {
        let table = Self::default().frame_bytes(file_bytes);
        table + frame::aligned(chunks * PLACE_FRAME_BYTES_MAX)
    }

    /// Places of the chunks of one run: a file can have another one of the stream.
    pub(crate) fn places_within(&self, stream: StreamId, run: &Run) -> &[ChunkPlace] {
        let Some(places) = self.streams.get(&stream) else {
            return &[];
        };
        let first = places.partition_point(|place| place.end() <= run.first);
        let end = places.partition_point(|place| place.base_offset < run.next);
        &places[first.min(end)..end]
    }

    fn encode_stream(stream: StreamId, places: &[ChunkPlace]) -> BytesMut {
        let mut out = BytesMut::with_capacity(4 + places.len() * PLACE_BYTES);
        out.put_u32_le(stream.0);
        for place in places {
            out.put_u64_le(place.base_offset.0);
            out.put_u32_le(place.count);
            out.put_u32_le(place.at);
            out.put_u32_le(place.bytes);
            out.put_u64_le(place.position.0);
            out.put_u64_le(place.topics);
            out.put_u32_le(place.time_s);
            out.put_u32_le(place.fields_crc);
        }
        out
    }

    /// The table as the frame that ends its file.
    pub(crate) fn encode(&self, store_id: StoreId, sequence: u64, next: Position) -> Bytes {
        let mut builder = frame::FrameBuilder::new(self.chunks * PLACE_BYTES);
        for (stream, places) in &self.streams {
            builder.push(TABLE_TAG, &[&Self::encode_stream(*stream, places)]);
        }
        builder.push(SUMMARY_TAG, &self.summary.encode());
        builder
            .finish(store_id, FrameKind::Table, 0, sequence, next)
            .0
    }

    fn decode(entries: Vec<frame::RawEntry>) -> Result<Self, FrameError> {
        let mut table = Self::default();
        for entry in entries {
            if entry.tag == SUMMARY_TAG {
                let summary = TopicSummary::decode(&entry.body);
                table.summary = summary.ok_or(FrameError::NoFrame)?;
                continue;
            }
            // Another tag's places have another shape: the file itself is read instead.
            if entry.tag != TABLE_TAG {
                return Err(FrameError::NoFrame);
            }
            let mut reader = Reader::new(entry.body);
            let stream = StreamId(reader.u32("stream")?);
            while !reader.is_empty() {
                let place = ChunkPlace {
                    base_offset: EdgeOffset(reader.u64("base offset")?),
                    count: reader.u32("count")?,
                    at: reader.u32("place")?,
                    bytes: reader.u32("bytes")?,
                    position: Position(reader.u64("position")?),
                    topics: reader.u64("topics")?,
                    time_s: reader.u32("time")?,
                    fields_crc: reader.u32("crc")?,
                };
                table.push(stream, place);
            }
        }
        Ok(table)
    }
}

/// One stream's places. 1 and 2 were never released.
const TABLE_TAG: u8 = 3;
const SUMMARY_TAG: u8 = 4;
const PLACE_BYTES: usize = 44;
/// What a chunk adds to a table, where it is its stream's first.
pub(crate) const PLACE_FRAME_BYTES_MAX: usize = PLACE_BYTES + frame::ENTRY_HEADER_BYTES + 4;

/// An open log file. Readers hold it as their lease: it is not recycled while one does.
#[derive(Debug)]
pub(crate) struct OpenLogFile {
    pub slot: Slot,
    pub header: LogFileHeader,
    pub file: Arc<dyn LogFile>,
    pub bytes: usize,
}

impl OpenLogFile {
    /// The frame at `at`, whole but unchecked, if one of this file begins there.
    pub(crate) fn read_frame(
        &self,
        at: usize,
    ) -> io::Result<Result<(FrameHeader, Bytes), FrameError>> {
        if at + FRAME_ALIGN_BYTES > self.bytes {
            return Ok(Err(FrameError::NoFrame));
        }
        let mut block = BytesMut::zeroed(FRAME_ALIGN_BYTES);
        self.file.read_at(at as u64, &mut block)?;
        let header = match frame::parse_header(Bytes::copy_from_slice(&block)) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        if header.file_sequence != self.header.sequence || at + header.bytes > self.bytes {
            return Ok(Err(FrameError::NoFrame));
        }
        if header.bytes > block.len() {
            block.resize(header.bytes, 0);
            let rest = &mut block[FRAME_ALIGN_BYTES..];
            self.file.read_at((at + FRAME_ALIGN_BYTES) as u64, rest)?;
        }
        Ok(Ok((header, block.freeze())))
    }

    /// The chunks in the frames before `end`: from the table that lies there, else by reading the
    /// file.
    pub(crate) fn load_table(&self, end: usize) -> io::Result<FileTable> {
        if let Ok((header, bytes)) = self.read_frame(end)?
            && header.kind == FrameKind::Table
            && let Ok(entries) = frame::parse(self.header.store_id, &bytes)
            && let Ok(table) = FileTable::decode(entries)
        {
            return Ok(table);
        }
        self.scan_table(end)
    }

    /// As [`OpenLogFile::load_table`], by reading every frame. Blocks in which no good frame begins
    /// are passed over: what lies there is missing in the table.
    pub(crate) fn scan_table(&self, end: usize) -> io::Result<FileTable> {
        let mut table = FileTable::default();
        let (mut at, mut time_s) = (LOG_FILE_HEADER_BYTES, 0);
        while at < end {
            let Some((header, entries)) = self.good_frame(at)? else {
                at += FRAME_ALIGN_BYTES;
                continue;
            };
            for raw in entries {
                let body_at = at + raw.body_at;
                match Entry::decode(&raw) {
                    Ok(Entry::Clock { time, .. }) => time_s = time.seconds(),
                    Ok(Entry::Chunk(chunk)) => {
                        let keys = TopicKeys::of_batch(&chunk.batch);
                        table.summary.add(&keys, body_at, self.bytes);
                        table.push(chunk.stream, chunk.place(body_at, raw.body.len(), time_s));
                    }
                    Ok(Entry::Copied(copied)) => {
                        table.push(copied.chunk.stream, copied.place(body_at));
                    }
                    _ => {}
                }
            }
            at += frame::aligned(header.bytes);
        }
        Ok(table)
    }

    /// The commit that begins at `at`, if a good one does.
    pub(crate) fn good_frame(
        &self,
        at: usize,
    ) -> io::Result<Option<(FrameHeader, Vec<frame::RawEntry>)>> {
        let Ok((header, bytes)) = self.read_frame(at)? else {
            return Ok(None);
        };
        let entries = frame::parse(self.header.store_id, &bytes).ok();
        let entries = entries.filter(|_| header.kind == FrameKind::Commit);
        Ok(entries.map(|entries| (header, entries)))
    }

    /// Whether what looks like a frame of this file begins at `at`.
    pub(crate) fn has_frame_header(&self, at: usize) -> io::Result<bool> {
        let mut block = BytesMut::zeroed(FRAME_ALIGN_BYTES);
        self.file.read_at(at as u64, &mut block)?;
        let header = frame::parse_header(block.freeze());
        Ok(header.is_ok_and(|header| header.file_sequence == self.header.sequence))
    }

    /// Where the next good commit of this file begins, from `at` on: then what ended the replay
    /// before it is damage, and not the tail.
    pub(crate) fn next_good_frame(&self, at: usize) -> io::Result<Option<usize>> {
        for at in (at..self.bytes).step_by(FRAME_ALIGN_BYTES) {
            if self.good_frame(at)?.is_some() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_round_trips_and_damage_is_seen() {
        let header = LogFileHeader {
            store_id: StoreId(1 << 100),
            sequence: 12,
            first_position: Position(99),
            previous_crc: 0xdead_beef,
            rewritten: true,
        };
        let block = header.encode();
        assert_eq!(block.len(), LOG_FILE_HEADER_BYTES);
        assert_eq!(LogFileHeader::decode(block.clone()), Some(header));
        for at in 0..HEADER_FIELDS_BYTES {
            let mut bad = BytesMut::from(&block[..]);
            bad[at] ^= 1;
            assert_eq!(LogFileHeader::decode(bad.freeze()), None, "byte {at}");
        }
    }

    #[test]
    fn the_table_round_trips_within_its_bound() {
        let mut table = FileTable::default();
        for index in 0..1000_u32 {
            let base_offset = EdgeOffset(u64::from(index) * 3);
            let place = ChunkPlace {
                base_offset,
                count: 3,
                at: index,
                bytes: 9,
                position: Position(u64::from(index)),
                topics: 1,
                time_s: 5,
                fields_crc: 6,
            };
            table.push(StreamId(index % 7), place);
        }
        let bytes = table.encode(StoreId(5), 1, Position(0));
        assert!(bytes.len() <= table.frame_bytes(8 << 20));
        let entries = frame::parse(StoreId(5), &bytes).unwrap();
        assert_eq!(FileTable::decode(entries), Ok(table.clone()));
        let run = Run {
            first: EdgeOffset(22),
            next: EdgeOffset(64),
            ..Run::default()
        };
        let places = table.places_within(StreamId(0), &run);
        assert_eq!(places.len(), 3);
        assert_eq!(places[0].base_offset, EdgeOffset(21));
    }
}
