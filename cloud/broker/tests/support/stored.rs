//! How a node keeps what has landed: what can be fetched of it, and which files there are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use tidegate_shared::record::split_batches;

use super::{Client, fetch_request};

/// No wait of these tests takes as long when all is well.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until the ledger is as it should be.
pub async fn until(cloud: &Cloud, what: &str, is_so: impl Fn(&Ledger) -> bool) {
    let waiting = async {
        while !cloud.broker().ledger(&is_so) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "not within {DEADLINE:?}: {what}");
}

pub async fn until_packed(cloud: &Cloud, target: Target, offset: i64) {
    until(cloud, "it is packed", |ledger| {
        let mut segments = ledger.log(target).segments();
        segments
            .next_back()
            .is_some_and(|newest| newest.end.0 >= offset)
    })
    .await;
}

pub async fn fetch(client: &mut Client, target: Target, offset: i64) -> PartitionData {
    let request = RequestKind::Fetch(fetch_request(13, target, offset, 0));
    let response = client.ask(ApiKey::Fetch, 13, request).await;
    let ResponseKind::Fetch(mut response) = response else {
        panic!("no fetch response");
    };
    response.responses.remove(0).partitions.remove(0)
}

/// All batches from an offset to the end, as they are fetched.
pub async fn fetch_all(client: &mut Client, target: Target, from: i64) -> Vec<Bytes> {
    let (mut next, mut all) = (from, Vec::new());
    loop {
        let data = fetch(client, target, next).await;
        assert_eq!(data.error_code, 0);
        let batches = split_batches(data.records.unwrap());
        let batches: Vec<_> = batches.map(Result::unwrap).collect();
        let Some(last) = batches.last() else {
            return all;
        };
        next = last.header().base_offset + last.header().offset_count() as i64;
        all.extend(batches.iter().map(|batch| batch.bytes().clone()));
    }
}

pub fn segments(data: &Path) -> Vec<PathBuf> {
    let of_clouds = files(&data.join("objects/segments")).into_iter();
    of_clouds.flat_map(|folder| files(&folder)).collect()
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files
}
