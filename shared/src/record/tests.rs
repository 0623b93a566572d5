//! Properties of the batch codec: what is sealed is read back, and damage is seen.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn record() -> impl Strategy<Value = Record> {
    let bytes = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let header = (vec(any::<u8>(), 0..20), option::of(bytes())).prop_map(|(name, value)| Header {
        name: name.into(),
        value,
    });
    (
        any::<i32>(),
        option::of(bytes()),
        option::of(bytes()),
        vec(header, 0..3),
    )
        .prop_map(|(timestamp, key, value, headers)| Record {
            timestamp_ms: i64::from(timestamp),
            key,
            value,
            headers,
        })
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Gzip),
        Just(Compression::Snappy),
        Just(Compression::Lz4),
        Just(Compression::Zstd),
    ]
}

fn seal(records: &[Record], base_offset: i64, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in records {
        builder.push(record);
    }
    builder.seal(base_offset, compression, &mut Compressor::new())
}

fn read(batch: &Batch) -> Vec<(i64, Record)> {
    batch.records().unwrap().map(Result::unwrap).collect()
}

proptest! {
    #[test]
    fn what_is_sealed_is_read_back(
        records in vec(record(), 1..40),
        base_offset in 0..1_i64 << 40,
        compression in compression(),
    ) {
        let batch = Batch::parse(seal(&records, base_offset, compression)).unwrap();
        let header = batch.header();
        prop_assert_eq!(header.offset_count(), records.len() as u64);
        prop_assert_eq!(header.base_timestamp_ms, records[0].timestamp_ms);
        prop_assert_eq!(
            header.max_timestamp_ms,
            records.iter().map(|record| record.timestamp_ms).max().unwrap()
        );
        let expected: Vec<_> = (base_offset..).zip(records).collect();
        prop_assert_eq!(read(&batch), expected);
    }

    #[test]
    fn rewriting_touches_nothing_else(records in vec(record(), 1..5), offset in 0..i64::MAX / 2) {
        let sealed = seal(&records, 7, Compression::Zstd);
        let mut moved = BytesMut::from(&sealed[..]);
        rewrite_in_place(&mut moved, offset, 9);
        prop_assert_eq!(&moved[8..12], &sealed[8..12]);
        prop_assert_eq!(&moved[16..], &sealed[16..]);
        let batch = Batch::parse(moved.freeze()).unwrap();
        prop_assert_eq!(batch.header().base_offset, offset);
        prop_assert_eq!(batch.header().leader_epoch, 9);
    }

    #[test]
    fn a_flipped_bit_under_the_crc_is_seen(
        records in vec(record(), 1..5),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let sealed = seal(&records, 0, Compression::None);
        let mut damaged = BytesMut::from(&sealed[..]);
        let at = 17 + at.index(sealed.len() - 17);
        damaged[at] ^= 1 << bit;
        let refused = Batch::parse(damaged.freeze());
        prop_assert!(refused.is_err());
    }

    #[test]
    fn bytes_of_a_stranger_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Batch::parse(Bytes::from(bytes));
    }

    /// Past the CRC everything is still a stranger's: seal garbage as records, and read.
    #[test]
    fn records_of_a_stranger_never_panic(
        garbage in vec(any::<u8>(), 0..300),
        count in any::<i32>(),
        attributes in 0..8_i16,
    ) {
        let mut bytes = BytesMut::from(&seal(&[Record::default()], 0, Compression::None)[..]);
        bytes.truncate(HEADER_BYTES);
        bytes.extend_from_slice(&garbage);
        let length = (bytes.len() - header::LENGTH_OVERHEAD) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[header::CRC_COVERS_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        if let Ok(batch) = Batch::parse(bytes.freeze())
            && let Ok(records) = batch.records()
        {
            let _: Vec<_> = records.collect();
        }
    }

    #[test]
    fn varints_round_trip(value in any::<i64>()) {
        let mut out = BytesMut::new();
        varint::put(&mut out, value);
        prop_assert_eq!(out.len(), varint::size(value));
        prop_assert_eq!(varint::get(&mut out.freeze()), Some(value));
    }
}

#[test]
fn compression_is_left_out_where_it_does_not_pay() {
    let small = Record {
        value: Some(Bytes::from_static(b"21.5")),
        ..Record::default()
    };
    let few = Batch::parse(seal(&vec![small.clone(); 3], 0, Compression::Zstd)).unwrap();
    assert_eq!(few.compression(), Ok(Compression::None));
    let many = Batch::parse(seal(&vec![small; 300], 0, Compression::Zstd)).unwrap();
    assert_eq!(many.compression(), Ok(Compression::Zstd));
}

#[test]
fn a_run_is_taken_apart_and_a_cut_last_batch_ends_it() {
    let one = seal(&[Record::default()], 0, Compression::None);
    let mut run = BytesMut::from(&one[..]);
    run.extend_from_slice(&seal(&[Record::default()], 1, Compression::None));
    run.extend_from_slice(&one[..one.len() - 1]);
    let batches: Vec<_> = split_batches(run.freeze()).map(Result::unwrap).collect();
    let offsets: Vec<_> = batches
        .iter()
        .map(|batch| batch.header().base_offset)
        .collect();
    assert_eq!(offsets, [0, 1]);
}

#[test]
fn more_headers_than_anybody_has_are_refused_before_room_is_made_for_them() {
    let empty = Header {
        name: Bytes::new(),
        value: None,
    };
    let of = |count| Record {
        headers: vec![empty.clone(); count],
        ..Record::default()
    };
    let read = |record: &Record| {
        let sealed = seal(std::slice::from_ref(record), 0, Compression::Zstd);
        assert!(sealed.len() < 10_000, "{}", sealed.len());
        let batch = Batch::parse(sealed).unwrap();
        batch.records().unwrap().next().unwrap()
    };
    assert_eq!(read(&of(1_000)).unwrap().1.headers.len(), 1_000);
    let refused = read(&of(HEADERS_MAX + 1)).unwrap_err();
    assert_eq!(refused, BatchError::Contradiction("header count"));
}
