//! The uplink's driver: connects to the hub, feeds the sender machine, and does what it asks for.

pub(crate) mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_bridge::{ChannelError, Connection, Credentials, Dialer, FrameWriter};
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::limits::SenderLimits;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_bridge_protocol::sender::{
    Alarm, LocalStream, ReadOutcome, ReadRequest, SealedBatch, SealedGap, Sender, SenderEvent,
    StreamRead,
};
use tidegate_edge_journal::{Gap, ReadError, Sealed, StreamStatus, ToSend, merge};
use tidegate_shared::fleet::UplinkSpec;
use tidegate_shared::id::{EdgeOffset, Incarnation, SessionEpoch, StreamId, StreamName};
use tidegate_shared::record::Compression;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::committer::{Committer, Landing};
use crate::limits::{CONNECT_TIMEOUT, RECONNECT_MIN};
use crate::metrics::Metrics;

/// What comes back from work that the sender asked for.
enum Done {
    Read(Vec<StreamRead>),
    SessionStored(SessionEpoch),
    GrantStored(StreamId, Incarnation),
    Proof(
        StreamId,
        EdgeOffset,
        Option<tidegate_shared::id::BoundaryHash>,
    ),
    /// The journal has no room even for what frees it: this connection can't go on.
    NotStored,
}

/// Why a connection ended.
enum End {
    Stopping,
    Lost(String),
    Closed(CloseCode),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => formatter.write_str("the edge is stopping"),
            Self::Lost(why) => formatter.write_str(why),
            Self::Closed(code) if is_alarming(*code) => formatter.write_str(meaning(*code)),
            Self::Closed(code) => write!(formatter, "closed: {code}"),
        }
    }
}

pub(crate) struct Uplink {
    hub: String,
    reconnect_max: Duration,
    dialer: Dialer,
    sender: Sender,
    committer: Committer,
    compression: Arc<BTreeMap<StreamId, Compression>>,
    /// Of streams as routes name them.
    priorities: BTreeMap<StreamName, u8>,
    /// Stays here.
    unrouted: StreamId,
    metrics: Arc<Metrics>,
    done: mpsc::UnboundedSender<Done>,
    results: mpsc::UnboundedReceiver<Done>,
    /// What the sender asked for: it waits for their results.
    jobs: JoinSet<()>,
}

/// While the hub is connected; says when it is not any more, also where that is by a panic.
struct Connected(Arc<Metrics>);

impl Connected {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.uplink_connected.set(1);
        metrics.link.connected();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.uplink_connected.set(0);
        if std::thread::panicking() {
            self.0.link.lost("a panic".to_owned());
        }
    }
}

impl Uplink {
    pub(crate) fn new(
        spec: &UplinkSpec,
        credentials: Credentials,
        committer: Committer,
        compression: BTreeMap<StreamId, Compression>,
        priorities: BTreeMap<StreamName, u8>,
        unrouted: StreamId,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let reader = committer.reader();
        let (cluster, session_epoch) = reader.session();
        let mut sender = Sender::new(
            SenderLimits::default(),
            reader.store_id(),
            cluster,
            session_epoch,
        );
        let streams = reader.streams().into_iter();
        for status in streams.filter(|status| status.stream != unrouted) {
            let (stream, hold) = (status.stream, committer.keyed().hold(status.stream));
            sender.handle_stream(local(status, &priorities));
            sender.handle_hold(stream, hold);
        }
        let (done, results) = mpsc::unbounded_channel();
        let dialer = Dialer::new(credentials)?;
        let hub = spec.cloud.clone();
        Ok(Self {
            hub,
            reconnect_max: spec.reconnect_max.0,
            dialer,
            sender,
            committer,
            compression: Arc::new(compression),
            priorities,
            unrouted,
            metrics,
            done,
            results,
            jobs: JoinSet::new(),
        })
    }

