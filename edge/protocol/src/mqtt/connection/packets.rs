//! What each packet of the client does to the connection.

use super::{
    CloseReason, ConnectRequest, Connection, Event, OnDemand, State, SubscribeToken, filters,
    handshake, inbound::Violation,
};
use crate::mqtt::{
    codec::{Connect, Disconnect, Packet, PacketId, Subscribe, Text, Unsubscribe},
    reply_code::ReasonCode,
};

impl Connection {
    pub(super) fn on_packet(&mut self, packet: Packet) {
        match (&mut self.state, packet) {
            (State::Closed, _) => {}
            (State::Fresh, Packet::Connect(connect)) => self.on_connect(*connect),
            // [MQTT-3.1.0-1]
            (State::Fresh, _) => {
                let message = "the first packet is not CONNECT".to_owned();
                self.close_with_error(ReasonCode::ProtocolError, message);
            }
            // [MQTT-3.1.0-2]
            (_, Packet::Connect(_)) => self.fail(ReasonCode::ProtocolError, "a second CONNECT"),
            (State::Authenticating { .. }, Packet::Auth(auth)) => {
                self.on_auth_before_connack(*auth)
            }
            (State::Authenticating { .. }, Packet::Disconnect(disconnect)) => {
                self.close(
                    CloseReason::ClientDisconnected(disconnect.reason),
                    None,
                    None,
                );
                self.forget_replies();
            }
            // [MQTT-3.1.2-30]
            (State::Authenticating { .. }, _) => {
                let message = "another packet than AUTH or DISCONNECT before the CONNACK";
                self.fail(ReasonCode::ProtocolError, message);
            }
            (State::Deciding { early, .. }, packet) => {
                if early.get_mut().len() < self.limits.early_packets_max {
                    early.get_mut().push_back(packet);
                } else {
                    let message = "too many packets before the CONNACK";
                    self.fail(ReasonCode::QuotaExceeded, message);
                }
            }
            (State::Connected, packet) => {
                self.keep_alive.handle_packet(self.now);
                if let Err((reason, message)) = self.on_connected_packet(packet) {
                    self.fail(reason, message);
                }
            }
        }
    }

    fn on_connect(&mut self, mut connect: Connect) {
        self.version = connect.version;
        let packet_bytes_max = connect.properties.packet_bytes_max;
        self.outbound.set_packet_bytes_max(packet_bytes_max);
        let method = connect.properties.authentication_method.take();
        let data = connect.properties.authentication_data.take();
        match handshake::check(connect, &self.limits) {
            Ok(request) => self.on_connect_authentication(Box::new(request), method, data),
            Err((reason, message)) => self.reject(reason, message),
        }
    }

    pub(super) fn decide(&mut self, request: Box<ConnectRequest>) {
        self.tell(Event::Connect(request.clone()));
        let early = OnDemand::default();
        self.state = State::Deciding { request, early };
    }

    fn on_connected_packet(&mut self, packet: Packet) -> Result<(), Violation> {
        match packet {
            Packet::Publish(publish) => self.on_publish(publish),
            Packet::Subscribe(subscribe) => self.on_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(unsubscribe),
            Packet::Puback(ack) => self.on_puback(&ack),
            Packet::Pubrec(ack) => self.on_pubrec(&ack),
            Packet::Pubrel(ack) => self.on_pubrel(ack.packet_id),
            Packet::Pubcomp(ack) => self.on_pubcomp(&ack),
            // [MQTT-3.12.4-1]
            Packet::Pingreq => {
                self.reply(Packet::Pingresp);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(disconnect),
            Packet::Auth(auth) => self.on_auth(*auth),
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => {
                let message = "a packet that only servers send, or a second CONNECT";
                Err((ReasonCode::ProtocolError, message))
            }
        }
    }

    fn on_subscribe(&mut self, subscribe: Subscribe) -> Result<(), Violation> {
        let packet_id = subscribe.packet_id;
        let subscription_identifier = subscribe.properties.subscription_identifier;
        let filters = filters::requests(subscribe, &self.limits)?;
        let token = self.next_subscribe_token(packet_id, filters.len());
        self.tell(Event::Subscribe {
            token,
            filters,
            subscription_identifier,
        });
        Ok(())
    }

    fn on_unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Result<(), Violation> {
        let names = unsubscribe.filters.into_iter();
        let filters: Vec<_> = names.map(filters::parse).collect::<Result<_, _>>()?;
        let token = self.next_subscribe_token(unsubscribe.packet_id, filters.len());
        self.tell(Event::Unsubscribe { token, filters });
        Ok(())
    }

    fn next_subscribe_token(&mut self, packet_id: PacketId, filters: usize) -> SubscribeToken {
        self.pending.get_mut().subscribe(packet_id, filters)
    }

    /// Only DISCONNECT with 0x00 takes the will back `[MQTT-3.14.4-3]`.
    fn on_disconnect(&mut self, disconnect: Disconnect) -> Result<(), Violation> {
        let expiry_s = disconnect.properties.session_expiry_interval_s;
        if self.session_expiry_interval_s == 0 && expiry_s.is_some_and(|expiry_s| expiry_s > 0) {
            let message = "DISCONNECT gives an expiry to a session that had none";
            return Err((ReasonCode::ProtocolError, message));
        }
        if disconnect.reason == ReasonCode::Success {
            self.will = None;
        }
        let reason = CloseReason::ClientDisconnected(disconnect.reason);
        self.close(reason, None, expiry_s);
        // Nothing is sent after it.
        self.forget_replies();
        Ok(())
    }
}

/// Names another server in a packet that ends the connection.
pub(super) fn refer(packet: &mut Packet, server: &Text) {
    let reference = match packet {
        Packet::Connack(connack) => &mut connack.properties.server_reference,
        Packet::Disconnect(disconnect) => &mut disconnect.properties.server_reference,
        _ => return,
    };
    *reference = Some(server.clone());
}

/// Takes out the reason string and the user properties.
pub(super) fn without_explanation(packet: &mut Packet) {
    match packet {
        Packet::Connack(connack) => {
            connack.properties.reason_string = None;
            connack.properties.user_properties = Vec::new();
        }
        Packet::Disconnect(disconnect) => {
            disconnect.properties.reason_string = None;
            disconnect.properties.user_properties = Vec::new();
        }
        _ => {}
    }
}
