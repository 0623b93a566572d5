//! The server's side of one network connection, as a value: packets and the driver's answers in,
//! events and bytes out. It knows nothing of sessions, authorisation or the journal; the driver
//! answers its events from there. Time passes only through `now`.
//!
//! A driver reads while `can_read`, decodes, hands packets in, then takes all events, then bytes,
//! and closes the socket once `is_closed`.

mod aliases;
mod authentication;
mod deliveries;
mod ending;
mod event;
mod filters;
mod handshake;
mod inbound;
mod keep_alive;
mod on_demand;
mod outbound;
mod packets;
mod pending;
mod publishes;
mod rate;
#[cfg(test)]
mod tests;
mod window;
mod withheld;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::BytesMut;

use authentication::Authentication;
pub use authentication::Authenticator;
pub use event::{
    Accepted, CloseReason, Closed, ConnectRequest, DeliverOutcome, Delivery, DeliveryOutcome,
    DeliveryStage, DeliveryToken, Event, OutboundCounters, PublishRefused, PublishToken, Redirect,
    ReleaseToken, Sent, SharedFilter, SubscribeToken, SubscriptionRequest, Unacknowledged,
};
use inbound::Inbound;
use keep_alive::KeepAlive;
use on_demand::OnDemand;
use outbound::{Client, Outbound, Transmitted};
use pending::Pending;
pub use rate::RateLimit;
use rate::Rates;
use withheld::Withheld;

use super::{
    codec::{
        AckProperties, DecodeError, DecodeErrorKind, Packet, PacketType, Suback, Version, Will,
    },
    limits::ConnectionLimits,
    reply_code::ReasonCode,
};

/// See the module. Made for each accepted socket.
#[derive(Debug)]
pub struct Connection {
    limits: Arc<ConnectionLimits>,
    /// The latest time that was passed in.
    now: Instant,
    state: State,
    version: Version,
    keep_alive: KeepAlive,
    authentication: OnDemand<Authentication>,
    /// There where the listener bounds any.
    rates: Option<Box<Rates>>,
    inbound: OnDemand<Inbound>,
    withheld: OnDemand<Withheld>,
    outbound: Outbound,
    pending: OnDemand<Pending>,
    will: Option<Box<Will>>,
    session_expiry_interval_s: u32,
}

#[derive(Debug)]
enum State {
    /// No CONNECT yet.
    Fresh,
    /// The CONNECT asks for an exchange of AUTH packets, which goes on.
    Authenticating {
        request: Box<ConnectRequest>,
    },
    /// The driver thinks about the CONNECT. What else came is kept.
    Deciding {
        request: Box<ConnectRequest>,
        early: OnDemand<VecDeque<Packet>>,
    },
    Connected,
    Closed,
}

impl Connection {
    /// Limits are shared by all connections that have the same.
    pub fn new(limits: impl Into<Arc<ConnectionLimits>>, now: Instant) -> Self {
        let limits = limits.into();
        limits.assert_valid();
        Self {
            now,
            state: State::Fresh,
            version: Version::V5,
            keep_alive: KeepAlive::new(now),
            authentication: OnDemand::default(),
            rates: Rates::new(now, &limits).map(Box::new),
            inbound: OnDemand::default(),
            withheld: OnDemand::default(),
            outbound: Outbound::new(&Client::default(), &limits),
            pending: OnDemand::default(),
            will: None,
            session_expiry_interval_s: 0,
            limits,
        }
    }

    /// What the CONNECT asked for; MQTT 5 until it came.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether more packets may be handed in. While it is false, leave them in the socket; the
    /// keep alive stands still.
    pub fn can_read(&self) -> bool {
        match self.state {
            State::Fresh | State::Authenticating { .. } => true,
            State::Deciding { .. } | State::Closed => false,
            State::Connected => {
                let (inbound, withheld) = (self.inbound.get(), self.withheld.get());
                inbound.is_none_or(|inbound| inbound.has_room(self.version, &self.limits))
                    && withheld.is_none_or(|withheld| withheld.has_room(self.now, &self.limits))
                    && self.exceeded_rate().is_none()
                    && self
                        .pending
                        .get()
                        .is_none_or(|pending| pending.has_room(&self.limits))
            }
        }
    }

    /// Whether its CONNECT is accepted and it has not ended.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// Whether the queue to the client has emptied enough to read for it again.
    pub fn outbound_has_room(&self) -> bool {
        self.outbound.has_room(&self.limits)
    }

    pub fn outbound_counters(&self) -> OutboundCounters {
        self.outbound.counters()
    }