    /// Connects, again and again, until told to stop.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut pause = RECONNECT_MIN;
        let mut said = false;
        loop {
            let connecting = timeout(CONNECT_TIMEOUT, self.connect());
            let connected = tokio::select! {
                connected = connecting => connected,
                _ = stopping.changed() => return,
            };
            match connected.unwrap_or_else(|_| Err("the hub does not answer".to_owned())) {
                Ok(connection) => {
                    tracing::info!(hub = %self.hub, "uplink: connected");
                    let connected = Connected::new(&self.metrics);
                    let end = self.exchange(connection, &mut stopping).await;
                    drop(connected);
                    self.sender.handle_disconnected();
                    self.metrics.link.lost(end.to_string());
                    match end {
                        End::Stopping => return,
                        // Somebody else has this edge's identity, or an operator has to decide: not
                        // at full speed.
                        End::Closed(code) if is_alarming(code) => {
                            tracing::error!(hub = %self.hub, %code, "uplink: alarm: {}", meaning(code));
                            self.metrics.alarm(code.name());
                            pause = self.reconnect_max;
                        }
                        End::Closed(_) => {}
                        End::Lost(why) => {
                            tracing::info!(hub = %self.hub, why, "uplink: the connection is lost");
                            pause = RECONNECT_MIN;
                        }
                    }
                    said = false;
                }
                Err(why) => {
                    self.metrics.link.failed(&why);
                    // Once per outage; the counter tells the rest.
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(hub = %self.hub, why, "uplink: no connection; data is kept");
                    }
                    self.metrics.uplink_connect_failures.inc();
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = stopping.changed() => return,
            }
            pause = (pause * 2).min(self.reconnect_max);
        }
    }

    async fn connect(&mut self) -> Result<Connection, String> {
        let resolved = tokio::net::lookup_host(&self.hub).await;
        let mut addresses = resolved.map_err(|error| format!("{}: {error}", self.hub))?;
        let address: SocketAddr = addresses.next().ok_or("the hub's name has no address")?;
        self.dialer
            .connect(address)
            .await
            .map_err(|error| error.to_string())
    }

    async fn exchange(
        &mut self,
        connection: Connection,
        stopping: &mut watch::Receiver<bool>,
    ) -> End {
        let Connection {
            handle,
            mut control_in,
            control_out,
            bulk_out,
            ..
        } = connection;
        let Some(bulk_out) = bulk_out else {
            return End::Lost("no stream".to_owned());
        };
        let (control, control_task) = start_writer(control_out);
        let (bulk, bulk_task) = start_writer(bulk_out);
        self.sender.handle_connected();
        let end = loop {
            if let Some(code) = self.act() {
                break End::Closed(code);
            }
            while let Some(frame) = self.sender.poll_transmit() {
                // Bounded by the sender's window; the writers' end is seen as the connection's.
                let writer = if matches!(frame, Frame::Batch(_) | Frame::Gap(_)) {
                    &bulk
                } else {
                    &control
                };
                let _ = writer.send(frame);
            }
            let deadline = self.sender.poll_timeout();
            let wake = deadline.unwrap_or_else(|| Instant::now() + CONNECT_TIMEOUT);
            tokio::select! {
                frame = control_in.read() => match frame {
                    Ok(frame) => {
                        self.sender.handle_frame(Instant::now(), frame);
                        while let Ok(Some(frame)) = control_in.read_buffered() {
                            self.sender.handle_frame(Instant::now(), frame);
                        }
                    }
                    Err(ChannelError::Frame(error)) => {
                        tracing::warn!(%error, "uplink: the hub sent what is no frame");
                        break End::Closed(CloseCode::Protocol);
                    }
                    // The code may come alone: a close does not wait for frames.
                    Err(error) => {
                        if let Some(code) = handle.peer_code().filter(|code| is_alarming(*code)) {
                            break End::Closed(code);
                        }
                        let reason = handle.end_reason();
                        break End::Lost(reason.unwrap_or_else(|| error.to_string()));
                    }
                },
                grown = self.committer.grown().take() => self.grow(grown),
                Some(done) = self.results.recv() => {
                    let mut goes_on = self.take(done);
                    while let Ok(done) = self.results.try_recv() {
                        goes_on &= self.take(done);
                    }
                    if !goes_on {
                        break End::Lost("the journal has no room for the session".to_owned());
                    }
                }
                Some(ended) = self.jobs.join_next() => {
                    // Nobody else would answer what the sender waits for.
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                () = sleep_until(wake.into()), if deadline.is_some() => {
                    self.sender.handle_timeout(Instant::now());
                }
                _ = stopping.changed() => break End::Stopping,
            }
        };
        let code = match end {
            End::Closed(code) => code,
            _ => CloseCode::Shutdown,
        };
        handle.close(code, code.name());
        control_task.abort();
        bulk_task.abort();
        end
    }

    fn grow(&mut self, streams: impl IntoIterator<Item = StreamId>) {
        for stream in streams
            .into_iter()
            .filter(|stream| *stream != self.unrouted)
        {
            // Before what came after a switch is seen.
            let hold = self.committer.keyed().hold(stream);
            self.sender.handle_hold(stream, hold);
            if let Some(status) = self.committer.reader().stream(stream) {
                self.sender.handle_stream(local(status, &self.priorities));
                self.sender.handle_hold(stream, hold);
            }
        }
    }

    /// Whether the connection can go on.
    fn take(&mut self, done: Done) -> bool {
        match done {
            Done::NotStored => return false,
            Done::Read(reads) => self.sender.handle_read(Instant::now(), reads),
            Done::SessionStored(epoch) => self.sender.handle_session_stored(epoch),
            Done::GrantStored(stream, incarnation) => {
                self.sender.handle_grant_stored(stream, incarnation);
            }
            Done::Proof(stream, offset, hash) => self.sender.handle_proof(stream, offset, hash),
        }
        true
    }

    /// Does what the sender asks for; says with which code it wants the connection closed.
    fn act(&mut self) -> Option<CloseCode> {
        let mut landings = Vec::new();
        let close = self.act_on_events(&mut landings);
        if !landings.is_empty() {
            self.committer.landed(landings);
        }
        close
    }

    fn act_on_events(&mut self, landings: &mut Vec<Landing>) -> Option<CloseCode> {
        while let Some(event) = self.sender.poll_event() {
            let done = self.done.clone();
            let committer = self.committer.clone();
            match event {
                SenderEvent::StoreSession {
                    cluster_incarnation,
                    session_epoch,
                } => {
                    self.jobs.spawn(async move {
                        let stored = committer.store_session(cluster_incarnation, session_epoch);
                        let _ = done.send(match stored.await {
                            true => Done::SessionStored(session_epoch),
                            false => Done::NotStored,
                        });
                    });
                }
                SenderEvent::StoreGrant {
                    stream,
                    incarnation,
                } => {
                    self.jobs.spawn(async move {
                        let stored = committer.store_grant(stream, incarnation).await;
                        let _ = done.send(match stored {
                            true => Done::GrantStored(stream, incarnation),
                            false => Done::NotStored,
                        });
                    });
                }
                SenderEvent::Prove { stream, offset } => {
                    let reader = committer.reader().clone();
                    self.jobs.spawn_blocking(move || {
                        let hash = reader.hash_at(stream, offset).unwrap_or_else(|error| {
                            tracing::error!(%stream, %offset, %error, "uplink: no proof");
                            None
                        });
                        let _ = done.send(Done::Proof(stream, offset, hash));
                    });
                }
                SenderEvent::Read { streams, bytes_max } => {
                    let compression = Arc::clone(&self.compression);
                    self.jobs.spawn_blocking(move || {
                        let reads = read(&committer, streams, bytes_max, &compression);
                        let _ = done.send(Done::Read(reads));
                    });
                }
                SenderEvent::Landed {
                    stream,
                    landed,
                    hash,
                    ..
                } => {
                    landings.push((stream, landed, hash));
                    self.metrics.link.landed(stream);
                }
                SenderEvent::Partitions { stream, partitions } => {
                    if committer.keyed().compression(stream).is_some() {
                        committer.partitions(stream, partitions);
                    }
                }
                SenderEvent::Alarm(alarm) => self.alarm(&alarm),
                SenderEvent::Close(code) => {
                    tracing::warn!(hub = %self.hub, %code, "uplink: closing");
                    return Some(code);
                }
            }
        }
        None
    }

    fn alarm(&self, alarm: &Alarm) {
        self.metrics.alarm(alarm.name());
        self.metrics.link.alarm(alarm);
        tracing::error!(%alarm, "uplink: alarm");
    }
}

