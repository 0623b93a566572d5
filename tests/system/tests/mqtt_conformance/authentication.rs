//! Enhanced authentication (4.12).

use super::support::*;

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