    /// What was handed out since the last call.
    pub fn take_sent(&mut self) -> Sent {
        let pending = self.pending.there();
        pending
            .map(|pending| std::mem::take(&mut pending.sent))
            .unwrap_or_default()
    }

    /// Nothing more will come in or go out: close the socket.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
            && self
                .pending
                .get()
                .is_none_or(|pending| pending.replies.is_empty())
    }

    pub fn handle_packet(&mut self, now: Instant, packet: Packet) {
        self.advance(now);
        self.on_packet(packet);
        if !self.can_read() {
            self.keep_alive.pause();
        }
    }

    /// The driver has taken so many bytes for packets.
    pub fn handle_bytes(&mut self, now: Instant, bytes: usize) {
        self.advance(now);
        if let Some(rates) = &mut self.rates {
            rates.spend_bytes(self.now, bytes);
        }
        if !self.can_read() {
            self.keep_alive.pause();
        }
    }

    /// Which of its rates the client has used up, so that it is not read from.
    pub fn rate_exceeded(&self) -> Option<RateLimit> {
        let exceeded = self.exceeded_rate();
        exceeded
            .filter(|_| self.is_connected())
            .map(|(limit, _)| limit)
    }

    /// The decoder found no packet. The client is told where its version can say it.
    pub fn handle_decode_error(&mut self, now: Instant, error: &DecodeError) {
        self.advance(now);
        if matches!(self.state, State::Fresh) {
            self.version = match (error.kind, error.version) {
                (_, Some(version)) => version,
                // A bridge sets the high bit of an older level, and falls back when refused.
                (DecodeErrorKind::UnsupportedVersion { level }, None) if level & 0x7f > 4 => {
                    Version::V5
                }
                (_, None) => Version::V3_1_1,
            };
            let unsupported = matches!(error.kind, DecodeErrorKind::UnsupportedVersion { .. });
            if error.version.is_none() && !unsupported {
                // It may be no MQTT at all: nothing is said [MQTT-3.1.2-1].
                return self.close_with_error(error.reason_code(), error.to_string());
            }
        }
        self.fail(error.reason_code(), &error.to_string());
    }

    /// Answers `Event::Connect`.
    pub fn handle_accepted(&mut self, now: Instant, mut accepted: Accepted) {
        self.advance(now);
        if !matches!(self.state, State::Deciding { .. }) {
            return;
        }
        let State::Deciding { request, mut early } =
            std::mem::replace(&mut self.state, State::Connected)
        else {
            unreachable!("it was deciding a line ago");
        };
        self.session_expiry_interval_s = request.session_expiry_interval_s;
        self.keep_alive
            .start(self.now, handshake::keep_alive_s(&request, &self.limits).0);
        self.outbound = Outbound::new(&Client::of(&request), &self.limits);
        let received = std::mem::take(&mut accepted.received);
        if !received.is_empty() {
            self.inbound.get_mut().resume(received);
        }
        let unacknowledged = std::mem::take(&mut accepted.unacknowledged);
        self.outbound.window.keep(unacknowledged);
        let mut connack = handshake::connack(&request, accepted, &self.limits);
        if let Some(authentication) = self.authentication.there() {
            authentication.complete(&mut connack.properties);
        }
        self.reply(Packet::Connack(Box::new(connack)));
        self.will = request.will.map(Box::new);
        for packet in early.take() {
            self.on_packet(packet);
        }
    }

    /// Answers `Event::Connect`.
    pub fn handle_rejected(&mut self, reason: ReasonCode) {
        if matches!(self.state, State::Deciding { .. }) {
            self.reject(reason, "");
        }
    }

    /// Answers `Event::Connect`, or ends a connection that was accepted: the client is to go to
    /// another server. One of MQTT 3 can't be told where; it learns that this one is unavailable.
    pub fn handle_redirected(&mut self, now: Instant, redirect: &Redirect) {
        self.advance(now);
        let reason = redirect.reason_code();
        let mut farewell = match self.state {
            State::Connected => self.disconnect(reason, ""),
            State::Fresh
            | State::Authenticating { .. }
            | State::Deciding { .. }
            | State::Closed => handshake::refusal(self.version, reason, "")
                .filter(|_| matches!(self.state, State::Deciding { .. }))
                .map(|connack| Packet::Connack(Box::new(connack))),
        };
        if let Some(packet) = &mut farewell {
            packets::refer(packet, &redirect.server);
        }
        self.close(CloseReason::Shutdown(reason), farewell, None);
    }

    /// Answers `Event::Subscribe`, one reason per filter.
    pub fn handle_subscribed(&mut self, token: SubscribeToken, reasons: Vec<ReasonCode>) {
        if let Some(suback) = self.suback(token, reasons) {
            self.reply(Packet::Suback(suback));
        }
    }

    /// Answers `Event::Unsubscribe`, one reason per filter.
    pub fn handle_unsubscribed(&mut self, token: SubscribeToken, reasons: Vec<ReasonCode>) {
        if let Some(unsuback) = self.suback(token, reasons) {
            self.reply(Packet::Unsuback(unsuback));
        }
    }

    fn suback(&mut self, token: SubscribeToken, reasons: Vec<ReasonCode>) -> Option<Suback> {
        let (packet_id, count) = self.pending.there()?.subscribes.remove(&token)?;
        // [MQTT-3.8.4-5], [MQTT-3.11.3-1]
        assert_eq!(reasons.len(), count, "one reason per filter");
        Some(Suback {
            packet_id,
            reasons,
            properties: AckProperties::default(),
        })
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self
            .connect_deadline()
            .is_some_and(|deadline| now >= deadline)
        {
            return self.close(CloseReason::ConnectTimeout, None, None);
        }
        self.check_authentication_deadline();
        self.try_withheld();
        if self.keep_alive.handle_timeout(now, !self.can_read()) {
            let farewell = self.disconnect(ReasonCode::KeepAliveTimeout, "");
            self.close(CloseReason::KeepAliveTimeout, farewell, None);
        }
    }

    /// The server ends the connection: it goes down, another connection took the session over
    /// (`SessionTakenOver`), the client exceeds a quota.
    pub fn handle_shutdown(&mut self, now: Instant, reason: ReasonCode) {
        self.advance(now);
        let farewell = match self.state {
            State::Connected => self.disconnect(reason, ""),
            State::Authenticating { .. } | State::Deciding { .. } => {
                handshake::refusal(self.version, ReasonCode::ServerUnavailable, "")
                    .map(|connack| Packet::Connack(Box::new(connack)))
            }
            State::Fresh | State::Closed => None,
        };
        self.close(CloseReason::Shutdown(reason), farewell, None);
    }

    /// The network connection has ended: nothing more can be sent.
    pub fn handle_closed(&mut self, now: Instant) {
        self.advance(now);
        self.close(CloseReason::NetworkClosed, None, None);
        self.forget_replies();
    }

    /// Appends waiting packets, answers first, then deliveries in their order. False where there
    /// was nothing to do; where there was, events may have come of it.
    pub fn poll_transmit(&mut self, out: &mut BytesMut) -> bool {
        let start = out.len();
        let mut expired = false;
        while out.len() - start < self.limits.transmit_bytes_max {
            let pending = self.pending.there();
            if let Some(reply) = pending.and_then(|pending| pending.replies.pop_front()) {
                self.transmit_reply(reply, out);
                continue;
            }
            let at = out.len();
            match self.outbound.transmit(self.now, out) {
                Ok(Transmitted::Sent) => {
                    let kind = out.get(at).map(|first| first >> 4);
                    let sent = &mut self.pending.get_mut().sent;
                    sent.packets += 1;
                    sent.publishes += u64::from(kind == Some(PacketType::Publish as u8));
                }
                Ok(Transmitted::Skipped) => expired = true,
                Ok(Transmitted::Expired(token)) => {
                    expired = true;
                    let outcome = DeliveryOutcome::Expired;
                    self.tell(Event::DeliveryDone { token, outcome });
                    self.assign();
                }
                Ok(Transmitted::Nothing) => break,
                // It was measured when it was queued.
                Err(error) => unreachable!("a queued delivery is encodable: {error}"),
            }
        }
        expired || out.len() > start
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.pending.there()?.events.pop_front()
    }

    /// Nothing is to be done until more comes: gives back what empty queues have taken, so that an idle
    /// connection holds little.
    pub fn rest(&mut self) {
        self.pending.rest(Pending::is_idle);
        self.outbound.rest();
        self.inbound.rest(Inbound::is_idle);
        self.withheld.rest(Withheld::is_idle);
        self.authentication.rest(Authentication::is_idle);
    }

    /// When to call `handle_timeout`, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [
            self.connect_deadline(),
            self.keep_alive.deadline(),
            self.withheld.get().and_then(Withheld::deadline),
            self.authentication.get().and_then(Authentication::deadline),
            self.exceeded_rate().map(|(_, room_at)| room_at),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn connect_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Fresh | State::Authenticating { .. } => {
                let came_at = self.keep_alive.heard_at();
                came_at.map(|came_at| came_at + self.limits.connect_timeout)
            }
            State::Deciding { .. } | State::Connected | State::Closed => None,
        }
    }

    fn exceeded_rate(&self) -> Option<(RateLimit, Instant)> {
        self.rates.as_ref()?.exceeded(self.now)
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }
}
