//! One connection's task: bytes between the socket and the session machine, and the machine's events
//! to the router and the committer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tidegate_edge_protocol::mqtt::codec::{
    Decoder, Message, Publish, PublishProperties, Text, Will,
};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, CloseReason, Closed, ConnectRequest, Connection, DeliverOutcome, Delivery,
    DeliveryToken, Event, PublishToken, SharedFilter, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::Context;
use super::mailbox::{Contents, Letter, Mailbox};
use crate::limits::{FAREWELL_TIMEOUT, READ_BYTES, WRITE_BYTES_MAX};
use crate::record;
use crate::router::{ConnectionId, Subscription};

/// Runs a connection to its end.
pub(super) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    context: Context,
    stopping: watch::Receiver<bool>,
) {
    let id = context.next_id();
    let packet_bytes_max = context.limits.packet_bytes_max.get();
    let task = Task {
        machine: Connection::new(context.limits.clone(), Instant::now()),
        decoder: Decoder::server(packet_bytes_max),
        mailbox: Arc::new(Mailbox::default()),
        id,
        peer,
        client_id: Bytes::new(),
        context,
        next_delivery: 0,
        input: BytesMut::new(),
        output: BytesMut::new(),
        ended: false,
    };
    Box::pin(task.run(socket, stopping)).await;
}

struct Task {
    machine: Connection,
    decoder: Decoder,
    mailbox: Arc<Mailbox>,
    id: ConnectionId,
    peer: SocketAddr,
    client_id: Bytes,
    context: Context,
    next_delivery: u64,
    input: BytesMut,
    output: BytesMut,
    /// Nothing but a farewell is left to be said.
    ended: bool,
}

