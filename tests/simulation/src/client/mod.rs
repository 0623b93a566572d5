//! An MQTT client that keeps to the specification and never loses its own state: over any number of
//! connections it brings each message of its application to the server, and takes what it is sent.

mod incoming;
mod outgoing;

use std::num::NonZeroU16;

use bytes::BytesMut;
use tidegate_edge_protocol::mqtt::codec::{
    Ack, Connect, ConnectProperties, Decoder, Disconnect, DisconnectProperties, Packet, PacketId,
    Qos, Subscribe, SubscribeProperties, SubscriptionOptions, Text, Unsubscribe,
    UnsubscribeProperties, Version, encode,
};
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;

use crate::broker::INFLIGHT_INBOUND_MAX;
use crate::promises::{ClientIndex, Promises};
use crate::random::Random;
use crate::{Stop, violated};
use incoming::Incoming;
use outgoing::Outgoing;

/// Identifiers of SUBSCRIBE packets begin here, those of publishes far below.
const SUBSCRIBE_IDS_FROM: u16 = 1_000;
const UNSUBSCRIBE_IDS_FROM: u16 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offline,
    Connecting,
    Connected,
}

/// A filter that the client wants to have subscribed, or once wanted.
#[derive(Debug)]
struct Wish {
    filter: String,
    qos: Qos,
    stage: WishStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WishStage {
    Wished,
    /// SUBSCRIBE was sent.
    Asked,
    Granted,
    /// UNSUBSCRIBE was sent.
    Leaving,
    Left,
}

#[derive(Debug)]
pub struct Client {
    index: ClientIndex,
    version: Version,
    state: State,
    /// Receive Maximum; only those of MQTT 5 can say it.
    window: u16,
    decoder: Decoder,
    input: BytesMut,
    wishes: Vec<Wish>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// It has seen a CONNACK: from then on the server has its session.
    has_session: bool,
    /// The next CONNECT asks for a new session, until one is answered.
    begins_anew: bool,
}

impl Client {
    pub fn new(index: ClientIndex, random: &mut Random) -> Self {
        let version = *random.pick(&[Version::V3_1_1, Version::V5]);
        let inflight_max = match version {
            Version::V5 => random.between(1, u64::from(INFLIGHT_INBOUND_MAX) + 1),
            // It is not told how many, and may have more on their way.
            _ => random.between(1, 12),
        };
        Self {
            index,
            version,
            state: State::Offline,
            window: u16::MAX,
            decoder: Decoder::client(version, u32::MAX),
            input: BytesMut::new(),
            wishes: Vec::new(),
            outgoing: Outgoing::new(inflight_max as usize),
            incoming: Incoming::default(),
            has_session: false,
            begins_anew: false,
        }
    }

    pub fn is_offline(&self) -> bool {
        self.state == State::Offline
    }

    /// Has nothing left to do.
    pub fn is_idle(&self) -> bool {
        self.state == State::Connected
            && self.outgoing.is_idle()
            && self.incoming.is_idle()
            && !self.wishes.iter().any(Wish::is_pending)
    }

    /// A new connection; the CONNECT goes out at once.
    pub fn connect(&mut self, random: &mut Random, out: &mut BytesMut) {
        self.state = State::Connecting;
        self.decoder = Decoder::client(self.version, u32::MAX);
        let is_v5 = self.version == Version::V5;
        let window = random.between(1, 9) as u16;
        self.window = if is_v5 { window } else { u16::MAX };
        let client_id = format!("client-{}", self.index);
        let connect = Connect {
            version: self.version,
            clean_start: self.begins_anew,
            keep_alive_s: 0,
            client_id: text(&client_id),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval_s: is_v5.then_some(u32::MAX),
                receive_maximum: NonZeroU16::new(window).filter(|_| is_v5),
                ..ConnectProperties::default()
            },
        };
        self.send(vec![Packet::Connect(Box::new(connect))], out);
    }

    /// Forgets all that it knows, and has the server forget it too.
    pub fn begin_anew(&mut self, promises: &mut Promises) {
        promises.begin_anew(self.index);
        self.begins_anew = true;
        self.has_session = false;
        self.outgoing.clear();
        self.incoming = Incoming::default();
        for wish in &mut self.wishes {
            wish.stage = WishStage::Wished;
        }
    }

