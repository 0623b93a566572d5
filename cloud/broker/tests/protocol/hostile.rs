//! Every request that is served, in every version, changed by chance: the node lives, and who asks rightly is answered. The
//! seed is printed; `TIDEGATE_TEST_SEED` sets it, `TIDEGATE_TEST_CASES` how often each request is changed.

use std::time::Duration;

use tidegate_cloud::Cloud;
use tidegate_shared::record::Record;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::support::random::Random;

/// What a request comes to is not waited for longer: some wait for records or for members.
const PATIENCE: Duration = Duration::from_millis(20);

/// One to three changes: bits, lengths that cannot be, bytes that are missing, doubled or made up.
fn change(random: &mut Random, bytes: &mut Vec<u8>) {
    // Behind API, version and correlation id: what is not served is closed at once.
    let start = 8.min(bytes.len());
    for _ in 0..=random.below(3) {
        let at = start + random.below(bytes.len() - start);
        let behind = bytes.len() - at;
        match random.below(6) {
            0 if behind > 0 => bytes[at] ^= 1 << random.below(8),
            1 if behind >= 4 => {
                let lengths = [i32::MAX, -1, i32::MIN, 0x00ff_ffff, 0];
                let length = lengths[random.below(lengths.len())];
                bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            2 if behind >= 2 => {
                let lengths = [i16::MAX, -1, i16::MIN, 0];
                let length = lengths[random.below(lengths.len())];
                bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
            }
            // A varint of five bytes: the longest that a flexible version's array can claim.
            3 => {
                let longest = [0xff, 0xff, 0xff, 0xff, 0x0f];
                bytes.splice(at..at + behind.min(1), longest);
            }
            4 => bytes.truncate(at),
            _ => {
                let copied = bytes[at..at + behind.min(16)].to_vec();
                bytes.splice(at..at, copied);
            }
        }
    }
}

#[tokio::test]
async fn requests_that_are_changed_by_chance_harm_nobody() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let edge = Edge::connect(cloud.broker(), "press-4").await;
    let mut random = Random::new();
    let cases = Random::number("TIDEGATE_TEST_CASES").unwrap_or(8);
    let mut bystander = Client::connect(&cloud).await;
    for (key, first, last) in rights::served(&mut bystander).await {
        for version in first..=last {
            let mut whole = BytesMut::new();
            let header = RequestHeader::default()
                .with_request_api_key(key as i16)
                .with_request_api_version(version)
                .with_client_id(Some(StrBytes::from_static_str("hostile")));
            header
                .encode(&mut whole, key.request_header_version(version))
                .unwrap();
            request_of(key, version, edge.target)
                .encode(&mut whole, version)
                .unwrap();
            for _ in 0..cases {
                let mut bytes = whole.to_vec();
                change(&mut random, &mut bytes);
                throw(&cloud, &bytes).await;
            }
        }
        // Each API is followed by a look whether all is well.
        let request = RequestKind::ApiVersions(ApiVersionsRequest::default());
        bystander.ask(ApiKey::ApiVersions, 0, request).await;
    }
    assert!(cloud.broker().is_ready());
    let broker = cloud.broker();
    let failed = broker.metrics().kafka_failed_connections.get();
    assert_eq!(failed, 0);
    let bad = broker.metrics().kafka_bad_requests.get();
    assert!(bad > 50 * cases, "most are no requests any more: {bad}");
    cloud.shutdown().await;
}

async fn throw(cloud: &Cloud, bytes: &[u8]) {
    let mut stream = TcpStream::connect(cloud.kafka_address()).await.unwrap();
    let length = u32::try_from(bytes.len()).unwrap();
    // The node may have closed the connection by then.
    let _ = stream.write_all(&length.to_be_bytes()).await;
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
}

/// What this process takes, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Of long responses a connection holds one, however many requests are sent ahead.
#[tokio::test]
async fn who_never_reads_holds_up_nobody_and_takes_little() {
    const NEVER_READERS: usize = 4;
    let data = tempfile::tempdir().unwrap();
    let cloud = start(data.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let mut random = Random::of(1);
    for _ in 0..8 {
        // What no packing makes smaller.
        let words = (0..64 << 10).flat_map(|_| random.next().to_be_bytes());
        let record = Record {
            value: Some(words.collect::<Vec<u8>>().into()),
            ..Record::default()
        };
        edge.land_records(&[record]).await;
    }
    let before = resident();
    let mut never_readers = Vec::new();
    for _ in 0..NEVER_READERS {
        let mut client = Client::connect(&cloud).await;
        for _ in 0..200 {
            let mut request = BytesMut::new();
            let header = RequestHeader::default()
                .with_request_api_key(1)
                .with_request_api_version(12);
            header
                .encode(&mut request, ApiKey::Fetch.request_header_version(12))
                .unwrap();
            let mut asked = fetch_request(12, edge.target, 0, 0);
            asked.max_bytes = 4 << 20;
            asked.topics[0].partitions[0].partition_max_bytes = 4 << 20;
            asked.encode(&mut request, 12).unwrap();
            client.send(&request).await;
        }
        never_readers.push(client);
    }
    let mut bystander = Client::connect(&cloud).await;
    for _ in 0..50 {
        let request = request_of(ApiKey::Fetch, 12, edge.target);
        bystander.ask(ApiKey::Fetch, 12, request).await;
    }
    let taken = resident().saturating_sub(before);
    let whole = (NEVER_READERS * 200 * (4 << 20)) as u64;
    assert!(
        taken < 256 << 20,
        "{taken} bytes; all that was asked for are {whole}"
    );
    cloud.shutdown().await;
}
