//! An object store that fails before the whole cloud, while an edge lands, consumers read, and packing, compaction and
//! deletion run: errors, 503, slow and half answers, cuts, what was done and answered as an error, an outage longer
//! than any retry, and half an upload in parts. Once the store is well again, all is there, once, and no other object.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka::{self, Record};
use tidegate_system_tests::lines::{Publisher, padded, payloads, publish};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::s3::S3;
use tidegate_system_tests::s3_relay::{BY_CHANCE, Fault, Relay};
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// Compacted: of each device the newest state stays.
const STATE: &str = "state";
const DEVICES: usize = 3;

const CLOUD: &str = "pack: {max_age: 0}\nrestore_window: 1s\n\
    topics:\n  - {name: telemetry}\n  - {name: state, partitions: 1}\n";

const EDGE: &str =
    "routes:\n  - {filter: 'state/#', stream: state}\n  - {filter: '#', stream: telemetry}\n";

/// How often each of these is to be seen at least, and what is to be hit by any of them.
const HITS_MIN: u32 = 3;
const HIT: [&str; 4] = ["PUT", "GET", "LIST", "DELETE"];

/// Rounds that this may take.
const ROUNDS_MAX: usize = 60;
const IN_A_ROUND: usize = 30;

/// Between two starts there is time for two snapshots: before the second, nothing is deleted.
const RESTART_EVERY: usize = 12;
const READ_EVERY: usize = 3;

const _: () = assert!((RESTART_EVERY / 2).is_multiple_of(READ_EVERY));

/// How many messages there are.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    telemetry: usize,
    /// Of each device.
    states: usize,
}

struct World {
    scratch: Scratch,
    site: Site,
    server: S3,
    relay: Relay,
    sent: Sent,
}

impl World {
    fn start() -> Self {
        let scratch = Scratch::new("store-faults");
        let mut site = Site::new(scratch.path(), scratch.path());
        site.edge.reconnect_soon();
        site.edge.configure(EDGE);
        site.cloud.configure(CLOUD);
        let mut server = S3::start_real(&scratch);
        let relay = server.relay();
        server.serve(&mut site.cloud, "plant");
        site.start();
        let compact = ["topic", "alter", STATE, "cleanup.policy=compact"];
        tidegate(site.cloud.http, &compact).ok();
        Self {
            scratch,
            site,
            server,
            relay,
            sent: Sent::default(),
        }
    }

    fn send(&mut self, batch: &[String]) {
        let mqtt = self.site.edge.mqtt;
        publish(Publisher::Paho, mqtt, "line/a", batch);
        self.sent.telemetry += batch.len();
        let states = payloads("state", self.sent.states, self.sent.states + 2);
        for device in 0..DEVICES {
            publish(Publisher::Paho, mqtt, &format!("state/{device}"), &states);
        }
        self.sent.states += states.len();
        let (telemetry, states) = (self.sent.telemetry, DEVICES * self.sent.states);
        self.site.edge.wait_landed_of(STREAM, telemetry as u64);
        self.site.edge.wait_landed_of(STATE, states as u64);
    }

    /// Nothing that was read is at hand after this.
    fn start_anew(&mut self) {
        let _ = fs::remove_dir_all(self.site.cloud.data.join("cache"));
        self.site.cloud.start();
        self.site.cloud.wait_ready();
    }

    fn records(&self, topic: &str) -> Vec<Record> {
        let out = self.scratch.path().join("consumed.jsonl");
        kafka::read_all(self.site.cloud.kafka, topic, &out)
    }

    /// Each message of telemetry is there once, in its order, and no offset is missing.
    #[track_caller]
    fn check_telemetry(&self) {
        let records = self.records(STREAM);
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert!(offsets.iter().copied().eq(0..self.sent.telemetry as i64));
        let numbers = records.iter().map(|record| {
            let mut parts = record.value.splitn(3, ':');
            assert_eq!(parts.next(), Some("line"));
            parts.next().unwrap().parse::<usize>().unwrap()
        });
        assert!(numbers.eq(0..self.sent.telemetry), "not in their order");
    }

    /// Of each device the newest state is there, and what is there of older ones is in its order.
    #[track_caller]
    fn check_states(&self, records: &[Record]) {
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        assert!(offsets.is_sorted_by(|one, next| one < next), "{offsets:?}");
        let mut newest: BTreeMap<String, usize> = BTreeMap::new();
        for record in records {
            let number = record.value.strip_prefix("state:").unwrap();
            let number = number.parse().unwrap();
            let before = newest.insert(record.key.clone().unwrap(), number);
            assert!(before.is_none_or(|before| before < number), "{record:?}");
        }
        let last = self.sent.states - 1;
        let expected = (0..DEVICES).map(|device| (format!("state/{device}"), last));
        assert_eq!(newest, expected.collect());
    }

    fn described(&self, topic: &str, what: &str) -> u64 {
        let described = json(self.site.cloud.http, &["topic", "describe", topic]).ok();
        let described: Value = described.json();
        let partitions = described["partitions"].as_array().unwrap().iter();
        partitions.map(|one| one[what].as_u64().unwrap()).sum()
    }

