//! Messages to the client: one bounded queue, the in-flight window, and packet identifiers.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use crate::mqtt::{
    codec::{
        EncodeError, PacketId, PublishHeader, PublishQos, Qos, Version, encode_publish,
        publish_bytes,
    },
    connection::event::{DeliverOutcome, Delivery, DeliveryToken, OutboundCounters},
    limits::ConnectionLimits,
};

#[derive(Debug)]
pub(super) struct Outbound {
    version: Version,
    /// The client's Maximum Packet Size.
    packet_bytes_max: Option<NonZeroU32>,
    /// The smaller of the client's Receive Maximum and our own limit.
    window: usize,
    messages_max: usize,
    bytes_max: usize,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// By identifier: the token, and the place in the order of sending.
    inflight: HashMap<PacketId, (u64, DeliveryToken)>,
    sent: u64,
    last_packet_id: u16,
    counters: OutboundCounters,
}

#[derive(Debug)]
struct Queued {
    delivery: Delivery,
    packet_bytes: usize,
}

/// What `transmit` did with the head of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transmitted {
    Sent,
    /// QoS 1, and expired: the driver must know.
    Expired(DeliveryToken),
    /// QoS 0 that expired: counted, nothing more.
    Skipped,
    /// The queue is empty, or the window is full.
    Nothing,
}

impl Outbound {
    pub(super) fn new(
        version: Version,
        packet_bytes_max: Option<NonZeroU32>,
        receive_maximum: u16,
        limits: &ConnectionLimits,
    ) -> Self {
        Self {
            version,
            packet_bytes_max,
            window: receive_maximum
                .min(limits.inflight_outbound_max.get())
                .into(),
            messages_max: limits.outbound_queue_messages_max,
            bytes_max: limits.outbound_queue_bytes_max,
            queue: VecDeque::new(),
            queue_bytes: 0,
            inflight: HashMap::new(),
            sent: 0,
            last_packet_id: 0,
            counters: OutboundCounters::default(),
        }
    }

    pub(super) fn handle_deliver(&mut self, delivery: Delivery) -> DeliverOutcome {
        let qos = effective_qos(&delivery);
        // Any identifier measures the same.
        let any_id = PacketId::new(1).expect("1 is not 0");
        let header = header(
            &delivery,
            publish_qos(qos, any_id),
            delivery.expires_at.map(|_| 0),
        );
        let packet_bytes = match publish_bytes(&header, &delivery.message, self.version) {
            Ok(packet_bytes) if self.fits_client(packet_bytes) => packet_bytes,
            Ok(_) | Err(_) => {
                self.counters.skipped_too_large += 1;
                return DeliverOutcome::TooLarge;
            }
        };
        let full = self.queue.len() >= self.messages_max
            || self.queue_bytes + packet_bytes > self.bytes_max.max(packet_bytes);
        if full && qos == Qos::AtMostOnce {
            self.counters.dropped_qos0 += 1;
            return DeliverOutcome::Dropped;
        }
        if full {
            return DeliverOutcome::Overflow;
        }
        self.queue_bytes += packet_bytes;
        self.queue.push_back(Queued {
            delivery,
            packet_bytes,
        });
        DeliverOutcome::Queued
    }

    pub(super) fn fits_client(&self, packet_bytes: usize) -> bool {
        self.packet_bytes_max
            .is_none_or(|max| packet_bytes <= max.get() as usize)
    }

    /// Whether half of the queue is free, so that reading on is worth its while.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() <= self.messages_max / 2 && self.queue_bytes <= self.bytes_max / 2
    }

    /// Appends the next PUBLISH that may be sent.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Transmitted, EncodeError> {
        let Some(head) = self.queue.front() else {
            return Ok(Transmitted::Nothing);
        };
        let qos = effective_qos(&head.delivery);
        if qos > Qos::AtMostOnce && self.inflight.len() >= self.window {
            return Ok(Transmitted::Nothing);
        }
        let Some(Queued {
            delivery,
            packet_bytes,
        }) = self.queue.pop_front()
        else {
            return Ok(Transmitted::Nothing);
        };
        self.queue_bytes -= packet_bytes;
        let left = delivery
            .expires_at
            .map(|at| at.saturating_duration_since(now));
        if left == Some(Duration::ZERO) {
            return Ok(self.expire(&delivery, qos));
        }
        let publish_qos = match qos {
            Qos::AtMostOnce => PublishQos::AtMostOnce,
            qos => publish_qos(qos, self.next_packet_id(delivery.resent)),
        };
        let header = header(&delivery, publish_qos, left.map(whole_seconds));
        encode_publish(&header, &delivery.message, self.version, out)?;
        if let Some(packet_id) = publish_qos.packet_id() {
            self.sent += 1;
            self.inflight.insert(packet_id, (self.sent, delivery.token));
        }
        Ok(Transmitted::Sent)
    }

    fn expire(&mut self, delivery: &Delivery, qos: Qos) -> Transmitted {
        self.counters.expired += 1;
        match qos {
            Qos::AtMostOnce => Transmitted::Skipped,
            Qos::AtLeastOnce | Qos::ExactlyOnce => Transmitted::Expired(delivery.token),
        }
    }

    /// The identifier of an earlier sending, or the next that is not in use `[MQTT-2.2.1-4]`. The
    /// window is smaller than the number of identifiers, so there is one.
    fn next_packet_id(&mut self, resent: Option<PacketId>) -> PacketId {
        if let Some(packet_id) = resent
            && !self.inflight.contains_key(&packet_id)
        {
            return packet_id;
        }
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            if let Some(packet_id) = PacketId::new(self.last_packet_id)
                && !self.inflight.contains_key(&packet_id)
            {
                return packet_id;
            }
        }
    }

    /// `None` where nothing with this identifier is in flight.
    pub(super) fn handle_puback(&mut self, packet_id: PacketId) -> Option<DeliveryToken> {
        self.inflight.remove(&packet_id).map(|(_, token)| token)
    }

    pub(super) fn counters(&self) -> OutboundCounters {
        self.counters
    }

    /// Forgets what is queued, and gives what is in flight, in the order of sending.
    pub(super) fn close(&mut self) -> Vec<(PacketId, DeliveryToken)> {
        self.queue = VecDeque::new();
        self.queue_bytes = 0;
        let in_order: BTreeMap<_, _> = std::mem::take(&mut self.inflight)
            .into_iter()
            .map(|(packet_id, (sent, token))| (sent, (packet_id, token)))
            .collect();
        in_order.into_values().collect()
    }
}

/// QoS 2 deliveries are not offered yet: they go out as QoS 1.
fn effective_qos(delivery: &Delivery) -> Qos {
    delivery.qos.min(delivery.qos_max).min(Qos::AtLeastOnce)
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
        subscription_identifiers: &delivery.subscription_identifiers,
        message_expiry_interval_s: message_expiry_interval_s
            .or(delivery.message.properties.message_expiry_interval_s),
    }
}

/// Rounded up: what still lives has at least a second.
fn whole_seconds(left: Duration) -> u32 {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
