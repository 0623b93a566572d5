//! What can be fetched of what a node has stored.

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use tidegate_cloud_protocol::ledger::Target;
use tidegate_shared::record::split_batches;

use super::{Client, fetch_request};

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
