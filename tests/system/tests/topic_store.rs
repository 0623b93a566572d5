//! Topics with an object store of their own, with whole processes and real clients: a topic moves from a folder to S3
//! while the cloud is killed again and again, and every byte that was consumed before is consumed during and after;
//! a store that does not answer holds up its topic only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_system_tests::cli::{self, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, padded, payloads, publish};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::s3::S3;
use tidegate_system_tests::s3_relay::{Fault, Relay};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// Has its store from its first batch on.
const OWN: &str = "own";

const CLOUD: &str = "pack: {max_age: 0, segment_size: 64KiB}\nrestore_window: 1s\n\
    topics:\n  - {name: telemetry, partitions: 1}\n  - {name: own, partitions: 1, object_store: 's3://tidegate/own'}\n";

const EDGE: &str =
    "routes:\n  - {filter: 'own/#', stream: own}\n  - {filter: '#', stream: telemetry}\n";

/// What moves is in so many segments at least.
const SEGMENTS_MIN: u64 = 20;

/// A batch of so many is most of a segment.
const IN_A_BATCH: usize = 4;

/// It takes no more than these to have so many.
const SENT_MAX: usize = 400;

/// What consumers get of the topic.
#[derive(Debug, PartialEq, Eq)]
struct Consumed {
    /// Byte for byte, each with the offset behind it.
    batches: Vec<(i64, Vec<u8>)>,
    /// Offset, timestamp and value, by a real client.
    records: Vec<(i64, i64, String)>,
}

struct World {
    scratch: Scratch,
    site: Site,
    server: S3,
    relay: Relay,
    sent: usize,
}

impl World {
    fn start(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let mut site = Site::new(scratch.path(), scratch.path());
        site.edge.reconnect_soon();
        site.edge.configure(EDGE);
        site.cloud.configure(CLOUD);
        let mut server = S3::start(&scratch);
        let relay = server.relay();
        server.found_by(&mut site.cloud);
        site.start();
        Self {
            scratch,
            site,
            server,
            relay,
            sent: 0,
        }
    }

    fn send(&mut self, count: usize) {
        let batch = padded("line", self.sent, self.sent + count);
        publish(Publisher::Paho, self.site.edge.mqtt, "line/a", &batch);
        self.sent += count;
        self.site.edge.wait_landed_of(STREAM, self.sent as u64);
    }

    fn described(&self, topic: &str) -> Value {
        cli::json(self.site.cloud.http, &["topic", "describe", topic])
            .ok()
            .json()
    }

    /// Segments of a topic in the store at a URL that ends so.
    fn stored(&self, topic: &str, url_end: &str) -> u64 {
        let described = self.described(topic);
        let stores = described["stores"].as_array().unwrap().iter();
        let there = stores.filter(|store| store["url"].as_str().unwrap().ends_with(url_end));
        there.map(|store| store["segments"].as_u64().unwrap()).sum()
    }

    #[track_caller]
    fn wait_packed(&self, topic: &str) {
        wait::until(&format!("{topic} is packed"), wait::SOON * 4, || {
            let tail = &self.described(topic)["partitions"][0]["tail_batches"];
            (tail == 0).then_some(())
        });
    }

    /// Every byte of the topic, and what a client makes of it.
    #[track_caller]
    fn consumed(&self) -> Consumed {
        let kafka = self.site.cloud.kafka;
        let out = self.scratch.path().join("consumed.jsonl");
        let records = kafka::read_all(kafka, STREAM, &out).into_iter();
        let records = records.map(|record| (record.offset, record.timestamp_ms, record.value));
        Consumed {
            batches: kafka::fetch_all(kafka, STREAM, 0),
            records: records.collect(),
        }
    }

    fn moved(&self) -> f64 {
        let moved = self.site.cloud.metric("tidegate_moved_segments_total");
        moved.unwrap_or(0.0)
    }

    /// The cloud's next life, that finds nothing in a cache.
    fn start_anew(&mut self) {
        let _ = fs::remove_dir_all(self.site.cloud.data.join("cache"));
        self.site.cloud.start();
        self.site.cloud.wait_ready();
    }

    /// Objects of segments that lie in S3 below a prefix.
    fn in_s3(&self, prefix: &str) -> u64 {
        self.server.count(&format!("{prefix}/segments/")) as u64
    }

