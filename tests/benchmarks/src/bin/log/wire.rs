//! Edges that land over QUIC with mutual TLS, as many under way as a real one has: what the whole cloud does,
//! its network included.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use tidegate_bridge::{Connection, Credentials, Dialer, FrameReader, FrameWriter};
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::limits::SenderLimits;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::batches::{Batches, Kind};
use crate::edge::{self, Edge};
use crate::tally::{Tally, Until, Watch};

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The hub's address.
    #[arg(long)]
    bridge: SocketAddr,
    /// A folder with the certificates of edges `load-0`, `load-1` …, each in a folder of that name.
    #[arg(long)]
    certificates: PathBuf,
    /// The cloud's process, whose CPU time is read.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, default_value_t = 4)]
    edges: usize,
    /// Lanes of each edge, one for each partition.
    #[arg(long, default_value_t = 12)]
    lanes: usize,
    /// Edge n lands in topic n modulo these.
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// Batches of one edge that wait for their answers, however small they are. As many as it has lanes: in no
    /// partition one edge's batches follow each other.
    #[arg(long, default_value_t = 512)]
    under_way: usize,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    until: Until,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<serde_json::Value> {
    let batches = Batches::new(&arguments.kind);
    let mut links = Vec::with_capacity(arguments.edges);
    for number in 0..arguments.edges {
        links.push(Link::open(&arguments, number).await?);
    }
    let watch = Watch::start(arguments.pid)?;
    let deadline = arguments.until.deadline();
    let mut running = JoinSet::new();
    for (number, link) in links.into_iter().enumerate() {
        let share = arguments.until.share(number, arguments.edges);
        let window = SenderLimits::default().window_bytes_max / batches.bytes;
        let window = window.clamp(1, arguments.under_way);
        running.spawn(link.land(batches.clone(), window, share, deadline));
    }
    let mut tally = Tally::default();
    while let Some(ended) = running.join_next().await {
        tally.join(ended??);
    }
    let (seconds, cpu_s) = watch.stop()?;
    Ok(tally.report(&arguments.kind, &batches, seconds, cpu_s))
}

/// An edge that is connected.
struct Link {
    edge: Edge,
    connection: Connection,
    /// It has its socket for as long as it lives.
    _dialer: Dialer,
}

/// What both directions of a link know.
struct UnderWay {
    edge: Mutex<Edge>,
    offered: Mutex<VecDeque<Instant>>,
    room: Semaphore,
}

impl Link {
    async fn open(arguments: &Arguments, number: usize) -> anyhow::Result<Self> {
        let mut edge = Edge::new(number, number % arguments.topics, arguments.lanes)?;
        let folder = arguments.certificates.join(edge::name(number)?.as_str());
        let mut dialer = Dialer::new(credentials(&folder)?)?;
        let mut connection = dialer.connect(arguments.bridge).await?;
        write_now(&mut connection.control_out, &edge.hello()).await?;
        let welcome = connection.control_in.read().await?;
        for announce in edge.welcomed(welcome)? {
            write_now(&mut connection.control_out, &announce).await?;
            edge.grant(connection.control_in.read().await?)?;
        }
        ensure!(edge.is_granted(), "not all lanes were granted");
        Ok(Self {
            edge,
            connection,
            _dialer: dialer,
        })
    }

    /// Lands so many batches, or until the time is over; all that was offered is waited for.
    async fn land(
        self,
        batches: Batches,
        window: usize,
        count: u64,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Tally> {
        let under_way = UnderWay {
            edge: Mutex::new(self.edge),
            offered: Mutex::default(),
            room: Semaphore::new(window),
        };
        let mut connection = self.connection;
        let mut bulk = connection
            .bulk_out
            .take()
            .context("an edge has a stream for batches")?;
        let (tell, told) = oneshot::channel();
        let offering = async {
            let offered = under_way.offer(&mut bulk, batches, count, deadline).await?;
            let _ = tell.send(offered);
            Ok::<(), anyhow::Error>(())
        };
        let answering = under_way.answered(&mut connection.control_in, told);
        let ((), tally) = tokio::try_join!(offering, answering)?;
        Ok(tally)
    }
}

impl UnderWay {
    /// How many were offered.
    async fn offer(
        &self,
        bulk: &mut FrameWriter,
        mut batches: Batches,
        count: u64,
        deadline: Option<Instant>,
    ) -> anyhow::Result<u64> {
        let mut offered = 0;
        while offered < count && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            if self.room.available_permits() == 0 {
                bulk.flush().await?;
            }
            self.room.acquire().await?.forget();
            let batch = lock(&self.edge).offer(&mut batches);
            lock(&self.offered).push_back(Instant::now());
            bulk.write(&Frame::Batch(batch)).await?;
            offered += 1;
        }
        bulk.flush().await?;
        Ok(offered)
    }

    /// Takes answers, which come in the order of the offers, until all are there that were told.
    async fn answered(
        &self,
        control: &mut FrameReader,
        mut told: oneshot::Receiver<u64>,
    ) -> anyhow::Result<Tally> {
        let (mut tally, mut total) = (Tally::default(), None);
        while total != Some(tally.batches) {
            tokio::select! {
                frame = control.read() => {
                    let records = lock(&self.edge).landed(frame?)?;
                    let offered_at = lock(&self.offered).pop_front();
                    tally.add(records, offered_at.context("an answer too many")?);
                    self.room.add_permits(1);
                }
                offered = &mut told, if total.is_none() => total = Some(offered?),
            }
        }
        Ok(tally)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn credentials(folder: &Path) -> anyhow::Result<Credentials> {
    let path = |name: &str| folder.join(name);
    let loaded = Credentials::load(&path("edge.crt"), &path("edge.key"), &path("ca.crt"));
    loaded.with_context(|| format!("no certificate in {}", folder.display()))
}

async fn write_now(control: &mut FrameWriter, frame: &Frame) -> anyhow::Result<()> {
    control.write(frame).await?;
    Ok(control.flush().await?)
}
