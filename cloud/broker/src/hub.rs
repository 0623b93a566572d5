//! The hub's driver: takes edges' connections, hands what they offer to the ledger in bundles, and
//! carries the answers back. What is right and wrong is decided by `HubConnection` and the ledger.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_bridge::{Attempt, ChannelError, Connection, FrameReader, Listener};
use tidegate_bridge_protocol::fact::Fact;
use tidegate_bridge_protocol::frame::Frame;
use tidegate_bridge_protocol::hello_gate::HelloGate;
use tidegate_bridge_protocol::hub::{HubConnection, HubError, HubEvent};
use tidegate_bridge_protocol::landing::{Head, Offer};
use tidegate_bridge_protocol::limits::FRAME_FACTS_MAX;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_cloud_protocol::ledger::Ledger;
use tidegate_cloud_protocol::questions::{Answer, Known, Question};
use tidegate_shared::id::{EdgeId, SessionEpoch, StreamName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::limits::{HUB_OFFERED_BYTES_MAX, HUB_QUESTIONS_MAX};
use crate::metrics::CloseLabels;
use crate::presence::Connected;
use crate::sequencer::now_ms;
use crate::submission::SubmitError;

/// A peer has so long for its handshake and its first frame.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes connections until told to stop.
pub(crate) async fn serve(listener: Listener, broker: Broker, mut stopping: watch::Receiver<bool>) {
    let mut edges = JoinSet::new();
    let gate = Arc::new(Mutex::new(HelloGate::new()));
    loop {
        tokio::select! {
            attempt = listener.next() => match attempt {
                Some(attempt) => {
                    let gate = Arc::clone(&gate);
                    edges.spawn(handle(attempt, gate, broker.clone(), stopping.clone()));
                }
                None => break,
            },
            Some(_) = edges.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    while edges.join_next().await.is_some() {}
    listener.close().await;
}

async fn handle(
    attempt: Attempt,
    gate: Arc<Mutex<HelloGate>>,
    broker: Broker,
    stopping: watch::Receiver<bool>,
) {
    let peer = attempt.peer();
    match timeout(HANDSHAKE_TIMEOUT, attempt.accept()).await {
        Err(_) => reject(&broker, peer, "the handshake took too long"),
        Ok(Err(error)) => reject(&broker, peer, &error.to_string()),
        Ok(Ok((edge, connection))) => {
            if !admit(&gate, &edge) {
                return close_storm(&broker, &edge, peer, &connection);
            }
            broker.metrics().connected_edges.inc();
            let seen = broker.presence().connect(&edge, peer, now_ms());
            tracing::info!(%edge, %peer, "an edge is connected");
            let link = Link::new(edge, connection, seen, broker.clone());
            Box::pin(link.run(stopping)).await;
            broker.metrics().connected_edges.dec();
        }
    }
}

fn admit(gate: &Mutex<HelloGate>, edge: &EdgeId) -> bool {
    let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
    gate.admit(Instant::now(), edge)
}

/// The edge connects again and again: nothing is decided for it.
fn close_storm(broker: &Broker, edge: &EdgeId, peer: SocketAddr, connection: &Connection) {
    let code = CloseCode::HelloStorm;
    count_close(broker, code);
    tracing::warn!(%edge, %peer, %code, "an edge connects too often");
    connection.handle.close(code, code.name());
}

fn count_close(broker: &Broker, code: CloseCode) {
    let labels = CloseLabels { code: code.name() };
    let counters = &broker.metrics().bridge_closed_connections;
    counters.get_or_create(&labels).inc();
}

fn reject(broker: &Broker, peer: SocketAddr, why: &str) {
    broker.metrics().bridge_rejected_handshakes.inc();
    tracing::warn!(%peer, why, "a bridge connection was turned away");
}

/// Why a link ended.
#[derive(Debug)]
enum End {
    /// The edge went away, or the network did.
    Gone(String),
    Refused(HubError),
    Stopping,
}

impl From<HubError> for End {
    fn from(error: HubError) -> Self {
        Self::Refused(error)
    }
}

impl From<ChannelError> for End {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Frame(error) => Self::Refused(error.into()),
            other => Self::Gone(other.to_string()),
        }
    }
}

/// One edge's connection while it lasts.
struct Link {
    edge: EdgeId,
    broker: Broker,
    connection: Connection,
    /// The edge is known to be here as long as this lives.
    seen: Connected,
    hub: HubConnection,
    session_epoch: SessionEpoch,
    /// Batch bytes handed to the ledger and not answered.
    offered_bytes: usize,
    questions: mpsc::Sender<Question>,
    answers: mpsc::UnboundedReceiver<Result<Answer, SubmitError>>,
}

impl Link {
    fn new(edge: EdgeId, connection: Connection, seen: Connected, broker: Broker) -> Self {
        let (questions, asked) = mpsc::channel(HUB_QUESTIONS_MAX);
        // As many answers as questions at most, and those are bounded.
        let (answering, answers) = mpsc::unbounded_channel();
        tokio::spawn(ask(edge.clone(), broker.clone(), asked, answering));
        Self {
            edge,
            broker,
            connection,
            seen,
            hub: HubConnection::new(),
            session_epoch: SessionEpoch(0),
            offered_bytes: 0,
            questions,
            answers,
        }
    }

    async fn run(mut self, stopping: watch::Receiver<bool>) {
        let end = match self.exchange(stopping).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // What was to be said before the end is still said.
        while let Some(frame) = self.hub.poll_transmit() {
            let _ = self.connection.control_out.write(&frame).await;
        }
        let _ = self.connection.control_out.flush().await;
        let (edge, peer) = (&self.edge, self.connection.handle.peer());
        match end {
            End::Stopping => self
                .connection
                .handle
                .close(CloseCode::Shutdown, "the cloud is stopping"),
            End::Gone(why) => {
                tracing::info!(%edge, %peer, why, "an edge is gone");
                self.seen.ended(&why);
                self.connection.handle.close(CloseCode::Shutdown, "");
            }
            End::Refused(HubError { code, why }) => {
                count_close(&self.broker, code);
                self.seen.ended(&format!("{code}: {why}"));
                tracing::warn!(%edge, %peer, %code, why, "a bridge connection was closed");
                self.connection.handle.close(code, &why);
            }
        }
    }

    async fn exchange(
        &mut self,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, End> {
        let mut bulk = self.connection.bulk_in.take().ok_or(End::Stopping)?;
        loop {
            let has_room = self.offered_bytes < HUB_OFFERED_BYTES_MAX;
            tokio::select! {
                frame = self.connection.control_in.read() => self.take(frame?).await?,
                frame = bulk.read(), if has_room => {
                    self.take(frame?).await?;
                    self.take_buffered(&mut bulk).await?;
                }
                Some(answer) = self.answers.recv() => self.answer(answer)?,
                _ = stopping.changed() => return Err(End::Stopping),
            }
            while let Ok(answer) = self.answers.try_recv() {
                self.answer(answer)?;
            }
            while let Some(frame) = self.hub.poll_transmit() {
                self.connection.control_out.write(&frame).await?;
            }
            self.connection.control_out.flush().await?;
        }
    }

    async fn take_buffered(&mut self, bulk: &mut FrameReader) -> Result<(), End> {
        while self.offered_bytes < HUB_OFFERED_BYTES_MAX {
            let Some(frame) = bulk.read_buffered()? else {
                break;
            };
            self.take(frame).await?;
        }
        Ok(())
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        self.seen.heard(now_ms());
        self.hub.handle_frame(now_ms(), frame)?;
        while let Some(event) = self.hub.poll_event() {
            self.note(&event);
            let question = Question::of(event, self.session_epoch);
            self.offered_bytes += question.batch_bytes();
            let sent = self.questions.send(question).await;
            sent.map_err(|_| End::Gone("the ledger is closed".to_owned()))?;
        }
        Ok(())
    }

    fn note(&self, event: &HubEvent) {
        if let HubEvent::OpenStreams(streams) = event {
            for stream in streams {
                self.seen.announced(&stream.name, stream.next);
            }
        }
    }

    fn answer(&mut self, answer: Result<Answer, SubmitError>) -> Result<(), End> {
        let answer = answer.map_err(|error| HubError {
            code: CloseCode::Unavailable,
            why: error.to_string(),
        })?;
        self.offered_bytes -= answer.batch_bytes();
        match &answer {
            Answer::Session(session_epoch) => self.session_epoch = *session_epoch,
            Answer::Refused(refused, _) => {
                let (edge, stream) = (&self.edge, refused.stream);
                tracing::info!(%edge, %stream, reason = %refused.reason, "an offer was refused");
            }
            _ => {}
        }
        let (edge, hub) = (&self.edge, &mut self.hub);
        let told = self
            .broker
            .ledger(|ledger| answer.tell(edge, hub, ledger, now_ms()));
        Ok(told?)
    }
}

/// Asks the ledger, in order, all that has gathered at once; ends with the link.
async fn ask(
    edge: EdgeId,
    broker: Broker,
    mut asked: mpsc::Receiver<Question>,
    answering: mpsc::UnboundedSender<Result<Answer, SubmitError>>,
) {
    let mut questions = Vec::with_capacity(HUB_QUESTIONS_MAX);
    while asked.recv_many(&mut questions, HUB_QUESTIONS_MAX).await > 0 {
        let wishes = questions.iter().flat_map(|question| question.wishes(&edge));
        let effects = match broker.submit(wishes.collect()).await {
            Ok(effects) => effects,
            Err(error) => {
                let _ = answering.send(Err(error));
                return;
            }
        };
        let mut effects = effects.into_iter();
        for question in questions.drain(..) {
            let answer = question.answer(&edge, &mut effects, &broker);
            if answering.send(answer.ok_or(SubmitError::Closed)).is_err() {
                return;
            }
        }
    }
}

impl Known for Broker {
    fn head(&self, edge: &EdgeId, stream: &StreamName) -> Head {
        let head = |ledger: &Ledger| ledger.stream(edge, stream).map(|stream| stream.head);
        self.ledger(head).unwrap_or_default()
    }

    fn facts(&self, edge: &EdgeId, stream: &StreamName, offer: &Offer) -> Vec<Fact> {
        let interval = (offer.base_offset, offer.end().unwrap_or(offer.base_offset));
        let incarnation = offer.incarnation;
        self.look(|_, map| map.facts_of(edge, stream, incarnation, interval, FRAME_FACTS_MAX))
    }
}
