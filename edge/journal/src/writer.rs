//! The log's writing end: appends frames to the active log file, and rolls to a spare one when it
//! is full.

use std::io;
use std::sync::Arc;

use tidegate_shared::id::StoreId;

use crate::frame::{self, FrameBuilder, FrameKind};
use crate::limits::LOG_FILE_HEADER_BYTES;
use crate::log_file::{FileTable, LogFileHeader, OpenLogFile, PLACE_FRAME_BYTES_MAX};
use crate::media;
use crate::pool::{Need, Pool, PoolError};
use crate::state::Tail;

#[derive(Debug)]
pub(crate) struct Writer {
    pub pool: Pool,
    store_id: StoreId,
    file_bytes: usize,
    pub active: Arc<OpenLogFile>,
    pub tail: Tail,
    pub next_file: u64,
    pub bytes_written: u64,
    pub syncs: u64,
}

impl Writer {
    /// Begins in a fresh file behind `tail`.
    pub(crate) fn begin(
        mut pool: Pool,
        store_id: StoreId,
        file_bytes: usize,
        mut tail: Tail,
        next_file: u64,
        rewritten: bool,
    ) -> Result<Self, PoolError> {
        let place = (store_id, file_bytes, next_file, rewritten);
        let active = start_file(&mut pool, &mut tail, Need::Freeing, place)?;
        let (bytes_written, syncs) = (LOG_FILE_HEADER_BYTES as u64, 0);
        let next_file = next_file + 1;
        Ok(Self {
            pool,
            store_id,
            file_bytes,
            active,
            tail,
            next_file,
            bytes_written,
            syncs,
        })
    }

    /// Whether a frame of `frame_bytes` with `chunks` must go to another file: this one must still
    /// hold its table afterwards.
    pub(crate) fn is_full_for(&self, table: &FileTable, frame_bytes: usize, chunks: usize) -> bool {
        let table_bytes =
            table.frame_bytes(self.file_bytes) + frame::aligned(chunks * PLACE_FRAME_BYTES_MAX);
        self.tail.at as usize + frame::aligned(frame_bytes) + table_bytes > self.file_bytes
    }

    /// Goes on in a spare file, and ends the one before with its table.
    pub(crate) fn roll(
        &mut self,
        table: &FileTable,
        need: Need,
        rewritten: bool,
    ) -> Result<(), PoolError> {
        let (full, at) = (Arc::clone(&self.active), self.tail.at);
        let place = (self.store_id, self.file_bytes, self.next_file, rewritten);
        self.active = start_file(&mut self.pool, &mut self.tail, need, place)?;
        self.next_file += 1;
        // No sync: the table can be made again by reading the file.
        let bytes = table.encode(self.store_id, full.header.sequence, self.tail.next_position);
        match full.file.write_at(u64::from(at), &bytes) {
            Err(error) if !media::is_full(&error) => return Err(error.into()),
            _ => {}
        }
        self.bytes_written += (LOG_FILE_HEADER_BYTES + bytes.len()) as u64;
        Ok(())
    }

    /// Appends a frame behind the tail. It is durable after [`Writer::sync`].
    pub(crate) fn append(&mut self, builder: FrameBuilder) -> io::Result<()> {
        let tail = self.tail;
        let kind = FrameKind::Commit;
        let (bytes, crc) =
            builder.finish(self.store_id, kind, tail.crc, tail.file, tail.next_position);
        self.active.file.write_at(u64::from(tail.at), &bytes)?;
        self.bytes_written += bytes.len() as u64;
        self.tail.at += bytes.len() as u32;
        self.tail.crc = crc;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        self.active.file.sync()
    }
}

/// Takes a spare file and gives it its header. Beyond openings the header is not synced: the first
/// frame's sync covers it.
fn start_file(
    pool: &mut Pool,
    tail: &mut Tail,
    need: Need,
    (store_id, bytes, sequence, rewritten): (StoreId, usize, u64, bool),
) -> Result<Arc<OpenLogFile>, PoolError> {
    let (slot, file) = pool.take(need)?;
    let (first_position, previous_crc) = (tail.next_position, tail.crc);
    let header = LogFileHeader {
        store_id,
        sequence,
        first_position,
        previous_crc,
        rewritten,
    };
    if let Err(error) = file.write_at(0, &header.encode()) {
        pool.give_back(slot, file);
        return Err(error.into());
    }
    if rewritten {
        // An opening that is cut short must leave its sequence behind with its frames: the next one
        // would use it again, and take those for its own.
        file.sync()?;
    }
    tail.file = sequence;
    tail.at = LOG_FILE_HEADER_BYTES as u32;
    Ok(Arc::new(OpenLogFile {
        slot,
        header,
        file,
        bytes,
    }))
}
