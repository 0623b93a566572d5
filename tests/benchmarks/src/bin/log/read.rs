//! Reading, as any Kafka client does it: Fetch by Fetch from a topic's beginning to its end, or for some time
//! at the end, some connections side by side. Each batch's CRC is checked, and that no offset is missing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use serde_json::json;
use tidegate_shared::record::split_batches;
use tokio::task::JoinSet;

use crate::kafka::{Client, name};
use crate::tally::Watch;

const FETCH_VERSION: i16 = 4;

/// As librdkafka and the Java client ask by default.
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const RESPONSE_BYTES_MAX: i32 = 50 << 20;
const WAIT_MS_MAX: i32 = 500;

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    kafka: SocketAddr,
    /// May be repeated.
    #[arg(long, required = true)]
    topic: Vec<String>,
    /// Connections, among which the partitions are shared out.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Follows what comes for so long, instead of ending where a partition ends.
    #[arg(long)]
    follow_seconds: Option<f64>,
    /// The broker's process, whose CPU time is read.
    #[arg(long)]
    pid: Option<u32>,
}

/// What was read, whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    pub records: u64,
    batches: u64,
    bytes: u64,
    requests: u64,
}

impl Read {
    fn join(&mut self, other: Self) {
        self.records += other.records;
        self.batches += other.batches;
        self.bytes += other.bytes;
        self.requests += other.requests;
    }
}

pub async fn run(arguments: Arguments) -> anyhow::Result<serde_json::Value> {
    let watch = Watch::start(arguments.pid)?;
    let follow = arguments.follow_seconds.map(Duration::try_from_secs_f64);
    let until = follow.transpose()?.map(|span| Instant::now() + span);
    let (topics, connections) = (arguments.topic, arguments.connections);
    let read = read_until(arguments.kafka, topics, connections, until).await?;
    let (seconds, cpu_s) = watch.stop()?;
    Ok(json!({
        "records": read.records,
        "batches": read.batches,
        "bytes": read.bytes,
        "requests": read.requests,
        "seconds": seconds,
        "cpu_s": cpu_s,
    }))
}

/// Reads topics to where they end while they are read.
pub async fn all(
    kafka: SocketAddr,
    topics: Vec<String>,
    connections: usize,
) -> anyhow::Result<Read> {
    read_until(kafka, topics, connections, None).await
}

/// Reads topics to where they end, or until then.
async fn read_until(
    kafka: SocketAddr,
    topics: Vec<String>,
    connections: usize,
    until: Option<Instant>,
) -> anyhow::Result<Read> {
    let mut shares: Vec<Vec<Place>> = vec![Vec::new(); connections];
    let mut client = Client::connect(kafka).await?;
    let mut turn = (0..connections).cycle();
    for topic in &topics {
        for partition in client.partitions(topic).await? {
            let to = turn.next().context("no connections")?;
            shares[to].push(Place {
                topic: topic.clone(),
                partition,
                next: 0,
            });
        }
    }
    let mut running = JoinSet::new();
    for share in shares.into_iter().filter(|share| !share.is_empty()) {
        running.spawn(Box::pin(read_share(kafka, share, until)));
    }
    let mut read = Read::default();
    while let Some(ended) = running.join_next().await {
        read.join(ended??);
    }
    Ok(read)
}

/// How far a partition has been read.
#[derive(Clone, Debug)]
struct Place {
    topic: String,
    partition: i32,
    next: i64,
}

async fn read_share(
    kafka: SocketAddr,
    mut places: Vec<Place>,
    until: Option<Instant>,
) -> anyhow::Result<Read> {
    let mut client = Client::connect(kafka).await?;
    let mut read = Read::default();
    while !places.is_empty() && until.is_none_or(|until| Instant::now() < until) {
        let response = client.ask(FETCH_VERSION, &request(&places)).await?;
        read.requests += 1;
        let answers = response.responses.into_iter().flat_map(|topic| {
            let of = topic.topic.0.to_string();
            topic
                .partitions
                .into_iter()
                .map(move |data| (of.clone(), data))
        });
        let mut left = Vec::with_capacity(places.len());
        // Both are in the order of the request.
        let mut asked = places.into_iter();
        for (topic, data) in answers {
            let mut place = asked.next().context("more is answered than was asked")?;
            let same = place.topic == topic && place.partition == data.partition_index;
            ensure!(same, "{topic}/{} was not asked", data.partition_index);
            if !place.advance(data, &mut read)? || until.is_some() {
                left.push(place);
            }
        }
        ensure!(asked.next().is_none(), "less is answered than was asked");
        places = left;
    }
    Ok(read)
}

fn request(places: &[Place]) -> FetchRequest {
    let topics = places.chunk_by(|one, other| one.topic == other.topic);
    let topics = topics.map(|places| {
        let partitions = places.iter().map(|place| {
            FetchPartition::default()
                .with_partition(place.partition)
                .with_fetch_offset(place.next)
                .with_partition_max_bytes(PARTITION_BYTES_MAX)
        });
        FetchTopic::default()
            .with_topic(name(&places[0].topic))
            .with_partitions(partitions.collect())
    });
    FetchRequest::default()
        .with_max_wait_ms(WAIT_MS_MAX)
        .with_min_bytes(1)
        .with_max_bytes(RESPONSE_BYTES_MAX)
        .with_topics(topics.collect())
}

impl Place {
    /// Takes what a Fetch has brought; whether the partition's end is reached.
    fn advance(&mut self, data: PartitionData, read: &mut Read) -> anyhow::Result<bool> {
        let (topic, partition) = (&self.topic, self.partition);
        ensure!(
            data.error_code == 0,
            "{topic}/{partition} at {}: error {}",
            self.next,
            data.error_code
        );
        for batch in split_batches(data.records.unwrap_or_default()) {
            let batch = batch?;
            let header = batch.header();
            ensure!(
                header.base_offset == self.next,
                "{topic}/{partition} goes on at {} instead of {}",
                header.base_offset,
                self.next
            );
            self.next += header.offset_count() as i64;
            read.records += header.records_count as u64;
            read.batches += 1;
            read.bytes += header.batch_bytes as u64;
        }
        Ok(self.next >= data.high_watermark)
    }
}
