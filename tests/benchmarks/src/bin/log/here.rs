//! Lands in a cloud within this process, without a network: what the log itself does. The way is the hub's:
//! frames, checked by `HubConnection`, become questions, and their wishes are submitted as they have gathered;
//! the sequencer writes, syncs, and applies to ledger and offset map; the answers become frames again.
//!
//! What edges do (copying a sealed batch, numbering it) runs on a thread of its own, whose CPU time is not
//! counted.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, ensure};
use rustix::time::{ClockId, clock_gettime};
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::hub::HubConnection;
use tidegate_cloud::limits::HUB_QUESTIONS_MAX;
use tidegate_cloud::{Broker, Cloud, Config};
use tidegate_cloud_protocol::questions::{Answer, Question};
use tidegate_shared::id::{EdgeId, SessionEpoch};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::batches::{Batches, Kind};
use crate::edge::{self, Edge};
use crate::read;
use crate::tally::{Tally, Until};

/// Batches of one link that are submitted together, in bytes.
const BUNDLE_BYTES_MAX: usize = 4 << 20;

/// Bundles that are made ahead for each link.
const BUNDLES_AHEAD: usize = 2;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The cloud's folder; it is made.
    #[arg(long)]
    data: PathBuf,
    #[arg(long, default_value_t = 4)]
    edges: usize,
    /// The topic's partitions, and each edge's lanes.
    #[arg(long, default_value_t = 12)]
    lanes: usize,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    until: Until,
}

/// What is offered together.
type Bundle = Vec<Frame>;

pub async fn run(arguments: Arguments) -> anyhow::Result<serde_json::Value> {
    let batches = Batches::new(&arguments.kind);
    let cloud = start(&arguments.data, arguments.lanes).await?;
    let broker = cloud.broker();
    let (mut links, mut makers) = (Vec::new(), Vec::new());
    for number in 0..arguments.edges {
        let (sender, bundles) = mpsc::channel(BUNDLES_AHEAD);
        let (link, edge) = Link::open(&broker, number, arguments.lanes, bundles).await?;
        links.push(link);
        makers.push(Maker {
            sender,
            edge,
            left: arguments.until.share(number, arguments.edges),
        });
    }
    let (syncs, logged) = written(&broker);
    let (cpu_before, began) = (process_cpu_s(), Instant::now());
    let (deadline, made) = (arguments.until.deadline(), batches.clone());
    let maker = thread::spawn(move || make(makers, made, deadline));
    let tally = land_all(links).await?;
    let (seconds, cpu_s) = (began.elapsed().as_secs_f64(), process_cpu_s() - cpu_before);
    let maker_cpu_s = maker.join().map_err(|_| anyhow!("the maker has failed"))?;
    check(&cloud, tally.records).await?;
    let mut report = tally.report(
        &arguments.kind,
        &batches,
        seconds,
        Some(cpu_s - maker_cpu_s),
    );
    let (syncs_after, logged_after) = written(&broker);
    report["syncs"] = (syncs_after - syncs).into();
    report["log_bytes"] = (logged_after - logged).into();
    cloud.shutdown().await;
    Ok(report)
}

async fn land_all(links: Vec<Link>) -> anyhow::Result<Tally> {
    let mut running = JoinSet::new();
    for link in links {
        running.spawn(link.land());
    }
    let mut tally = Tally::default();
    while let Some(ended) = running.join_next().await {
        tally.join(ended??);
    }
    Ok(tally)
}

async fn start(data: &Path, partitions: usize) -> anyhow::Result<Cloud> {
    let folder = serde_json::to_string(data)?;
    let yaml = format!(
        "{{data: {folder}, kafka: {{address: '127.0.0.1:0'}}, http: {{address: '127.0.0.1:0'}}, \
         bridge: {{address: '127.0.0.1:0'}}, topics: [{{name: {}, partitions: {partitions}}}]}}",
        edge::topic(0)
    );
    Box::pin(Cloud::start(Config::parse(&yaml)?)).await
}

/// Syncs of the log, and bytes written to it.
fn written(broker: &Broker) -> (u64, u64) {
    let metrics = broker.metrics();
    (metrics.log_syncs.get(), metrics.log_written_bytes.get())
}

