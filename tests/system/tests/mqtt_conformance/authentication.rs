//! Enhanced authentication (4.12).

use std::io::Write;
use std::process::{Command, Stdio};

use tidegate_system_tests::standing::Standing;
use tidegate_system_tests::workspace;

use super::support::*;

const SCRAM: &str = "SCRAM-SHA-256";

/// An edge that knows one user, by SCRAM.
fn edge_with_user() -> Standing {
    let mut command = Command::new(workspace::binary("tidegate-edge"));
    command.args(["scram", "pump"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process
        .stdin
        .take()
        .unwrap()
        .write_all(b"pencil\n")
        .unwrap();
    let line = process.wait_with_output().unwrap().stdout;
    let users = workspace::target().join("tests/scratch/mqtt-conformance-users");
    std::fs::create_dir_all(users.parent().unwrap()).unwrap();
    std::fs::write(&users, line).unwrap();
    let keys = format!("  scram_users: {}\n", users.display());
    Standing::start("mqtt-conformance-scram", &keys, YAML)
}

fn data(text: &str) -> Vec<u8> {
    property::bytes(property::AUTHENTICATION_DATA, text)
}

/// Asks to be let in, and gives the server's AUTH.
fn challenged(edge: &Standing, more: Option<Vec<u8>>) -> (Peer, Packet) {
    let mut asked = Connect::new(V5, &unique("scram"))
        .with(method(SCRAM))
        .with(data("n,,n=pump,r=rOprNGfwEbeRWgbNEkqO"));
    asked.properties.extend(more);
    let mut peer = Peer::open(edge.mqtt, V5);
    peer.send(&asked.bytes());
    let auth = peer.take(wire::AUTH);
    (peer, auth)
}

#[test]
fn v5_4_12_0_2_a_challenge_asks_for_more_and_names_the_method() {
    clauses!(v5 "4.12.0-2" "4.12.0-3" "4.12.0-4" "4.12.0-5" "3.15.2-1" "3.15.2-2" "3.15.2-3");
    let edge = edge_with_user();
    let small = property::four(property::MAXIMUM_PACKET_SIZE, 200);
    for more in [None, Some(small)] {
        let (mut peer, auth) = challenged(&edge, more);
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
        let (mut peer, _) = challenged(&edge, None);
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
