//! A real power cut: both nodes' data on a file system that is shut down under load. `kill -9`
//! keeps the page cache; this does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tidegate_system_tests::account::{self, Read};
use tidegate_system_tests::image::Image;
use tidegate_system_tests::kafka;
use tidegate_system_tests::load::{Load, Plan};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::skip;

/// As many messages as in the journey: 50,000 where all three clients are there, in 15 s.
const PLAN: Plan = Plan {
    devices_per_client: 4,
    messages_per_device: 4_170,
    rate: 278.0,
};

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut() {
    let mut random = Random::from_environment();
    for round in 1..=3 {
        let scratch = Scratch::new("power-cut");
        let image = match Image::new(&scratch) {
            Ok(image) => image,
            Err(reason) => skip!("{reason}"),
        };
        // Between a quarter and three quarters of the load.
        let share = 0.25 + random.below(500) as f64 / 1_000.0;
        cut_under_load(round, &scratch, &image, PLAN.duration().mul_f64(share));
    }
}

fn cut_under_load(round: u32, scratch: &Scratch, image: &Image, after: Duration) {
    let mut site = Site::new(scratch.path(), &image.mount);
    site.start();
    let mut load = Load::start(site.edge.mqtt, PLAN, scratch.path());
    let messages = PLAN.messages(load.clients());
    // The moment of the cut, not a wait.
    std::thread::sleep(after);
    assert!(load.is_running(), "the load ended before the cut");
    image.power_cycle(|| {
        site.edge.kill();
        site.cloud.kill();
    });

    site.start();
    let sent = load.finish(Duration::from_secs(60));
    assert_eq!(sent.acknowledgements() as u64, messages);
    let landed = site.edge.wait_landed(messages);
    let records = kafka::read_all(
        site.cloud.kafka,
        STREAM,
        &scratch.path().join("records.jsonl"),
    );
    let read: Vec<Read> = records.iter().map(kafka::Record::message).collect();
    let faults = account::faults(&sent, &read, landed);
    assert!(
        faults.is_empty(),
        "round {round}, cut after {after:?}:\n{}",
        faults.join("\n")
    );
    println!(
        "round {round}: cut after {after:?}; {messages} messages, {} transmissions, {} records",
        sent.transmissions(),
        read.len()
    );
}