    fn in_folder(&self) -> Vec<PathBuf> {
        let files = |folder: PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten();
            entries
                .map(|entry| entry.unwrap().path())
                .collect::<Vec<_>>()
        };
        let of_clouds = files(self.site.cloud.data.join("objects/segments"));
        of_clouds.into_iter().flat_map(files).collect()
    }

    /// Of the copies that go to S3 from now on one goes wrong, after so many.
    fn fail_a_copy(&self, after: u32, fault: Fault) {
        let copies = AtomicU32::new(0);
        self.relay.fail_by_chance(move |line| {
            let is_copy = line.starts_with("PUT") && line.contains("archive/segments/");
            let is_it = is_copy && copies.fetch_add(1, Ordering::Relaxed) == after;
            is_it.then_some(fault)
        });
    }

    #[track_caller]
    fn wait_hit(&self, fault: Fault) {
        let key = ("PUT", format!("{fault:?}"));
        wait::until(&format!("{fault:?}"), wait::SOON * 2, || {
            self.relay.histogram().contains_key(&key).then_some(())
        });
    }
}

#[test]
fn a_topic_moves_to_s3_while_the_cloud_is_killed_and_every_byte_stays() {
    let mut world = World::start("topic-store");
    // Batches that come while it packs may become one segment.
    while world.stored(STREAM, "objects") < SEGMENTS_MIN {
        world.send(IN_A_BATCH);
        assert!(world.sent < SENT_MAX, "{}", world.described(STREAM));
    }
    let own = payloads("own", 0, 20);
    publish(Publisher::Paho, world.site.edge.mqtt, "own/a", &own);
    world.site.edge.wait_landed_of(OWN, 20);
    world.wait_packed(STREAM);
    world.wait_packed(OWN);
    assert_eq!(world.stored(OWN, "own"), world.in_s3("own"));
    assert!(world.in_s3("own") > 0 && world.in_s3("archive") == 0);
    let before = world.consumed();
    assert_eq!(before.records.len(), world.sent);

    // A copy that is never answered, and the cloud killed behind it.
    world.fail_a_copy(4, Fault::Silence);
    let archive = "storage.url=s3://tidegate/archive";
    let said = tidegate(world.site.cloud.http, &["topic", "alter", STREAM, archive]).ok();
    assert!(
        said.out.contains("still go to s3://tidegate/archive"),
        "{said:?}"
    );
    world.wait_hit(Fault::Silence);
    let moving = (
        world.stored(STREAM, "objects"),
        world.stored(STREAM, "archive"),
    );
    assert!(moving.0 > 0 && moving.1 > 0, "{moving:?}");
    assert_eq!(world.consumed(), before, "while it moves");
    world.site.cloud.kill();

    // A copy that is there, and of which the ledger never hears.
    let slow = Fault::Slow(Duration::from_secs(60));
    world.fail_a_copy(2, slow);
    world.start_anew();
    world.wait_hit(slow);
    wait::until("a copy is there that nobody knows", wait::SOON, || {
        (world.in_s3("archive") > world.stored(STREAM, "archive")).then_some(())
    });
    world.site.cloud.kill();
    world.relay.heal();

    // At whatever it is doing then.
    world.start_anew();
    assert_eq!(world.consumed(), before, "after two kills");
    wait::until("more has moved", wait::SOON, || {
        (world.moved() >= 1.0).then_some(())
    });
    world.site.cloud.kill();
    world.start_anew();
    world.send(IN_A_BATCH);
    wait::until("all has moved", wait::SOON * 4, || {
        (world.stored(STREAM, "objects") == 0).then_some(())
    });
    world.wait_packed(STREAM);
    all_is_sound(&mut world, &before);
    a_backup_names_what_is_in_s3(&mut world);
}

