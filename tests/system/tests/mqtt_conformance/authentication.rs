//! Enhanced authentication (4.12).

use std::net::SocketAddr;

use super::support::*;

const SCRAM: &str = "SCRAM-SHA-256";

fn data(text: &str) -> Vec<u8> {
    property::bytes(property::AUTHENTICATION_DATA, text)
}

/// Asks to be let in, and gives the server's AUTH.
fn challenged(broker: SocketAddr, more: Option<Vec<u8>>) -> (Peer, Packet) {
    let mut asked = Connect::new(V5, &unique("scram"))
        .with(method(SCRAM))
        .with(data("n,,n=pump,r=rOprNGfwEbeRWgbNEkqO"));
    asked.properties.extend(more);
    let mut peer = Peer::open(broker, V5);
    peer.send(&asked.bytes());
    let auth = peer.take(wire::AUTH);
    (peer, auth)
}

#[test]
fn v5_4_12_0_2_a_challenge_asks_for_more_and_names_the_method() {
    clauses!(v5 "4.12.0-2" "4.12.0-3" "4.12.0-4" "4.12.0-5" "3.15.2-1" "3.15.2-2" "3.15.2-3");
    let broker = edge_with_user().mqtt;
    let small = property::four(property::MAXIMUM_PACKET_SIZE, 200);
    for more in [None, Some(small)] {
        let (mut peer, auth) = challenged(broker, more);
        assert_eq!((auth.first, auth.reason()), (0xf0, 0x18));
        assert_eq!(
            auth.property(property::AUTHENTICATION_METHOD),
            Some(wire::field(SCRAM))
        );
        assert!(auth.body.len() + 2 <= 200, "{auth:x?}");
        let first = auth.property(property::AUTHENTICATION_DATA).unwrap();
        let first = String::from_utf8(first[2..].to_vec()).unwrap();
        // Who proves nothing is rejected, and the connection ends.
        let nonce = first.split(',').next().unwrap();
        let proof = "A".repeat(43) + "=";
        let last = [method(SCRAM), data(&format!("c=biws,{nonce},p={proof}"))];
        let answer = wire::packet(wire::AUTH, &[vec![0x18], wire::block(&last)].concat());
        peer.send(&answer);
        let end = peer.end();
        assert_eq!(
            (end.len(), end[0].kind(), end[0].reason()),
            (1, wire::CONNACK, 0x87)
        );
    }
    // Nor is who answers by another method, or with another reason than 0x18.
    for (code, name) in [(0x18, "PLAIN"), (0x19, SCRAM), (0x00, SCRAM)] {
        let (mut peer, _) = challenged(broker, None);
        let fields = wire::block(&[method(name), data("c=biws")]);
        peer.send(&wire::packet(wire::AUTH, &[vec![code], fields].concat()));
        let end = peer.end();
        assert!(end.len() == 1 && end[0].reason() >= 0x80, "{end:x?}");
    }
}

fn method(name: &str) -> Vec<u8> {
    property::bytes(property::AUTHENTICATION_METHOD, name)
}

#[test]
fn v5_4_12_0_1_an_unknown_method_is_refused() {
    clauses!(v5 "4.12.0-1" "3.1.4-2" "4.12.0-4");
    for name in ["nobody-has-this", "", "PLAIN"] {
        let asked = Connect::new(V5, &unique("auth")).with(method(name));
        refused(V5, &asked.bytes(), &[Some(0x8c), Some(0x87)]);
    }
    // Data without a method is an error of the protocol.
    let data = property::bytes(property::AUTHENTICATION_DATA, "data");
    let asked = Connect::new(V5, &unique("auth")).with(data);
    refused(V5, &asked.bytes(), &[Some(0x82)]);
}