    /// The connection has ended, at whatever byte.
    pub fn disconnected(&mut self) {
        self.state = State::Offline;
        self.input.clear();
        self.incoming.disconnected();
    }

    /// Says goodbye.
    pub fn disconnect(&mut self, out: &mut BytesMut) {
        if self.state == State::Connected {
            let disconnect = Disconnect {
                reason: ReasonCode::Success,
                properties: DisconnectProperties::default(),
            };
            self.send(vec![Packet::Disconnect(disconnect)], out);
        }
    }

    /// Its application takes its time, or not.
    pub fn set_slow(&mut self, is_slow: bool) {
        self.incoming.is_slow = is_slow;
    }

    /// The application has done with so many messages.
    pub fn work(&mut self, messages: usize, out: &mut BytesMut) {
        let packets = self.incoming.acknowledge(messages);
        self.send(packets, out);
    }

    /// The application has a message for the server.
    pub fn publish(
        &mut self,
        topic: &str,
        qos: Qos,
        promises: &mut Promises,
        out: &mut BytesMut,
    ) -> u64 {
        let (number, message) = promises.publish(self.index, topic, qos);
        self.outgoing.push(number, qos, message);
        if self.state == State::Connected {
            let packets = self.outgoing.send();
            self.send(packets, out);
        }
        number
    }

    /// The application wants one more filter.
    pub fn wish(&mut self, filter: &str, qos: Qos, promises: &mut Promises) {
        if let Some(wish) = self.wishes.iter_mut().find(|wish| wish.filter == filter) {
            if wish.stage == WishStage::Left {
                wish.stage = WishStage::Wished;
            }
            return;
        }
        promises.subscribe(self.index, filter, qos);
        self.wishes.push(Wish {
            filter: filter.to_owned(),
            qos,
            stage: WishStage::Wished,
        });
    }

    /// The application has enough of a filter.
    pub fn unsubscribe(&mut self, filter: &str, promises: &mut Promises, out: &mut BytesMut) {
        if self.state != State::Connected {
            return;
        }
        let is_it = |(_, wish): &(usize, &mut Wish)| {
            wish.filter == filter && wish.stage == WishStage::Granted
        };
        if let Some((at, wish)) = self.wishes.iter_mut().enumerate().find(is_it) {
            wish.stage = WishStage::Leaving;
            promises.leave(self.index, filter);
            let packet = wish.packet(at);
            self.send(packet.into_iter().collect(), out);
        }
    }

    /// Subscribes to what it has not asked for yet, one filter a packet.
    pub fn subscribe(&mut self, out: &mut BytesMut) {
        if self.state != State::Connected {
            return;
        }
        let mut packets = Vec::new();
        for (at, wish) in self.wishes.iter_mut().enumerate() {
            if wish.stage == WishStage::Wished {
                wish.stage = WishStage::Asked;
                packets.extend(wish.packet(at));
            }
        }
        self.send(packets, out);
    }