/// Everything is in S3 and nowhere else, and is what it was.
#[track_caller]
fn all_is_sound(world: &mut World, before: &Consumed) {
    wait::until("the folder has nothing of it", wait::SOON * 2, || {
        world.in_folder().is_empty().then_some(())
    });
    wait::until(
        "S3 has what is known, and nothing else",
        wait::SOON * 2,
        || {
            let topics = [(STREAM, "archive"), (OWN, "own")];
            let all =
                topics.map(|(topic, prefix)| world.stored(topic, prefix) == world.in_s3(prefix));
            (all == [true, true]).then_some(())
        },
    );
    for topic in [STREAM, OWN] {
        tidegate(world.site.cloud.http, &["topic", "verify", topic]).ok();
    }
    let sound = tidegate(world.site.cloud.http, &["offsets", "verify"]).ok();
    assert!(sound.out.contains("all true both ways"), "{sound:?}");
    assert_eq!(
        world.site.cloud.metric("tidegate_storage_errors_total"),
        Some(0.0)
    );
    world.site.cloud.kill();
    world.start_anew();
    let Consumed { batches, records } = world.consumed();
    assert_eq!(records.len(), world.sent);
    assert_eq!(batches[..before.batches.len()], before.batches);
    assert_eq!(records[..before.records.len()], before.records);
    let out = world.scratch.path().join("own.jsonl");
    let own = kafka::read_all(world.site.cloud.kafka, OWN, &out).into_iter();
    let own: Vec<String> = own.map(|record| record.value).collect();
    assert_eq!(own, payloads("own", 0, 20));
}

/// It is small, and put back it finds all where it was; of what is gone there it says so, and nothing is restored.
#[track_caller]
fn a_backup_names_what_is_in_s3(world: &mut World) {
    let http = world.site.cloud.http;
    let run = |world: &World, words: &[&str]| {
        let all = [words, &["--output", "json"]].concat();
        cli::run(world.server.known_to(cli::command(http, &all)))
    };
    let path = |world: &World, name: &str| world.scratch.path().join(name).display().to_string();
    let place = path(world, "backups");
    let expected = world.consumed();
    let made = run(world, &["cloud", "backup", "--to", &place]).ok().json();
    assert_eq!(made["has_copies"], false, "{made}");
    let in_s3 = world.in_s3("archive") + world.in_s3("own");
    assert_eq!(made["segments"], in_s3, "{made}");
    world.site.cloud.kill();
    let from = ["cloud", "restore", "--from", &place, "--data"];
    let restored = path(world, "restored");
    let told = run(world, &[&from[..], &[&restored]].concat()).ok().json();
    assert_eq!((&told["kept"], &told["copied"]), (&json!(in_s3), &json!(0)));
    world.site.cloud.move_to(restored.into());
    world.start_anew();
    assert_eq!(world.consumed(), expected);
    world.site.cloud.kill();
    world.server.delete_first("archive/segments/");
    let refused = path(world, "refused");
    let said = run(world, &[&from[..], &[&refused]].concat()).fails(1);
    assert!(said.error.contains("s3://tidegate/archive"), "{said:?}");
}

#[test]
fn a_store_that_does_not_answer_holds_up_its_topic_only() {
    let mut world = World::start("topic-store-away");
    world.send(IN_A_BATCH);
    let own = |world: &World, from: usize, to: usize| {
        let batch = payloads("own", from, to);
        publish(Publisher::Paho, world.site.edge.mqtt, "own/a", &batch);
        world.site.edge.wait_landed_of(OWN, to as u64);
    };
    own(&world, 0, 10);
    world.wait_packed(STREAM);
    world.wait_packed(OWN);
    let refused = "s3://no-such-bucket/a";
    let said = tidegate(
        world.site.cloud.http,
        &["topic", "alter", STREAM, &format!("storage.url={refused}")],
    )
    .fails(1);
    let is_told =
        said.error.contains("no-such-bucket") && said.error.contains("Nothing was changed");
    assert!(is_told, "{said:?}");
    // It is silent when the cloud starts, and while it runs.
    world.site.cloud.kill();
    world.server.process.signal("STOP");
    world.start_anew();
    own(&world, 10, 20);
    world.send(IN_A_BATCH);
    world.wait_packed(STREAM);
    let trouble = &world.described(OWN)["stores"][0]["trouble"];
    assert!(trouble.is_string(), "{trouble}");
    assert_eq!(world.consumed().records.len(), world.sent);
    world.server.process.signal("CONT");
    world.wait_packed(OWN);
    let out = world.scratch.path().join("own.jsonl");
    let records = kafka::read_all(world.site.cloud.kafka, OWN, &out).into_iter();
    let values: Vec<String> = records.map(|record| record.value).collect();
    assert_eq!(values, payloads("own", 0, 20));
}
