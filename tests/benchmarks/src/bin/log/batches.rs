//! Batches as an edge seals them, made before anything is measured: some that differ, used in turn. A batch
//! lands under its edge offset, which lies outside its CRC.

use bytes::{Bytes, BytesMut};
use clap::{Args, ValueEnum};
use tidegate_shared::record::{BatchBuilder, Compression, Compressor, Record, rewrite_in_place};

/// Batches that differ.
const DIFFERENT: usize = 32;

/// The values' lengths are spread evenly over these.
const VALUE_BYTES_MIN: usize = 100;
const VALUE_BYTES_MAX: usize = 200;

const START_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// A device's readings as JSON.
    Json,
    /// Bytes that nothing can pack.
    Random,
}

/// What each batch holds.
#[derive(Clone, Debug, Args)]
pub struct Kind {
    #[arg(long, default_value_t = 1_000)]
    pub records: u32,
    #[arg(long, default_value = "json")]
    pub payload: Payload,
    /// All values are of this length, instead of 100 to 200 bytes.
    #[arg(long)]
    pub value_bytes: Option<usize>,
    /// Batches are not compressed, instead of by zstd.
    #[arg(long)]
    pub unpacked: bool,
}

/// Batches to take in turn.
#[derive(Clone, Debug)]
pub struct Batches {
    sealed: Vec<Bytes>,
    pub records: u32,
    /// Mean bytes of a batch, and of the values in it.
    pub bytes: usize,
    pub value_bytes: usize,
    taken: usize,
}

impl Batches {
    pub fn new(kind: &Kind) -> Self {
        let mut random = Random(1);
        let mut compressor = Compressor::new();
        let (mut sealed, mut value_bytes) = (Vec::new(), 0);
        let compression = if kind.unpacked {
            Compression::None
        } else {
            Compression::Zstd
        };
        for _ in 0..DIFFERENT {
            let mut builder = BatchBuilder::new();
            for number in 0..kind.records {
                let value = random.value(kind);
                value_bytes += value.len();
                builder.push(&Record {
                    timestamp_ms: START_MS + i64::from(number),
                    value: Some(value),
                    ..Record::default()
                });
            }
            sealed.push(builder.seal(0, compression, &mut compressor));
        }
        Self {
            bytes: sealed.iter().map(Bytes::len).sum::<usize>() / DIFFERENT,
            sealed,
            records: kind.records,
            value_bytes: value_bytes / DIFFERENT,
            taken: 0,
        }
    }

    /// The next one, as it was sealed.
    pub fn next(&mut self) -> Bytes {
        self.taken += 1;
        self.sealed[self.taken % DIFFERENT].clone()
    }

    /// The next one, whose first record has this offset.
    pub fn next_at(&mut self, base_offset: i64) -> Bytes {
        let mut batch = BytesMut::from(self.next());
        rewrite_in_place(&mut batch, base_offset, 0);
        batch.freeze()
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Marsaglia's xorshift: the bytes must not pack, nothing more.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 20) % end
    }

    fn value(&mut self, kind: &Kind) -> Bytes {
        let spread = (VALUE_BYTES_MAX - VALUE_BYTES_MIN + 1) as u64;
        let spread_length = VALUE_BYTES_MIN + self.below(spread) as usize;
        let length = kind.value_bytes.unwrap_or(spread_length);
        match kind.payload {
            Payload::Random => (0..length).map(|_| self.below(256) as u8).collect(),
            Payload::Json => self.json(length),
        }
    }

    fn json(&mut self, length: usize) -> Bytes {
        let mut text = format!("{{\"device\":\"press-{:03}\"", self.below(1_000));
        let names = [
            "temperature_c",
            "pressure_bar",
            "vibration_mm_s",
            "power_kw",
        ];
        for name in names.iter().cycle() {
            let value = self.below(100_000) as f64 / 1_000.0;
            let field = format!(",\"{name}\":{value}");
            if text.len() + field.len() + 1 > length {
                break;
            }
            text.push_str(&field);
        }
        text.push('}');
        format!("{text:length$}").into()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_shared::record::Batch;

    use super::*;

    #[test]
    fn batches_are_whole_have_their_records_and_pack_as_they_should() {
        let kind = |records, payload| Kind {
            records,
            payload,
            value_bytes: None,
            unpacked: false,
        };
        let of = |records, payload| Batches::new(&kind(records, payload));
        for records in [1, 10, 1_000] {
            let mut batches = of(records, Payload::Json);
            let batch = Batch::parse(batches.next_at(77)).unwrap();
            assert_eq!(batch.header().base_offset, 77);
            let mut lengths = batch.records().unwrap().map(|record| {
                let (_, record) = record.unwrap();
                record.value.unwrap().len()
            });
            assert!(lengths.all(|length| (VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&length)));
            assert_eq!(batch.header().offset_count(), u64::from(records));
        }
        let (json, random) = (of(1_000, Payload::Json), of(1_000, Payload::Random));
        assert!(json.bytes < json.value_bytes / 2, "{} bytes", json.bytes);
        assert!(random.bytes > random.value_bytes);
        let plain = Batches::new(&Kind {
            value_bytes: Some(1_024),
            unpacked: true,
            ..kind(10, Payload::Json)
        });
        assert_eq!(plain.value_bytes, 10 * 1_024);
        assert!(plain.bytes > plain.value_bytes);
    }
}
