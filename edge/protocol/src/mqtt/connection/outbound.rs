//! Messages to the client: one bounded queue that keeps their order, and the bytes of the next one
//! that may go. Who may go is for the [`Window`] to say.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    aliases::{Aliases, Naming},
    on_demand::OnDemand,
    window::Window,
};
use crate::mqtt::{
    codec::{
        EncodeError, PacketId, PublishHeader, PublishQos, Qos, Version, encode_publish,
        publish_bytes,
    },
    connection::event::{
        ConnectRequest, DeliverOutcome, Delivery, DeliveryToken, OutboundCounters, Unacknowledged,
    },
    limits::ConnectionLimits,
};

#[derive(Debug)]
pub(super) struct Outbound {
    version: Version,
    /// The client's Maximum Packet Size.
    packet_bytes_max: Option<NonZeroU32>,
    /// There where the client allows any.
    aliases: Option<Box<Aliases>>,
    queue: OnDemand<Queue>,
    pub(super) window: Window,
    next_order: u64,
    counters: OnDemand<OutboundCounters>,
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Queued>,
    /// What their packets take.
    bytes: usize,
    /// As many, from the front, have a place in the window or (QoS 0) need none.
    admitted: usize,
}

/// What the client's CONNECT says of what it may be sent.
#[derive(Debug)]
pub(super) struct Client {
    version: Version,
    packet_bytes_max: Option<NonZeroU32>,
    receive_maximum: u16,
    topic_alias_max: u16,
}

#[derive(Debug)]
struct Queued {
    delivery: Delivery,
    packet_bytes: usize,
    /// The lower of both.
    qos: Qos,
    order: u64,
    /// Of an earlier sending, or assigned in the queue (QoS 2).
    packet_id: Option<PacketId>,
}

/// What `transmit` did with the head of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transmitted {
    Sent,
    /// QoS 1 or 2, and expired: the driver must know.
    Expired(DeliveryToken),
    /// QoS 0 that expired: counted, nothing more.
    Skipped,
    /// The queue is empty, the window is full, or the head waits for its identifier.
    Nothing,
}

impl Client {
    pub(super) fn of(request: &ConnectRequest) -> Self {
        Self {
            version: request.version,
            packet_bytes_max: request.packet_bytes_max,
            receive_maximum: request.receive_maximum,
            topic_alias_max: request.topic_alias_max,
        }
    }
}

impl Default for Client {
    /// Before its CONNECT.
    fn default() -> Self {
        Self {
            version: Version::V5,
            packet_bytes_max: None,
            receive_maximum: u16::MAX,
            topic_alias_max: 0,
        }
    }
}

impl Outbound {
    pub(super) fn new(client: &Client, limits: &ConnectionLimits) -> Self {
        Self {
            version: client.version,
            packet_bytes_max: client.packet_bytes_max,
            aliases: (client.topic_alias_max > 0)
                .then(|| Box::new(Aliases::new(client.topic_alias_max, limits))),
            queue: OnDemand::default(),
            window: Window::new(client.receive_maximum),
            next_order: 0,
            counters: OnDemand::default(),
        }
    }

    pub(super) fn handle_deliver(
        &mut self,
        delivery: Delivery,
        limits: &ConnectionLimits,
    ) -> DeliverOutcome {
        let qos = delivery.qos.min(delivery.qos_max);
        // Any identifier measures the same.
        let any_id = PacketId::new(1).expect("1 is not 0");
        let expiry = delivery.expires_at.map(|_| 0);
        let header = header(&delivery, publish_qos(qos, any_id), expiry);
        let packet_bytes = match publish_bytes(&header, &delivery.message, self.version) {
            Ok(packet_bytes) if self.fits_client(packet_bytes) => packet_bytes,
            Ok(_) | Err(_) => {
                self.counters.get_mut().skipped_too_large += 1;
                return DeliverOutcome::TooLarge;
            }
        };
        let full = self
            .queue
            .get()
            .is_some_and(|queue| !queue.has_room_for(packet_bytes, limits));
        if full && qos == Qos::AtMostOnce {
            self.counters.get_mut().dropped_qos0 += 1;
            return DeliverOutcome::Dropped;
        }
        if full {
            return DeliverOutcome::Overflow;
        }
        self.push(delivery, packet_bytes, qos);
        DeliverOutcome::Queued
    }

