//! Messages that expire (3.3.2.3.3).

use super::support::*;

fn expiring(topic: &str, payload: &str, seconds: u32) -> Publish {
    Publish::new(V5, topic, payload).with(property::four(property::MESSAGE_EXPIRY, seconds))
}

fn seconds_left(delivered: &Delivered) -> Option<u32> {
    let bytes = delivered.property(property::MESSAGE_EXPIRY)?;
    Some(u32::from_be_bytes(bytes.try_into().unwrap()))
}

/// Long enough that a busy machine delivers before it is over.
const SHORT_S: u32 = 5;

#[test]
fn v5_3_3_2_5_what_has_expired_is_not_delivered() {
    clauses!(v5 "3.3.2-5" "3.3.2-6" "4.3.3-7" "4.3.3-13");
    let (topic, kept) = (unique("expires"), unique("expires/kept"));
    let [(away, mut peer), (begun, mut slow)] = [lasting(V5), lasting(V5)];
    peer.subscribe(&topic, 2);
    slow.subscribe(&topic, 2);
    peer.leave();
    let mut publisher = client(V5);
    for qos in [1, 2] {
        publisher.publish(expiring(&topic, "short", SHORT_S), qos);
    }
    publisher.publish(expiring(&topic, "long", 100), 2);
    publisher.publish(expiring(&kept, "short", SHORT_S).retain(), 1);
    // One whose delivery has begun does not expire any more.
    let sent: Vec<_> = (0..3).map(|_| slow.delivery()).collect();
    assert!(
        sent.iter()
            .all(|delivered| seconds_left(delivered).is_some_and(|left| left > 0))
    );
    slow.cut();
    // The receiver's side of a message that expires meanwhile.
    publisher.send(
        &expiring(&unique("expires"), "short", SHORT_S)
            .qos(2, 3)
            .bytes(),
    );
    assert_eq!(publisher.acknowledged(wire::PUBREC, 3), 0);
    pass(SHORT_S + 1);
    publisher.send(&wire::ack(wire::PUBREL, 3));
    assert_eq!(publisher.acknowledged(wire::PUBCOMP, 3), 0);

    let mut peer = come_back(&away);
    let delivered = peer.delivery();
    assert_eq!(delivered.text(), "long");
    let left = seconds_left(&delivered).unwrap();
    let left_max = 100 - SHORT_S;
    assert!((80..=left_max).contains(&left), "{left} s left of 100");
    peer.nothing();
    let mut reader = client(V5);
    reader.subscribe(&kept, 1);
    reader.nothing();
    let mut slow = come_back(&begun);
    for expected in &sent[1..] {
        // Of QoS 2, it is sent again although its time is over.
        let resent = loop {
            let resent = slow.delivery();
            if resent.qos == 2 {
                break resent;
            }
        };
        assert_eq!(
            (&resent.payload, resent.id),
            (&expected.payload, expected.id)
        );
    }
}

#[test]
fn v5_3_3_2_6_what_does_not_wait_keeps_its_expiry() {
    clauses!(v5 "3.3.2-6");
    let topic = unique("expires");
    let mut peer = client(V5);
    peer.subscribe(&topic, 1);
    for seconds in [10, 1_000_000, u32::MAX] {
        client(V5).publish(expiring(&topic, "x", seconds), 1);
        let left = seconds_left(&peer.answered_delivery()).unwrap();
        assert!(
            left <= seconds && left >= seconds - 5,
            "{left} of {seconds}"
        );
    }
    publish(V5, &topic, "x", 1);
    assert_eq!(seconds_left(&peer.answered_delivery()), None);
}
