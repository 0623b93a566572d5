//! The hub's driver: takes edges' connections, hands what they offer to the ledger in bundles, and
//! carries the answers back. What is right and wrong is decided by `HubConnection` and the ledger.

use std::collections::VecDeque;
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
use tidegate_cloud_protocol::questions::{Answer, Known, Question, check_session};
use tidegate_shared::id::{EdgeId, SessionEpoch, StreamName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{self, timeout_at};

use crate::broker::Broker;
use crate::clock::wall_ms;
use crate::limits::{HUB_OFFERED_BYTES_MAX, HUB_QUESTIONS_MAX, HUB_UNANSWERED_MAX};
use crate::metrics::CloseLabels;
use crate::presence::Connected;
use crate::submission::SubmitError;

/// A peer has so long from its first packet to its Hello.
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
    let deadline = time::Instant::now() + HANDSHAKE_TIMEOUT;
    match timeout_at(deadline, attempt.accept()).await {
        Err(_) => reject(&broker, peer, "the handshake took too long"),
        Ok(Err(error)) => reject(&broker, peer, &error.to_string()),
        Ok(Ok((edge, connection))) => {
            if !admit(&gate, &edge) {
                let why = "an edge connects too often";
                return close_storm(&broker, &edge, peer, &connection, why);
            }
            let Some(seen) = broker.presence().connect(&edge, peer, wall_ms()) else {
                let why = "an edge has too many open connections";
                return close_storm(&broker, &edge, peer, &connection, why);
            };
            broker.metrics().connected_edges.inc();
            tracing::info!(%edge, %peer, "an edge is connected");
            let link = Link::new(edge, connection, seen, broker.clone());
            Box::pin(link.run(deadline, stopping)).await;
            broker.metrics().connected_edges.dec();
        }
    }
}

fn admit(gate: &Mutex<HelloGate>, edge: &EdgeId) -> bool {
    let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
    gate.admit(Instant::now(), edge)
}

/// The edge connects again and again: nothing is decided for it.
fn close_storm(
    broker: &Broker,
    edge: &EdgeId,
    peer: SocketAddr,
    connection: &Connection,
    why: &str,
) {
    let code = CloseCode::HelloStorm;
    count_close(broker, code);
    tracing::warn!(%edge, %peer, %code, why, "a bridge connection was turned away");
    connection.handle.close(code, why);
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
    room: Room,
    questions: mpsc::Sender<Question>,
    answers: mpsc::Receiver<Result<Answer, SubmitError>>,
}

/// What was handed to the ledger and not answered. Answers come in the order of the questions.
#[derive(Debug, Default)]
struct Room {
    /// Bytes of each.
    unanswered: VecDeque<usize>,
    bytes: usize,
}

impl Room {
    fn is_left(&self) -> bool {
        self.unanswered.len() < HUB_UNANSWERED_MAX && self.bytes < HUB_OFFERED_BYTES_MAX
    }

    fn asked(&mut self, bytes: usize) {
        self.unanswered.push_back(bytes);
        self.bytes += bytes;
    }

    fn answered(&mut self) {
        self.bytes -= self.unanswered.pop_front().unwrap_or_default();
    }
}

impl Link {
    fn new(edge: EdgeId, connection: Connection, seen: Connected, broker: Broker) -> Self {
        let (questions, asked) = mpsc::channel(HUB_QUESTIONS_MAX);
        // There are no more answers than questions without one, so that `ask` never waits for the link.
        let (answering, answers) = mpsc::channel(HUB_UNANSWERED_MAX);
        tokio::spawn(ask(edge.clone(), broker.clone(), asked, answering));
        Self {
            edge,
            broker,
            connection,
            seen,
            hub: HubConnection::new(),
            session_epoch: SessionEpoch(0),
            room: Room::default(),
            questions,
            answers,
        }
    }

