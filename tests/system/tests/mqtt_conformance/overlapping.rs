//! Subscriptions of one client that overlap (3.3.4).

use super::support::*;

/// What a client gets of one message that several of its subscriptions match: all copies.
#[track_caller]
fn copies(peer: &mut Peer, topic: &str, qos: u8) -> Vec<Delivered> {
    let version = peer.version;
    publish(version, topic, "overlaps", qos);
    publish(version, topic, "last", qos);
    let mut found = Vec::new();
    loop {
        let delivered = peer.answered_delivery();
        match &delivered.text()[..] {
            "last" if found.len() > 1 => {
                // The last message has as many copies.
                (1..found.len()).for_each(|_| drop(peer.answered_delivery()));
                return found;
            }
            "last" => return found,
            _ => found.push(delivered),
        }
    }
}

#[test]
fn v5_3_3_4_2_the_highest_qos_is_respected() {
    clauses!(v5 "3.3.4-2"; v311 "3.3.5-1");
    for version in NUMBERED {
        for (_, mut peer) in [
            lasting(version),
            (Connect::new(version, ""), client(version)),
        ] {
            for (low, high) in [(0, 1), (1, 2), (0, 2), (2, 0)] {
                let root = unique("overlap");
                peer.subscribe(&format!("{root}/#"), low);
                peer.subscribe(&format!("{root}/a"), high);
                let found = copies(&mut peer, &format!("{root}/a"), 2);
                let highest = found.iter().map(|delivered| delivered.qos).max();
                assert_eq!(highest, Some(low.max(high)), "{version:?} {found:?}");
            }
        }
    }
}

#[test]
fn v5_3_3_4_3_all_identifiers_are_sent() {
    clauses!(v5 "3.3.4-3" "3.3.4-4" "3.3.4-5");
    for (_, mut peer) in [lasting(V5), (Connect::new(V5, ""), client(V5))] {
        let root = unique("overlap");
        for (filter, number) in [("#", 1), ("+", 268_435_455), ("a", 300)] {
            let identifier = [property::identifier(number)];
            peer.subscribe_with(&format!("{root}/{filter}"), 1, &identifier);
        }
        // One without, and one that does not match.
        peer.subscribe(&format!("{root}/a/#"), 1);
        peer.subscribe_with(&format!("{root}/b"), 1, &[property::identifier(7)]);
        let found = copies(&mut peer, &format!("{root}/a"), 1);
        let identifiers = |delivered: &Delivered| delivered.all(property::SUBSCRIPTION_IDENTIFIER);
        let mut all: Vec<_> = found.iter().flat_map(identifiers).collect();
        all.sort();
        let mut expected = [1, 268_435_455, 300].map(wire::variable);
        expected.sort();
        assert_eq!(all, expected, "{found:?}");
        // One copy has them all; of several each has at most its own.
        assert!(found.len() == 1 || found.iter().all(|copy| identifiers(copy).len() <= 1));
    }
}

#[test]
fn v5_3_3_4_3_also_of_retained_messages_and_of_messages_that_waited() {
    clauses!(v5 "3.3.4-3" "3.3.4-4");
    let topic = unique("overlap");
    retain(V5, &topic, "kept", 1);
    let (again, mut peer) = lasting(V5);
    peer.subscribe_with(&topic, 1, &[property::identifier(9)]);
    let identifiers = |delivered: &Delivered| delivered.all(property::SUBSCRIPTION_IDENTIFIER);
    assert_eq!(identifiers(&peer.answered_delivery()), [[9]]);
    peer.leave();
    publish(V5, &topic, "waited", 1);
    assert_eq!(identifiers(&come_back(&again).delivery()), [[9]]);
}