/// Whether a connection ends for a reason that does not pass by itself.
fn is_alarming(code: CloseCode) -> bool {
    matches!(
        code,
        CloseCode::Fenced | CloseCode::Quarantined | CloseCode::CloudBehind | CloseCode::HelloStorm
    )
}

fn meaning(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Fenced => "another node with this edge's certificate has connected",
        CloseCode::Quarantined => {
            "two nodes have this edge's certificate; stop one of them, then `tidegate edge release`"
        }
        CloseCode::CloudBehind => {
            "the cloud is older than what an edge has seen; its operator must begin a new incarnation"
        }
        _ => "this edge connects too often",
    }
}

/// Writes frames from a queue; what queues up goes out together.
fn start_writer(
    mut writer: FrameWriter,
) -> (mpsc::UnboundedSender<Frame>, tokio::task::JoinHandle<()>) {
    let (sender, mut frames) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            let mut written = writer.write(&frame).await;
            while let (Ok(()), Ok(frame)) = (&written, frames.try_recv()) {
                written = writer.write(&frame).await;
            }
            if written.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
        writer.finish();
    });
    (sender, task)
}

/// Reads stream after stream while there is room; small chunks are merged.
fn read(
    committer: &Committer,
    streams: Vec<ReadRequest>,
    bytes_max: usize,
    compression: &BTreeMap<StreamId, Compression>,
) -> Vec<StreamRead> {
    let mut room = bytes_max;
    let mut reads = Vec::with_capacity(streams.len());
    for request in streams {
        let (stream, from) = (request.stream, request.from);
        let outcome = if room == 0 {
            ReadOutcome::NoRoom
        } else {
            let known = compression.get(&stream).copied();
            let of_lane = || committer.keyed().compression(stream);
            let compression = known.or_else(of_lane).unwrap_or_default();
            let outcome = read_stream(committer, request, room, compression);
            if let ReadOutcome::Batches(batches) = &outcome {
                let bytes: usize = batches.iter().map(|batch| batch.batch.len()).sum();
                room = room.saturating_sub(bytes);
            }
            outcome
        };
        reads.push(StreamRead {
            stream,
            from,
            outcome,
        });
    }
    reads
}