    #[track_caller]
    fn wait_packed(&self) {
        wait::until("all is packed", wait::SOON * 4, || {
            let tails = [STREAM, STATE].map(|topic| self.described(topic, "tail_batches"));
            (tails == [0, 0]).then_some(())
        });
    }

    #[track_caller]
    fn wait_hit(&self, on: &str, by: Fault, count: u32) {
        let by = format!("{by:?}");
        wait::until(&format!("{by} on {on}"), wait::SOON * 2, || {
            let hits = self
                .relay
                .hits(|operation, fault| operation == on && fault == by);
            (hits >= count).then_some(())
        });
    }
}

#[test]
fn a_store_that_fails_in_every_way_costs_time_and_nothing_else() {
    let mut random = Random::from_environment();
    let mut world = World::start();
    world
        .relay
        .fail_every_second(move |bound| random.below(bound));
    // It is asked for once in a life: chance may miss it.
    world.relay.fail("GET", "list-type", Fault::HalfAnswer, 1);
    all_is_seen(&mut world);
    world.relay.heal();
    an_outage_and_half_an_upload(&mut world);
    world.relay.heal();

    world.wait_packed();
    world.site.cloud.process().signal("TERM");
    assert!(world.site.cloud.process().wait(wait::SOON).success());
    world.start_anew();
    world.send(&payloads(
        "line",
        world.sent.telemetry,
        world.sent.telemetry + 10,
    ));
    world.wait_packed();
    world.check_telemetry();
    let states = wait::until("the states are compacted", wait::SOON * 2, || {
        let records = world.records(STATE);
        (records.len() < DEVICES * world.sent.states / 2).then_some(records)
    });
    world.check_states(&states);
    for topic in [STREAM, STATE] {
        tidegate(world.site.cloud.http, &["topic", "verify", topic]).ok();
    }
    tidegate(world.site.cloud.http, &["offsets", "verify"]).ok();
    wait::until(
        "the store has what is known, and nothing else",
        wait::SOON * 4,
        || {
            let known = [STREAM, STATE].map(|topic| world.described(topic, "segments"));
            let found = world.server.count("plant/segments/") as u64;
            (known.iter().sum::<u64>() == found).then_some(())
        },
    );
    for ((operation, fault), count) in world.relay.histogram() {
        println!("{count:6} {operation:13} {fault}");
    }
}

/// Rounds of landing and reading, until everything went wrong often enough.
fn all_is_seen(world: &mut World) {
    let is_seen = |world: &World| {
        let faults = BY_CHANCE.map(|fault| format!("{fault:?}"));
        let seen = |name: &String| world.relay.hits(|_, fault| fault == name) >= HITS_MIN;
        let hit = |on: &&str| world.relay.hits(|operation, _| operation == *on) > 0;
        faults.iter().all(seen) && HIT.iter().all(hit)
    };
    let mut rounds = 0;
    while !is_seen(world) {
        rounds += 1;
        assert!(rounds <= ROUNDS_MAX, "{:?}", world.relay.histogram());
        let from = world.sent.telemetry;
        world.send(&payloads("line", from, from + IN_A_ROUND));
        if rounds % RESTART_EVERY == RESTART_EVERY / 2 {
            world.site.cloud.process().signal("TERM");
            assert!(world.site.cloud.process().wait(wait::SOON * 2).success());
            // What is not at hand comes from the store as it is.
            world.start_anew();
        }
        if rounds % READ_EVERY == 0 {
            world.check_telemetry();
        }
    }
    println!("{rounds} rounds, {} messages", world.sent.telemetry);
}

/// More than one PUT takes, since nothing was packed for so long: it goes up in parts.
fn an_outage_and_half_an_upload(world: &mut World) {
    const PADDED: usize = 1_500;
    let outage = Fault::Answer(503);
    world.relay.fail("P", "", outage, u32::MAX);
    let from = world.sent.telemetry;
    world.send(&padded("line", from, from + PADDED));
    let failures = "tidegate_pack_failures_total";
    wait::until("the cloud gives up for now", wait::SOON * 4, || {
        (world.site.cloud.metric(failures)? >= 1.0).then_some(())
    });
    world.relay.heal();

    // The cloud is killed with half an upload under way; the next life makes another.
    let second = "partNumber=2";
    world.relay.fail("PUT", second, Fault::Silence, 1);
    world.wait_hit("part", Fault::Silence, 1);
    world.site.cloud.kill();
    for (method, text, fault) in [
        ("POST", "uploads", Fault::Answer(500)),
        ("PUT", second, Fault::Cut),
        ("PUT", second, Fault::DoneButAnswered(500)),
        ("PUT", second, Fault::HalfAnswer),
        ("POST", "uploadId", Fault::DoneButCut),
    ] {
        world.relay.fail(method, text, fault, 1);
    }
    world.start_anew();
    world.wait_hit("begin upload", Fault::Answer(500), 1);
    world.wait_hit("end upload", Fault::DoneButCut, 1);
    world.wait_packed();
}
