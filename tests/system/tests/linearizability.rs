//! What fifteen clients saw of a topic, in ten thousand operations and more, while the cloud is killed and its object
//! store fails, is what one log for each partition could have shown them (`log_history`). A cloud whose data was put back
//! from an older copy behind its back has lost what it acknowledged: there the same check says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "linearizability/clients.rs"]
mod clients;

use std::fs;
use std::time::{Duration, Instant};

use clients::{Clients, PARTITIONS, TOPIC};
use tidegate_system_tests::lines::{copy_folder, restore_folder};
use tidegate_system_tests::log_history::{Operation, Tally, Violation, check, seeded::SEEDED};
use tidegate_system_tests::node::Cloud;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::s3::S3;
use tidegate_system_tests::s3_relay::BY_CHANCE;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait;

/// Idempotent producers, others, and readers.
const CLIENTS_OF_EACH_KIND: u32 = 5;
const OPERATIONS: u64 = 10_000;
const KILLS: u64 = 6;

/// What is shown of what is wrong.
const SHOWN_MAX: usize = 5;

/// What the two logs differ in here.
struct Variant {
    wal: &'static str,
    /// So much is to be acknowledged at least: reading alone shows little.
    acknowledged: u64,
    /// One of so many requests of the store goes wrong, in each way as often.
    fails_one_in: u64,
    /// So many are to go wrong at least.
    faults: u32,
}

const LOCAL: Variant = Variant {
    wal: "local",
    acknowledged: 2_000,
    fails_one_in: 2,
    faults: 30,
};

const OBJECT: Variant = Variant {
    wal: "object",
    acknowledged: 600,
    // A start reads the log in hundreds of requests.
    fails_one_in: 8,
    faults: 60,
};

fn cloud(scratch: &Scratch, wal: &str) -> Cloud {
    let cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.configure(&format!(
        "wal: {wal}\nwal_linger: 20ms\npack: {{max_age: 0}}\nrestore_window: 1s\n\
         topics: [{{name: {TOPIC}, partitions: {PARTITIONS}}}]\n"
    ));
    cloud
}

/// Waits until the clients have done and were told so much.
fn wait_for(clients: &Clients, operations: u64, acknowledged: u64) {
    wait::until("the clients get on", wait::SOON * 2, || {
        let shared = &clients.shared;
        let is_enough = shared.operations() >= operations && shared.acknowledged() >= acknowledged;
        is_enough.then_some(())
    });
}

#[track_caller]
fn assert_right(history: &[Operation], complaints: &[String]) {
    let found = check(history);
    let shown: Vec<_> = found.iter().take(SHOWN_MAX).collect();
    assert!(found.is_empty(), "{} violations: {shown:#?}", found.len());
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// Each change to this history that no log could have shown is found; one partition of it is enough.
#[track_caller]
fn assert_seeded_are_found(history: &[Operation], random: &mut Random) {
    let of_first = history.iter().filter(|operation| operation.partition == 0);
    let of_first: Vec<Operation> = of_first.cloned().collect();
    for (name, change, is_meant) in SEEDED {
        let mut changed = of_first.clone();
        let is_made = (0..10).any(|_| change(&mut changed, random));
        assert!(is_made, "{name} can't be made of it");
        let found = check(&changed);
        assert!(found.iter().any(is_meant), "{name} is not found");
    }
}

fn while_it_is_killed_and_its_store_fails(variant: Variant) {
    let scratch = Scratch::new(&format!("linearizability-{}", variant.wal));
    let mut random = Random::from_environment();
    let mut server = S3::start(&scratch);
    let relay = server.relay();
    let mut cloud = cloud(&scratch, variant.wal);
    server.serve(&mut cloud, "history");
    cloud.start();
    cloud.wait_ready();
    let began = Instant::now();
    let mut of_relay = Random::seeded(random.number());
    relay.fail_by_chance(move |_| {
        let at = of_relay.below(variant.fails_one_in * BY_CHANCE.len() as u64);
        BY_CHANCE.get(at as usize).copied()
    });
    let clients = Clients::start(cloud.kafka, CLIENTS_OF_EACH_KIND, &mut random);
    let mut came_again = 0.0;
    let duplicates = |cloud: &Cloud| {
        cloud
            .metric("tidegate_duplicate_batches_total")
            .unwrap_or(0.0)
    };
    for round in 1..=KILLS {
        let part = |whole: u64| whole * round / (KILLS + 1);
        wait_for(&clients, part(OPERATIONS), part(variant.acknowledged));
        let faults = part(variant.faults.into()) as u32;
        wait::until("the store has failed again", wait::SOON * 2, || {
            (relay.hits(|_, _| true) >= faults).then_some(())
        });
        let until = Instant::now() + Duration::from_millis(random.below(300));
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        came_again += duplicates(&cloud);
        cloud.kill();
        if variant.wal == "object" {
            // Its disk holds nothing that is needed.
            fs::remove_dir_all(&cloud.data).unwrap();
        }
        cloud.start();
        cloud.wait_ready();
    }
    wait_for(&clients, OPERATIONS, variant.acknowledged);
    came_again += duplicates(&cloud);
    let faults = relay.heal();
    let (history, complaints) = clients.stop();
    println!(
        "{} operations in {:?}, {KILLS} kills, {faults} requests of the store went wrong, \
         {came_again} batches came again: {:?}",
        history.len(),
        began.elapsed(),
        Tally::of(&history)
    );
    assert_right(&history, &complaints);
    assert!(came_again > 0.0, "no batch came again");
    assert!(Tally::of(&history).unknown_yet_read > 0);
    assert!(faults >= variant.faults * KILLS as u32 / (KILLS as u32 + 1));
    let judged = Instant::now();
    assert_seeded_are_found(&history, &mut random);
    println!(
        "{} changes were found in {:?}",
        SEEDED.len(),
        judged.elapsed()
    );
}

#[test]
fn a_local_log_is_one_log_for_all_while_it_is_killed_and_its_store_fails() {
    while_it_is_killed_and_its_store_fails(LOCAL);
}

#[test]
fn a_log_in_the_store_is_one_log_for_all_while_it_is_killed_and_its_store_fails() {
    while_it_is_killed_and_its_store_fails(OBJECT);
}

/// What no cloud can know by itself: nobody but its Kafka clients has seen what is gone.
#[test]
fn a_cloud_that_was_put_back_behind_its_back_is_found_out() {
    const PART: u64 = 300;
    let scratch = Scratch::new("linearizability-restored");
    let mut random = Random::from_environment();
    let mut cloud = cloud(&scratch, "local");
    cloud.start();
    cloud.wait_ready();
    let clients = Clients::start(cloud.kafka, 2, &mut random);
    let more = |clients: &Clients| wait_for(clients, 0, clients.shared.acknowledged() + PART);
    more(&clients);
    cloud.kill();
    let copy = scratch.path().join("copy");
    copy_folder(&cloud.data, &copy);
    cloud.start();
    more(&clients);
    cloud.kill();
    restore_folder(&copy, &cloud.data);
    cloud.start();
    more(&clients);
    let (history, _) = clients.stop();
    let found = check(&history);
    let lost = |violation: &Violation| matches!(violation, Violation::LostAcknowledgement { .. });
    assert!(found.iter().any(lost), "of {:?}", Tally::of(&history));
    println!("{} violations of {:?}", found.len(), Tally::of(&history));
}
