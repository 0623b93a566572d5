//! Enhanced authentication, clause by clause (4.12).

use bytes::Bytes;

use tidegate_shared::scram::client::{client_final, server_final};

use super::*;
use crate::mqtt::{
    authentication::{SCRAM, SCRAM_SHA_256, Users, Verifier},
    codec::{Auth, AuthProperties, Connect, ConnectProperties, Disconnect, DisconnectProperties},
};

/// What a client does.
type Act = fn(&mut Client);

const SALT: &[u8] = b"salt of 16 bytes";

fn users() -> Arc<Users> {
    let line = |name, password| {
        let verifier = Verifier::derive(SCRAM, password, SALT, 4_096).unwrap();
        format!("{name}:{verifier}\n")
    };
    let text = line("pump", "pencil") + &line("valve", "pencil");
    Arc::new(Users::parse(&text, [1; 32]).unwrap())
}

/// A client that does as SCRAM says, with a password.
struct Client {
    server: Server,
    decoder: Decoder,
    name: &'static str,
    password: &'static str,
}

impl Client {
    fn new(password: &'static str) -> Self {
        let mut server = Server::new(ConnectionLimits::default());
        let authenticator = Authenticator::new(users(), [3; 32]);
        server.connection.offer_authentication(authenticator);
        Self {
            server,
            decoder: Decoder::client(Version::V5, 100_000),
            name: "pump",
            password,
        }
    }

    fn connected() -> Self {
        let mut client = Self::new("pencil");
        client.connect(Some(SCRAM_SHA_256), Some(&client.first()));
        let server_first = client.challenge();
        client.auth(0x18, Some(&client.last(&server_first)));
        client.server.events();
        client.server.accept();
        assert!(matches!(client.said()[..], [Packet::Connack(_)]));
        client
    }

    fn first(&self) -> String {
        format!("n,,n={},r=abc", self.name)
    }

    fn last(&self, server_first: &str) -> String {
        let bare = format!("n={},r=abc", self.name);
        client_final(SCRAM, self.password, &bare, server_first, "n,,")
    }

    fn connect(&mut self, method: Option<&str>, data: Option<&str>) {
        let connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_s: 0,
            client_id: text("c"),
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties {
                authentication_method: method.map(text),
                authentication_data: data.map(|data| data.to_owned().into()),
                ..ConnectProperties::default()
            },
        };
        self.send(Packet::Connect(Box::new(connect)));
    }

    fn auth(&mut self, code: u8, data: Option<&str>) {
        self.auth_of(Some(SCRAM_SHA_256), code, data);
    }

    fn auth_of(&mut self, method: Option<&str>, code: u8, data: Option<&str>) {
        self.send(Packet::Auth(Box::new(Auth {
            reason: ReasonCode::from_code(code).unwrap(),
            properties: AuthProperties {
                authentication_method: method.map(text),
                authentication_data: data.map(|data| data.to_owned().into()),
                ..AuthProperties::default()
            },
        })));
    }

    fn send(&mut self, packet: Packet) {
        let now = self.server.now;
        self.server.connection.handle_packet(now, packet);
    }

    fn said(&mut self) -> Vec<Packet> {
        let mut input = BytesMut::from(&self.server.transmitted()[..]);
        std::iter::from_fn(|| self.decoder.decode(&mut input).unwrap()).collect()
    }

    /// The only thing that the server says: AUTH, with this code and the method of CONNECT.
    fn answer(&mut self, code: u8) -> Option<Bytes> {
        let said = self.said();
        let [Packet::Auth(auth)] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(auth.reason as u8, code);
        let properties = auth.properties.clone();
        // [MQTT-4.12.0-5]
        assert_eq!(properties.authentication_method, Some(text(SCRAM_SHA_256)));
        properties.authentication_data
    }

    /// [MQTT-4.12.0-2]
    fn challenge(&mut self) -> String {
        String::from_utf8(self.answer(0x18).unwrap().to_vec()).unwrap()
    }

    /// It ended with a CONNACK of this code, and no driver was asked.
    fn assert_rejected(&mut self, code: u8) {
        let said = self.said();
        let [Packet::Connack(connack)] = &said[..] else {
            panic!("{said:?}");
        };
        assert_eq!(connack.reason as u8, code, "{said:?}");
        let events = self.server.events();
        assert!(matches!(events[..], [Event::Closed(_)]), "{events:?}");
        assert!(self.server.connection.is_closed());
    }
}

