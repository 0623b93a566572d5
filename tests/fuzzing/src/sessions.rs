//! Sequences of packets for MQTT's session machine, with a driver that answers when and how the input says.
//! Whatever comes: it ends once, what it sends is MQTT and within the client's limits, acknowledgements come
//! in order, each message of QoS 1 is answered once, and who names a way to prove who it is gets in by a proof
//! only.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidegate_edge_protocol::mqtt::codec::{
    Decoder, Message, Packet, PacketId, PublishQos, Qos, Text,
};
use tidegate_edge_protocol::mqtt::connection::{
    Accepted, Connection, Delivery, DeliveryToken, Event, PublishRefused, SubscriptionRequest,
};
use tidegate_edge_protocol::mqtt::limits::ConnectionLimits;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

use crate::session_inputs;

/// The largest packet from the client.
const PACKET_BYTES_MAX: u32 = 1 << 16;

/// Small, so that inputs reach it.
const INFLIGHT_MAX: u16 = 3;

/// Events that are answered before more is read, at most: the machine waits for some of them.
const ANSWERS_MAX: usize = 10_000;

/// One machine, its driver, and what a client knows of it.
struct World {
    machine: Connection,
    now: Instant,
    /// Reads what the machine sends.
    client: Option<Decoder>,
    output: BytesMut,
    /// Events that are not answered yet.
    events: VecDeque<Event>,
    closed: usize,
    next_token: u64,
    receive_maximum: usize,
    /// Its CONNECT names an authentication method.
    is_named: bool,
    /// Identifiers of messages that went out and have not come to their end.
    outstanding: BTreeSet<PacketId>,
    /// Identifiers of QoS 1 that came in and are not acknowledged, in order.
    unacknowledged: VecDeque<PacketId>,
}