/// What was counted as landed can be read, each record at its offset.
async fn check(cloud: &Cloud, records: u64) -> anyhow::Result<()> {
    let read = read::all(cloud.kafka_address(), vec![edge::topic(0)], 1).await?;
    ensure!(
        read.records == records,
        "{records} records have landed, and {} can be read",
        read.records
    );
    Ok(())
}

fn process_cpu_s() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What is left to offer to one link.
struct Maker {
    sender: mpsc::Sender<Bundle>,
    edge: Edge,
    left: u64,
}

/// Makes offers for all links in turn. Returns the CPU time that it took.
fn make(mut makers: Vec<Maker>, mut batches: Batches, deadline: Option<Instant>) -> f64 {
    let fits = (BUNDLE_BYTES_MAX / batches.bytes).clamp(1, HUB_QUESTIONS_MAX) as u64;
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        makers.retain(|maker| maker.left > 0);
        if makers.is_empty() {
            break;
        }
        for maker in &mut makers {
            let count = fits.min(maker.left);
            let offer = |_| Frame::Batch(maker.edge.offer(&mut batches));
            let bundle: Bundle = (0..count).map(offer).collect();
            maker.left -= count;
            if maker.sender.blocking_send(bundle).is_err() {
                maker.left = 0;
            }
        }
    }
    seconds(ClockId::ThreadCPUTime)
}

/// The hub's end of an edge's connection.
struct Link {
    name: EdgeId,
    broker: Broker,
    hub: HubConnection,
    session_epoch: SessionEpoch,
    /// What answers are held against.
    granted: Edge,
    bundles: mpsc::Receiver<Bundle>,
}

impl Link {
    /// The link, and the edge whose offers are to come.
    async fn open(
        broker: &Broker,
        number: usize,
        lanes: usize,
        bundles: mpsc::Receiver<Bundle>,
    ) -> anyhow::Result<(Self, Edge)> {
        let mut link = Self {
            name: edge::name(number)?,
            broker: broker.clone(),
            hub: HubConnection::new(),
            session_epoch: SessionEpoch(0),
            granted: Edge::new(number, 0, lanes)?,
            bundles,
        };
        let welcome = link.exchange(vec![link.granted.hello()]).await?;
        for announce in link.granted.welcomed(one(welcome)?)? {
            let granted = link.exchange(vec![announce]).await?;
            link.granted.grant(one(granted)?)?;
        }
        ensure!(link.granted.is_granted(), "not all lanes were granted");
        let edge = link.granted.clone();
        Ok((link, edge))
    }

    /// All that is offered.
    async fn land(mut self) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        while let Some(bundle) = self.bundles.recv().await {
            let (offered_at, count) = (Instant::now(), bundle.len());
            let answers = self.exchange(bundle).await?;
            ensure!(answers.len() == count, "answers are missing");
            for answer in answers {
                tally.add(self.granted.landed(answer)?, offered_at);
            }
        }
        Ok(tally)
    }

    /// What the hub says to frames; as its driver does it.
    async fn exchange(&mut self, frames: Vec<Frame>) -> anyhow::Result<Vec<Frame>> {
        let mut questions = Vec::with_capacity(frames.len());
        for frame in frames {
            self.hub.handle_frame(now_ms(), frame)?;
            while let Some(event) = self.hub.poll_event() {
                questions.push(Question::of(event, self.session_epoch));
            }
        }
        let wishes = questions
            .iter()
            .flat_map(|question| question.wishes(&self.name));
        let mut effects = self.broker.submit(wishes.collect()).await?.into_iter();
        let mut said = Vec::with_capacity(questions.len());
        for question in questions {
            let answer = question.answer(&self.name, &mut effects, &self.broker);
            let answer = answer.context("the effects are no answer")?;
            if let Answer::Session(session_epoch) = answer {
                self.session_epoch = session_epoch;
            }
            let (name, hub) = (&self.name, &mut self.hub);
            self.broker
                .ledger(|ledger| answer.tell(name, hub, ledger, now_ms()))?;
            said.extend(std::iter::from_fn(|| hub.poll_transmit()));
        }
        Ok(said)
    }
}

fn one(frames: Vec<Frame>) -> anyhow::Result<Frame> {
    let [frame] = <[Frame; 1]>::try_from(frames)
        .map_err(|frames| anyhow!("instead of one frame came {frames:?}"))?;
    Ok(frame)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
