//! Users and rules are read again while clients publish and subscribe: who may stay loses nothing and is not disconnected;
//! who may not, goes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{Client, Connect};
use tidegate_edge::Edge;
use tidegate_edge_protocol::mqtt::authentication::PasswordHash;

const JOURNAL: &str = "journal: {commit_linger: 1ms, bytes_max: 128MiB, free_disk_min: 0}\n";

/// Pairs of a publisher and a subscriber; every second one must go in the end.
const PAIRS: usize = 8;
const RELOADS: usize = 20;
const PASSWORD: &[u8] = b"password";

fn users(without_odd: bool) -> String {
    let names = (0..PAIRS).filter(|at| !without_odd || at % 2 == 0);
    let hash = PasswordHash::derive(PASSWORD, b"salt of 16 bytes", 64, 1).unwrap();
    names.map(|at| format!("user{at}:{hash}\n")).collect()
}

/// The same rights for the pairs each time, by other rules.
fn rules(round: usize) -> String {
    format!(
        "rules:
  - {{allow: [publish, subscribe], topics: ['of/%u/#', 'round/{round}']}}
  - {{deny: [publish], topics: ['not/{round}']}}\n"
    )
}

fn client<'a>(user: &'a str, client_id: &'a str) -> Connect<'a> {
    Connect {
        level: 5,
        client_id,
        clean: true,
        user: Some(user),
        password: Some(PASSWORD),
        ..Connect::default()
    }
}

/// Behind all numbers.
const END: u32 = u32::MAX;

/// Publishes, one acknowledged message after the other, until told to stop or sent away, and then an end. Gives how many
/// were taken.
fn publish(
    at: SocketAddr,
    user: &str,
    is_ready: &AtomicBool,
    stop: &AtomicBool,
) -> (u32, Option<u8>) {
    let id = format!("{user}-out");
    let asked = client(user, &id);
    let mut peer = asked.opened(at);
    let topic = format!("of/{user}/x");
    for number in 0.. {
        let ends = stop.load(Ordering::Acquire);
        let payload = if ends { END } else { number };
        peer.send(&asked.publish(1, &topic, &payload.to_be_bytes()));
        match peer.packet() {
            (0x40, body) => assert!(body.get(2).is_none_or(|code| *code < 0x80), "{body:x?}"),
            (0xe0, body) => return (number, Some(body[0])),
            other => panic!("{other:x?}"),
        }
        if ends {
            return (number, None);
        }
        is_ready.store(true, Ordering::Release);
    }
    unreachable!("numbers do not end")
}

/// Takes what comes, in order, up to the end or to being sent away.
fn take(mut peer: Client) -> (u32, Option<u8>) {
    for next in 0.. {
        match peer.packet() {
            (first, body) if first >> 4 == 3 => {
                let number = u32::from_be_bytes(body[body.len() - 4..].try_into().unwrap());
                if number == END {
                    return (next, None);
                }
                assert_eq!(number, next, "nothing is lost, and nothing comes twice");
            }
            (0xe0, body) => return (next, Some(body[0])),
            other => panic!("{other:x?}"),
        }
    }
    unreachable!("numbers do not end")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_stay_stays_and_who_may_not_goes_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let [users_file, acl] = ["users", "acl.yaml"].map(|name| folder.path().join(name));
    std::fs::write(&users_file, users(false)).unwrap();
    std::fs::write(&acl, rules(0)).unwrap();
    let mut spec = support::spec(folder.path(), JOURNAL);
    (spec.mqtt.users, spec.mqtt.acl) = (Some(users_file.clone()), Some(acl.clone()));
    let edge = Edge::start(spec).await.unwrap();
    let at = edge.mqtt_addresses()[0];
    let stop = Arc::new(AtomicBool::new(false));
    let pairs = (0..PAIRS).map(|pair| {
        let user = format!("user{pair}");
        let subscribing = client(&user, &user);
        let mut subscriber = subscribing.opened(at);
        let filter = format!("of/{user}/#");
        let granted = subscriber.granted(&subscribing.subscribe(&[&filter], 0), 1);
        assert_eq!(granted, [0]);
        let is_ready = Arc::new(AtomicBool::new(false));
        let (publishing, stopping) = (Arc::clone(&is_ready), Arc::clone(&stop));
        let publisher = thread::spawn(move || publish(at, &user, &publishing, &stopping));
        (is_ready, publisher, thread::spawn(move || take(subscriber)))
    });
    let pairs: Vec<_> = pairs.collect();
    for (is_ready, ..) in &pairs {
        support::wait_until("a first message", || is_ready.load(Ordering::Acquire));
    }
    for round in 1..RELOADS {
        std::fs::write(&acl, rules(round)).unwrap();
        std::fs::write(&users_file, users(false) + &format!("# {round}\n")).unwrap();
        edge.reload().await;
    }
    std::fs::write(&users_file, users(true)).unwrap();
    edge.reload().await;
    // Who must go goes by itself; the others publish on until they are told.
    let (must_go, may_stay): (Vec<_>, Vec<_>) = pairs
        .into_iter()
        .enumerate()
        .partition(|(at, _)| at % 2 == 1);
    for (at, (_, publisher, subscriber)) in must_go {
        let ends = (publisher.join().unwrap().1, subscriber.join().unwrap().1);
        assert_eq!(ends, (Some(0x87), Some(0x87)), "{at}");
    }
    stop.store(true, Ordering::Release);
    for (at, (_, publisher, subscriber)) in may_stay {
        let (published, taken) = (publisher.join().unwrap(), subscriber.join().unwrap());
        assert!(
            published.0 > 0 && published.1.is_none(),
            "{at} {published:?}"
        );
        assert_eq!(published, taken, "{at}");
    }
    edge.shutdown().await;
}
