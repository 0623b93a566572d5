//! DescribeLogDirs (KIP-113, KIP-827): the object stores, as Kafka's log directories, and what each partition has in
//! them. What is not packed yet counts in its topic's store, where it goes next.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use rustix::fs::statvfs;
use tidegate_cloud_protocol::acls::{Operation, Resource};
use tidegate_cloud_protocol::ledger::{CLUSTER_STORE, Ledger, Topic};
use tidegate_shared::id::TopicId;

use super::{Context, reply_code, target};
use crate::store::StoreUrl;

/// The partitions of topics that are asked for; `None`: all.
type Asked = Option<BTreeMap<TopicName, BTreeSet<i32>>>;

/// What there is of each partition in a store, by topic and partition.
type Sizes = BTreeMap<TopicName, BTreeMap<i32, u64>>;

/// Where it is not known.
const NO_SIZE: i64 = -1;

pub(super) fn handle(
    context: &Context,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    if let Err(refusal) = context.check(Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse::default().with_error_code(refusal.code);
    }
    let asked: Asked = request.topics.map(|topics| {
        let mut asked = BTreeMap::<_, BTreeSet<i32>>::new();
        for topic in topics {
            let partitions = asked.entry(topic.topic).or_default();
            partitions.extend(topic.partitions);
        }
        asked
    });
    let stores = context.broker.shared().segments.stores();
    let cluster = stores.cluster().url().clone();
    let troubles = stores.troubles();
    let (mut sizes, urls) = context.broker.ledger(|ledger| {
        let urls = ledger
            .stores()
            .map(|(number, url)| (number, url.to_owned()));
        (sizes(ledger, &asked), urls.collect::<Vec<_>>())
    });
    let own = (CLUSTER_STORE, cluster.absolute());
    let results = std::iter::once(own).chain(urls).map(|(number, url)| {
        let (total, usable) = room(&url);
        let code = match troubles.contains_key(&number) {
            true => reply_code::KAFKA_STORAGE_ERROR,
            false => reply_code::NONE,
        };
        let topics = sizes.remove(&number).unwrap_or_default().into_iter();
        DescribeLogDirsResult::default()
            .with_error_code(code)
            .with_log_dir(StrBytes::from_string(url))
            .with_topics(topics.map(described).collect())
            .with_total_bytes(total)
            .with_usable_bytes(usable)
    });
    DescribeLogDirsResponse::default().with_results(results.collect())
}

fn sizes(ledger: &Ledger, asked: &Asked) -> BTreeMap<u32, Sizes> {
    let mut stores = BTreeMap::<u32, Sizes>::new();
    for (id, topic) in ledger.topics() {
        let name = TopicName(StrBytes::from_string(topic.name.to_string()));
        let wanted = asked.as_ref().map(|asked| asked.get(&name));
        let is_wanted = |partition: &i32| match wanted {
            None => true,
            Some(partitions) => partitions.is_some_and(|all| all.contains(partition)),
        };
        let partitions = 0..topic.partitions().len() as i32;
        for partition in partitions.filter(is_wanted) {
            for (store, bytes) in partition_sizes(ledger, (id, topic), partition) {
                let topics = stores.entry(store).or_default();
                let partitions = topics.entry(name.clone()).or_default();
                partitions.insert(partition, bytes);
            }
        }
    }
    stores
}

fn partition_sizes(
    ledger: &Ledger,
    (id, topic): (TopicId, &Topic),
    partition: i32,
) -> BTreeMap<u32, u64> {
    let log = ledger.log(target(id, partition));
    let mut sizes = BTreeMap::from([(topic.settings.store, log.tail_bytes())]);
    for segment in log.segments() {
        *sizes.entry(segment.id.store).or_default() += segment.bytes;
    }
    sizes
}

/// All bytes of a folder's volume, and those that can be used.
fn room(url: &str) -> (i64, i64) {
    let url: Option<StoreUrl> = url.parse().ok();
    let folder = url.as_ref().and_then(StoreUrl::as_folder);
    let Some(Ok(volume)) = folder.map(statvfs) else {
        return (NO_SIZE, NO_SIZE);
    };
    let bytes = |blocks: u64| {
        let bytes = blocks.saturating_mul(volume.f_frsize);
        i64::try_from(bytes).unwrap_or(i64::MAX)
    };
    (bytes(volume.f_blocks), bytes(volume.f_bavail))
}

fn described((name, partitions): (TopicName, BTreeMap<i32, u64>)) -> DescribeLogDirsTopic {
    let partitions = partitions.into_iter().map(|(partition, bytes)| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition)
            .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}
