//! A driver as the session's documentation asks for: a log of frames that is durable up to a
//! point, the session in memory, and the connection machine. A crash leaves the durable frames.

use std::{
    collections::VecDeque,
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    client::{CLIENT_INFLIGHT_MAX, Violated},
    *,
};
use crate::mqtt::{
    codec::{Message, Packet, SubscriptionOptions},
    connection::{
        Accepted, CloseReason, Closed, Connection, DeliverOutcome, Delivery, DeliveryStage,
        DeliveryToken, Event, PublishToken, ReleaseToken, SharedFilter,
    },
    limits::ConnectionLimits,
};

/// What is answered only when it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Accepted,
    Committed,
    Released,
    Assigned,
    Received,
}

/// One commit's worth, kept or lost as a whole.
struct Frame {
    changes: Vec<Change>,
    message: Option<Logged>,
}

#[derive(Clone)]
pub(super) struct Logged {
    pub qos: Qos,
    pub message: Arc<Message>,
    pub expires_at: Option<Instant>,
}

enum Answer {
    Accepted,
    Committed(PublishToken),
    Released(ReleaseToken),
    Assigned(DeliveryToken),
    Received(DeliveryToken),
}

pub(super) struct Server {
    /// This one is not waited for: the promises must break.
    broken: Option<Wait>,
    frames: Vec<Frame>,
    durable: usize,
    /// The durable messages, by position.
    pub log: Vec<Logged>,
    pub session: ClientSession,
    /// With the number of frames that must be durable.
    waiting: VecDeque<(usize, Answer)>,
    pub connection: Option<Connection>,
    accepted: bool,
    again: VecDeque<Position>,
    now: Instant,
    violated: Option<Violated>,
}

impl Server {
    pub(super) fn new(broken: Option<Wait>) -> Self {
        let mut server = Self {
            broken,
            frames: Vec::new(),
            durable: 0,
            log: Vec::new(),
            session: ClientSession::new(text("c")),
            waiting: VecDeque::new(),
            connection: None,
            accepted: false,
            again: VecDeque::new(),
            now: Instant::now(),
            violated: None,
        };
        let begun = Change::Begun {
            expiry_interval_s: u32::MAX,
            position: Position(0),
        };
        server.change(begun);
        server.subscribe(Qos::ExactlyOnce);
        server.commit();
        server
    }

    pub(super) fn subscribe(&mut self, qos_max: Qos) {
        let subscription = Subscription {
            filter: SharedFilter::parse(text("out/#")).unwrap(),
            options: SubscriptionOptions {
                qos_max,
                ..SubscriptionOptions::default()
            },
            identifier: None,
            since: Position(self.log.len() as u64),
        };
        self.change(Change::Subscribed(subscription));
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        if let Some(connection) = &mut self.connection {
            connection.handle_timeout(self.now);
            self.handle_events();
        }
    }

    fn limits() -> ConnectionLimits {
        ConnectionLimits {
            connect_timeout: Duration::from_secs(u64::from(u32::MAX)),
            inflight_inbound_max: NonZeroU16::new(CLIENT_INFLIGHT_MAX as u16).unwrap(),
            inflight_outbound_max: NonZeroU16::new(5).unwrap(),
            outbound_queue_messages_max: 6,
            ..ConnectionLimits::default()
        }
    }

    pub(super) fn connect(&mut self) {
        self.connection = Some(Connection::new(Self::limits(), self.now));
    }

    /// Another client's message.
    pub(super) fn append(&mut self, qos: Qos, message: Message) {
        self.submit(Frame {
            changes: Vec::new(),
            message: Some(self.logged(qos, message)),
        });
    }

    fn logged(&self, qos: Qos, message: Message) -> Logged {
        let expiry_s = message.properties.message_expiry_interval_s;
        Logged {
            qos,
            message: Arc::new(message),
            expires_at: expiry_s.map(|s| self.now + Duration::from_secs(s.into())),
        }
    }

