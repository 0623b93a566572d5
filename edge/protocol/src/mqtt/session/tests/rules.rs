//! Subscriptions, progress and life of a session, one rule at a time.

use bytes::BytesMut;

use super::*;
use crate::mqtt::{
    codec::{SubscriptionIdentifier, SubscriptionOptions},
    connection::SharedFilter,
    limits::{FIELD_BYTES_MAX, SESSION_SUBSCRIPTIONS_BYTES_MAX},
};

fn session() -> ClientSession {
    let mut session = ClientSession::new(text("c"));
    session.apply(&Change::Begun {
        expiry_interval_s: 60,
        position: Position(0),
    });
    session
}

fn subscription(name: &str, qos_max: Qos, since: u64) -> Subscription {
    Subscription {
        filter: SharedFilter::parse(text(name)).unwrap(),
        options: SubscriptionOptions {
            qos_max,
            ..SubscriptionOptions::default()
        },
        identifier: None,
        since: Position(since),
    }
}

fn subscribed(subscriptions: Vec<Subscription>) -> ClientSession {
    let mut session = session();
    for subscription in subscriptions {
        session.apply(&Change::Subscribed(subscription));
    }
    session
}

fn assigned(session: &mut ClientSession, id: u16, position: u64) {
    session.apply(&Change::OutboundAssigned {
        packet_id: packet_id(id),
        position: Position(position),
    });
}

fn taken(session: &mut ClientSession, positions: std::ops::Range<u64>) {
    for position in positions {
        session.progress_mut().taken(Position(position));
    }
}

fn again(position: u64, id: Option<u16>) -> Again {
    Again {
        position: Position(position),
        packet_id: id.map(packet_id),
    }
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3]
#[test]
fn overlapping_subscriptions_act_as_one() {
    let mut all = subscription("#", Qos::AtMostOnce, 0);
    all.identifier = SubscriptionIdentifier::new(1);
    let mut plus = subscription("a/+", Qos::ExactlyOnce, 0);
    plus.identifier = SubscriptionIdentifier::new(2);
    plus.options.retain_as_published = true;
    let other = subscription("b", Qos::ExactlyOnce, 0);
    let session = subscribed(vec![all, plus, other]);
    let expected = Matched {
        qos_max: Qos::ExactlyOnce,
        retain_as_published: true,
        identifiers: [1, 2]
            .into_iter()
            .filter_map(SubscriptionIdentifier::new)
            .collect(),
    };
    assert_eq!(session.matches("a/b", "x", Position(0)), Some(expected));
    let zero = session.matches("c", "x", Position(0)).unwrap();
    assert_eq!(zero.qos_max, Qos::AtMostOnce);
    assert_eq!(session.matches("$SYS/a", "x", Position(0)), None);
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_leaves_out_the_clients_own() {
    let mut subscription = subscription("a", Qos::AtLeastOnce, 0);
    subscription.options.no_local = true;
    let session = subscribed(vec![subscription]);
    assert!(session.matches("a", "c", Position(0)).is_none());
    assert!(session.matches("a", "x", Position(0)).is_some());
}

#[test]
fn a_subscription_begins_where_the_log_stood() {
    let session = subscribed(vec![subscription("a", Qos::AtLeastOnce, 5)]);
    assert!(session.matches("a", "x", Position(4)).is_none());
    assert!(session.matches("a", "x", Position(5)).is_some());
}

/// Its group has a cursor of its own.
#[test]
fn a_shared_subscription_is_not_the_sessions_own() {
    let session = subscribed(vec![subscription("$share/g/a", Qos::AtLeastOnce, 0)]);
    assert_eq!(session.subscriptions().len(), 1);
    assert!(session.matches("a", "x", Position(0)).is_none());
}

/// [MQTT-3.8.4-3], [MQTT-3.8.4-4]
#[test]
fn a_subscription_that_replaces_another_loses_nothing() {
    let mut session = subscribed(vec![subscription("a", Qos::ExactlyOnce, 3)]);
    let replacing = subscription("a", Qos::AtLeastOnce, 9);
    session.apply(&Change::Subscribed(replacing));
    assert_eq!(session.subscriptions().len(), 1);
    let matched = session.matches("a", "x", Position(3)).unwrap();
    assert_eq!(matched.qos_max, Qos::AtLeastOnce);
}

/// [MQTT-3.10.4-2], [MQTT-3.10.4-3]
#[test]
fn what_was_begun_is_completed_after_unsubscribe() {
    let mut session = subscribed(vec![subscription("a", Qos::ExactlyOnce, 0)]);
    taken(&mut session, 0..3);
    assigned(&mut session, 1, 0);
    session.progress_mut().sent(packet_id(2), Position(1));
    session.apply(&Change::Unsubscribed(text("a")));
    for (position, id, qos) in [(0, 1, Qos::ExactlyOnce), (1, 2, Qos::AtLeastOnce)] {
        let due = session.due("a", "x", Position(position)).unwrap();
        assert_eq!(due.resent, Some(packet_id(id)));
        assert_eq!(due.matched.qos_max, qos);
    }
    assert_eq!(session.due("a", "x", Position(2)), None);
    session.progress_mut().passed(Position(2));
    assert_eq!(session.progress().resume().again.len(), 2);
}

#[test]
fn the_cursor_stops_at_what_is_not_done() {
    let mut session = session();
    taken(&mut session, 2..4);
    session.progress_mut().skipped_to(Position(9));
    assert_eq!(session.progress().cursor(), Position(2));
    assert_eq!(session.done(Position(3)), None);
    assert_eq!(session.progress().cursor(), Position(2));
    assert_eq!(session.done(Position(2)), None);
    assert_eq!(
        session.cursor_change(),
        Some(Change::CursorMoved(Position(9)))
    );
    session.apply(&Change::CursorMoved(Position(9)));
    assert_eq!(session.cursor_change(), None);
}

/// [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-4.6.0-4]
#[test]
fn a_broken_connection_is_taken_up_where_it_was() {
    let mut session = session();
    taken(&mut session, 0..6);
    for (id, position) in [(1, 0), (2, 1), (4, 4)] {
        assigned(&mut session, id, position);
    }
    session.apply(&Change::OutboundReceived(packet_id(2)));
    session.apply(&Change::OutboundReceived(packet_id(1)));
    session.progress_mut().sent(packet_id(3), Position(2));
    assert_eq!(session.done(Position(5)), None);
    let resume = session.progress().resume();
    let releases = [(2, 1), (1, 0)].map(|(id, position)| (packet_id(id), Position(position)));
    assert_eq!(resume.releases, releases);
    let expected = [again(2, Some(3)), again(3, None), again(4, Some(4))];
    assert_eq!(resume.again, expected);
    assert_eq!(resume.from, Position(6));
    let mut ids: Vec<_> = session.progress().packet_ids().map(PacketId::get).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4]);
}

