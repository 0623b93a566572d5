//! The ways in which a batch's records may be packed. Snappy is Kafka producers' only: an edge cannot be told to write
//! it, and the cloud does where it makes batches again that came so.

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

/// What snappy-java's stream begins with; its version and the oldest that can read it follow, four bytes each.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_VERSIONS_BYTES: usize = 8;

/// Snappy's best is a copy of 64 bytes in 3: a block that claims more than this many times its bytes is none.
const SNAPPY_RATIO_MAX: usize = 22;

/// What a stream asks for; the value is the attribute's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Compression {
    None = 0,
    Gzip = 1,
    /// No stream can ask for it.
    #[serde(skip_deserializing)]
    Snappy = 2,
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
            2 => Ok(Self::Snappy),
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
            // Without a frame, as librdkafka writes it: every client reads that.
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(records).ok()?,
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
        Compression::Snappy => unpack_snappy(packed, bytes_max),
        Compression::Lz4 => bounded(&mut lz4_flex::frame::FrameDecoder::new(&packed[..])),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&packed[..]);
            let mut decoder = decoder.map_err(|error| BatchError::Unpack(error.to_string()))?;
            bounded(&mut decoder)
        }
    }
}

/// Two forms are in use: one block alone (librdkafka), and snappy-java's stream of blocks, each behind its packed length
/// (Kafka's Java client and those that follow it).
fn unpack_snappy(packed: &[u8], bytes_max: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    let Some(stream) = packed.strip_prefix(XERIAL_MAGIC) else {
        unpack_snappy_block(packed, &mut out, bytes_max)?;
        return Ok(out.into());
    };
    let short = || BatchError::Unpack("the snappy stream ends within a block".to_owned());
    let mut rest = stream.get(XERIAL_VERSIONS_BYTES..).ok_or_else(short)?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(short)?;
        unpack_snappy_block(block, &mut out, bytes_max)?;
        rest = behind;
    }
    Ok(out.into())
}

/// Room is made for what the block claims only where it can hold so much.
fn unpack_snappy_block(
    block: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), BatchError> {
    let wrong = |error: snap::Error| BatchError::Unpack(error.to_string());
    let claimed = snap::raw::decompress_len(block).map_err(wrong)?;
    if claimed > bytes_max - out.len() {
        return Err(BatchError::TooLarge(bytes_max));
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        let why = format!("a snappy block of {} bytes claims {claimed}", block.len());
        return Err(BatchError::Unpack(why));
    }
    let before = out.len();
    out.resize(before + claimed, 0);
    let unpacked = snap::raw::Decoder::new().decompress(block, &mut out[before..]);
    out.truncate(before + unpacked.map_err(wrong)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `snappy-java` makes of `foobar` and a line's end.
    const FOOBAR: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x09\x07\x18foobar\n";

    fn block(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    fn stream(blocks: &[&[u8]]) -> Vec<u8> {
        let mut stream = FOOBAR[..16].to_vec();
        for bytes in blocks {
            let block = block(bytes);
            stream.extend((block.len() as u32).to_be_bytes());
            stream.extend(block);
        }
        stream
    }

    fn unpacked(packed: &[u8], bytes_max: usize) -> Result<Bytes, BatchError> {
        unpack(
            Compression::Snappy,
            &Bytes::copy_from_slice(packed),
            bytes_max,
        )
    }

    #[test]
    fn snappy_is_read_alone_and_as_a_stream_of_blocks() {
        let (a, b) = ("a".repeat(40_000), "b".repeat(40_000));
        let both = Bytes::from([a.as_bytes(), b.as_bytes()].concat());
        assert_eq!(unpacked(FOOBAR, 7), Ok(Bytes::from("foobar\n")));
        assert_eq!(unpacked(&block(&both), both.len()), Ok(both.clone()));
        let stream = stream(&[a.as_bytes(), b.as_bytes()]);
        assert_eq!(unpacked(&stream, both.len()), Ok(both));
    }

    #[test]
    fn what_snappy_may_take_is_bounded_by_all_of_its_blocks() {
        let block_of = vec![0; 60_000];
        let large = BatchError::TooLarge(100_000);
        let two = stream(&[&block_of, &block_of]);
        assert_eq!(unpacked(&two, 100_000), Err(large));
        assert!(unpacked(&two, 120_000).is_ok());
        let alone = block(&block_of);
        assert_eq!(unpacked(&alone, 59_999), Err(BatchError::TooLarge(59_999)));
        assert!(unpacked(&alone, 60_000).is_ok());
    }

    #[test]
    fn a_snappy_block_that_cannot_hold_what_it_claims_is_refused_without_room_for_it() {
        // A claim of 100 MiB, and nothing behind it.
        let claim = [0x80, 0x80, 0x80, 0x32];
        let Err(BatchError::Unpack(why)) = unpacked(&claim, 128 << 20) else {
            panic!("it was taken");
        };
        assert!(why.contains("claims 104857600"), "{why}");
    }

    #[test]
    fn a_snappy_stream_cut_anywhere_is_refused_or_ends_with_a_block() {
        let whole = stream(&[b"one block", b"another"]);
        let ends = [16, 16 + 4 + block(b"one block").len(), whole.len()];
        for length in 8..whole.len() {
            let taken = unpacked(&whole[..length], 100);
            assert_eq!(taken.is_ok(), ends.contains(&length), "{length}: {taken:?}");
        }
    }
}
