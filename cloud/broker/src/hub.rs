//! The hub's driver: takes edges' connections, hands what they offer to the ledger in bundles, and
//! carries the answers back. What is right and wrong is decided by `HubConnection` and the ledger.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_bridge::{Attempt, ChannelError, Connection, FrameReader, Listener};
use tidegate_bridge_protocol::frame::{AnnouncedStream, Frame, GrantedStream, Landed, Refused};
use tidegate_bridge_protocol::hub::{HubConnection, HubError, HubEvent, Land, LandGap};
use tidegate_bridge_protocol::landing::RefusedReason;
use tidegate_bridge_protocol::reply_code::CloseCode;
use tidegate_cloud_protocol::ledger::Effect;
use tidegate_cloud_protocol::ledger::command::{self, OpenSession, OpenStream};
use tidegate_shared::id::{EdgeId, SessionEpoch, StreamId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::broker::Broker;
use crate::limits::{HUB_OFFERED_BYTES_MAX, HUB_QUESTIONS_MAX};
use crate::metrics::CloseLabels;
use crate::sequencer::now_ms;
use crate::submission::{Submission, SubmitError};

/// A peer has so long for its handshake and its first frame.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes connections until told to stop.
pub(crate) async fn serve(listener: Listener, broker: Broker, mut stopping: watch::Receiver<bool>) {
    let mut edges = JoinSet::new();
    loop {
        tokio::select! {
            attempt = listener.next() => match attempt {
                Some(attempt) => drop(edges.spawn(handle(attempt, broker.clone(), stopping.clone()))),
                None => break,
            },
            Some(_) = edges.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    while edges.join_next().await.is_some() {}
    listener.close().await;
}

async fn handle(attempt: Attempt, broker: Broker, stopping: watch::Receiver<bool>) {
    let peer = attempt.peer();
    match timeout(HANDSHAKE_TIMEOUT, attempt.accept()).await {
        Err(_) => reject(&broker, peer, "the handshake took too long"),
        Ok(Err(error)) => reject(&broker, peer, &error.to_string()),
        Ok(Ok((edge, connection))) => {
            broker.metrics().connected_edges.inc();
            tracing::info!(%edge, %peer, "an edge is connected");
            let link = Link::new(edge, connection, broker.clone());
            Box::pin(link.run(stopping)).await;
            broker.metrics().connected_edges.dec();
        }
    }
}

fn reject(broker: &Broker, peer: SocketAddr, why: &str) {
    broker.metrics().bridge_rejected_handshakes.inc();
    tracing::warn!(%peer, why, "a bridge connection was turned away");
}

/// What the ledger is asked on behalf of an edge.
#[derive(Debug)]
enum Question {
    Session,
    Streams(SessionEpoch, Vec<AnnouncedStream>),
    Land(Land),
    Gap(LandGap),
}

/// What it answered.
#[derive(Debug)]
enum Answer {
    Session(SessionEpoch),
    Streams(Vec<GrantedStream>),
    Landed(Landed, usize),
    Refused(Refused, usize),
    Failed(SubmitError),
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
    hub: HubConnection,
    session_epoch: SessionEpoch,
    /// Batch bytes handed to the ledger and not answered.
    offered_bytes: usize,
    questions: mpsc::Sender<Question>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Link {
    fn new(edge: EdgeId, connection: Connection, broker: Broker) -> Self {
        let (questions, asked) = mpsc::channel(HUB_QUESTIONS_MAX);
        // As many answers as questions at most, and those are bounded.
        let (answering, answers) = mpsc::unbounded_channel();
        tokio::spawn(ask(edge.clone(), broker.clone(), asked, answering));
        Self {
            edge,
            broker,
            connection,
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
                self.connection.handle.close(CloseCode::Shutdown, "");
            }
            End::Refused(HubError { code, why }) => {
                let labels = CloseLabels { code: code.name() };
                self.broker
                    .metrics()
                    .bridge_closed_connections
                    .get_or_create(&labels)
                    .inc();
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
        self.hub.handle_frame(now_ms(), frame)?;
        while let Some(event) = self.hub.poll_event() {
            let question = match event {
                HubEvent::OpenSession(_) => Question::Session,
                HubEvent::OpenStreams(streams) => Question::Streams(self.session_epoch, streams),
                HubEvent::Land(land) => {
                    self.offered_bytes += land.batch.bytes().len();
                    Question::Land(land)
                }
                HubEvent::LandGap(gap) => Question::Gap(gap),
            };
            let sent = self.questions.send(question).await;
            sent.map_err(|_| End::Gone("the ledger is closed".to_owned()))?;
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Session(session_epoch) => {
                self.session_epoch = session_epoch;
                let cluster = self.broker.ledger(|ledger| ledger.cluster_incarnation());
                let cluster = cluster.unwrap_or_default();
                self.hub.handle_session(session_epoch, cluster, now_ms());
            }
            Answer::Streams(granted) => self.hub.handle_streams(granted),
            Answer::Landed(landed, bytes) => {
                self.offered_bytes -= bytes;
                self.hub.handle_landed(landed);
            }
            Answer::Refused(refused, bytes) => {
                self.offered_bytes -= bytes;
                let (edge, stream) = (&self.edge, refused.stream);
                tracing::info!(%edge, %stream, reason = %refused.reason, "an offer was refused");
                self.hub.handle_refused(refused)?;
            }
            Answer::Failed(error) => {
                let code = CloseCode::Unavailable;
                return Err(End::Refused(HubError {
                    code,
                    why: error.to_string(),
                }));
            }
        }
        Ok(())
    }
}

/// Asks the ledger, in order, all that has gathered at once; ends with the link.
async fn ask(
    edge: EdgeId,
    broker: Broker,
    mut asked: mpsc::Receiver<Question>,
    answering: mpsc::UnboundedSender<Answer>,
) {
    let mut questions = Vec::with_capacity(HUB_QUESTIONS_MAX);
    while asked.recv_many(&mut questions, HUB_QUESTIONS_MAX).await > 0 {
        let mut submissions = Vec::with_capacity(questions.len());
        questions
            .iter()
            .for_each(|question| submit(&edge, question, &mut submissions));
        match broker.submit(submissions).await {
            Ok(effects) => {
                let mut effects = effects.into_iter();
                for question in questions.drain(..) {
                    if answering.send(interpret(question, &mut effects)).is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = answering.send(Answer::Failed(error));
                return;
            }
        }
    }
}

fn submit(edge: &EdgeId, question: &Question, submissions: &mut Vec<Submission>) {
    let edge = edge.clone();
    match question {
        Question::Session => submissions.push(Submission::OpenSession(OpenSession { edge })),
        Question::Streams(session_epoch, streams) => {
            submissions.extend(streams.iter().map(|stream| {
                Submission::OpenStream(OpenStream {
                    edge: edge.clone(),
                    session_epoch: *session_epoch,
                    stream: stream.name.clone(),
                    incarnation: stream.incarnation,
                    topic: stream.topic.clone(),
                })
            }));
        }
        Question::Land(land) => submissions.push(Submission::Land {
            edge,
            stream: land.name.clone(),
            offer: land.offer,
            batch: land.batch.bytes().clone(),
        }),
        Question::Gap(gap) => submissions.push(Submission::LandGap(command::LandGap {
            edge,
            stream: gap.name.clone(),
            offer: gap.offer,
            reason: gap.reason,
        })),
    }
}

fn interpret(question: Question, effects: &mut impl Iterator<Item = Effect>) -> Answer {
    match question {
        Question::Session => match effects.next() {
            Some(Effect::SessionOpened { session_epoch }) => Answer::Session(session_epoch),
            _ => Answer::Failed(SubmitError::Closed),
        },
        Question::Streams(_, streams) => Answer::Streams(
            streams
                .iter()
                .filter_map(|stream| grant(stream, effects.next()?))
                .collect(),
        ),
        Question::Land(land) => match effects.next() {
            Some(effect) => {
                let bytes = land.batch.bytes().len();
                interpret_land(land.request, land.stream, bytes, effect)
            }
            None => Answer::Failed(SubmitError::Closed),
        },
        Question::Gap(gap) => match effects.next() {
            Some(effect) => interpret_land(gap.request, gap.stream, 0, effect),
            None => Answer::Failed(SubmitError::Closed),
        },
    }
}

fn grant(announced: &AnnouncedStream, effect: Effect) -> Option<GrantedStream> {
    let (head, refused) = match effect {
        Effect::StreamOpened { head, .. } => (head, None),
        Effect::Refused { reason, head } => (head, Some(reason)),
        _ => return None,
    };
    Some(GrantedStream {
        stream: announced.stream,
        incarnation: head.incarnation,
        next: head.next,
        hash: head.hash,
        refused,
    })
}

fn interpret_land(request: u64, stream: StreamId, bytes: usize, effect: Effect) -> Answer {
    let (head, facts) = match effect {
        Effect::GapLanded { head, .. } => (head, Vec::new()),
        Effect::Landed(landed) => (landed.head, vec![landed.fact]),
        Effect::Duplicate { head } => (head, Vec::new()),
        other => {
            let (reason, head) = match other {
                Effect::Refused { reason, head } => (reason, head),
                _ => (RefusedReason::UnknownStream, Default::default()),
            };
            let (incarnation, next, hash) = (head.incarnation, head.next, head.hash);
            let refused = Refused {
                request,
                stream,
                incarnation,
                reason,
                next,
                hash,
            };
            return Answer::Refused(refused, bytes);
        }
    };
    let (incarnation, landed, hash) = (head.incarnation, head.next, head.hash);
    Answer::Landed(
        Landed {
            request,
            stream,
            incarnation,
            landed,
            hash,
            facts,
        },
        bytes,
    )
}
