//! The power of the cloud's disk is cut at chosen moments, while messages land: while nothing else goes on, while a
//! segment is written, while a snapshot is, while what nothing needs is removed; and while a topic is compacted. What
//! was not synced is lost each time. Nothing that had landed is missing, twice, or at another offset.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::image::Image;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{Cloud, EDGE_ID, Edge, STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::{Scratch, objects};
use tidegate_system_tests::{kafka, skip, wait};

/// What lands is packed in the next second; what is replaced goes as soon as snapshots allow.
const HASTY: &str = "pack: {max_age: 0}\nrestore_window: 0\n\
    topics:\n  - {name: telemetry}\n  - {name: state, partitions: 1}\n";

/// A topic of which only each key's newest record is to stay.
const STATE: &str = "state";

const ROUTES: &str =
    "routes:\n  - {filter: 'state/#', stream: state}\n  - {filter: '#', stream: telemetry}\n";

const DEVICES: usize = 3;

const ROUNDS: usize = 2;

const AT_ONCE: usize = 10;

/// When the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Lands,
    /// A file of a segment has just appeared.
    Packs,
    /// A snapshot has.
    Snapshots,
    /// A segment that was given up has just gone.
    Removes,
    /// A segment that takes the place of another has just appeared; nothing lands meanwhile.
    Compacts,
}

const MOMENTS: [Moment; 5] = [
    Moment::Lands,
    Moment::Packs,
    Moment::Snapshots,
    Moment::Removes,
    Moment::Compacts,
];

impl Moment {
    /// Where it shows.
    fn folder(self, wal: &str, cloud: &Path) -> PathBuf {
        match self {
            Self::Snapshots if wal == "object" => cloud.join("objects/snapshots"),
            Self::Snapshots => cloud.join("snapshots"),
            _ => cloud.join("objects/segments"),
        }
    }

    /// Waits for it; whether it came. `before` is what the folder held.
    fn wait(self, folder: &Path, before: &BTreeSet<PathBuf>) -> bool {
        let deadline = Instant::now() + wait::SOON;
        while Instant::now() < deadline {
            let now = objects(folder);
            let (more, less) = match self {
                Self::Lands => return true,
                Self::Removes => (before, &now),
                Self::Packs | Self::Snapshots | Self::Compacts => (&now, before),
            };
            if more.difference(less).next().is_some() {
                return true;
            }
        }
        false
    }
}

#[test]
fn whatever_the_cloud_does_when_the_power_goes_nothing_that_landed_is_lost() {
    cut_at_each_moment("local", ROUNDS);
}

#[test]
fn nothing_is_lost_either_with_the_log_in_an_object_store_that_is_a_folder() {
    cut_at_each_moment("object", 1);
}

fn cut_at_each_moment(wal: &str, rounds: usize) {
    let scratch = Scratch::new(&format!("tiers-power-cut-{wal}"));
    let image = match Image::new(&scratch) {
        Ok(image) => image,
        Err(reason) => skip!("{reason}"),
    };
    let mut random = Random::from_environment();
    let mut site = site(&scratch, &image);
    site.edge.reconnect_soon();
    site.edge.configure(ROUTES);
    site.cloud.configure(HASTY);
    site.cloud
        .configure(&format!("wal: {wal}\nwal_linger: 5ms\n"));
    site.start();
    let (mut begins, mut published, mut states) = (0, 0, 0);
    let mut hits = BTreeMap::<Moment, usize>::new();
    for moment in MOMENTS.into_iter().cycle().take(MOMENTS.len() * rounds) {
        let later = Duration::from_micros(random.below(3_000));
        let ends = AtomicBool::new(false);
        let mqtt = site.edge.mqtt;
        let folder = moment.folder(wal, &site.cloud.data);
        let mut before = objects(&folder);
        if moment == Moment::Removes {
            begins = published;
            give_up(&site, &scratch, begins);
        }
        if moment == Moment::Compacts {
            ends.store(true, Ordering::Relaxed);
            states = two_segments_of_states(&site, states);
            before = objects(&folder);
        }
        published += thread::scope(|scope| {
            let publisher = scope.spawn(|| publish_until(mqtt, published, &ends));
            let last = Last(&ends);
            if moment == Moment::Compacts {
                alter(&site, "cleanup.policy=compact");
            }
            let came = moment.wait(&folder, &before);
            // Somewhere in what it does.
            thread::sleep(later);
            image.power_cycle(|| site.cloud.kill());
            assert!(came, "it never came to {moment:?}");
            *hits.entry(moment).or_default() += 1;
            site.cloud.start();
            site.cloud.wait_ready();
            drop(last);
            publisher.join().unwrap()
        });
        // So that it does not wait until it takes the cloud for gone.
        site.edge.kill();
        site.edge.start();
        site.edge.wait_ready();
        site.edge.wait_landed(published as u64);
        check(&site, &scratch, begins, published);
        check_states(&site, &scratch, states);
    }
    println!("{published} messages; cuts: {hits:?}");
    assert!(MOMENTS.iter().all(|moment| hits[moment] == rounds));
}

