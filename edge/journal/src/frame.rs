//! The bytes of a commit: a frame of entries, aligned, with length, CRC, position and the previous
//! frame's CRC, so that a torn frame, an old frame in a recycled file or a frame of another store is
//! told from a good one.
//!
//! ```text
//! magic u16 | version u8 | kind u8 | bytes u32 | crc u32 | previous crc u32
//! | file sequence u64 | next position u64 | entries u32 | entry*
//! entry: tag u8 | bytes u32 | body
//! ```
//! All integers little-endian. The CRC-32C is seeded with the store id and covers what follows it.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::id::{Position, StoreId};
use tidegate_shared::wire::{Reader, WireError};

use crate::limits::FRAME_ALIGN_BYTES;

const MAGIC: u16 = 0x6754; // "Tg"
/// The version that this build writes.
pub(crate) const FRAME_VERSION: u8 = 1;
pub(crate) const FRAME_HEADER_BYTES: usize = 36;
/// An entry's tag and length.
pub(crate) const ENTRY_HEADER_BYTES: usize = 5;
const CRC_AT: usize = 8;
const CRC_COVERS_FROM: usize = 12;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    Commit = 1,
    /// The table at the end of a full file. It stands outside the chain: it can be made again.
    Table = 2,
}

/// A frame's fixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub kind: FrameKind,
    pub bytes: usize,
    pub crc: u32,
    pub previous_crc: u32,
    pub file_sequence: u64,
    /// The position that follows this frame's messages.
    pub next_position: Position,
    pub entries: u32,
}

/// Why there is no good frame here. At the end of the log this is the tail, and no error.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("no frame begins here")]
    NoFrame,
    #[error("the frame's CRC is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("the frame has version {0}, this build reads {FRAME_VERSION}")]
    Version(u8),
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The CRC's starting value: frames of another store do not match.
pub(crate) fn seed(store_id: StoreId) -> u32 {
    crc32c::crc32c(&store_id.0.to_le_bytes())
}

/// How long a frame of `bytes` is on the medium.
pub(crate) fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(FRAME_ALIGN_BYTES)
}

/// Builds one frame.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    out: BytesMut,
    entries: u32,
}

impl FrameBuilder {
    pub(crate) fn new(bytes_expected: usize) -> Self {
        let mut out = BytesMut::with_capacity(aligned(FRAME_HEADER_BYTES + bytes_expected));
        out.put_bytes(0, FRAME_HEADER_BYTES);
        Self { out, entries: 0 }
    }

    /// Appends an entry; returns where its body begins in the frame.
    pub(crate) fn push(&mut self, tag: u8, body: &[&[u8]]) -> usize {
        let bytes: usize = body.iter().map(|part| part.len()).sum();
        self.out.put_u8(tag);
        self.out.put_u32_le(bytes as u32);
        let body_at = self.out.len();
        for part in body {
            self.out.put_slice(part);
        }
        self.entries += 1;
        body_at
    }

    /// Fills in the header and pads to whole blocks. Returns the frame and its CRC.
    pub(crate) fn finish(
        mut self,
        store_id: StoreId,
        kind: FrameKind,
        previous_crc: u32,
        file_sequence: u64,
        next_position: Position,
    ) -> (Bytes, u32) {
        let bytes = self.out.len();
        let mut header = &mut self.out[..FRAME_HEADER_BYTES];
        header.put_u16_le(MAGIC);
        header.put_u8(FRAME_VERSION);
        header.put_u8(kind as u8);
        header.put_u32_le(bytes as u32);
        header.put_u32_le(0);
        header.put_u32_le(previous_crc);
        header.put_u64_le(file_sequence);
        header.put_u64_le(next_position.0);
        header.put_u32_le(self.entries);
        let crc = crc32c::crc32c_append(seed(store_id), &self.out[CRC_COVERS_FROM..bytes]);
        self.out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        self.out.put_bytes(0, aligned(bytes) - bytes);
        (self.out.freeze(), crc)
    }
}