    /// Takes bytes of the server, and answers.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        promises: &mut Promises,
        out: &mut BytesMut,
    ) -> Result<(), Stop> {
        self.input.extend_from_slice(bytes);
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(None) => return Ok(()),
                Ok(Some(packet)) => {
                    let answers = self.handle_packet(packet, promises)?;
                    self.send(answers, out);
                }
                Err(error) => return violated("the server sends packets", error.to_string()),
            }
        }
    }

    fn send(&self, packets: Vec<Packet>, out: &mut BytesMut) {
        for packet in packets {
            encode(&packet, self.version, out).expect("a client's packets are small and valid");
        }
    }

    fn handle_packet(
        &mut self,
        packet: Packet,
        promises: &mut Promises,
    ) -> Result<Vec<Packet>, Stop> {
        match packet {
            Packet::Connack(connack) => self.on_connack(connack.session_present, connack.reason),
            Packet::Publish(publish) => {
                let client = (self.index, self.window);
                self.incoming.on_publish(&publish, client, promises)
            }
            Packet::Pubrel(ack) => Ok(vec![self.incoming.on_pubrel(&ack, self.version)]),
            Packet::Puback(ack) => self.on_end(&ack, Qos::AtLeastOnce, promises),
            Packet::Pubcomp(ack) => self.on_end(&ack, Qos::ExactlyOnce, promises),
            Packet::Pubrec(ack) => {
                let (mut packets, refused) = self.outgoing.on_pubrec(&ack)?;
                if let Some(number) = refused {
                    promises.refused(number);
                    packets.extend(self.outgoing.send());
                }
                Ok(packets)
            }
            Packet::Suback(suback) => {
                let wish = self.answered(suback.packet_id, SUBSCRIBE_IDS_FROM, WishStage::Asked)?;
                wish.stage = WishStage::Granted;
                let filter = wish.filter.clone();
                promises.granted(self.index, &filter);
                Ok(Vec::new())
            }
            Packet::Unsuback(unsuback) => {
                let id = unsuback.packet_id;
                let wish = self.answered(id, UNSUBSCRIBE_IDS_FROM, WishStage::Leaving)?;
                wish.stage = WishStage::Left;
                Ok(Vec::new())
            }
            // It was taken over by its own next connection, or the like.
            Packet::Disconnect(_) => Ok(Vec::new()),
            other => violated("the server sends what servers send", format!("{other:?}")),
        }
    }

    fn on_connack(&mut self, present: bool, reason: ReasonCode) -> Result<Vec<Packet>, Stop> {
        let is_wrong = (self.has_session && !present) || (self.begins_anew && present);
        if reason != ReasonCode::Success || is_wrong {
            let what = format!("client {}: {reason:?}, session {present}", self.index);
            return violated("a persistent session is taken up", what);
        }
        (self.has_session, self.begins_anew) = (true, false);
        self.state = State::Connected;
        let mut packets = self.outgoing.send_again();
        for (at, wish) in self.wishes.iter().enumerate() {
            if wish.is_pending() {
                packets.extend(wish.packet(at));
            }
        }
        packets.extend(self.outgoing.send());
        Ok(packets)
    }

    /// The wish that a SUBACK or UNSUBACK is about.
    fn answered(
        &mut self,
        packet_id: PacketId,
        ids_from: u16,
        stage: WishStage,
    ) -> Result<&mut Wish, Stop> {
        let at = usize::from(packet_id.get().wrapping_sub(ids_from));
        let wish = self.wishes.get_mut(at);
        match wish.filter(|wish| wish.stage == stage) {
            Some(wish) => Ok(wish),
            None => violated("a SUBACK answers a SUBSCRIBE", format!("{packet_id:?}")),
        }
    }

    fn on_end(
        &mut self,
        ack: &Ack,
        qos: Qos,
        promises: &mut Promises,
    ) -> Result<Vec<Packet>, Stop> {
        // An error in a PUBCOMP says that the message was released before.
        let is_refused = qos == Qos::AtLeastOnce && ack.reason.is_error();
        match self.outgoing.on_end(ack, qos)? {
            Some(number) if is_refused => promises.refused(number),
            Some(number) => promises.acknowledged(number),
            None => {}
        }
        Ok(self.outgoing.send())
    }
}

impl Wish {
    /// Waits for its answer.
    fn is_pending(&self) -> bool {
        matches!(self.stage, WishStage::Asked | WishStage::Leaving)
    }

    /// What asks for it, or gives it up.
    fn packet(&self, at: usize) -> Option<Packet> {
        let options = SubscriptionOptions {
            qos_max: self.qos,
            ..SubscriptionOptions::default()
        };
        match self.stage {
            WishStage::Asked => Some(Packet::Subscribe(Subscribe {
                packet_id: packet_id(SUBSCRIBE_IDS_FROM + at as u16),
                filters: vec![(text(&self.filter), options)],
                properties: SubscribeProperties::default(),
            })),
            WishStage::Leaving => Some(Packet::Unsubscribe(Unsubscribe {
                packet_id: packet_id(UNSUBSCRIBE_IDS_FROM + at as u16),
                filters: vec![text(&self.filter)],
                properties: UnsubscribeProperties::default(),
            })),
            _ => None,
        }
    }
}

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).expect("identifiers begin at 1")
}

fn text(value: &str) -> Text {
    Text::try_from(value).expect("a run has good texts")
}
