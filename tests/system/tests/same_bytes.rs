//! Encode once: a batch has the same bytes in the edge's journal, in the cloud's log and in a Fetch
//! response, but for base offset and leader epoch, which lie outside its CRC.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::Path;

use tidegate_system_tests::kafka;
use tidegate_system_tests::mqtt::{self, Client};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// Base offset (8), length (4), leader epoch (4); then magic, CRC and what the CRC covers.
const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const REST_AT: usize = 16;

/// Whether some file below a folder has the batch, whatever its base offset and leader epoch.
fn has_batch(folder: &Path, batch: &[u8]) -> bool {
    files(folder).iter().any(|bytes| {
        find_all(bytes, &batch[REST_AT..])
            .any(|at| at >= REST_AT && bytes[at - 8..at - 4] == batch[LENGTH_AT..EPOCH_AT])
    })
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(std::fs::read(&path).unwrap());
        }
    }
    found
}

fn find_all<'a>(bytes: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = wanted[..8].to_vec();
    let starts = (0..bytes.len().saturating_sub(wanted.len() - 1))
        .filter(move |&at| bytes[at..at + 8] == first);
    starts.filter(move |&at| bytes[at..at + wanted.len()] == *wanted)
}

fn compression(batch: &[u8]) -> u8 {
    batch[22] & 7
}

#[test]
fn a_batch_is_the_same_in_journal_log_and_fetch() {
    let scratch = Scratch::new("same-bytes");
    let mut site = Site::started(scratch.path());
    let mut client = Client::connect(site.edge.mqtt, "same-bytes").unwrap();
    // Each lands before the next is sent: nothing is there to be merged, and each chunk is a batch.
    for number in 0..3_u16 {
        client
            .publish(number + 1, "plant/single", b"a message alone")
            .unwrap();
        site.edge.wait_landed(u64::from(number) + 1);
    }
    // Enough alike to be compressed.
    let mut burst = Vec::new();
    for id in 10..=209 {
        burst.extend(mqtt::publish(id, "plant/burst", &[b'x'; 100]));
    }
    client.stream.write_all(&burst).unwrap();
    for _ in 10..=209 {
        client.read_puback().unwrap();
    }
    let landed = site.edge.wait_landed(203);
    assert_eq!(landed, 203);

    let records = kafka::read_all(
        site.cloud.kafka,
        STREAM,
        &scratch.path().join("records.jsonl"),
    );
    assert_eq!(records.len(), 203);
    let fetched = wait::until("a fetch has all", wait::SOON, || {
        let set = kafka::fetch(site.cloud.kafka, STREAM, records[0].partition, 0);
        (!set.is_empty()).then_some(set)
    });
    // What is compared is on the medium, not in a process.
    site.edge.kill();
    site.cloud.kill();
    let batches = kafka::batches(&fetched);
    let kinds: Vec<_> = batches.iter().map(|batch| compression(batch)).collect();
    println!("{} batches, compression {kinds:?}", batches.len());
    assert!(
        kinds.contains(&4),
        "no batch was compressed with zstd: {kinds:?}"
    );
    for (at, batch) in batches.iter().enumerate() {
        assert!(
            has_batch(&site.cloud.data, batch),
            "batch {at} is not so in the cloud's log"
        );
        assert!(
            has_batch(&site.edge.data, batch),
            "batch {at} is not so in the edge's journal"
        );
        let mut other = batch.to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert!(
            !has_batch(&site.edge.data, &other),
            "the comparison finds anything"
        );
    }
}