    fn push(&mut self, delivery: Delivery, packet_bytes: usize, qos: Qos) {
        let order = self.next_order();
        let packet_id = delivery.resent.filter(|_| qos > Qos::AtMostOnce);
        if let Some(packet_id) = packet_id {
            self.window.reserve(packet_id, delivery.token, order, qos);
        }
        let queue = self.queue.get_mut();
        queue.bytes += packet_bytes;
        // What has its place in the window is not overtaken.
        let waiting = queue.deliveries.range(queue.admitted..).rev();
        let priority = delivery.priority;
        let overtaken = waiting
            .take_while(|it| it.delivery.priority < priority)
            .count();
        let at = queue.deliveries.len() - overtaken;
        queue.deliveries.insert(
            at,
            Queued {
                delivery,
                packet_bytes,
                qos,
                order,
                packet_id,
            },
        );
    }

    fn next_order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// Holds for what refuses the CONNECT, too `[MQTT-3.1.2-24]`.
    pub(super) fn set_packet_bytes_max(&mut self, packet_bytes_max: Option<NonZeroU32>) {
        self.packet_bytes_max = packet_bytes_max;
    }

    pub(super) fn fits_client(&self, packet_bytes: usize) -> bool {
        self.packet_bytes_max
            .is_none_or(|max| packet_bytes <= max.get() as usize)
    }

    /// Gives back what an empty queue has taken.
    pub(super) fn rest(&mut self) {
        self.queue.rest(|queue| queue.deliveries.is_empty());
        self.window.rest();
    }

    /// Whether half of the queue is free, so that reading on is worth its while.
    pub(super) fn has_room(&self, limits: &ConnectionLimits) -> bool {
        self.queue.get().is_none_or(|queue| {
            queue.deliveries.len() <= limits.outbound_queue_messages_max / 2
                && queue.bytes <= limits.outbound_queue_bytes_max / 2
        })
    }

    pub(super) fn release_again(&mut self, packet_id: PacketId, token: DeliveryToken) {
        let order = self.next_order();
        self.window.release_again(packet_id, token, order);
    }

    /// Gives the queue's deliveries their places in the window, in order, and the next identifier
    /// that the driver must make durable.
    pub(super) fn poll_assign(
        &mut self,
        now: Instant,
        limits: &ConnectionLimits,
    ) -> Option<(DeliveryToken, PacketId)> {
        let queue = self.queue.there()?;
        while let Some(next) = queue.deliveries.get_mut(queue.admitted) {
            if next.qos > Qos::AtMostOnce && !self.window.admit(limits) {
                return None;
            }
            queue.admitted += 1;
            if next.qos == Qos::ExactlyOnce && next.packet_id.is_none() && !next.is_expired(now) {
                let token = next.delivery.token;
                let packet_id = self.window.assign(token, next.order);
                next.packet_id = Some(packet_id);
                return Some((token, packet_id));
            }
        }
        None
    }