#[test]
fn v5_3_1_2_30_what_comes_behind_a_refused_method_is_not_processed() {
    clauses!(v5 "3.1.2-30" "3.1.4-6");
    let topic = unique("auth");
    let mut watcher = client(V5);
    watcher.subscribe(&topic, 1);
    let asked = Connect::new(V5, &unique("auth")).with(method("nobody-has-this"));
    let publish = Publish::new(V5, &topic, "refused").qos(1, 1).bytes();
    let mut peer = Peer::open(broker(), V5);
    peer.send(&[asked.bytes(), publish].concat());
    assert!(
        peer.end()
            .iter()
            .all(|packet| packet.kind() == wire::CONNACK)
    );
    super::support::publish(V5, &topic, "taken", 1);
    assert_eq!(watcher.answered_delivery().text(), "taken");
}

#[test]
fn v5_4_12_0_6_who_names_no_method_sees_nothing_of_it() {
    clauses!(v5 "4.12.0-6");
    let (_, connack) = Peer::asked(broker(), &Connect::new(V5, &unique("auth")));
    assert_eq!(connack.property(property::AUTHENTICATION_METHOD), None);
    assert_eq!(connack.property(property::AUTHENTICATION_DATA), None);
}

#[test]
fn v5_4_12_0_7_an_auth_without_a_method_ends_the_connection() {
    clauses!(v5 "4.12.0-7");
    for reason in [0x00, 0x18, 0x19] {
        let body = [vec![reason], wire::block(&[method("SCRAM-SHA-256")])].concat();
        ends(client(V5), &wire::packet(wire::AUTH, &body), &[0x82]);
        ends(client(V5), &wire::packet(wire::AUTH, &[reason]), &[0x82]);
    }
    // A code that no AUTH has, and a version without AUTH.
    ends(
        client(V5),
        &wire::packet(wire::AUTH, &[0x80]),
        &[0x81, 0x82],
    );
    ends(client(V3_1_1), &wire::packet(wire::AUTH, &[]), &[]);
}

#[test]
fn v5_4_12_1_2_who_fails_to_prove_itself_again_is_disconnected() {
    clauses!(v5 "4.12.1-1" "4.12.1-2" "4.12.0-3" "4.12.0-5");
    let mut user = scram::Client::new("pump", "pencil");
    let mut wrong = scram::Client::new("pump", "Pencil");
    let mut peer = authenticated(&mut user);
    for _ in 0..2 {
        let challenge = asks(&mut peer, 0x19, Awaited::Final, &user);
        // All else goes on meanwhile.
        peer.nothing();
        peer.send(&proof(&challenge, &mut user));
        let told = peer.take(wire::AUTH);
        assert_eq!(told.reason(), 0x00, "{told:x?}");
        let proved = told.property(property::AUTHENTICATION_DATA);
        assert!(proved.is_some_and(|data| data[2..].starts_with(b"v=")));
    }
    let challenge = asks(&mut peer, 0x19, Awaited::Final, &user);
    ends(peer, &proof(&challenge, &mut wrong), &[0x87]);
    // So is who names another method, or begins what has begun.
    for (reason, name, expected) in [(0x19, "PLAIN", 0x8c), (0x18, SCRAM, 0x82)] {
        let fields = wire::block(&[method(name), data("n,,n=pump,r=abc")]);
        let auth = wire::packet(wire::AUTH, &[vec![reason], fields].concat());
        ends(authenticated(&mut user), &auth, &[expected]);
    }
}

#[test]
fn v5_3_1_2_30_nothing_but_auth_and_disconnect_comes_before_the_connack() {
    clauses!(v5 "3.1.2-30" "4.12.0-4");
    let mut user = scram::Client::new("pump", "pencil");
    for awaited in [Awaited::First, Awaited::Final] {
        let topic = unique("auth");
        for packet in [
            wire::packet(wire::PINGREQ, &[]),
            Publish::new(V5, &topic, "early").qos(1, 1).bytes(),
            wire::subscribe(V5, 1, &[(&topic, 0)]),
        ] {
            let (mut peer, _) = authenticating(awaited, &user);
            peer.send(&packet);
            let end = peer.end();
            let told: Vec<_> = end
                .iter()
                .map(|told| (told.kind(), told.reason()))
                .collect();
            assert_eq!(told, [(wire::CONNACK, 0x82)]);
        }
    }
    // The proof that it could have given is taken from another.
    authenticated(&mut user).nothing();
}