    async fn run(mut self, hello_deadline: time::Instant, stopping: watch::Receiver<bool>) {
        let end = match self.exchange(hello_deadline, stopping).await {
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
        hello_deadline: time::Instant,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, End> {
        let mut bulk = self.connection.bulk_in.take().ok_or(End::Stopping)?;
        loop {
            let has_room = self.room.is_left();
            tokio::select! {
                frame = self.connection.control_in.read(), if has_room => self.take(frame?).await?,
                frame = bulk.read(), if has_room => {
                    self.take(frame?).await?;
                    self.take_buffered(&mut bulk).await?;
                }
                Some(answer) = self.answers.recv() => self.answer(answer)?,
                () = self.seen.sessions_changed() => self.check_session()?,
                () = time::sleep_until(hello_deadline), if self.hub.awaits_hello() => {
                    return Err(End::Refused(HubError {
                        code: CloseCode::Timeout,
                        why: "no Hello came in time".to_owned(),
                    }));
                }
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
        while self.room.is_left() {
            let Some(frame) = bulk.read_buffered()? else {
                break;
            };
            self.take(frame).await?;
        }
        Ok(())
    }

    async fn take(&mut self, frame: Frame) -> Result<(), End> {
        self.seen.heard(wall_ms());
        self.hub.handle_frame(wall_ms(), frame)?;
        while let Some(event) = self.hub.poll_event() {
            self.note(&event);
            let question = Question::of(event, self.session_epoch);
            self.room.asked(question.held_bytes());
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

    /// The ledger has decided about the edge's sessions.
    fn check_session(&self) -> Result<(), HubError> {
        let (edge, epoch) = (&self.edge, self.session_epoch);
        self.broker
            .ledger(|ledger| check_session(ledger, edge, epoch))
    }

    fn answer(&mut self, answer: Result<Answer, SubmitError>) -> Result<(), End> {
        let answer = answer.map_err(|error| HubError {
            code: CloseCode::Unavailable,
            why: error.to_string(),
        })?;
        self.room.answered();
        match &answer {
            Answer::Session(session_epoch) => self.session_epoch = *session_epoch,
            Answer::Refused(refused) => {
                let (edge, stream) = (&self.edge, refused.stream);
                tracing::info!(%edge, %stream, reason = %refused.reason, "an offer was refused");
            }
            _ => {}
        }
        let (edge, hub) = (&self.edge, &mut self.hub);
        let told = self
            .broker
            .ledger(|ledger| answer.tell(edge, hub, ledger, wall_ms()));
        Ok(told?)
    }
}

/// Asks the ledger, in order, all that has gathered at once; ends with the link.
async fn ask(
    edge: EdgeId,
    broker: Broker,
    mut asked: mpsc::Receiver<Question>,
    answering: mpsc::Sender<Result<Answer, SubmitError>>,
) {
    let mut questions = Vec::with_capacity(HUB_QUESTIONS_MAX);
    while asked.recv_many(&mut questions, HUB_QUESTIONS_MAX).await > 0 {
        stamp(&edge, &broker, &mut questions);
        let wishes = questions.iter().flat_map(|question| question.wishes(&edge));
        let effects = match broker.submit(wishes.collect()).await {
            Ok(effects) => effects,
            Err(error) => {
                let _ = answering.send(Err(error)).await;
                return;
            }
        };
        let mut effects = effects.into_iter();
        for question in questions.drain(..) {
            let answer = question.answer(&edge, &mut effects, &broker);
            let answer = answer.ok_or(SubmitError::Closed);
            if answering.send(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Gives what lands in a topic of `LogAppendTime` the time that it is now.
fn stamp(edge: &EdgeId, broker: &Broker, questions: &mut [Question]) {
    let stamped = broker.ledger(|ledger| {
        let questions = questions.iter().enumerate();
        let stamped = questions.filter(|(_, one)| one.lands_at_append_time(edge, ledger));
        stamped.map(|(at, _)| at).collect::<Vec<_>>()
    });
    for at in stamped {
        questions[at].stamp(broker.clock().now_ms());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_unanswered_is_bounded_by_count_and_by_bytes() {
        let mut room = Room::default();
        for _ in 0..HUB_UNANSWERED_MAX {
            assert!(room.is_left());
            room.asked(0);
        }
        assert!(!room.is_left());
        room.answered();
        assert!(room.is_left());
        room.asked(HUB_OFFERED_BYTES_MAX);
        (1..HUB_UNANSWERED_MAX).for_each(|_| room.answered());
        assert!(!room.is_left());
        room.answered();
        assert!(room.is_left());
    }
}
