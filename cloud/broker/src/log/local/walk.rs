//! Reading the log's frames in their order, each checked against the one before it. Nothing is changed here:
//! what is to become of a torn tail decides whoever opens the log ([`super::recovery`]) or copies it
//! ([`super::copy`]).

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::{Bytes, BytesMut};

use super::file::{self, FileHeader};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, MAGIC};
use super::{Appended, LogEnd, LogError};

const READ_BUFFER_BYTES: usize = 1 << 20;

pub(super) const NOT_OF_SNAPSHOT: &str = "it is not the log of which the newest snapshot was made";

/// Where the chain of frames stands.
pub(super) struct Chain {
    pub(super) store_id: u128,
    pub(super) next_frame: u64,
    pub(super) previous_crc: u32,
    /// Frames before the snapshot's end are not handed out.
    pub(super) after: Option<LogEnd>,
    /// No frame from this one on is read.
    pub(super) until: Option<u64>,
}

impl Chain {
    pub(super) fn new(store_id: u128, after: Option<LogEnd>, until: Option<u64>) -> Self {
        Self {
            store_id: after.map_or(store_id, |end| end.store_id),
            next_frame: 0,
            previous_crc: 0,
            after,
            until,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.until == Some(self.next_frame)
    }

    fn is_behind_snapshot(&self) -> bool {
        self.after
            .is_none_or(|end| self.next_frame >= end.next_frame)
    }

    /// Whether the log is another one than that of which the snapshot was made.
    pub(super) fn differs_from_snapshot(&self) -> bool {
        self.after.is_some_and(|end| {
            self.next_frame == end.next_frame && self.previous_crc != end.previous_crc
        })
    }

    /// Goes on in a file, whose header must follow what came before; in the first file the chain begins.
    pub(super) fn enter(
        &mut self,
        directory: &Path,
        sequence: u64,
        header: &FileHeader,
        first: bool,
    ) -> Result<(), LogError> {
        let path = file::path(directory, sequence);
        if first && self.after.is_none() {
            self.store_id = header.store_id;
        }
        check_store(&path, header, self.store_id)?;
        if first && let Some(end) = self.after {
            if header.first_frame > end.next_frame {
                return Err(LogError::Missing {
                    path: file::path(directory, sequence.saturating_sub(1)),
                    before: sequence.saturating_sub(2),
                    after: sequence,
                });
            }
            // What came before it is in the snapshot.
            self.next_frame = header.first_frame;
            self.previous_crc = header.previous_crc;
        }
        let expected = FileHeader {
            store_id: self.store_id,
            sequence,
            first_frame: self.next_frame,
            previous_crc: self.previous_crc,
        };
        match *header == expected {
            true => Ok(()),
            false => Err(damaged(&path, 0, "it does not follow the file before it")),
        }
    }
}

/// How far a file was walked.
pub(super) struct Walked {
    /// Where the last frame begins; where no frame is, as [`Self::end`].
    pub(super) last_frame: u64,
    /// Where the next one goes.
    pub(super) end: u64,
}

/// Hands out all frames of a file that lie behind the snapshot. In the log's last file the frames may end
/// before the file does: in a write that was cut short, with nothing valid behind it.
pub(super) fn walk_file<E: From<LogError>>(
    path: &Path,
    sequence: u64,
    file: &File,
    chain: &mut Chain,
    last: bool,
    replay: &mut impl FnMut(Appended, Bytes) -> Result<(), E>,
) -> Result<Walked, E> {
    let length = length_of(file, path)?;
    let mut input = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let mut position = file::HEADER_BYTES;
    let mut last_frame = position;
    input
        .seek(SeekFrom::Start(position))
        .map_err(LogError::io("cannot seek in", path))?;
    while position < length && !chain.is_at_end() {
        let found = next_frame(&mut input, length - position, chain, last)
            .map_err(LogError::io("cannot read", path))?;
        let Some((header, crc, command)) = found else {
            if !last || valid_frame_behind(file, path, position, length, chain)? {
                return Err(damaged(path, position, "a frame is not valid").into());
            }
            break;
        };
        let appended = Appended {
            object: sequence,
            attachments_position: position + header.attachments_offset(),
            frame_bytes: header.frame_bytes(),
        };
        if chain.differs_from_snapshot() {
            return Err(damaged(path, position, NOT_OF_SNAPSHOT).into());
        }
        if chain.is_behind_snapshot() {
            replay(appended, command)?;
        }
        last_frame = position;
        position += header.frame_bytes();
        chain.next_frame += 1;
        chain.previous_crc = crc;
    }
    Ok(Walked {
        last_frame,
        end: position,
    })
}

/// Reads the frame that must come next; `None` where it does not. Attachments are checked in the
/// last file only: in the others they were synced before the next file was begun, and each batch's
/// own CRC is checked when it is read.
fn next_frame(
    input: &mut BufReader<&File>,
    left: u64,
    chain: &Chain,
    check_attachments: bool,
) -> std::io::Result<Option<(FrameHeader, u32, Bytes)>> {
    if left < FRAME_HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; FRAME_HEADER_BYTES];
    input.read_exact(&mut bytes)?;
    let Some((header, crc)) = FrameHeader::decode(&bytes) else {
        return Ok(None);
    };
    let follows = header.number == chain.next_frame && header.previous_crc == chain.previous_crc;
    if !follows || header.frame_bytes() > left {
        return Ok(None);
    }
    let mut command = BytesMut::zeroed(header.command_bytes as usize);
    input.read_exact(&mut command)?;
    if header.crc(chain.store_id, &command) != crc {
        return Ok(None);
    }
    if !check_attachments {
        input.seek_relative(i64::from(header.attachment_bytes))?;
    } else if attachment_crc(input, header.attachment_bytes as usize)? != header.attachment_crc {
        return Ok(None);
    }
    Ok(Some((header, crc, command.freeze())))
}

