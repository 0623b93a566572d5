//! The edge as it is for ARM, 64 and 32 bits, out of its package and under an emulator: stock MQTT clients, `kill -9`
//! in the midst of publishing, and the way to a cloud on another kind of machine. `tests/run --full` makes the packages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_system_tests::account::{self, Read};
use tidegate_system_tests::board::{ARM64, ARMHF, Board};
use tidegate_system_tests::load::{Load, Plan};
use tidegate_system_tests::node::{Edge, STREAM, Site};
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::wait::SOON;
use tidegate_system_tests::{kafka, skip};

const KILLS: usize = 3;

/// An emulator does a tenth of what the machine can.
const PLAN: Plan = Plan {
    devices_per_client: 2,
    messages_per_device: 1_000,
    rate: 100.0,
};

#[test]
fn stock_clients_find_an_arm64_edge() {
    stock_clients(&ARM64);
}

#[test]
fn stock_clients_find_an_armhf_edge() {
    stock_clients(&ARMHF);
}

#[test]
fn an_arm64_edge_keeps_what_it_acknowledged_and_sends_it_on() {
    kills_under_load(&ARM64);
}

#[test]
fn an_armhf_edge_keeps_what_it_acknowledged_and_sends_it_on() {
    kills_under_load(&ARMHF);
}

fn stock_clients(board: &Board) {
    let scratch = Scratch::new("arm");
    let program = match board.program("tidegate-edge", &scratch) {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    let mut edge = Edge::alone(scratch.path(), scratch.path());
    edge.program.is_of(program, board);
    edge.start();
    edge.wait_ready();
    // A session that is there while its client is not, and a message that is kept for who comes later.
    let session = ["-q", "2", "-t", "plant/#", "-c", "-i", "reader"];
    client(
        "mosquitto_sub",
        edge.mqtt,
        &[&session[..], &["-E"]].concat(),
    );
    for qos in ["1", "2"] {
        let words = ["-q", qos, "-t", "plant/line1", "-m", qos, "-r"];
        client("mosquitto_pub", edge.mqtt, &words);
    }
    edge.kill();
    edge.start();
    edge.wait_ready();
    let read = [&session[..], &["-C", "2", "-W", "20"]].concat();
    assert_eq!(client("mosquitto_sub", edge.mqtt, &read), "1\n2\n");
    let kept = ["-t", "plant/line1", "-C", "1", "-W", "20"];
    assert_eq!(client("mosquitto_sub", edge.mqtt, &kept), "2\n");
}

fn client(program: &str, broker: SocketAddr, words: &[&str]) -> String {
    let port = broker.port().to_string();
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5"]);
    let output = command.args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn kills_under_load(board: &Board) {
    let scratch = Scratch::new("arm");
    let program = match board.program("tidegate-edge", &scratch) {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    let mut random = Random::from_environment();
    let moments = random.moments(KILLS, PLAN.duration().mul_f64(0.9));
    println!("killed at {moments:?}");
    let mut site = Site::new(scratch.path(), scratch.path());
    site.edge.program.is_of(program, board);
    site.start();
    let mut load = Load::start(site.edge.mqtt, PLAN, scratch.path());
    let messages = PLAN.messages(load.clients());
    let start = Instant::now();
    for moment in moments {
        // The moment of the kill, not a wait.
        std::thread::sleep((start + moment).saturating_duration_since(Instant::now()));
        assert!(load.is_running(), "the load ended before the kill");
        site.edge.kill();
        site.edge.start();
    }
    let sent = load.finish(Duration::from_secs(100));
    assert_eq!(sent.acknowledgements() as u64, messages);
    site.edge.process().wait_for_log("the edge is ready", SOON);
    let landed = site.edge.wait_landed(messages);
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(site.cloud.kafka, STREAM, &out);
    let read: Vec<Read> = records.iter().map(kafka::Record::message).collect();
    let faults = account::faults(&sent, &read, landed);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    println!(
        "{}: {messages} messages, {} transmissions, {} records",
        board.architecture,
        sent.transmissions(),
        read.len()
    );
}
