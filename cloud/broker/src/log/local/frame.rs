//! A frame: header, command, attachments. The CRC covers header and command, is seeded with the
//! store's id, and the header holds the previous frame's CRC: a frame of another store, an old one or
//! one out of order is not taken for the next. Attachments have a CRC of their own in the header, so
//! that a replay of finished files need not read them.

use bytes::{Buf, BufMut, Bytes};

pub(super) const FRAME_HEADER_BYTES: usize = 32;

pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"TGcF");

const CRC_AT: usize = FRAME_HEADER_BYTES - 4;

/// Fields, in the order in which they lie: magic, command bytes, attachment bytes, number, previous
/// CRC, attachment CRC, CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) command_bytes: u32,
    pub(super) attachment_bytes: u32,
    pub(super) number: u64,
    pub(super) previous_crc: u32,
    pub(super) attachment_crc: u32,
}

impl FrameHeader {
    pub(super) fn new(
        number: u64,
        previous_crc: u32,
        command: &[u8],
        attachments: &[Bytes],
    ) -> Self {
        let attachment_bytes: usize = attachments.iter().map(Bytes::len).sum();
        let append = |crc, bytes: &Bytes| crc32c::crc32c_append(crc, bytes);
        Self {
            command_bytes: u32::try_from(command.len()).expect("a tick is bounded"),
            attachment_bytes: u32::try_from(attachment_bytes).expect("a tick is bounded"),
            number,
            previous_crc,
            attachment_crc: attachments.iter().fold(0, append),
        }
    }

    pub(super) fn encode(&self, crc: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut out = &mut bytes[..];
        out.put_u32_le(MAGIC);
        out.put_u32_le(self.command_bytes);
        out.put_u32_le(self.attachment_bytes);
        out.put_u64_le(self.number);
        out.put_u32_le(self.previous_crc);
        out.put_u32_le(self.attachment_crc);
        out.put_u32_le(crc);
        bytes
    }

    /// The header and the CRC that it claims; `None` where there is no frame.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<(Self, u32)> {
        if bytes.len() < FRAME_HEADER_BYTES || bytes.get_u32_le() != MAGIC {
            return None;
        }
        let header = Self {
            command_bytes: bytes.get_u32_le(),
            attachment_bytes: bytes.get_u32_le(),
            number: bytes.get_u64_le(),
            previous_crc: bytes.get_u32_le(),
            attachment_crc: bytes.get_u32_le(),
        };
        Some((header, bytes.get_u32_le()))
    }

    pub(super) fn crc(&self, store_id: u128, command: &[u8]) -> u32 {
        let seed = crc32c::crc32c(&store_id.to_le_bytes());
        let header = crc32c::crc32c_append(seed, &self.encode(0)[..CRC_AT]);
        crc32c::crc32c_append(header, command)
    }

    /// Where the attachments begin, from the frame's start.
    pub(super) fn attachments_offset(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + u64::from(self.command_bytes)
    }

    pub(super) fn frame_bytes(&self) -> u64 {
        self.attachments_offset() + u64::from(self.attachment_bytes)
    }
}
