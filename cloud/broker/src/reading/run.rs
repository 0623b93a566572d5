//! A run of batches of one partition on its way out. What lies in the log's files is read a chunk at a time, as it is
//! sent, and checked then: so a response takes no memory for it, and what is sent is in the processor's cache still. A
//! batch that is not as it was written is an error, never an answer.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tidegate_shared::id::KafkaOffset;
use tidegate_shared::record::rewrite_in_place;

use super::{Place, StorageError, io_error, is_whole};

/// Bytes that are about to be sent. Its memory is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
}

/// Batches of one partition, with base offset and leader epoch as they are sent; all else is as the edge sealed it.
#[derive(Debug, Default)]
pub(crate) struct Run {
    batches: VecDeque<Batch>,
    leader_epoch: i32,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) base_offset: KafkaOffset,
    pub(super) bytes: usize,
    pub(super) lies: Lies,
}

/// Where a batch lies.
#[derive(Clone, Debug)]
pub(super) enum Lies {
    /// Checked already.
    InMemory(Bytes),
    InFile(Lying),
}

/// A batch in a file, which is there for as long as it is open, also where the log has let go of it or the segment is
/// replaced.
#[derive(Clone, Debug)]
pub(super) struct Lying {
    pub(super) file: Arc<File>,
    pub(super) place: Place,
    /// CRC-32C of all its bytes, where an index knows it; else the batch's own says whether it is whole.
    pub(super) crc: Option<u32>,
}

impl Lying {
    fn check(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let is_whole = match self.crc {
            Some(crc) => crc32c::crc32c(bytes) == crc,
            None => is_whole(bytes),
        };
        match is_whole {
            true => Ok(()),
            false => Err(StorageError::Damaged(self.place)),
        }
    }
}

impl Chunk {
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    pub(crate) fn put_zeros(&mut self, bytes: usize) {
        self.space(bytes).fill(0);
        self.filled += bytes;
    }

    /// Room behind what is filled.
    fn space(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.filled + bytes;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.filled..end]
    }

    fn into_bytes(mut self) -> Bytes {
        self.bytes.truncate(self.filled);
        self.bytes.into()
    }
}

impl Run {
    pub(super) fn new(batches: VecDeque<Batch>, leader_epoch: i32) -> Self {
        let bytes = batches.iter().map(|batch| batch.bytes).sum();
        Self {
            batches,
            leader_epoch,
            bytes,
        }
    }

    /// Bytes that are left.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The base offset of the first batch that is left.
    pub(crate) fn next(&self) -> Option<KafkaOffset> {
        self.batches.front().map(|batch| batch.base_offset)
    }

    /// Bytes of the first batch that is left.
    pub(crate) fn next_bytes(&self) -> usize {
        self.batches.front().map_or(0, |batch| batch.bytes)
    }