impl Task {
    async fn run(mut self, mut socket: TcpStream, mut stopping: watch::Receiver<bool>) {
        while !self.ended {
            let (mut reader, mut writer) = socket.split();
            let deadline = self.machine.poll_timeout();
            let can_read = self.machine.can_read() && self.output.len() < WRITE_BYTES_MAX;
            if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
                self.input.reserve(READ_BYTES);
            }
            tokio::select! {
                read = reader.read_buf(&mut self.input), if can_read => match read {
                    Ok(1..) => self.decode().await,
                    Ok(0) | Err(_) => self.machine.handle_closed(Instant::now()),
                },
                written = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if !matches!(written, Ok(1..)) {
                        self.machine.handle_closed(Instant::now());
                    }
                }
                () = self.mailbox.filled() => self.empty_mailbox(),
                () = sleep_until(deadline.unwrap_or_else(far).into()), if deadline.is_some() => {
                    self.machine.handle_timeout(Instant::now());
                }
                _ = stopping.changed() => {
                    let reason = ReasonCode::ServerShuttingDown;
                    self.machine.handle_shutdown(Instant::now(), reason);
                }
            }
            if self.machine.can_read() && !self.input.is_empty() {
                // What was left when the machine had enough.
                self.decode().await;
            }
            self.settle().await;
        }
        // A peer that does not read must not hold the connection, or the node's end, for ever.
        let _ = timeout(FAREWELL_TIMEOUT, self.say_farewell(&mut socket)).await;
    }

    async fn say_farewell(&mut self, socket: &mut TcpStream) -> std::io::Result<()> {
        loop {
            self.settle().await;
            if self.output.is_empty() {
                return socket.shutdown().await;
            }
            socket.write_all_buf(&mut self.output).await?;
        }
    }

    /// Feeds whole packets to the machine while it takes them.
    async fn decode(&mut self) {
        while self.machine.can_read() && !self.machine.is_closed() {
            match self.decoder.decode(&mut self.input) {
                Ok(None) => break,
                Ok(Some(packet)) => {
                    self.context.metrics.mqtt_packets_received.inc();
                    self.machine.handle_packet(Instant::now(), packet);
                }
                Err(error) => self.machine.handle_decode_error(Instant::now(), &error),
            }
            self.handle_events().await;
        }
    }

    /// Events and output until both are done, or the output is full.
    async fn settle(&mut self) {
        self.handle_events().await;
        while self.output.len() < WRITE_BYTES_MAX && self.machine.poll_transmit(&mut self.output) {
            self.handle_events().await;
        }
    }

    fn empty_mailbox(&mut self) {
        let Some(Contents {
            outcomes,
            letters,
            shut_down,
        }) = self.mailbox.take()
        else {
            return;
        };
        for (token, outcome) in outcomes {
            self.machine.handle_committed(token, outcome);
        }
        for letter in letters {
            self.deliver(letter);
        }
        let dropped = self.mailbox.take_dropped();
        if dropped > 0 {
            self.context.metrics.mqtt_messages_dropped.inc_by(dropped);
        }
        if let Some(reason) = shut_down {
            self.machine.handle_shutdown(Instant::now(), reason);
        }
    }

    fn deliver(&mut self, letter: Letter) {
        let now = Instant::now();
        let expiry_s = letter.message.properties.message_expiry_interval_s;
        let delivery = Delivery {
            token: DeliveryToken(self.next_delivery),
            qos: letter.qos,
            qos_max: letter.qos_max,
            retain: letter.retain,
            subscription_identifiers: letter.identifiers,
            expires_at: expiry_s.map(|s| now + std::time::Duration::from_secs(s.into())),
            message: letter.message,
            resent: None,
        };
        self.next_delivery += 1;
        match self.machine.handle_deliver(now, delivery) {
            DeliverOutcome::Queued => self.context.metrics.mqtt_messages_delivered.inc(),
            DeliverOutcome::Dropped | DeliverOutcome::TooLarge => {
                self.context.metrics.mqtt_messages_dropped.inc()
            }
            // Never skipped: a subscriber that cannot follow is disconnected.
            DeliverOutcome::Overflow => {
                self.machine.handle_shutdown(now, ReasonCode::QuotaExceeded);
                0
            }
            DeliverOutcome::NotConnected => 0,
        };
    }

    async fn handle_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Connect(request) => self.connect(&request),
                Event::Publish { token, publish } => self.publish(token, publish).await,
                Event::Subscribe {
                    token,
                    filters,
                    subscription_identifier,
                } => {
                    let reasons = filters
                        .into_iter()
                        .map(|request| self.subscribe(request, subscription_identifier))
                        .collect();
                    self.machine.handle_subscribed(token, reasons);
                }
                Event::Unsubscribe { token, filters } => {
                    let reasons = filters
                        .iter()
                        .map(|filter| self.unsubscribe(filter))
                        .collect();
                    self.machine.handle_unsubscribed(token, reasons);
                }
                // The session ends with its connection: there is nothing to store.
                Event::Release { token, .. } => self.machine.handle_released(token),
                Event::Assign { token, .. } => self.machine.handle_assigned(token),
                Event::Received { token, .. } => self.machine.handle_received(token),
                Event::DeliveryDone { .. } => {}
                Event::WillDue(will) => self.publish_will(*will).await,
                Event::Closed(closed) => {
                    self.ended = true;
                    self.closed(&closed);
                }
            }
        }
    }

    /// Sessions end with their connection for now, and that is what the client is told.
    fn connect(&mut self, request: &ConnectRequest) {
        let assigned = match &request.client_id {
            Some(_) => None,
            None => Text::new(format!("auto-{:x}-{}", self.id, start_nonce())).ok(),
        };
        let client_id = request
            .client_id
            .as_ref()
            .or(assigned.as_ref())
            .map(Text::detached);
        let client_id = client_id.unwrap_or_default();
        self.client_id = client_id.as_bytes().clone();
        self.context
            .router
            .take_over(client_id.as_str(), self.id, &self.mailbox);
        let accepted = Accepted {
            session_present: false,
            assigned_client_id: assigned,
            session_expiry_interval_s: (request.session_expiry_interval_s != 0).then_some(0),
            ..Accepted::default()
        };
        tracing::debug!(peer = %self.peer, client = client_id.as_str(), "mqtt: connected");
        self.machine.handle_accepted(Instant::now(), accepted);
    }

    async fn publish(&mut self, token: Option<PublishToken>, publish: Publish) {
        self.context.metrics.messages_received.inc();
        let Publish {
            qos,
            retain,
            message,
            ..
        } = publish;
        let message = Arc::new(message);
        self.context
            .router
            .fan_out(self.id, &message, qos.qos(), retain);
        let Some(route) = self.context.router.route(message.topic.as_str()) else {
            self.context.metrics.messages_unrouted.inc();
            if let Some(token) = token {
                // Nothing is to be kept, so nothing is promised beyond the online subscribers.
                self.machine.handle_committed(token, Ok(()));
            }
            return;
        };
        let record = record::from_message(&message, route.key, &self.client_id, now_ms());
        let waiter = token.map(|token| (Arc::clone(&self.mailbox), token));
        self.context
            .committer
            .append(route.stream, record, waiter)
            .await;
    }

    async fn publish_will(&mut self, will: Will) {
        let properties = PublishProperties {
            payload_is_utf8: will.properties.payload_is_utf8,
            message_expiry_interval_s: will.properties.message_expiry_interval_s,
            content_type: will.properties.content_type,
            response_topic: will.properties.response_topic,
            correlation_data: will.properties.correlation_data,
            user_properties: will.properties.user_properties,
        };
        let message = Arc::new(Message {
            topic: will.topic,
            payload: will.payload,
            properties,
        });
        self.context
            .router
            .fan_out(self.id, &message, will.qos, will.retain);
        if let Some(route) = self.context.router.route(message.topic.as_str()) {
            let record = record::from_message(&message, route.key, &self.client_id, now_ms());
            self.context
                .committer
                .append(route.stream, record, None)
                .await;
        }
    }

    fn subscribe(
        &self,
        request: SubscriptionRequest,
        identifier: Option<tidegate_edge_protocol::mqtt::codec::SubscriptionIdentifier>,
    ) -> ReasonCode {
        if request.filter.group.is_some() {
            return ReasonCode::SharedSubscriptionsNotSupported;
        }
        let granted = request.granted();
        let subscription = Subscription {
            mailbox: Arc::clone(&self.mailbox),
            qos_max: request.options.qos_max,
            no_local: request.options.no_local,
            retain_as_published: request.options.retain_as_published,
            identifier,
        };
        self.context
            .router
            .subscribe(self.id, request.filter.filter, subscription);
        granted
    }

    fn unsubscribe(&self, filter: &SharedFilter) -> ReasonCode {
        if filter.group.is_none() && self.context.router.unsubscribe(self.id, &filter.filter) {
            ReasonCode::Success
        } else {
            ReasonCode::NoSubscriptionExisted
        }
    }

    fn closed(&self, closed: &Closed) {
        let client = String::from_utf8_lossy(&self.client_id);
        self.context.router.leave(&client, self.id);
        let peer = self.peer;
        match &closed.reason {
            CloseReason::ClientDisconnected(_)
            | CloseReason::NetworkClosed
            | CloseReason::Shutdown(ReasonCode::ServerShuttingDown) => {
                tracing::debug!(%peer, %client, "mqtt: disconnected");
            }
            CloseReason::PeerError { reason, message } => {
                self.context.metrics.closed("peer_error");
                let code = *reason as u8;
                tracing::warn!(%peer, %client, code, why = message, "mqtt: closed for a breach");
            }
            other => {
                self.context.metrics.closed(reason_label(other));
                tracing::info!(%peer, %client, why = ?other, "mqtt: closed");
            }
        }
    }
}

fn reason_label(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::ConnectTimeout => "connect_timeout",
        CloseReason::KeepAliveTimeout => "keep_alive_timeout",
        CloseReason::Rejected(_) => "rejected",
        CloseReason::Shutdown(ReasonCode::SessionTakenOver) => "taken_over",
        CloseReason::Shutdown(_) => "quota",
        CloseReason::PublishRefused(_) => "publish_refused",
        _ => "other",
    }
}

/// The wall clock, in milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Tells apart the assigned client ids of two lives of this process.
fn start_nonce() -> String {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    format!("{:x}", START.get_or_init(now_ms))
}

/// No deadline: the branch is switched off, but it wants a time.
fn far() -> Instant {
    Instant::now() + std::time::Duration::from_secs(3600)
}
