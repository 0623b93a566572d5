//! Retained messages as clients see them: the newest wins, each comes by every filter that matches it, and
//! none outlives its time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use support::{Client, metric, packet, publish, start, string, subscribe, wait_until};

const RETAINED: usize = 20_000;
/// More than a connection has on its way.
const WAITING: u16 = 5_000;
const RACERS: usize = 3;
const RACES: usize = 100;

async fn with_edge(script: impl FnOnce(SocketAddr) + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "").await;
    let mqtt = edge.mqtt_addresses()[0];
    tokio::task::spawn_blocking(move || script(mqtt))
        .await
        .unwrap();
    edge.shutdown().await;
}

fn retain_many(client: &mut Client) {
    let topics = (0..RETAINED).map(|number| format!("m/{number:05}"));
    let packets: Vec<_> = topics.map(|topic| publish(0x31, &topic, 0, b"x")).collect();
    client.send(&packets.concat());
    client.ping();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_all_that_its_filters_match() {
    with_edge(|mqtt| {
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        retain_many(&mut publisher);
        for clean in [true, false] {
            let (mut subscriber, _) = Client::connect(mqtt, "subscriber", clean);
            subscriber.send(&subscribe(1, &["m/#", "m/#", "nothing/#", "m/00007"], 0));
            assert_eq!(subscriber.packet().0, 0x90);
            let mut topics: Vec<_> = (0..=RETAINED)
                .map(|_| {
                    let (first, body) = subscriber.packet();
                    assert_eq!(first & 0xf1, 0x31);
                    body[2..9].to_vec()
                })
                .collect();
            topics.sort();
            topics.dedup();
            assert_eq!(topics.len(), RETAINED, "one topic comes by two filters");
            subscriber.ping();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_wins_whatever_its_qos() {
    with_edge(|mqtt| {
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        let (mut subscriber, _) = Client::connect(mqtt, "subscriber", true);
        for (topic, newest) in [("changed", &b"new"[..]), ("cleared", b"")] {
            let old = publish(0x33, topic, 1, b"old");
            publisher.send(&[old, publish(0x31, topic, 0, newest)].concat());
            assert_eq!(publisher.packet().0, 0x40);
        }
        let found = subscriber.retained(&["changed", "cleared"]);
        assert_eq!(found, [("changed".to_owned(), b"new".to_vec())]);
    })
    .await;
}

/// What is retained is the newest of its topic: it must not come before what waited in the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_gets_what_waited_before_what_is_retained() {
    with_edge(|mqtt| {
        let (mut reader, _) = Client::connect(mqtt, "reader", false);
        reader.send(&subscribe(1, &["m/#"], 1));
        assert_eq!(reader.packet().0, 0x90);
        drop(reader);
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        let numbers = 1..=WAITING;
        let packets: Vec<_> = numbers
            .clone()
            .map(|number| publish(0x33, "m/1", number, &number.to_be_bytes()))
            .collect();
        publisher.send(&packets.concat());
        for _ in numbers.clone() {
            assert_eq!(publisher.packet().0, 0x40);
        }
        let (mut reader, present) = Client::connect(mqtt, "reader", false);
        assert!(present);
        reader.send(&subscribe(1, &["m/#"], 1));
        let (mut came, mut granted) = (Vec::new(), 0);
        let mut take = |reader: &mut Client, granted: &mut usize| {
            let (first, body) = reader.packet();
            if first == 0x90 {
                *granted += 1;
                return came.len();
            }
            assert_eq!(first & 0xf6, 0x32);
            reader.send(&packet(0x40, &body[5..7]));
            let number = u16::from_be_bytes([body[7], body[8]]);
            came.push((first & 1 == 1, number));
            came.len()
        };
        while granted < 1 {
            take(&mut reader, &mut granted);
        }
        // It comes behind what that is shown, and before what is asked for once it is there.
        let later = WAITING + 1;
        publisher.send(&publish(0x32, "m/1", later, &later.to_be_bytes()));
        assert_eq!(publisher.packet().0, 0x40);
        reader.send(&subscribe(2, &["m/1"], 1));
        while take(&mut reader, &mut granted) < usize::from(WAITING) + 3 {}
        let waited = numbers.map(|number| (false, number));
        let expected: Vec<_> = waited
            .chain([(true, WAITING), (false, later), (true, WAITING)])
            .collect();
        assert!(
            came == expected,
            "{:?} first, {:?} last",
            came[0],
            &came[came.len() - 3..]
        );
    })
    .await;
}

/// Those who are served as messages come have had it, so who subscribes before its commit must be shown it.
#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_before_the_commit_gets_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "journal:\n  commit_linger: 2s\n").await;
    let mqtt = edge.mqtt_addresses()[0];
    let script = move || {
        let (mut publisher, _) = Client::connect(mqtt, "publisher", true);
        let (mut subscriber, _) = Client::connect(mqtt, "subscriber", true);
        // The old ones are there at once.
        publisher.send(&publish(0x31, "changed", 0, b"old"));
        publisher.send(&publish(0x31, "cleared", 0, b"old"));
        publisher.ping();
        publisher.send(&publish(0x33, "changed", 1, b"new"));
        publisher.send(&publish(0x33, "made", 2, b"new"));
        publisher.send(&publish(0x33, "cleared", 3, b""));
        // The answer comes before those to the publishes: they are on their way.
        publisher.ping();
        let expected = ["changed", "made"].map(|topic| (topic.to_owned(), b"new".to_vec()));
        assert_eq!(subscriber.retained(&["#"]), expected);
        for _ in 0..3 {
            assert_eq!(publisher.packet().0, 0x40);
        }
        subscriber.ping();
        assert_eq!(subscriber.retained(&["#"]), expected);
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    edge.shutdown().await;
}

/// Clients that publish to one topic at once, QoS 0 and 1 by turns: whatever won is what the journal has.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_what_the_next_start_finds() {
    let folder = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for life in 0..2 {
        let edge = start(folder.path(), "").await;
        let mqtt = edge.mqtt_addresses()[0];
        let script = move || {
            if life == 0 {
                let racers = (0..RACERS).map(|racer| std::thread::spawn(move || race(mqtt, racer)));
                let racers: Vec<_> = racers.collect();
                racers.into_iter().for_each(|racer| racer.join().unwrap());
            }
            let (mut subscriber, _) = Client::connect(mqtt, "subscriber", true);
            let mut found = subscriber.retained(&["race/+"]);
            found.sort();
            found
        };
        found.push(tokio::task::spawn_blocking(script).await.unwrap());
        edge.shutdown().await;
    }
    assert_eq!(found[0].len(), RACES);
    assert_eq!(found[0], found[1]);
}

fn race(mqtt: SocketAddr, racer: usize) {
    let (mut client, _) = Client::connect(mqtt, &format!("racer-{racer}"), true);
    for race in 0..RACES {
        let qos = (race + racer) % 2;
        let first = 0x31 | (qos as u8) << 1;
        let payload = format!("{racer}");
        client.send(&publish(
            first,
            &format!("race/{race}"),
            1,
            payload.as_bytes(),
        ));
        match qos {
            0 => client.ping(),
            _ => assert_eq!(client.packet().0, 0x40),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_gone_for_good() {
    const COUNT: &str = "tidegate_mqtt_retained_messages ";
    let folder = tempfile::tempdir().unwrap();
    let edge = start(folder.path(), "").await;
    let (mqtt, http) = (edge.mqtt_addresses()[0], edge.http_address());
    let script = move || {
        let connect = [&string(b"MQTT")[..], b"\x05\x02\0\0\0", &string(b"dev")].concat();
        let mut client = Client::open(mqtt, &packet(0x10, &connect));
        assert_eq!(client.packet().0, 0x20);
        let after_a_second = b"\x05\x02\0\0\0\x01";
        for (topic, properties) in [("short", &after_a_second[..]), ("long", b"\0")] {
            let body = [&string(topic.as_bytes())[..], properties, b"x"].concat();
            client.send(&packet(0x31, &body));
        }
        client.ping();
        assert_eq!(metric(http, COUNT), 2);
        wait_until("the sweep", || metric(http, COUNT) == 1);
    };
    tokio::task::spawn_blocking(script).await.unwrap();
    edge.shutdown().await;
    let edge = start(folder.path(), "").await;
    let http = edge.http_address();
    let count = tokio::task::spawn_blocking(move || metric(http, COUNT));
    assert_eq!(count.await.unwrap(), 1, "its row is there still");
    edge.shutdown().await;
}
