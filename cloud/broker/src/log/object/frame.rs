//! The objects of the log: a frame holds one command with the batches that it names; a fence ends what one writer
//! may add, and says where the next goes on. Each holds the CRC of the one before it in the log's order. A fence is
//! nothing but a header, and known by its length: no frame is so short.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::chain::Position;

/// The header's length.
pub(super) const HEADER_BYTES: usize = 80;

/// A fence's.
pub(super) const FENCE_BYTES: u64 = HEADER_BYTES as u64;

const CRC_AT: usize = HEADER_BYTES - 4;

const MAGIC: u64 = u64::from_le_bytes(*b"TGCLDOBJ");
const FORMAT_VERSION: u32 = 1;

const KIND_FRAME: u32 = 1;
const KIND_FENCE: u32 = 2;

/// Fields, in the order in which they lie: magic, format version, kind, store id, writer, number, known, previous
/// CRC, command bytes, attachment bytes, CRC of all before and of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    kind: u32,
    pub(super) store_id: u128,
    /// The start of a broker that wrote it.
    pub(super) writer: u128,
    pub(super) at: Position,
    /// Of a frame: all objects of the log before this number were durable when it was written. Of a fence: the number
    /// of the next object; those between are void.
    known: u64,
    pub(super) command_bytes: u32,
    pub(super) attachment_bytes: u32,
}

/// What an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Command(Bytes),
    /// The end of what earlier writers may add.
    Fence {
        /// The number of the next object; those between are void.
        next: u64,
    },
}

/// Why bytes are no object of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    Damaged(&'static str),
    UnknownFormat(u32),
}

impl Header {
    pub(super) fn frame(
        (store_id, writer): (u128, u128),
        at: Position,
        durable: u64,
        command: &[u8],
        attachments: &[Bytes],
    ) -> Self {
        let attachment_bytes: usize = attachments.iter().map(Bytes::len).sum();
        Self {
            kind: KIND_FRAME,
            store_id,
            writer,
            at,
            known: durable,
            command_bytes: u32::try_from(command.len()).expect("a tick is bounded"),
            attachment_bytes: u32::try_from(attachment_bytes).expect("a tick is bounded"),
        }
    }

    /// A fence behind which the log goes on at `next`.
    pub(super) fn fence((store_id, writer): (u128, u128), at: Position, next: u64) -> Self {
        Self {
            kind: KIND_FENCE,
            store_id,
            writer,
            at,
            known: next,
            command_bytes: 0,
            attachment_bytes: 0,
        }
    }

    /// Of a frame: all objects before this number were durable when it was written.
    pub(super) fn durable(&self) -> Option<u64> {
        (self.kind == KIND_FRAME).then_some(self.known)
    }

    pub(super) fn object_bytes(&self) -> u64 {
        self.attachments_position() + u64::from(self.attachment_bytes)
    }

    /// Where the attachments begin, from the object's start.
    pub(super) fn attachments_position(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.command_bytes)
    }

    /// The object's bytes, and its CRC.
    pub(super) fn encode(&self, command: &[u8], attachments: &[Bytes]) -> (Bytes, u32) {
        let mut out = BytesMut::with_capacity(self.object_bytes() as usize);
        out.put_u64_le(MAGIC);
        out.put_u32_le(FORMAT_VERSION);
        out.put_u32_le(self.kind);
        out.put_u128_le(self.store_id);
        out.put_u128_le(self.writer);
        out.put_u64_le(self.at.number);
        out.put_u64_le(self.known);
        out.put_u32_le(self.at.previous_crc);
        out.put_u32_le(self.command_bytes);
        out.put_u32_le(self.attachment_bytes);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out), command);
        out.put_u32_le(crc);
        out.put_slice(command);
        for attachment in attachments {
            out.put_slice(attachment);
        }
        (out.freeze(), crc)
    }

    /// The header in an object's first bytes, and the CRC that it claims.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<(Self, u32), FrameError> {
        if bytes.len() < HEADER_BYTES {
            return Err(FrameError::Damaged("it is shorter than a header"));
        }
        if bytes.get_u64_le() != MAGIC {
            return Err(FrameError::Damaged("it does not begin as one"));
        }
        let found = bytes.get_u32_le();
        if found != FORMAT_VERSION {
            return Err(FrameError::UnknownFormat(found));
        }
        let kind = bytes.get_u32_le();
        let (store_id, writer) = (bytes.get_u128_le(), bytes.get_u128_le());
        let (number, known) = (bytes.get_u64_le(), bytes.get_u64_le());
        let at = Position {
            number,
            previous_crc: bytes.get_u32_le(),
        };
        let header = Self {
            kind,
            store_id,
            writer,
            at,
            known,
            command_bytes: bytes.get_u32_le(),
            attachment_bytes: bytes.get_u32_le(),
        };
        Ok((header, bytes.get_u32_le()))
    }

    /// What the object says; `bytes` reach from its start to its command's end or further.
    pub(super) fn content(&self, crc: u32, bytes: &Bytes) -> Result<Content, FrameError> {
        let command = HEADER_BYTES..HEADER_BYTES + self.command_bytes as usize;
        if bytes.len() < command.end {
            return Err(FrameError::Damaged("its command is cut short"));
        }
        let command = bytes.slice(command);
        let covered = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_AT]), &command);
        if covered != crc {
            return Err(FrameError::Damaged("its CRC does not match its bytes"));
        }
        match self.kind {
            KIND_FRAME if !command.is_empty() => Ok(Content::Command(command)),
            KIND_FENCE if self.object_bytes() != FENCE_BYTES => {
                Err(FrameError::Damaged("it is longer than a fence"))
            }
            KIND_FENCE if self.known <= self.at.number => {
                Err(FrameError::Damaged("its fence leads back"))
            }
            KIND_FENCE => Ok(Content::Fence { next: self.known }),
            _ => Err(FrameError::Damaged("it is of no known kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position {
        number: 9,
        previous_crc: 4,
    };

    #[test]
    fn a_frame_and_a_fence_say_what_was_put_in() {
        let attachments = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let header = Header::frame((1, 2), AT, 7, b"command", &attachments);
        let (bytes, crc) = header.encode(b"command", &attachments);
        assert_eq!(bytes.len() as u64, header.object_bytes());
        assert_eq!(&bytes[header.attachments_position() as usize..], b"onetwo");
        assert_eq!(Header::decode(&bytes), Ok((header, crc)));
        let command = Content::Command(Bytes::from_static(b"command"));
        assert_eq!(header.content(crc, &bytes), Ok(command));

        let fence = Header::fence((1, 2), AT, 25);
        let (bytes, crc) = fence.encode(&[], &[]);
        assert_eq!(bytes.len() as u64, FENCE_BYTES);
        assert_eq!(Header::decode(&bytes), Ok((fence, crc)));
        let content = Content::Fence { next: 25 };
        assert_eq!(fence.content(crc, &bytes), Ok(content));
        assert_eq!((header.durable(), fence.durable()), (Some(7), None));
    }

    #[test]
    fn damage_at_any_byte_or_length_is_found() {
        for (bytes, _) in [
            Header::frame((1, 2), AT, 7, b"command", &[]).encode(b"command", &[]),
            Header::fence((1, 2), AT, 25).encode(&[], &[]),
        ] {
            let read = |bytes: &[u8]| {
                let (header, crc) = Header::decode(bytes)?;
                header.content(crc, &Bytes::copy_from_slice(bytes))
            };
            assert!(read(&bytes).is_ok());
            for at in 0..bytes.len() {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1;
                assert!(read(&flipped).is_err(), "flipped at {at}");
                assert!(read(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }
}