#[test]
fn a_client_that_knows_its_password_is_connected_by_name() {
    let mut client = Client::new("pencil");
    client.connect(Some(SCRAM_SHA_256), Some(&client.first()));
    assert!(client.server.connection.can_read());
    assert!(client.server.events().is_empty(), "nobody is asked yet");
    let server_first = client.challenge();
    let last = client.last(&server_first);
    client.auth(0x18, Some(&last));
    let events = client.server.events();
    let [Event::Connect(request)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(request.authenticated_name, Some(text("pump")));
    client.server.accept();
    let said = client.said();
    let [Packet::Connack(connack)] = &said[..] else {
        panic!("{said:?}");
    };
    let properties = &connack.properties;
    assert_eq!(properties.authentication_method, Some(text(SCRAM_SHA_256)));
    let proof = server_final(SCRAM, "pencil", "n=pump,r=abc", &server_first, &last);
    assert_eq!(properties.authentication_data, Some(proof.into()));
}

#[test]
fn a_client_may_wait_to_be_asked() {
    let mut client = Client::new("pencil");
    client.connect(Some(SCRAM_SHA_256), None);
    assert_eq!(client.answer(0x18), None);
    client.auth(0x18, Some(&client.first()));
    let server_first = client.challenge();
    client.auth(0x18, Some(&client.last(&server_first)));
    assert!(matches!(client.server.events()[..], [Event::Connect(_)]));
}

/// [MQTT-4.12.0-6]: who names no method is asked nothing, and told nothing.
#[test]
fn a_client_without_a_method_is_not_concerned() {
    let mut client = Client::new("pencil");
    client.connect(None, None);
    let events = client.server.events();
    let [Event::Connect(request)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(request.authenticated_name, None);
    client.server.accept();
    let said = client.said();
    let [Packet::Connack(connack)] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(connack.properties.authentication_method, None);
    // [MQTT-4.12.0-7]
    client.auth(0x19, Some(&client.first()));
    client.server.assert_refused(Some(0x82));
}

/// [MQTT-4.12.0-4], [MQTT-4.12.0-1]
#[test]
fn who_does_not_prove_it_is_refused() {
    let mut client = Client::new("Pencil");
    client.connect(Some(SCRAM_SHA_256), Some(&client.first()));
    let server_first = client.challenge();
    client.auth(0x18, Some(&client.last(&server_first)));
    client.assert_rejected(0x87);
    let mut client = Client::new("pencil");
    client.connect(Some(SCRAM_SHA_256), Some("p=tls-unique,,n=pump,r=abc"));
    client.assert_rejected(0x87);
    let mut client = Client::new("pencil");
    client.connect(Some("SCRAM-SHA-1"), Some(&client.first()));
    client.assert_rejected(0x8c);
}

/// [MQTT-4.12.0-3], [MQTT-4.12.0-5], [MQTT-3.1.2-30]
#[test]
fn a_breach_before_the_connack_is_answered_with_its_code() {
    let breaches: [(Act, u8); 5] = [
        (
            |client| client.auth_of(Some("SCRAM-SHA-1"), 0x18, Some("x")),
            0x8c,
        ),
        (|client| client.auth_of(None, 0x18, Some("x")), 0x82),
        (|client| client.auth(0x19, Some("n,,n=pump,r=abc")), 0x82),
        (|client| client.send(Packet::Pingreq), 0x82),
        (|client| client.connect(None, None), 0x82),
    ];
    for (breach, code) in breaches {
        let mut client = Client::new("pencil");
        client.connect(Some(SCRAM_SHA_256), Some(&client.first()));
        client.challenge();
        breach(&mut client);
        client.assert_rejected(code);
    }
}

#[test]
fn who_leaves_or_says_nothing_more_is_let_go() {
    for leaves in [true, false] {
        let mut client = Client::new("pencil");
        client.connect(Some(SCRAM_SHA_256), Some(&client.first()));
        client.challenge();
        let expected = match leaves {
            true => {
                client.send(Packet::Disconnect(Disconnect {
                    reason: ReasonCode::Success,
                    properties: DisconnectProperties::default(),
                }));
                CloseReason::ClientDisconnected(ReasonCode::Success)
            }
            false => {
                client
                    .server
                    .pass(ConnectionLimits::default().connect_timeout);
                CloseReason::ConnectTimeout
            }
        };
        assert_eq!(client.server.end(), (Vec::new(), expected));
    }
}

/// [MQTT-4.12.1-1]: all else goes on meanwhile.
#[test]
fn a_client_proves_itself_again_while_it_goes_on() {
    let mut client = Client::connected();
    for _ in 0..2 {
        client.auth(0x19, Some(&client.first()));
        let server_first = client.challenge();
        client.send(Packet::Pingreq);
        assert_eq!(client.said(), [Packet::Pingresp]);
        let last = client.last(&server_first);
        client.auth(0x18, Some(&last));
        let proof = server_final(SCRAM, "pencil", "n=pump,r=abc", &server_first, &last);
        assert_eq!(client.answer(0x00), Some(proof.into()));
    }
    client.server.pass(Duration::from_secs(3_600));
    assert!(client.server.connection.is_connected());
}

/// [MQTT-4.12.1-2]
#[test]
fn who_fails_to_prove_itself_again_is_disconnected() {
    let failures: [(&'static str, Act, u8); 5] = [
        ("pump", |client| client.password = "wrong", 0x87),
        ("valve", |_| {}, 0x87),
        ("pump", |client| client.auth(0x19, None), 0x82),
        ("pump", |client| client.auth_of(Some("x"), 0x18, None), 0x8c),
        (
            "pump",
            |client| {
                client
                    .server
                    .pass(ConnectionLimits::default().connect_timeout)
            },
            0x87,
        ),
    ];
    for (name, failure, code) in failures {
        let mut client = Client::connected();
        client.name = name;
        client.auth(0x19, Some(&client.first()));
        let server_first = client.challenge();
        failure(&mut client);
        if client.server.connection.is_connected() {
            client.auth(0x18, Some(&client.last(&server_first)));
        }
        client.server.assert_refused(Some(code));
    }
    let mut client = Client::connected();
    client.auth(0x18, Some("c=biws,r=abc,p=x"));
    client.server.assert_refused(Some(0x82));
}

/// Without users there is no method.
#[test]
fn a_server_that_offers_none_refuses_all() {
    let mut client = Client::new("pencil");
    client.server = Server::new(ConnectionLimits::default());
    client.connect(Some(SCRAM_SHA_256), Some(&client.first()));
    client.assert_rejected(0x8c);
}
