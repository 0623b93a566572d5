//! Produces the same batches to Apache Kafka with acks=all, as suits it best: each request has a batch for each
//! of its connection's partitions, there are connections enough to have its threads sync side by side, and
//! requests are on their way while others are answered.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use crate::batches::{Batches, Kind};
use crate::kafka::{Client, encode, name};
use crate::read;
use crate::tally::{Tally, Until, Watch};

const PRODUCE_VERSION: i16 = 7;
const CREATE_TOPICS_VERSION: i16 = 5;
const ACKS_ALL: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;

/// Requests of one connection on their way, as the Java producer has by default.
const UNDER_WAY_MAX: usize = 5;

/// A new topic has its leaders in this time.
const LEADERS_MAX: Duration = Duration::from_secs(30);
const LEADERS_EVERY: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    kafka: SocketAddr,
    /// It is made, with 12 partitions.
    #[arg(long)]
    topic: String,
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// Connections, among which the partitions are shared out.
    #[arg(long, default_value_t = 4)]
    connections: i32,
    /// Kafka syncs each batch before it answers (`flush.messages=1`).
    #[arg(long)]
    flush: bool,
    /// The broker's process, whose CPU time is read.
    #[arg(long)]
    pid: Option<u32>,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    until: Until,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<serde_json::Value> {
    let batches = Batches::new(&arguments.kind);
    create(&arguments).await?;
    let watch = Watch::start(arguments.pid)?;
    let deadline = arguments.until.deadline();
    let mut running = JoinSet::new();
    for number in 0..arguments.connections {
        let mine = (0..arguments.partitions)
            .filter(|partition| partition % arguments.connections == number);
        let share = arguments
            .until
            .share(number as usize, arguments.connections as usize);
        let producer = Producer {
            client: Client::connect(arguments.kafka).await?,
            topic: arguments.topic.clone(),
            partitions: mine.collect(),
            batches: batches.clone(),
            under_way: VecDeque::new(),
            answered: 0,
            tally: Tally::default(),
        };
        running.spawn(Box::pin(producer.produce(share, deadline)));
    }
    let mut tally = Tally::default();
    while let Some(ended) = running.join_next().await {
        tally.join(ended??);
    }
    let (seconds, cpu_s) = watch.stop()?;
    Ok(tally.report(&arguments.kind, &batches, seconds, cpu_s))
}

/// Makes the topic, and waits for its leaders.
async fn create(arguments: &Arguments) -> anyhow::Result<()> {
    let mut client = Client::connect(arguments.kafka).await?;
    let text = |text: &'static str| StrBytes::from_static_str(text);
    let flush = CreatableTopicConfig::default()
        .with_name(text("flush.messages"))
        .with_value(Some(text("1")));
    let topic = CreatableTopic::default()
        .with_name(name(&arguments.topic))
        .with_num_partitions(arguments.partitions)
        .with_replication_factor(1)
        .with_configs(if arguments.flush { vec![flush] } else { vec![] });
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    let response = client.ask(CREATE_TOPICS_VERSION, &request).await?;
    for topic in response.topics {
        let why = topic.error_message.unwrap_or_default();
        ensure!(topic.error_code == 0, "{}: {why}", arguments.topic);
    }
    let until = Instant::now() + LEADERS_MAX;
    // A leader is told of before it serves: whether it does, reading shows.
    let topics = vec![arguments.topic.clone()];
    while let Err(error) = read::all(arguments.kafka, topics.clone(), 1).await {
        ensure!(Instant::now() < until, "{}: {error:#}", arguments.topic);
        tokio::time::sleep(LEADERS_EVERY).await;
    }
    Ok(())
}

/// One connection.
struct Producer {
    client: Client,
    topic: String,
    partitions: Vec<i32>,
    batches: Batches,
    under_way: VecDeque<Instant>,
    /// Requests.
    answered: i64,
    tally: Tally,
}

impl Producer {
    /// As many requests as hold that many batches, or until the time is over.
    async fn produce(mut self, count: u64, deadline: Option<Instant>) -> anyhow::Result<Tally> {
        let mut sent = 0;
        while sent < count && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            if self.under_way.len() >= UNDER_WAY_MAX {
                self.take_answer().await?;
            }
            let request = encode(PRODUCE_VERSION, &self.request())?;
            self.under_way.push_back(Instant::now());
            self.client.send(&request).await?;
            sent += self.partitions.len() as u64;
        }
        while !self.under_way.is_empty() {
            self.take_answer().await?;
        }
        Ok(self.tally)
    }

    fn request(&mut self) -> ProduceRequest {
        let batches = &mut self.batches;
        let data = self.partitions.iter().map(|partition| {
            PartitionProduceData::default()
                .with_index(*partition)
                .with_records(Some(batches.next()))
        });
        let topic = TopicProduceData::default()
            .with_name(name(&self.topic))
            .with_partition_data(data.collect());
        ProduceRequest::default()
            .with_acks(ACKS_ALL)
            .with_timeout_ms(TIMEOUT_MS)
            .with_topic_data(vec![topic])
    }

    async fn take_answer(&mut self) -> anyhow::Result<()> {
        let response = self
            .client
            .receive::<ProduceRequest>(PRODUCE_VERSION)
            .await?;
        let sent_at = self.under_way.pop_front().context("an answer too many")?;
        let answers = response.responses.first().context("no topic is answered")?;
        let answers = &answers.partition_responses;
        ensure!(
            answers.len() == self.partitions.len(),
            "answers are missing"
        );
        let records = i64::from(self.batches.records);
        for answer in answers {
            let (topic, partition) = (&self.topic, answer.index);
            ensure!(
                answer.error_code == 0,
                "{topic}/{partition}: error {}",
                answer.error_code
            );
            ensure!(
                answer.base_offset == self.answered * records,
                "{topic}/{partition} goes on at {}",
                answer.base_offset
            );
            self.tally.add(records as u64, sent_at);
        }
        self.answered += 1;
        Ok(())
    }
}