fn attachment_crc(input: &mut BufReader<&File>, mut left: usize) -> std::io::Result<u32> {
    let mut buffer = vec![0; left.min(READ_BUFFER_BYTES)];
    let mut crc = 0;
    while left > 0 {
        let part = left.min(READ_BUFFER_BYTES);
        input.read_exact(&mut buffer[..part])?;
        crc = crc32c::crc32c_append(crc, &buffer[..part]);
        left -= part;
    }
    Ok(crc)
}

/// Whether anything behind a bad frame is a frame of this store that was written later.
fn valid_frame_behind(
    file: &File,
    path: &Path,
    position: u64,
    length: u64,
    chain: &Chain,
) -> Result<bool, LogError> {
    let mut rest = vec![0; (length - position) as usize];
    file.read_exact_at(&mut rest, position)
        .map_err(LogError::io("cannot read", path))?;
    let magic = MAGIC.to_le_bytes();
    let starts = (1..rest.len()).filter(|at| rest[*at..].starts_with(&magic));
    Ok(starts.into_iter().any(|at| is_frame(&rest[at..], chain)))
}

fn is_frame(bytes: &[u8], chain: &Chain) -> bool {
    let Some((header, crc)) = FrameHeader::decode(bytes) else {
        return false;
    };
    let command = bytes[FRAME_HEADER_BYTES..].get(..header.command_bytes as usize);
    let valid = command.is_some_and(|command| header.crc(chain.store_id, command) == crc);
    valid && header.number > chain.next_frame
}

pub(super) fn check_store(
    path: &Path,
    header: &FileHeader,
    expected: u128,
) -> Result<(), LogError> {
    match header.store_id == expected {
        true => Ok(()),
        false => Err(LogError::ForeignStore {
            path: path.to_owned(),
            found: header.store_id,
            expected,
        }),
    }
}

pub(super) fn length_of(file: &File, path: &Path) -> Result<u64, LogError> {
    let metadata = file.metadata();
    Ok(metadata.map_err(LogError::io("cannot stat", path))?.len())
}

pub(super) fn damaged(path: &Path, position: u64, reason: &'static str) -> LogError {
    LogError::Damaged {
        path: path.to_owned(),
        position,
        reason,
    }
}