    /// Appends the next PUBLISH that may be sent.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Transmitted, EncodeError> {
        let queue = self.queue.there();
        let Some(head) = queue.and_then(|queue| queue.pop(&self.window, now)) else {
            return Ok(Transmitted::Nothing);
        };
        if head.is_expired(now) {
            return Ok(self.expire(&head));
        }
        let qos = self.identify(&head);
        let Delivery {
            ref message,
            expires_at,
            ..
        } = head.delivery;
        let left = expires_at.map(|at| whole_seconds(at, now));
        let mut header = header(&head.delivery, qos, left);
        let packet_bytes_max = self.packet_bytes_max.map_or(u32::MAX, NonZeroU32::get);
        let room_bytes = (packet_bytes_max as usize).saturating_sub(head.packet_bytes);
        let aliases = self.aliases.as_mut();
        match aliases.map_or(Naming::InFull, |aliases| {
            aliases.name(&message.topic, room_bytes)
        }) {
            Naming::InFull => {}
            Naming::Introduced(number) => header.topic_alias = Some(number),
            Naming::Known(number) => {
                header.topic_alias = Some(number);
                header.is_topic_known = true;
            }
        }
        encode_publish(&header, message, self.version, out)?;
        Ok(Transmitted::Sent)
    }

    fn identify(&mut self, head: &Queued) -> PublishQos {
        match (head.qos, head.packet_id) {
            (Qos::AtMostOnce, _) => PublishQos::AtMostOnce,
            (Qos::ExactlyOnce, Some(packet_id)) => {
                self.window.send_exactly_once(packet_id);
                PublishQos::ExactlyOnce(packet_id)
            }
            (_, packet_id) => {
                let token = head.delivery.token;
                let packet_id = self.window.send_at_least_once(packet_id, token, head.order);
                PublishQos::AtLeastOnce(packet_id)
            }
        }
    }

    fn expire(&mut self, head: &Queued) -> Transmitted {
        self.counters.get_mut().expired += 1;
        if head.qos == Qos::AtMostOnce {
            return Transmitted::Skipped;
        }
        self.window.leave();
        Transmitted::Expired(head.delivery.token)
    }

    pub(super) fn counters(&self) -> OutboundCounters {
        self.counters.get().copied().unwrap_or_default()
    }

    /// Forgets what is queued, and gives what is in flight, in the order of deliveries.
    pub(super) fn close(&mut self) -> Vec<Unacknowledged> {
        self.queue = OnDemand::default();
        self.window.close()
    }
}

impl Queue {
    /// For one more.
    fn has_room_for(&self, packet_bytes: usize, limits: &ConnectionLimits) -> bool {
        self.deliveries.len() < limits.outbound_queue_messages_max
            && (self.deliveries.is_empty()
                || self.bytes + packet_bytes <= limits.outbound_queue_bytes_max)
    }

    /// The head, if it may go.
    #[inline]
    fn pop(&mut self, window: &Window, now: Instant) -> Option<Queued> {
        if self.admitted == 0 || !self.deliveries.front()?.may_go(window, now) {
            return None;
        }
        let head = self.deliveries.pop_front()?;
        self.admitted -= 1;
        self.bytes -= head.packet_bytes;
        Some(head)
    }
}

impl Queued {
    /// Whether it has the identifier that it needs, or needs none.
    fn may_go(&self, window: &Window, now: Instant) -> bool {
        match self.packet_id {
            Some(packet_id) => !window.is_assigning(packet_id),
            // It had expired when its turn came to be assigned one.
            None => self.qos < Qos::ExactlyOnce || self.is_expired(now),
        }
    }

    /// With its identifier the delivery has begun, and does not expire any more `[MQTT-3.3.2-5]`,
    /// `[MQTT-4.3.3-7]`: a crash may leave it with the identifier, and it would be sent after all,
    /// behind those that were behind it.
    fn is_expired(&self, now: Instant) -> bool {
        let expires_at = self.delivery.expires_at;
        self.packet_id.is_none() && expires_at.is_some_and(|at| at <= now)
    }
}

fn publish_qos(qos: Qos, packet_id: PacketId) -> PublishQos {
    match qos {
        Qos::AtMostOnce => PublishQos::AtMostOnce,
        Qos::AtLeastOnce => PublishQos::AtLeastOnce(packet_id),
        Qos::ExactlyOnce => PublishQos::ExactlyOnce(packet_id),
    }
}

fn header(
    delivery: &Delivery,
    qos: PublishQos,
    message_expiry_interval_s: Option<u32>,
) -> PublishHeader<'_> {
    PublishHeader {
        duplicate: delivery.resent.is_some(),
        qos,
        retain: delivery.retain,
        topic_alias: None,
        is_topic_known: false,
        subscription_identifiers: &delivery.subscription_identifiers,
        message_expiry_interval_s: message_expiry_interval_s
            .or(delivery.message.properties.message_expiry_interval_s),
    }
}

/// Rounded up: what still lives has at least a second.
fn whole_seconds(expires_at: Instant, now: Instant) -> u32 {
    let left: Duration = expires_at.saturating_duration_since(now);
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
