//! Shared subscriptions (4.8.2).

use tidegate_system_tests::wait;

use super::support::*;

#[test]
fn v5_4_8_2_1_a_share_has_a_name_and_a_filter() {
    clauses!(v5 "4.8.2-1" "4.8.2-2");
    for filter in [
        "$share",
        "$share/",
        "$share//",
        "$share//a",
        "$share/a",
        "$share/a/",
        "$share/+/a",
        "$share/#/a",
        "$share/a+/b",
        "$share/#",
        "$share/a/b#",
        "$share/a/#/b",
    ] {
        let bytes = wire::subscribe(V5, 1, &[(filter, 0)]);
        ends(client(V5), &bytes, &[0x81, 0x82, 0x8f]);
    }
    let mut peer = client(V5);
    for filter in [
        "$share/group/a",
        "$share/group//",
        "$share/g/#",
        "$share/g/+/b",
    ] {
        assert!(peer.subscribe(filter, 1) < 0x80, "{filter}");
    }
}

/// What has come for a member by now, acknowledged.
#[track_caller]
fn arrived(member: &mut Peer) -> Vec<Delivered> {
    let mut found = Vec::new();
    member.send(&wire::packet(wire::PINGREQ, &[]));
    loop {
        let packet = member.packet();
        if packet.kind() == wire::PINGRESP {
            return found;
        }
        let delivered = packet.publish();
        if let Some(id) = delivered.id {
            member.send(&wire::ack(wire::PUBACK, id));
        }
        found.push(delivered);
    }
}

#[test]
fn v5_4_8_2_3_each_message_goes_to_one_member_with_its_qos() {
    clauses!(v5 "4.8.2-3");
    for qos in [0, 1] {
        let topic = unique("shared");
        let filter = format!("$share/{}/{topic}", unique("group"));
        let mut members = [client(V5), client(V5)];
        for member in &mut members {
            assert_eq!(member.subscribe(&filter, qos), qos);
        }
        for number in 0..10 {
            publish(V5, &topic, &number.to_string(), 1);
        }
        let mut found = Vec::new();
        wait::until("all have come", wait::SOON, || {
            members
                .iter_mut()
                .for_each(|member| found.extend(arrived(member)));
            (found.len() >= 10).then_some(())
        });
        members
            .iter_mut()
            .for_each(|member| found.extend(arrived(member)));
        assert!(found.iter().all(|delivered| delivered.qos == qos));
        let mut texts: Vec<_> = found.iter().map(Delivered::text).collect();
        texts.sort();
        let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(texts, expected);
    }
}

#[test]
fn v5_4_8_2_4_no_member_is_granted_qos_2() {
    clauses!(v5 "4.8.2-4" "4.8.2-5");
    // So no delivery of QoS 2 can break off, or be left behind by a session that ends.
    for mut member in [client(V5), lasting(V5).1] {
        let (topic, group) = (unique("shared"), unique("group"));
        assert_eq!(member.subscribe(&format!("$share/{group}/{topic}"), 2), 1);
        publish(V5, &topic, "x", 2);
        assert_eq!(member.answered_delivery().qos, 1);
    }
}

#[test]
fn v5_4_8_2_6_what_a_member_refuses_goes_to_no_other() {
    clauses!(v5 "4.8.2-6");
    let topic = unique("shared");
    let filter = format!("$share/{}/{topic}", unique("group"));
    let mut first = client(V5);
    first.subscribe(&filter, 1);
    publish(V5, &topic, "refused", 1);
    let id = first.delivery().id.unwrap();
    let mut second = client(V5);
    second.subscribe(&filter, 1);
    first.send(&wire::ack_with(wire::PUBACK, id, 0x97));
    first.nothing();
    first.leave();
    publish(V5, &topic, "next", 1);
    assert_eq!(second.answered_delivery().text(), "next");
    second.nothing();
}

#[test]
fn v5_4_8_2_6_what_a_member_leaves_unanswered_goes_to_another() {
    clauses!(v5 "4.8.2-3");
    let topic = unique("shared");
    let filter = format!("$share/{}/{topic}", unique("group"));
    let mut first = client(V5);
    first.subscribe(&filter, 1);
    publish(V5, &topic, "left", 1);
    first.delivery();
    let mut second = client(V5);
    second.subscribe(&filter, 1);
    first.cut();
    assert_eq!(second.answered_delivery().text(), "left");
}