/// After a crash the log is read from the stored cursor: QoS 2 that is done is passed over, what
/// has its identifier keeps it.
#[test]
fn a_crash_leaves_what_qos_2_needs() {
    let mut session = session();
    for (id, position) in [(1, 5), (2, 6), (3, 7)] {
        assigned(&mut session, id, position);
    }
    session.apply(&Change::OutboundReceived(packet_id(2)));
    session.apply(&Change::OutboundCompleted(packet_id(2)));
    session.apply(&Change::OutboundReceived(packet_id(3)));
    let progress = session.progress();
    assert_eq!(progress.resume().from, Position(0));
    let places = [4, 5, 6, 7].map(|position| progress.place(Position(position)));
    let first = Place::Assigned(packet_id(1));
    assert_eq!(places, [Place::Open, first, Place::Done, Place::Done]);
    assert_eq!(progress.resume().releases, [(packet_id(3), Position(7))]);
    assert_eq!(progress.done_beyond().len(), 2);
    // The second is not below the cursor yet.
    session.apply(&Change::CursorMoved(Position(7)));
    assert_eq!(session.progress().done_beyond().len(), 1);
}

/// A PUBREC with an error, a message that expired or is gone: never again.
#[test]
fn a_delivery_that_is_given_up_frees_its_identifier() {
    let mut session = session();
    taken(&mut session, 0..2);
    assigned(&mut session, 1, 0);
    let change = session.done(Position(0)).unwrap();
    assert_eq!(change, Change::OutboundCompleted(packet_id(1)));
    session.apply(&change);
    assert_eq!(session.progress().place(Position(0)), Place::Done);
    assert_eq!(session.progress().packet_ids().count(), 0);
    assert_eq!(session.progress().cursor(), Position(1));
}

/// One message that is never acknowledged does not let the session grow without end.
#[test]
fn what_is_kept_beyond_the_cursor_is_bounded() {
    let mut session = session();
    taken(&mut session, 0..1);
    let mut position = 1;
    while session.progress().has_room() {
        taken(&mut session, position..position + 1);
        assigned(&mut session, 1, position);
        session.apply(&Change::OutboundReceived(packet_id(1)));
        session.apply(&Change::OutboundCompleted(packet_id(1)));
        position += 1;
    }
    assert_eq!(position as usize, crate::mqtt::limits::SESSION_AHEAD_MAX);
    session.done(Position(0));
    session.apply(&session.cursor_change().unwrap());
    assert!(session.progress().has_room());
}