    /// Reads the first batch where it is no more than `ahead` bytes, which count down, or is suspect: so that it is known now
    /// whether it is as it was written.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub(super) async fn look_at_first(
        &mut self,
        ahead: &mut usize,
        is_suspect: impl Fn(Place) -> bool,
    ) -> Result<(), StorageError> {
        let Some(Batch { bytes, lies, .. }) = self.batches.front_mut() else {
            return Ok(());
        };
        let is_suspect = matches!(lies, Lies::InFile(lying) if is_suspect(lying.place));
        if *bytes > *ahead && !is_suspect {
            return Ok(());
        }
        let left = ahead.saturating_sub(*bytes);
        if let Lies::InFile(lying) = lies {
            let mut chunk = Chunk::default();
            fill(&mut chunk, *bytes, lying).await?;
            lying.check(chunk.space(*bytes))?;
            chunk.filled = *bytes;
            *lies = Lies::InMemory(chunk.into_bytes());
            *ahead = left;
        }
        Ok(())
    }

    /// Takes the next batches off, and puts them into `chunk`: as many as fit while it has no more than `bytes_max`, and
    /// one in any case where it has none.
    ///
    /// # Errors
    /// The first one that is left is not as it was written, or cannot be read. It is left.
    pub(crate) async fn read(
        &mut self,
        chunk: &mut Chunk,
        bytes_max: usize,
    ) -> Result<(), StorageError> {
        while let Some(batch) = self.batches.front() {
            if chunk.filled > 0 && chunk.filled + batch.bytes > bytes_max {
                return Ok(());
            }
            match &batch.lies {
                Lies::InMemory(bytes) => {
                    chunk.space(batch.bytes).copy_from_slice(bytes);
                    self.sent(chunk);
                }
                Lies::InFile(lying) => {
                    let lying = lying.clone();
                    self.read_file(chunk, bytes_max, &lying).await?;
                }
            }
        }
        Ok(())
    }

    /// What lies in one piece of a file is read at once.
    async fn read_file(
        &mut self,
        chunk: &mut Chunk,
        bytes_max: usize,
        first: &Lying,
    ) -> Result<(), StorageError> {
        let (mut bytes, mut count) = (0, 0);
        for batch in &self.batches {
            let end = first.place.plus(bytes);
            let goes_on = matches!(&batch.lies, Lies::InFile(next) if next.place == end);
            let fits = count == 0 || chunk.filled + bytes + batch.bytes <= bytes_max;
            if !goes_on || !fits {
                break;
            }
            (bytes, count) = (bytes + batch.bytes, count + 1);
        }
        fill(chunk, bytes, first).await?;
        for nth in 0..count {
            let Some(batch) = self.batches.front() else {
                break;
            };
            let Lies::InFile(lying) = &batch.lies else {
                break;
            };
            match lying.check(chunk.space(batch.bytes)) {
                Ok(()) => self.sent(chunk),
                Err(error) if nth == 0 => return Err(error),
                // What is whole goes first.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// The first batch has been put behind what `chunk` has.
    fn sent(&mut self, chunk: &mut Chunk) {
        let Some(batch) = self.batches.pop_front() else {
            return;
        };
        let space = chunk.space(batch.bytes);
        rewrite_in_place(space, batch.base_offset.0, self.leader_epoch);
        chunk.filled += batch.bytes;
        self.bytes -= batch.bytes;
    }

    /// What is left, at once, up to where it is not as it was written.
    ///
    /// # Errors
    /// That is the first batch.
    pub(crate) async fn read_all(mut self) -> Result<Bytes, StorageError> {
        let mut chunk = Chunk::default();
        chunk.bytes.reserve_exact(self.bytes);
        while !self.is_empty() {
            match self.read(&mut chunk, usize::MAX).await {
                Ok(()) => {}
                Err(error) if chunk.filled == 0 => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "a batch is left out, and those behind it");
                    break;
                }
            }
        }
        Ok(chunk.into_bytes())
    }
}

/// Puts bytes of a file behind what `chunk` has filled (they do not count as filled yet): at once what the page cache has,
/// and what it has not on a thread that may wait.
async fn fill(chunk: &mut Chunk, bytes: usize, lying: &Lying) -> Result<(), StorageError> {
    let Lying { file, place, .. } = lying;
    let error = io_error(*place, bytes);
    let read = match read_cached(file, chunk.space(bytes), place.position()) {
        Ok(read) if read == bytes => return Ok(()),
        Ok(read) => read,
        Err(cause) => return Err(error(cause)),
    };
    let (file, position) = (Arc::clone(file), place.position() + read as u64);
    let waiting = tokio::task::spawn_blocking(move || {
        let mut rest = vec![0; bytes - read];
        file.read_exact_at(&mut rest, position).map(|()| rest)
    });
    let rest = waiting.await.map_err(|_| StorageError::Gone)?;
    let rest = rest.map_err(error)?;
    chunk.space(bytes)[read..].copy_from_slice(&rest);
    Ok(())
}

/// As many bytes as can be had without waiting for the disk.
fn read_cached(file: &File, out: &mut [u8], position: u64) -> io::Result<usize> {
    let mut out = [IoSliceMut::new(out)];
    match preadv2(file, &mut out, position, ReadWriteFlags::NOWAIT) {
        Ok(read) => Ok(read),
        // Nothing is cached, or this file system cannot tell.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR | Errno::INVAL) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