/// Steps behind their lengths: what the driver does, and packets of the client.
pub fn run(input: &[u8]) -> Result<bool, String> {
    let mut world = World::new();
    let mut decoder = Decoder::server(PACKET_BYTES_MAX);
    let (mut rest, mut is_valid) = (input, true);
    while let Some((&[op, low, high], more)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([low, high])).min(more.len());
        let (bytes, more) = more.split_at(length);
        rest = more;
        is_valid &= world.read(&mut decoder, bytes)?;
        world.act(op)?;
        if world.closed > 0 {
            break;
        }
    }
    let was_connected = world.machine.is_connected();
    world.finish()?;
    Ok(is_valid && was_connected)
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let inflight = NonZeroU16::new(INFLIGHT_MAX).expect("it is not 0");
        let limits = ConnectionLimits {
            packet_bytes_max: PACKET_BYTES_MAX.try_into().expect("it is not 0"),
            inflight_inbound_max: inflight,
            inflight_outbound_max: inflight,
            outbound_queue_messages_max: 8,
            subscribes_pending_max: 2,
            ..ConnectionLimits::default()
        };
        let mut machine = Connection::new(limits, now);
        machine.offer_authentication(session_inputs::authenticator());
        Self {
            machine,
            now,
            client: None,
            output: BytesMut::new(),
            events: VecDeque::new(),
            closed: 0,
            next_token: 0,
            receive_maximum: usize::from(u16::MAX),
            is_named: false,
            outstanding: BTreeSet::new(),
            unacknowledged: VecDeque::new(),
        }
    }

    /// Hands packets in while they are taken. Whether all were packets.
    fn read(&mut self, decoder: &mut Decoder, bytes: &[u8]) -> Result<bool, String> {
        let mut input = BytesMut::from(bytes);
        loop {
            for _ in 0..ANSWERS_MAX {
                if self.machine.can_read() || self.closed > 0 {
                    break;
                }
                self.answer(0)?;
                self.transmit()?;
            }
            if self.closed > 0 || self.machine.is_closed() {
                return Ok(true);
            }
            match decoder.decode(&mut input) {
                Ok(None) => return Ok(input.is_empty()),
                Ok(Some(packet)) => {
                    self.see(&packet);
                    self.machine.handle_packet(self.now, packet);
                }
                Err(error) => {
                    self.machine.handle_decode_error(self.now, &error);
                    self.take_events()?;
                    return Ok(false);
                }
            }
            self.take_events()?;
        }
    }

    /// What the client's packet means for what it was sent.
    fn see(&mut self, packet: &Packet) {
        match packet {
            Packet::Connect(connect) if self.client.is_none() => {
                let properties = &connect.properties;
                let largest = properties
                    .packet_bytes_max
                    .map_or(u32::MAX, |max| max.get());
                self.client = Some(Decoder::client(connect.version, largest));
                let maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
                self.receive_maximum = maximum.into();
                self.is_named = properties.authentication_method.is_some();
            }
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.outstanding.remove(&ack.packet_id);
            }
            Packet::Pubrec(ack) if ack.reason.is_error() => {
                self.outstanding.remove(&ack.packet_id);
            }
            _ => {}
        }
    }

    /// Takes the machine's events, and looks at those that only count.
    fn take_events(&mut self) -> Result<(), String> {
        while let Some(event) = self.machine.poll_event() {
            if self.closed > 0 {
                return Err(format!("{event:?} came after the end"));
            }
            match &event {
                Event::Closed(_) => self.closed += 1,
                Event::Connect(request)
                    if self.is_named != request.authenticated_name.is_some() =>
                {
                    return Err(format!(
                        "connected without a proof, or unasked: {request:?}"
                    ));
                }
                Event::Publish { publish, .. } => {
                    if let PublishQos::AtLeastOnce(packet_id) = publish.qos {
                        self.unacknowledged.push_back(packet_id);
                    }
                }
                _ => {}
            }
            self.events.push_back(event);
        }
        Ok(())
    }

    /// What the driver does of its own accord.
    fn act(&mut self, op: u8) -> Result<(), String> {
        match op % 8 {
            0 => self.answer(op)?,
            1..=3 => self.deliver(op),
            4 => {
                self.now += Duration::from_millis(u64::from(op) * 20);
                self.machine.handle_timeout(self.now);
            }
            5 => {
                self.events
                    .rotate_left(usize::from(!self.events.is_empty()));
            }
            _ => {}
        }
        self.take_events()?;
        if op & 0x80 == 0 {
            for _ in 0..self.events.len() {
                self.answer(op)?;
            }
        }
        if op & 0x40 == 0 {
            self.transmit()?;
        }
        if op == 0xff {
            self.machine
                .handle_shutdown(self.now, ReasonCode::ServerShuttingDown);
            self.take_events()?;
        }
        Ok(())
    }

    fn deliver(&mut self, op: u8) {
        self.next_token += 1;
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(op) % 3];
        let delivery = Delivery {
            token: DeliveryToken(self.next_token),
            message: Arc::new(Message {
                topic: Text::try_from(["a", "b/c"][usize::from(op >> 4) % 2]).expect("a topic"),
                payload: Bytes::from_static(b"21.5"),
                ..Message::default()
            }),
            qos,
            qos_max: Qos::ExactlyOnce,
            retain: op & 0x10 != 0,
            subscription_identifiers: Vec::new(),
            expires_at: (op & 0x20 != 0).then(|| self.now + Duration::from_secs(1)),
            resent: None,
            priority: op >> 6,
        };
        let _ = self.machine.handle_deliver(self.now, delivery);
    }

    /// Answers the oldest event that has not been.
    fn answer(&mut self, op: u8) -> Result<(), String> {
        let Some(event) = self.events.pop_front() else {
            return Ok(());
        };
        let (machine, now) = (&mut self.machine, self.now);
        match event {
            Event::Connect(_) if op == 0xf8 => machine.handle_rejected(ReasonCode::NotAuthorized),
            Event::Connect(_) => machine.handle_accepted(now, Accepted::default()),
            Event::Publish {
                token: Some(token),
                publish,
            } => match op % 7 {
                3 if machine.withholds() => machine.handle_withheld(now, token, publish),
                5 => machine.handle_committed(token, Err(PublishRefused::QuotaExceeded)),
                _ => machine.handle_committed(token, Ok(())),
            },
            Event::PublishAgain { token, .. } => machine.handle_committed(token, Ok(())),
            Event::Release { token, .. } => machine.handle_released(token),
            Event::Assign { token, .. } => machine.handle_assigned(token),
            Event::Received { token, .. } => machine.handle_received(token),
            Event::Subscribe { token, filters, .. } => {
                let granted = filters.iter().map(SubscriptionRequest::granted).collect();
                machine.handle_subscribed(token, granted);
            }
            Event::Unsubscribe { token, filters } => {
                machine.handle_unsubscribed(token, vec![ReasonCode::Success; filters.len()]);
            }
            _ => {}
        }
        self.take_events()
    }

    /// Takes what is to be sent, and reads it as the client does.
    fn transmit(&mut self) -> Result<(), String> {
        while self.machine.poll_transmit(&mut self.output) {
            self.take_events()?;
        }
        let Some(client) = &mut self.client else {
            // Before its CONNECT could be read a client is told little, in a version that is guessed.
            self.output.clear();
            return Ok(());
        };
        let mut packets = Vec::new();
        loop {
            match client.decode(&mut self.output) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return Err(format!("it sent what is no packet: {error}")),
            }
        }
        if !self.output.is_empty() {
            return Err(format!("it sent a part of a packet: {:02x?}", self.output));
        }
        packets.iter().try_for_each(|packet| self.sent(packet))
    }

    fn sent(&mut self, packet: &Packet) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => {
                let Some(packet_id) = publish.qos.packet_id() else {
                    return Ok(());
                };
                if !self.outstanding.insert(packet_id) {
                    return Err(format!("{packet_id:?} is in use, and was sent again"));
                }
                let (count, max) = (self.outstanding.len(), self.receive_maximum);
                match count <= max.min(INFLIGHT_MAX.into()) {
                    true => Ok(()),
                    false => Err(format!("{count} messages are under way, of {max}")),
                }
            }
            Packet::Puback(ack) => match self.unacknowledged.pop_front() {
                Some(first) if first == ack.packet_id => Ok(()),
                first => Err(format!(
                    "{:?} was acknowledged, not {first:?}",
                    ack.packet_id
                )),
            },
            Packet::Auth(auth) if !self.is_named => {
                Err(format!("{auth:?} went to who named no method"))
            }
            _ => Ok(()),
        }
    }

    /// The rest is answered, and the network ends: nothing is owed, and the end comes once.
    fn finish(mut self) -> Result<(), String> {
        for _ in 0..ANSWERS_MAX {
            if self.events.is_empty() || self.closed > 0 {
                break;
            }
            self.answer(0)?;
            self.transmit()?;
        }
        self.transmit()?;
        let owed = self.unacknowledged.len();
        // Behind one that waits for space, acknowledgements wait for their turn.
        let waits = self.machine.withheld().0 > 0;
        if self.machine.is_connected() && owed > 0 && !waits {
            return Err(format!("{owed} messages of QoS 1 are not acknowledged"));
        }
        self.machine.handle_closed(self.now);
        self.take_events()?;
        match (self.closed, self.machine.is_closed()) {
            (1, true) => Ok(()),
            (count, closed) => Err(format!("it ended {count} times; is it closed: {closed}")),
        }
    }
}
