use kafka_protocol::messages::fetch_response::EpochEndOffset;
use kafka_protocol::protocol::{Decodable, StrBytes};
use tidegate_shared::record::BatchHeader;
use uuid::Uuid;

use super::*;
use crate::kafka::connection::encode;
use crate::reading::testing::{batch, file_run, memory_run};
use kafka_protocol::messages::ResponseKind;

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=17;

async fn sent(fetched: Fetched, version: i16) -> Vec<u8> {
    let mut sending = fetched.send(version, 77).unwrap();
    let (mut all, mut chunk) = (Vec::new(), Chunk::default());
    let (metrics, suspects) = (Metrics::default(), Suspects::default());
    let seen = Seen {
        metrics: &metrics,
        suspects: &suspects,
    };
    loop {
        chunk.clear();
        sending.fill(&mut chunk, seen).await;
        if chunk.filled().is_empty() {
            return all;
        }
        all.extend_from_slice(chunk.filled());
    }
}

fn topic(version: i16, name: &'static str) -> Topic {
    match version {
        13.. => Topic::Id(Uuid::from_u128(name.len() as u128)),
        _ => Topic::Name(StrBytes::from_static_str(name)),
    }
}

fn data(partition: i32, version: i16) -> PartitionData {
    let mut data = PartitionData::default()
        .with_partition_index(partition)
        .with_high_watermark(12)
        .with_records(Some(Bytes::new()));
    if version >= 5 {
        data.log_start_offset = 3;
    }
    data
}

/// Two topics, with and without records, an error, and what is told of an epoch.
fn response(version: i16, records: [Option<Run>; 3]) -> Fetched {
    let [first, second, third] = records;
    let answer = |partition, records| Answer {
        data: data(partition, version),
        records,
    };
    let mut broken = answer(300, None);
    broken.data.error_code = 1;
    let mut diverging = answer(4, None);
    if version >= 12 {
        let end = EpochEndOffset::default().with_epoch(2).with_end_offset(9);
        diverging.data.diverging_epoch = end;
    }
    Fetched {
        error_code: 0,
        session_id: if version >= 7 { 5 } else { 0 },
        topics: vec![
            (
                topic(version, "a"),
                vec![answer(0, first), broken, answer(1, second)],
            ),
            (topic(version, "bb"), vec![diverging, answer(2, third)]),
            (topic(version, "ccc"), vec![]),
        ],
        piece_bytes: 256 << 10,
        share: Share::default(),
    }
}

#[tokio::test]
async fn what_is_sent_is_what_the_codec_writes() {
    let small = [batch(10), batch(200)];
    let large: Vec<Bytes> = [90_000, 300_000, 5, 150_000]
        .into_iter()
        .map(batch)
        .collect();
    for version in VERSIONS {
        let records = || [None, Some(memory_run(&small)), Some(file_run(&large).1)];
        let (metrics, suspects) = (Metrics::default(), Suspects::default());
        let seen = Seen {
            metrics: &metrics,
            suspects: &suspects,
        };
        let whole = response(version, records()).whole(seen).await;
        let expected = ResponseKind::Fetch(whole);
        let expected = encode(ApiKey::Fetch, version, 77, &expected).unwrap();
        let sent = sent(response(version, records()), version).await;
        assert!(expected == sent, "version {version}");
    }
    for piece_bytes in [0, 1_000, 100_000] {
        let records = || [None, Some(memory_run(&small)), Some(file_run(&large).1)];
        let whole = sent(response(12, records()), 12).await;
        let fetched = Fetched {
            piece_bytes,
            ..response(12, records())
        };
        assert!(sent(fetched, 12).await == whole, "{piece_bytes}");
    }
    for version in VERSIONS {
        let nothing = ResponseKind::Fetch(FetchResponse::default());
        let expected = encode(ApiKey::Fetch, version, 77, &nothing).unwrap();
        assert_eq!(sent(Fetched::default(), version).await, expected);
    }
}

/// What a client finds in the records of a partition: batches by their offsets, and what is cut off.
fn batches(mut records: Bytes) -> (Vec<i64>, usize) {
    let mut offsets = Vec::new();
    while records.len() >= BATCH_BEGIN_BYTES {
        assert_eq!(records[BATCH_BEGIN_BYTES - 1], 2, "magic");
        let length = u32::from_be_bytes(records[8..12].try_into().unwrap()) as usize;
        let bytes = BATCH_LENGTH_BYTES + length;
        if bytes > records.len() {
            break;
        }
        let header = BatchHeader::parse(&records.split_to(bytes)).unwrap();
        offsets.push(header.base_offset);
    }
    (offsets, records.len())
}

#[tokio::test]
async fn a_batch_that_turns_out_to_be_damaged_is_cut_off_and_all_else_is_sent() {
    let lying: Vec<Bytes> = [100_000, 200_000, 300].into_iter().map(batch).collect();
    let behind = [batch(50)];
    for version in VERSIONS {
        let (file, run) = file_run(&lying);
        std::os::unix::fs::FileExt::write_all_at(&*file, b"x", lying[0].len() as u64 + 70_000)
            .unwrap();
        let fetched = response(version, [Some(run), None, Some(memory_run(&behind))]);
        let mut sent = Bytes::from(sent(fetched, version).await);
        let length = i32::from_be_bytes(sent.split_to(4)[..].try_into().unwrap());
        assert_eq!(length as usize, sent.len());
        ResponseHeader::decode(&mut sent, ApiKey::Fetch.response_header_version(version)).unwrap();
        let response = FetchResponse::decode(&mut sent, version).unwrap();
        let first = response.responses[0].partitions[0].records.clone();
        let (offsets, cut_off) = batches(first.unwrap());
        assert_eq!(offsets, [0], "version {version}");
        assert_eq!(cut_off, lying[1].len() + lying[2].len());
        let last = response.responses[1].partitions[1].records.clone();
        assert_eq!(batches(last.unwrap()), (vec![0], 0));
    }
}