/// Reads the fixed fields off the front of `bytes`; says nothing yet about the CRC.
pub(crate) fn parse_header(bytes: Bytes) -> Result<FrameHeader, FrameError> {
    let mut reader = Reader::new(bytes);
    if reader.u16("frame magic")? != MAGIC {
        return Err(FrameError::NoFrame);
    }
    let version = reader.u8("frame version")?;
    let kind = reader.u8("frame kind")?;
    let header = FrameHeader {
        kind: match kind {
            1 => FrameKind::Commit,
            2 => FrameKind::Table,
            _ => return Err(FrameError::NoFrame),
        },
        bytes: reader.u32("frame length")? as usize,
        crc: reader.u32("frame crc")?,
        previous_crc: reader.u32("previous crc")?,
        file_sequence: reader.u64("file sequence")?,
        next_position: Position(reader.u64("position")?),
        entries: reader.u32("entries")?,
    };
    if header.bytes < FRAME_HEADER_BYTES {
        return Err(FrameError::NoFrame);
    }
    if version != FRAME_VERSION {
        return Err(FrameError::Version(version));
    }
    Ok(header)
}

/// One entry, and where its body begins in its frame.
#[derive(Clone, Debug)]
pub(crate) struct RawEntry {
    pub tag: u8,
    pub body: Bytes,
    pub body_at: usize,
}

/// Checks a whole frame's CRC and takes it apart.
pub(crate) fn parse(store_id: StoreId, frame: &Bytes) -> Result<Vec<RawEntry>, FrameError> {
    let header = parse_header(frame.clone())?;
    if frame.len() < header.bytes {
        return Err(FrameError::NoFrame);
    }
    let computed = crc32c::crc32c_append(seed(store_id), &frame[CRC_COVERS_FROM..header.bytes]);
    if computed != header.crc {
        return Err(FrameError::Crc {
            stored: header.crc,
            computed,
        });
    }
    let mut reader = Reader::new(frame.slice(FRAME_HEADER_BYTES..header.bytes));
    let mut entries = Vec::with_capacity(header.entries.min(4096) as usize);
    for _ in 0..header.entries {
        let tag = reader.u8("entry tag")?;
        let bytes = reader.u32("entry length")? as usize;
        let body_at = header.bytes - reader.rest().len();
        entries.push(RawEntry {
            tag,
            body: reader.take("entry body", bytes)?,
            body_at,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(7);

    fn frame() -> Bytes {
        let mut builder = FrameBuilder::new(64);
        builder.push(1, &[b"he", b"llo"]);
        builder.push(2, &[b""]);
        builder
            .finish(STORE, FrameKind::Commit, 5, 9, Position(44))
            .0
    }

    #[test]
    fn a_frame_round_trips() {
        let frame = frame();
        assert_eq!(frame.len(), FRAME_ALIGN_BYTES);
        let header = parse_header(frame.clone()).unwrap();
        assert_eq!((header.previous_crc, header.file_sequence), (5, 9));
        assert_eq!(header.next_position, Position(44));
        let entries = parse(STORE, &frame).unwrap();
        assert_eq!(&entries[0].body[..], b"hello");
        assert_eq!(&frame[entries[0].body_at..][..5], b"hello");
        assert_eq!((entries[1].tag, entries[1].body.len()), (2, 0));
    }

    #[test]
    fn a_frame_of_another_store_is_refused() {
        assert!(matches!(
            parse(StoreId(8), &frame()),
            Err(FrameError::Crc { .. })
        ));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = frame();
        let bytes = parse_header(good.clone()).unwrap().bytes;
        for at in 0..bytes * 8 {
            let mut bad = BytesMut::from(&good[..]);
            bad[at / 8] ^= 1 << (at % 8);
            assert!(parse(STORE, &bad.freeze()).is_err(), "bit {at}");
        }
    }
}