/// [MQTT-4.1.0-2], 3.1.2.11.2
#[test]
fn a_session_expires_after_its_client_has_gone() {
    let mut session = session();
    assert_eq!(session.expires_at_ms(), None);
    session.apply(&Change::Disconnected { at_ms: 1_000 });
    assert_eq!(session.expires_at_ms(), Some(61_000));
    session.apply(&Change::ExpiryChanged {
        expiry_interval_s: u32::MAX,
    });
    assert_eq!(session.expires_at_ms(), None);
    session.apply(&Change::Ended);
    assert!(!session.is_present());
    session.apply(&Change::InboundReceived(packet_id(1)));
    assert_eq!(session, ClientSession::new(text("c")));
}

/// [MQTT-3.1.2-4]
#[test]
fn a_new_beginning_keeps_nothing() {
    let mut session = subscribed(vec![subscription("a", Qos::AtLeastOnce, 0)]);
    session.apply(&Change::InboundReceived(packet_id(1)));
    assigned(&mut session, 1, 5);
    session.apply(&Change::Begun {
        expiry_interval_s: 0,
        position: Position(8),
    });
    assert_eq!(session.subscriptions().len() + session.received().len(), 0);
    let from = Resume {
        from: Position(8),
        ..Resume::default()
    };
    assert_eq!(session.progress().resume(), from);
}

#[test]
fn what_is_given_up_is_not_delivered_and_pins_nothing() {
    let mut session = subscribed(vec![subscription("#", Qos::ExactlyOnce, 0)]);
    taken(&mut session, 0..10);
    assigned(&mut session, 7, 3);
    assigned(&mut session, 8, 6);
    let changes = session.give_up_below(Position(5));
    let expected = [
        Change::OutboundReceived(packet_id(7)),
        Change::CursorMoved(Position(5)),
    ];
    assert_eq!(changes, expected);
    changes.iter().for_each(|change| session.apply(change));
    assert_eq!(session.progress().cursor(), Position(5));
    let releases = session.progress().resume().releases;
    assert_eq!(releases, [(packet_id(7), Position(3))]);
    assert_eq!(session.due("a", "p", Position(4)), None);
    assert_eq!(session.due("a", "p", Position(3)), None);
    let due = session.due("a", "p", Position(6)).unwrap();
    assert_eq!(due.resent, Some(packet_id(8)));
    let mut out = BytesMut::new();
    session.encode(&mut out);
    let after_crash = ClientSession::decode(out.freeze()).unwrap();
    assert_eq!(after_crash.progress().cursor(), Position(5));
}

/// A connection ends with messages on their way, and its client gives the filter up: whoever reads on
/// is told of all of them, and the cursor does not stay where they were.
#[test]
fn what_an_earlier_connection_took_is_stopped_at_without_its_filter() {
    let mut session = subscribed(vec![subscription("#", Qos::ExactlyOnce, 0)]);
    taken(&mut session, 0..4);
    session.progress_mut().sent(packet_id(1), Position(0));
    assigned(&mut session, 2, 2);
    session.apply(&Change::Unsubscribed(text("#")));
    let outstanding = |session: &ClientSession, from: u64| -> Vec<u64> {
        let positions = session.progress().outstanding_from(Position(from));
        positions.map(|position| position.0).collect()
    };
    assert_eq!(outstanding(&session, 0), [0, 1, 2, 3]);
    assert_eq!(outstanding(&session, 2), [2, 3]);
    // QoS 1 that was sent is sent again, and what was only queued is not for it any more.
    let resent = |due: Option<Due>| due.and_then(|due| due.resent);
    assert_eq!(
        resent(session.due("a", "p", Position(0))),
        Some(packet_id(1))
    );
    assert_eq!(session.due("a", "p", Position(1)), None);
    session.progress_mut().passed(Position(1));
    session.progress_mut().passed(Position(3));
    assert_eq!(outstanding(&session, 0), [0, 2]);
    assert_eq!(session.done(Position(0)), None);
    assert_eq!(session.progress().cursor(), Position(2));
}

#[test]
fn filters_are_bounded_in_bytes() {
    let large = |number: usize| format!("{number:02}{}", "x".repeat(FIELD_BYTES_MAX - 2));
    let fit = SESSION_SUBSCRIPTIONS_BYTES_MAX / FIELD_BYTES_MAX;
    let mut session = session();
    for number in 0..fit {
        assert!(session.may_subscribe(&text(&large(number))));
        // Asked for twice, it counts once.
        for qos_max in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let subscription = subscription(&large(number), qos_max, 0);
            session.apply(&Change::Subscribed(subscription));
        }
    }
    assert!(!session.may_subscribe(&text(&large(fit))));
    assert!(session.may_subscribe(&text(&large(0))), "it has that one");
    let mut stored = BytesMut::new();
    session.encode(&mut stored);
    let mut session = ClientSession::decode(stored.freeze()).unwrap();
    assert!(!session.may_subscribe(&text(&large(fit))));
    for _ in 0..2 {
        session.apply(&Change::Unsubscribed(text(&large(0))));
    }
    assert!(session.may_subscribe(&text(&large(fit))));
}
