//! One message's whole journey, 50,000 times, while both nodes are killed again and again.

use std::time::{Duration, Instant};

use tidegate_system_tests::account::{self, Read};
use tidegate_system_tests::kafka;
use tidegate_system_tests::load::{Load, Plan};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{skip, workspace};

const KILLS: usize = 5;
const MESSAGES_MIN: u64 = 50_000;

/// 25 s of load, if nothing were held up.
fn plan(clients: u64) -> Plan {
    let devices_per_client = 4;
    let messages_per_device = MESSAGES_MIN.div_ceil(clients * devices_per_client as u64);
    Plan {
        devices_per_client,
        messages_per_device,
        rate: messages_per_device as f64 / 25.0,
    }
}

#[test]
fn mosquitto_pub_takes_part() {
    if !workspace::has_tool("mosquitto_pub") {
        skip!(
            "mosquitto_pub is missing (apt-get install mosquitto-clients): the journey runs without it"
        );
    }
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9_of_both_nodes() {
    let clients = if workspace::has_tool("mosquitto_pub") {
        3
    } else {
        2
    };
    let plan = plan(clients);
    let mut random = Random::from_environment();
    let span = plan.duration().mul_f64(0.9);
    let edge_kills = random.moments(KILLS, span);
    let cloud_kills = random.moments(KILLS, span);
    println!("edge killed at {edge_kills:?}, cloud at {cloud_kills:?}");

    let scratch = Scratch::new("journey");
    let mut site = Site::started(scratch.path());
    let mut load = Load::start(site.edge.mqtt, plan, scratch.path());
    assert_eq!(load.clients() as u64, clients);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let (edge, cloud) = (&mut site.edge, &mut site.cloud);
        scope.spawn(move || {
            at(start, &edge_kills, || {
                edge.kill();
                edge.start();
            });
        });
        scope.spawn(move || {
            at(start, &cloud_kills, || {
                cloud.kill();
                cloud.start();
            });
        });
    });
    assert!(load.is_running(), "the load ended before the last kill");
    let sent = load.finish(Duration::from_secs(120));
    println!(
        "{} messages in {:.1} s, {} transmissions, all acknowledged",
        sent.messages(),
        start.elapsed().as_secs_f64(),
        sent.transmissions()
    );
    assert!(sent.acknowledgements() as u64 >= MESSAGES_MIN);

    let landed = site.edge.wait_landed(MESSAGES_MIN);
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(site.cloud.kafka, STREAM, &out);
    let read: Vec<Read> = records.iter().map(kafka::Record::message).collect();
    let faults = account::faults(&sent, &read, landed);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!("{} records, {} landed entries", read.len(), landed);
}

/// Does `kill` at each moment after `start`. The sleeps are the moments themselves, not waits.
fn at(start: Instant, moments: &[Duration], mut kill: impl FnMut()) {
    for moment in moments {
        std::thread::sleep((start + *moment).saturating_duration_since(Instant::now()));
        kill();
    }
}
