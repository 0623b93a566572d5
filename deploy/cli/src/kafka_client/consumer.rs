//! Reads all partitions of a topic from where it stands, and keeps where it stands over reconnects.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, ListOffsetsRequest, MetadataRequest, TopicName as KafkaTopicName,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_shared::id::{KafkaOffset, PartitionId, TopicName};
use tidegate_shared::record::{Record, split_batches};

use super::ClientError;
use super::connection::{Connection, protocol};
use super::error::check;

const METADATA_VERSION: i16 = 9;
const LIST_OFFSETS_VERSION: i16 = 6;
const FETCH_VERSION: i16 = 12;

/// How long the listener may hold a fetch back until there is something.
const FETCH_WAIT_MS: i32 = 500;
const FETCH_BYTES_MAX: i32 = 8 << 20;
const FETCH_PARTITION_BYTES_MAX: i32 = 1 << 20;

/// What a client gives for a replica's id.
const NO_REPLICA: BrokerId = BrokerId(-1);

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartAt {
    Beginning,
    End,
}

/// A record and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) partition: PartitionId,
    pub(crate) offset: KafkaOffset,
    pub(crate) record: Record,
}

/// A consumer of one topic, without a group.
#[derive(Debug)]
pub(crate) struct Consumer {
    connection: Connection,
    address: SocketAddr,
    topic: TopicName,
    /// The next offset of each partition.
    positions: BTreeMap<i32, i64>,
}

impl Consumer {
    /// Connects, and finds the topic's partitions and where they begin or end.
    pub(crate) async fn connect(
        address: SocketAddr,
        topic: TopicName,
        start: StartAt,
    ) -> Result<Self, ClientError> {
        let mut consumer = Self {
            connection: Connection::open(address).await?,
            address,
            topic,
            positions: BTreeMap::new(),
        };
        let partitions = consumer.partitions().await?;
        consumer.positions = consumer.offsets(&partitions, start).await?;
        Ok(consumer)
    }

    /// Connects again after an error; reading goes on where it stood.
    pub(crate) async fn reconnect(&mut self) -> Result<(), ClientError> {
        self.connection = Connection::open(self.address).await?;
        Ok(())
    }

    /// What has come since the last call; empty when nothing came for a while. A partition whose
    /// position is gone (the log was made anew) is read from its beginning.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Consumed>, ClientError> {
        let request = self.fetch_request();
        let api = "Fetch";
        let response = self.connection.ask(api, FETCH_VERSION, &request).await?;
        check(api, response.error_code)?;
        let mut consumed = Vec::new();
        let mut lost = Vec::new();
        for data in response.responses.into_iter().flat_map(|t| t.partitions) {
            match check(api, data.error_code) {
                Err(ClientError::Refused {
                    error: ResponseError::OffsetOutOfRange,
                    ..
                }) => lost.push(data.partition_index),
                checked => {
                    checked?;
                    self.take(data, &mut consumed)?;
                }
            }
        }
        if !lost.is_empty() {
            let begin = self.offsets(&lost, StartAt::Beginning).await?;
            self.positions.extend(begin);
        }
        Ok(consumed)
    }

    async fn partitions(&mut self) -> Result<Vec<i32>, ClientError> {
        let api = "Metadata";
        let wanted = MetadataRequestTopic::default().with_name(Some(self.name()));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![wanted]))
            .with_allow_auto_topic_creation(false);
        let response = self.connection.ask(api, METADATA_VERSION, &request).await?;
        let topic = response.topics.into_iter().next();
        let topic = topic.ok_or_else(|| protocol(api, "the topic is left out"))?;
        check(api, topic.error_code)?;
        Ok(topic.partitions.iter().map(|p| p.partition_index).collect())
    }

    async fn offsets(
        &mut self,
        partitions: &[i32],
        start: StartAt,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let api = "ListOffsets";
        let timestamp = match start {
            StartAt::Beginning => -2,
            StartAt::End => -1,
        };
        let wanted = partitions.iter().map(|partition| {
            ListOffsetsPartition::default()
                .with_partition_index(*partition)
                .with_timestamp(timestamp)
        });
        let topic = ListOffsetsTopic::default()
            .with_name(self.name())
            .with_partitions(wanted.collect());
        let request = ListOffsetsRequest::default()
            .with_replica_id(NO_REPLICA)
            .with_topics(vec![topic]);
        let response = self
            .connection
            .ask(api, LIST_OFFSETS_VERSION, &request)
            .await?;
        let mut found = BTreeMap::new();
        for partition in response.topics.into_iter().flat_map(|t| t.partitions) {
            check(api, partition.error_code)?;
            found.insert(partition.partition_index, partition.offset);
        }
        match partitions.iter().all(|index| found.contains_key(index)) {
            true => Ok(found),
            false => Err(protocol(api, "a partition is left out")),
        }
    }

    fn fetch_request(&self) -> FetchRequest {
        let partitions = self.positions.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(FETCH_PARTITION_BYTES_MAX)
        });
        let topic = FetchTopic::default()
            .with_topic(self.name())
            .with_partitions(partitions.collect());
        FetchRequest::default()
            .with_replica_id(NO_REPLICA)
            .with_max_wait_ms(FETCH_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES_MAX)
            .with_session_epoch(-1)
            .with_topics(vec![topic])
    }

    /// Unpacks a partition's batches and moves its position behind them.
    fn take(&mut self, data: PartitionData, out: &mut Vec<Consumed>) -> Result<(), ClientError> {
        let Some(position) = self.positions.get_mut(&data.partition_index) else {
            return Err(protocol("Fetch", "a partition that was not asked for"));
        };
        for batch in split_batches(data.records.unwrap_or_default()) {
            let batch = batch?;
            for record in batch.records()? {
                let (offset, record) = record?;
                // A batch is sent whole, also where it begins before what was asked for.
                if offset >= *position {
                    out.push(Consumed {
                        partition: PartitionId(data.partition_index),
                        offset: KafkaOffset(offset),
                        record,
                    });
                }
            }
            let header = batch.header();
            let next = header.base_offset + i64::from(header.last_offset_delta) + 1;
            *position = next.max(*position);
        }
        Ok(())
    }

    fn name(&self) -> KafkaTopicName {
        KafkaTopicName(StrBytes::from_string(self.topic.to_string()))
    }
}
