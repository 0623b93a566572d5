//! Produces the same batches to a Kafka broker with acks=all, as suits it best: each request has a batch for each
//! of its connection's partitions (or for some in turn), there are connections enough to have its threads sync side
//! by side, and requests are on their way while others are answered. Or at a fixed rate: then waiting is counted
//! from when a request was due, so that what stands still is not hidden.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
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
const TOPIC_ALREADY_EXISTS: i16 = 36;
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
    /// It is made where it is not there; nothing may be in it.
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
    /// A request has a batch for at most so many partitions, which take turns.
    #[arg(long, default_value_t = usize::MAX)]
    request_partitions_max: usize,
    /// Requests a second, over all connections, instead of as many as go.
    #[arg(long)]
    rate: Option<f64>,
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
    let pace = arguments
        .rate
        .map(|rate| f64::from(arguments.connections) / rate);
    let pace = pace.map(Duration::try_from_secs_f64).transpose()?;
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
            places: mine.map(|partition| (partition, 0)).collect(),
            request_partitions_max: arguments.request_partitions_max.max(1),
            next: 0,
            batches: batches.clone(),
            under_way: VecDeque::new(),
            tally: Tally::default(),
        };
        running.spawn(Box::pin(async move {
            match pace {
                None => producer.produce(share, deadline).await,
                Some(pace) => producer.pace(share, deadline, pace).await,
            }
        }));
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
        let is_there = [0, TOPIC_ALREADY_EXISTS].contains(&topic.error_code);
        ensure!(is_there, "{}: {why}", arguments.topic);
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
    /// Its partitions, and the batches that are answered in each.
    places: Vec<(i32, i64)>,
    request_partitions_max: usize,
    /// The place whose turn it is.
    next: usize,
    batches: Batches,
    /// When each request was offered, and the places that it has batches for.
    under_way: VecDeque<(Instant, Range<usize>)>,
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
            sent += self.send(None).await?;
        }
        self.take_rest().await
    }

    /// The same at a fixed rate, with as many requests under way as that takes.
    async fn pace(
        mut self,
        count: u64,
        deadline: Option<Instant>,
        every: Duration,
    ) -> anyhow::Result<Tally> {
        let (mut sent, mut due) = (0, Instant::now());
        while sent < count && deadline.is_none_or(|deadline| due < deadline) {
            tokio::select! {
                biased;
                answered = self.client.answered(), if !self.under_way.is_empty() => {
                    answered?;
                    self.take_answer().await?;
                }
                () = tokio::time::sleep_until(due.into()) => {
                    sent += self.send(Some(due)).await?;
                    due += every;
                }
            }
        }
        self.take_rest().await
    }

    async fn take_rest(mut self) -> anyhow::Result<Tally> {
        while !self.under_way.is_empty() {
            self.take_answer().await?;
        }
        Ok(self.tally)
    }

    /// Sends the next request, which was due then; how many batches it has.
    async fn send(&mut self, due: Option<Instant>) -> anyhow::Result<u64> {
        let end = self
            .places
            .len()
            .min(self.next.saturating_add(self.request_partitions_max));
        let places = self.next..end;
        self.next = if end == self.places.len() { 0 } else { end };
        let request = encode(PRODUCE_VERSION, &self.request(places.clone()))?;
        let batches = places.len() as u64;
        self.under_way
            .push_back((due.unwrap_or_else(Instant::now), places));
        self.client.send(&request).await?;
        Ok(batches)
    }

    fn request(&mut self, places: Range<usize>) -> ProduceRequest {
        let batches = &mut self.batches;
        let data = self.places[places].iter().map(|(partition, _)| {
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
        let (sent_at, places) = self.under_way.pop_front().context("an answer too many")?;
        let answers = response.responses.first().context("no topic is answered")?;
        let answers = &answers.partition_responses;
        ensure!(answers.len() == places.len(), "answers are missing");
        let records = i64::from(self.batches.records);
        let places = &mut self.places[places];
        for answer in answers {
            let (topic, partition) = (&self.topic, answer.index);
            let place = places.binary_search_by_key(&partition, |place| place.0);
            let place = place.map_err(|_| anyhow::anyhow!("{topic}/{partition} was not asked"))?;
            let answered = &mut places[place].1;
            ensure!(
                answer.error_code == 0,
                "{topic}/{partition}: error {}",
                answer.error_code
            );
            ensure!(
                answer.base_offset == *answered * records,
                "{topic}/{partition} goes on at {}",
                answer.base_offset
            );
            *answered += 1;
            self.tally.add(records as u64, sent_at);
        }
        Ok(())
    }
}