    /// Writes a frame; the session takes its changes in at once.
    fn submit(&mut self, frame: Frame) {
        for change in &frame.changes {
            self.session.apply(change);
        }
        self.frames.push(frame);
    }

    fn change(&mut self, change: Change) {
        self.submit(Frame {
            changes: vec![change],
            message: None,
        });
    }

    /// Answers once all that was written until now is durable.
    fn wait(&mut self, answer: Answer) {
        if self.broken == Some(answer.wait()) {
            return self.answer(answer);
        }
        self.waiting.push_back((self.frames.len(), answer));
    }

    pub(super) fn commit(&mut self) {
        for frame in &self.frames[self.durable..] {
            self.log.extend(frame.message.clone());
        }
        self.durable = self.frames.len();
        while let Some((_, answer)) = self
            .waiting
            .pop_front_if(|(frames, _)| *frames <= self.durable)
        {
            self.answer(answer);
        }
        self.handle_events();
    }

    fn answer(&mut self, answer: Answer) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        match answer {
            Answer::Accepted => self.accept(),
            Answer::Committed(token) => connection.handle_committed(token, Ok(())),
            Answer::Released(token) => connection.handle_released(token),
            Answer::Assigned(token) => connection.handle_assigned(token),
            Answer::Received(token) => connection.handle_received(token),
        }
    }

    fn accept(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let accepted = Accepted {
            session_present: true,
            received: self.session.received().collect(),
            unacknowledged: self.session.progress().packet_ids().collect(),
            ..Accepted::default()
        };
        connection.handle_accepted(self.now, accepted);
        let resume = self.session.progress().resume();
        for (packet_id, position) in resume.releases {
            connection.handle_release_again(self.now, packet_id, DeliveryToken(position.0));
        }
        self.again = resume.again.iter().map(|again| again.position).collect();
        self.accepted = true;
    }

    /// Hands the connection what it has room for.
    pub(super) fn read(&mut self) {
        loop {
            let room = self.accepted
                && self.session.progress().has_room()
                && self
                    .connection
                    .as_ref()
                    .is_some_and(Connection::outbound_has_room);
            let next = self.session.progress().next();
            let position = self.again.front().copied().unwrap_or(next);
            if !room || position.0 >= self.log.len() as u64 || !self.deliver(position) {
                break;
            }
            self.again.pop_front();
            self.handle_events();
        }
        self.store_cursor();
    }

    /// False where the connection does not take it.
    fn deliver(&mut self, position: Position) -> bool {
        let Logged {
            qos,
            message,
            expires_at,
        } = self.log[position.0 as usize].clone();
        let publisher = if message.topic == "in" { "c" } else { "other" };
        let (Some(due), Some(connection)) = (
            self.session.due(&message.topic, publisher, position),
            &mut self.connection,
        ) else {
            self.session.progress_mut().passed(position);
            return true;
        };
        let delivery = Delivery {
            token: DeliveryToken(position.0),
            message,
            qos,
            qos_max: due.matched.qos_max,
            retain: false,
            subscription_identifiers: due.matched.identifiers,
            expires_at,
            resent: due.resent,
            priority: 0,
        };
        match connection.handle_deliver(self.now, delivery) {
            DeliverOutcome::Queued | DeliverOutcome::Dropped | DeliverOutcome::TooLarge => {}
            DeliverOutcome::Overflow | DeliverOutcome::NotConnected => return false,
        }
        self.session.progress_mut().taken(position);
        if qos == Qos::AtMostOnce {
            self.done(position);
        }
        true
    }

    fn done(&mut self, position: Position) {
        if let Some(change) = self.session.done(position) {
            self.change(change);
        }
    }

    fn store_cursor(&mut self) {
        if let Some(change) = self.session.cursor_change() {
            self.change(change);
        }
    }

    pub(super) fn handle_packet(&mut self, packet: Packet) {
        if let Some(connection) = &mut self.connection {
            connection.handle_packet(self.now, packet);
            self.handle_events();
        }
    }

    pub(super) fn can_read(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::can_read)
    }

    pub(super) fn transmit(&mut self, out: &mut BytesMut) {
        while let Some(connection) = &mut self.connection {
            if !connection.poll_transmit(out) {
                break;
            }
            self.handle_events();
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.connection.as_mut().and_then(Connection::poll_event) {
            self.handle_event(event);
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connect(_) => {
                self.change(Change::Connected);
                self.wait(Answer::Accepted);
            }
            Event::Publish { token, publish } => {
                let received = match publish.qos.qos() {
                    Qos::ExactlyOnce => publish.qos.packet_id().map(Change::InboundReceived),
                    _ => None,
                };
                self.submit(Frame {
                    changes: received.into_iter().collect(),
                    message: Some(self.logged(publish.qos.qos(), publish.message)),
                });
                self.wait(Answer::Committed(token.unwrap()));
            }
            Event::Release { token, packet_id } => {
                self.change(Change::InboundReleased(packet_id));
                self.wait(Answer::Released(token));
            }
            Event::Assign { token, packet_id } => {
                let position = Position(token.0);
                self.change(Change::OutboundAssigned {
                    packet_id,
                    position,
                });
                self.wait(Answer::Assigned(token));
            }
            Event::Received { token, packet_id } => {
                self.change(Change::OutboundReceived(packet_id));
                self.wait(Answer::Received(token));
            }
            Event::DeliveryDone { token, .. } => {
                self.done(Position(token.0));
                self.store_cursor();
            }
            Event::Closed(closed) => self.closed(&closed),
            other => self.violated = Some(format!("{other:?}")),
        }
    }

    fn closed(&mut self, closed: &Closed) {
        if closed.reason != CloseReason::NetworkClosed {
            self.violated = Some(format!("closed: {:?}", closed.reason));
        }
        for one in &closed.unacknowledged {
            if one.stage == DeliveryStage::AtLeastOnce {
                let position = Position(one.token.0);
                self.session.progress_mut().sent(one.packet_id, position);
            }
        }
    }

    pub(super) fn cut(&mut self) {
        if let Some(connection) = &mut self.connection {
            connection.handle_closed(self.now);
            self.handle_events();
            self.change(Change::Disconnected { at_ms: 0 });
        }
        self.forget_connection();
    }

    fn forget_connection(&mut self) {
        self.connection = None;
        self.accepted = false;
        self.waiting.clear();
        self.again.clear();
    }

    /// Of the frames that are not durable, the first few may have been lucky.
    pub(super) fn crash(&mut self, lucky: usize) {
        self.forget_connection();
        self.frames.truncate(self.durable + lucky);
        self.commit();
        let mut session = ClientSession::new(text("c"));
        for change in self.frames.iter().flat_map(|frame| &frame.changes) {
            session.apply(change);
        }
        let mut bytes = BytesMut::new();
        session.encode(&mut bytes);
        self.session = ClientSession::decode(bytes.freeze()).unwrap();
        assert_eq!(self.session, session);
    }

    pub(super) fn check(&self) -> Result<(), Violated> {
        self.violated.clone().map_or(Ok(()), Err)
    }

    /// Whether the session has nothing more to do.
    pub(super) fn is_idle(&self) -> bool {
        let progress = self.session.progress();
        self.durable == self.frames.len()
            && progress.cursor().0 == self.log.len() as u64
            && progress.assigned_positions().next().is_none()
            && progress.resume().releases.is_empty()
            && progress.done_beyond().is_empty()
            && self.session.received().len() == 0
    }
}

impl Answer {
    fn wait(&self) -> Wait {
        match self {
            Self::Accepted => Wait::Accepted,
            Self::Committed(_) => Wait::Committed,
            Self::Released(_) => Wait::Released,
            Self::Assigned(_) => Wait::Assigned,
            Self::Received(_) => Wait::Received,
        }
    }
}