/// What is damaged is declared lost, and then sent as a gap. Any other failed read is logged, and the
/// sender tries again later.
fn read_stream(
    committer: &Committer,
    request: ReadRequest,
    bytes_max: usize,
    compression: Compression,
) -> ReadOutcome {
    let (stream, from) = (request.stream, request.from);
    let read = || committer.reader().read_to_send(stream, from, bytes_max);
    let mut found = read();
    if let Err(error @ (ReadError::Damaged { .. } | ReadError::Io(_))) = &found {
        tracing::error!(%stream, %from, %error, "uplink: the journal cannot be read");
        if committer.declare_damage(stream, from) {
            found = read();
        }
    }
    let error = match found {
        Ok(ToSend::Gap(gap)) => return ReadOutcome::Gap(seal_gap(&gap)),
        Ok(ToSend::Later) => return ReadOutcome::NoRoom,
        Ok(ToSend::Gone { first }) => return ReadOutcome::Gone { first },
        Ok(ToSend::Chunks(mut chunks)) => {
            // Looked at after reading: what came after a switch is there only once the hold is.
            if let Some(hold) = committer.keyed().hold(stream) {
                chunks.retain(|chunk| chunk.base_offset < hold);
                if chunks.is_empty() {
                    return ReadOutcome::NoRoom;
                }
            }
            match merge(chunks, compression) {
                Ok(batches) if batches.is_empty() => return ReadOutcome::Failed,
                Ok(batches) => return ReadOutcome::Batches(seal(batches)),
                Err(error) => error.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    tracing::error!(%stream, %from, error, "uplink: the journal cannot be read");
    ReadOutcome::Failed
}

fn seal(batches: Vec<Sealed>) -> Vec<SealedBatch> {
    let batches = batches.into_iter().map(|sealed| SealedBatch {
        base_offset: sealed.base_offset,
        count: sealed.count,
        hash_before: sealed.hash_before,
        hash_after: sealed.hash_after,
        batch: sealed.batch,
    });
    batches.collect()
}

fn seal_gap(gap: &Gap) -> SealedGap {
    SealedGap {
        base_offset: gap.from,
        count: gap.records(),
        hash_before: gap.hash_before,
        hash_after: gap.hash_after,
        reason: gap.reason,
    }
}

/// A lane has its keyed stream's priority.
fn local(status: StreamStatus, priorities: &BTreeMap<StreamName, u8>) -> LocalStream {
    let name = status.name.as_str();
    let keyed = name.split_once('#').map_or(name, |(keyed, _)| keyed);
    let mut known = priorities.iter();
    let priority = known.find(|(known, _)| known.as_str() == keyed);
    LocalStream {
        priority: priority.map_or(0, |(_, priority)| *priority),
        stream: status.stream,
        name: status.name,
        topic: status.topic,
        incarnation: status.incarnation,
        first: status.first,
        next: status.next,
        landed: status.landed,
        landed_hash: status.landed_hash,
        landed_life: status.landed_life,
    }
}
