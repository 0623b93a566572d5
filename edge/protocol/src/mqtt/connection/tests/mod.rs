//! Small scripts: bytes in, bytes and events out, with the clause that each checks.

mod aliases;
mod authentication;
mod deliveries;
mod exactly_once;
mod exactly_once_out;
mod handshake;
mod publishes;
mod rates;
mod time_and_end;
mod withheld;

use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::mqtt::codec::{Decoder, Message, PacketId, Qos, Text, strategy};

const V4: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c";
const V5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c";

/// The server's side with a driver that does what it is told, and a clock.
struct Server {
    connection: Connection,
    decoder: Decoder,
    now: Instant,
}

impl Server {
    fn new(limits: ConnectionLimits) -> Self {
        let now = Instant::now();
        Self {
            decoder: Decoder::server(limits.packet_bytes_max.get()),
            connection: Connection::new(limits, now),
            now,
        }
    }

    /// Connected with this CONNECT, CONNACK read.
    fn connected(limits: ConnectionLimits, connect: &[u8]) -> Self {
        let mut server = Self::new(limits);
        server.send(connect);
        assert!(matches!(server.events()[..], [Event::Connect(_)]));
        server.accept();
        let connack = server.transmitted();
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        server
    }

    fn default(connect: &[u8]) -> Self {
        Self::connected(ConnectionLimits::default(), connect)
    }

    /// As `connected`, of a session that has received these identifiers.
    fn resumed(connect: &[u8], received: &[u16]) -> Self {
        let mut server = Self::new(ConnectionLimits::default());
        server.send(connect);
        server.events();
        let accepted = Accepted {
            session_present: true,
            received: received.iter().map(|id| packet_id(*id)).collect(),
            ..Accepted::default()
        };
        server.connection.handle_accepted(server.now, accepted);
        assert_eq!(server.transmitted()[2..4], [1, 0]);
        server
    }

    fn accept(&mut self) {
        self.connection
            .handle_accepted(self.now, Accepted::default());
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        loop {
            match self.decoder.decode(&mut input) {
                Ok(Some(packet)) => self.connection.handle_packet(self.now, packet),
                Ok(None) => return,
                Err(error) => return self.connection.handle_decode_error(self.now, &error),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.connection.handle_timeout(self.now);
    }

    fn transmitted(&mut self) -> Vec<u8> {
        let mut out = BytesMut::new();
        while self.connection.poll_transmit(&mut out) {}
        out.to_vec()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    /// Answers an event as a driver would; `chance` decides over a PUBLISH. Gives how often the
    /// connection has ended by it.
    fn answer(&mut self, event: Event, chance: u64) -> usize {
        let connection = &mut self.connection;
        match event {
            Event::Publish {
                token: Some(token), ..
            } => {
                let refused = Err(PublishRefused::QuotaExceeded);
                let outcome = if chance.is_multiple_of(3) {
                    refused
                } else {
                    Ok(())
                };
                connection.handle_committed(token, outcome);
            }
            Event::Release { token, .. } => connection.handle_released(token),
            Event::Assign { token, .. } => connection.handle_assigned(token),
            Event::Received { token, .. } => connection.handle_received(token),
            Event::Subscribe { token, filters, .. } => {
                let granted = filters.iter().map(SubscriptionRequest::granted).collect();
                connection.handle_subscribed(token, granted);
            }
            Event::Unsubscribe { token, filters } => {
                let reasons = vec![ReasonCode::Success; filters.len()];
                connection.handle_unsubscribed(token, reasons);
            }
            Event::Closed(_) => return 1,
            _ => {}
        }
        0
    }

    /// The tokens of all publishes that came, QoS 0 left out.
    fn publish_tokens(&mut self) -> Vec<PublishToken> {
        let tokens = self.events().into_iter().filter_map(|event| match event {
            Event::Publish { token, .. } => token,
            _ => None,
        });
        tokens.collect()
    }

    /// The connection has ended; why, and with what last bytes.
    fn end(&mut self) -> (Vec<u8>, CloseReason) {
        let last = self.transmitted();
        assert!(self.connection.is_closed());
        assert!(!self.connection.can_read());
        match self.events().pop() {
            Some(Event::Closed(closed)) => (last, closed.reason),
            other => panic!("the last event is {other:?}"),
        }
    }

    /// Ended by us with a DISCONNECT (or CONNACK) of this code, or before MQTT 5 with nothing.
    fn assert_refused(&mut self, code: Option<u8>) {
        let (last, reason) = self.end();
        match code {
            Some(code) => assert!(
                matches!(last[..], [0xe0, _, found, ..] if found == code),
                "{last:02x?} for {reason:?}"
            ),
            None => assert!(last.is_empty(), "{last:02x?} for {reason:?}"),
        }
    }
}

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn text(value: &str) -> Text {
    Text::try_from(value).unwrap()
}

fn delivery(token: u64, topic: &str, qos: Qos) -> Delivery {
    Delivery {
        token: DeliveryToken(token),
        message: Arc::new(Message {
            topic: text(topic),
            payload: "hi".into(),
            ..Message::default()
        }),
        qos,
        qos_max: Qos::ExactlyOnce,
        retain: false,
        subscription_identifiers: Vec::new(),
        expires_at: None,
        resent: None,
        priority: 0,
    }
}

proptest! {
    /// No order of packets, answers and time makes it panic, and it ends exactly once.
    #[test]
    fn any_packets_in_any_order(
        packets in proptest::collection::vec(strategy::later_packet(Version::V5), 0..20),
        version in strategy::version(),
        answers in proptest::collection::vec(any::<bool>(), 20),
    ) {
        let connect = if version == Version::V5 { V5 } else { V4 };
        let mut server = Server::default(connect);
        let mut ends = 0;
        let mut waiting = Vec::new();
        for (token, ((_, packet), answer)) in (1..).zip(packets.into_iter().zip(answers)) {
            server.connection.handle_packet(server.now, packet);
            let qos = if answer { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
            let _ = server.connection.handle_deliver(server.now, delivery(token, "a", qos));
            waiting.extend(server.events());
            if answer {
                ends += waiting.drain(..).map(|event| server.answer(event, token)).sum::<usize>();
            }
            server.transmitted();
        }
        server.connection.handle_closed(server.now);
        waiting.extend(server.events());
        ends += waiting.into_iter().map(|event| server.answer(event, 0)).sum::<usize>();
        prop_assert_eq!(ends, 1);
        prop_assert!(server.connection.is_closed());
    }
}
