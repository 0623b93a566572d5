//! The four ways in which a batch's records may be packed here. Snappy is not one of them: no node
//! of ours writes it.

use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BatchError;
use super::header::ATTRIBUTES_COMPRESSION;

/// Records below this are not worth a compressor's frame.
const COMPRESS_BYTES_MIN: usize = 512;

/// zstd's fastest ordinary level: an edge has little CPU, and a higher level gains few per cent.
const ZSTD_LEVEL: i32 = 1;

/// What a stream asks for; the value is the attribute's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Compression {
    None = 0,
    Gzip = 1,
    Lz4 = 3,
    #[default]
    Zstd = 4,
}

impl Compression {
    /// The batch attribute's number.
    pub fn from_attribute(attributes: i16) -> Result<Self, BatchError> {
        match attributes & ATTRIBUTES_COMPRESSION {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(BatchError::Compression(other)),
        }
    }
}

/// Compresses batches one after the other; keeps zstd's working memory between them.
#[derive(Default)]
pub struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    pub fn new() -> Self {
        Self::default()
    }

    /// Packs `records` as asked, if that makes them smaller by an eighth; else `None`.
    pub(super) fn pack(&mut self, compression: Compression, records: &[u8]) -> Option<Vec<u8>> {
        if records.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        let packed = match compression {
            Compression::None => return None,
            Compression::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder
                    .write_all(records)
                    .and_then(|()| encoder.finish())
                    .ok()?
            }
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(records).ok()?;
                encoder.finish().ok()?
            }
            Compression::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
                }
                self.zstd.as_mut()?.compress(records).ok()?
            }
        };
        (packed.len() < records.len() - records.len() / 8).then_some(packed)
    }
}

/// Unpacks a batch's records, at most `bytes_max` of them.
pub(super) fn unpack(
    compression: Compression,
    packed: &Bytes,
    bytes_max: usize,
) -> Result<Bytes, BatchError> {
    let bounded = |reader: &mut dyn Read| {
        let mut out = Vec::new();
        reader
            .take(bytes_max as u64 + 1)
            .read_to_end(&mut out)
            .map_err(|error| BatchError::Unpack(error.to_string()))?;
        if out.len() > bytes_max {
            return Err(BatchError::TooLarge(bytes_max));
        }
        Ok(Bytes::from(out))
    };
    match compression {
        Compression::None => Ok(packed.clone()),
        Compression::Gzip => bounded(&mut flate2::read::GzDecoder::new(&packed[..])),
        Compression::Lz4 => bounded(&mut lz4_flex::frame::FrameDecoder::new(&packed[..])),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&packed[..]);
            let mut decoder = decoder.map_err(|error| BatchError::Unpack(error.to_string()))?;
            bounded(&mut decoder)
        }
    }
}