/// The cloud's data is on the image, and nothing else.
fn site(scratch: &Scratch, image: &Image) -> Site {
    let folder = scratch.path();
    let cloud = Cloud::new(folder, &image.mount);
    let certificates = folder.join("certificates");
    cloud.certificate(EDGE_ID, &certificates);
    let edge = Edge::new(folder, folder, &certificates, cloud.bridge);
    Site { cloud, edge }
}

/// Ends the publisher, also where the test fails.
struct Last<'a>(&'a AtomicBool);

impl Drop for Last<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes from a number on, until it is to end; says how many.
fn publish_until(mqtt: std::net::SocketAddr, from: usize, ends: &AtomicBool) -> usize {
    let mut count = 0;
    while !ends.load(Ordering::Relaxed) {
        let next = payloads("cut", from + count, from + count + AT_ONCE);
        publish(Publisher::Mosquitto, mqtt, "cuts/a", &next);
        count += AT_ONCE;
    }
    count
}

/// Gives up all records below an offset; their segments are deleted once snapshots allow.
fn give_up(site: &Site, scratch: &Scratch, below: usize) {
    let records = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("read"));
    let (partition, below) = (records[0].partition.to_string(), below.to_string());
    let trim = [
        "topic",
        "trim",
        STREAM,
        "--partition",
        &partition,
        "--before",
        &below,
    ];
    tidegate(site.cloud.http, &trim).ok();
}

/// Of each device there are older states in another segment than the newest. Says how many states each has had.
fn two_segments_of_states(site: &Site, before: usize) -> usize {
    alter(site, "cleanup.policy=delete");
    let mut states = before;
    for _ in 0..2 {
        let next = payloads("state", states, states + 2);
        for device in 0..DEVICES {
            publish(
                Publisher::Mosquitto,
                site.edge.mqtt,
                &format!("state/{device}"),
                &next,
            );
        }
        states += next.len();
        site.edge.wait_landed_of(STATE, (DEVICES * states) as u64);
        wait::until("all is packed", wait::SOON, || {
            let is_packed = [STREAM, STATE]
                .iter()
                .all(|topic| tail_batches(site, topic) == 0);
            is_packed.then_some(())
        });
    }
    states
}

fn alter(site: &Site, setting: &str) {
    tidegate(site.cloud.http, &["topic", "alter", STATE, setting]).ok();
}

fn tail_batches(site: &Site, topic: &str) -> u64 {
    let described = json(site.cloud.http, &["topic", "describe", topic])
        .ok()
        .json();
    let partitions = described["partitions"].as_array().unwrap().iter();
    partitions
        .map(|one| one["tail_batches"].as_u64().unwrap())
        .sum()
}

/// Of each device the newest state is there, and what is there of older ones is in its order.
fn check_states(site: &Site, scratch: &Scratch, states: usize) {
    let records = kafka::read_all(site.cloud.kafka, STATE, &scratch.path().join("states"));
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        let number = record
            .value
            .strip_prefix("state:")
            .unwrap()
            .parse()
            .unwrap();
        let before = newest.insert(record.key.clone().unwrap(), number);
        assert!(before.is_none_or(|before| before < number), "{record:?}");
    }
    let devices = (0..DEVICES).filter(|_| states > 0);
    let expected = devices.map(|device| (format!("state/{device}"), states.saturating_sub(1)));
    assert_eq!(newest, expected.collect());
    tidegate(site.cloud.http, &["topic", "verify", STATE]).ok();
}

/// Each message that was not given up is there once, in order, at the offset that it has had; and all is well with
/// what is stored.
fn check(site: &Site, scratch: &Scratch, begins: usize, published: usize) {
    let records = kafka::read_all(site.cloud.kafka, STREAM, &scratch.path().join("read"));
    let read: Vec<_> = records
        .into_iter()
        .map(|record| (record.offset, record.value))
        .collect();
    let expected = payloads("cut", begins, published).into_iter();
    let expected: Vec<_> = (begins as i64..).zip(expected).collect();
    assert!(read == expected, "{} of {published} are read", read.len());
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
}
