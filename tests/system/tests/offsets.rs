//! Offsets in both directions, as an operator asks for them: every answer is held against what was really
//! published and really consumed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use tidegate_system_tests::cli::{json, tidegate};
use tidegate_system_tests::kafka::{self, Record};
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{Cloud, Edge, STREAM};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{wait, workspace};

const MESSAGES: usize = 600;
const SAMPLE: usize = 40;
const EDGES: [(&str, Publisher); 2] = [
    ("edge-1", Publisher::Paho),
    ("edge-2", Publisher::Mosquitto),
];

/// Two edges whose message n of their only publisher is their journal's n-th, all landed.
fn published(scratch: &Scratch, cloud: &mut Cloud) -> Vec<Edge> {
    let edges: Vec<_> = EDGES
        .iter()
        .map(|(name, _)| {
            let folder = scratch.folder(name);
            let certificates = folder.join("certificates");
            cloud.certificate(name, &certificates);
            Edge::new(&folder, &folder, &certificates, cloud.bridge)
        })
        .collect();
    cloud.start();
    cloud.wait_ready();
    let mut started = Vec::new();
    for (mut edge, (name, publisher)) in edges.into_iter().zip(EDGES) {
        edge.configure(&format!(
            "streams:\n  {STREAM}:\n    headers: [edge, stream]\n"
        ));
        edge.start();
        edge.wait_ready();
        let topic = format!("plant/{name}");
        publish(publisher, edge.mqtt, &topic, &payloads(name, 0, MESSAGES));
        assert_eq!(edge.wait_landed(MESSAGES as u64), MESSAGES as u64);
        started.push(edge);
    }
    started
}

fn read_all(cloud: &Cloud, scratch: &Scratch) -> Vec<Record> {
    let out = scratch.path().join("records.jsonl");
    let records = kafka::read_all(cloud.kafka, STREAM, &out);
    assert_eq!(records.len(), MESSAGES * EDGES.len());
    records
}

/// Edge and edge offset, as the payload says them.
fn truth(record: &Record) -> (&str, u64) {
    let (edge, number) = record.value.split_once(':').unwrap();
    (edge, number.parse().unwrap())
}

#[test]
fn a_consumed_record_leads_to_its_message_and_back() {
    let scratch = Scratch::new("offsets");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    let _edges = published(&scratch, &mut cloud);
    let records = read_all(&cloud, &scratch);
    let mut random = Random::from_environment();
    for _ in 0..SAMPLE {
        let record = &records[random.below(records.len() as u64) as usize];
        there_and_back(&cloud, record);
    }
    let beyond = tidegate(
        cloud.http,
        &["offsets", "translate", "edge-1", STREAM, "600"],
    );
    assert_eq!(beyond.fails(1).out, "not yet: known up to 600");
    let unknown = tidegate(cloud.http, &["offsets", "lookup", "nowhere", "0", "0"]);
    assert_eq!(
        unknown.fails(1).error,
        "tidegate: there is no topic nowhere"
    );
    tidegate(cloud.http, &["offsets", "lookup", STREAM]).fails(2);
    told_where(&cloud, &records);
    exported_and_imported(&cloud, &scratch, &records);
    group_in_terms_of_edges(&cloud, &scratch, &records);
}

fn there_and_back(cloud: &Cloud, record: &Record) {
    let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
    let (edge, edge_offset) = truth(record);
    let from = ["offsets", "lookup", STREAM, &partition, &offset];
    let from = json(cloud.http, &from).ok().json();
    assert_eq!(from["edge"], edge, "{from}");
    assert_eq!(from["stream"], STREAM);
    assert_eq!(from["edge_offset"], edge_offset, "{from}");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert!(record.headers.contains(&header("tidegate.edge", edge)));
    assert!(record.headers.contains(&header("tidegate.stream", STREAM)));
    let number = edge_offset.to_string();
    let back = ["offsets", "translate", edge, STREAM, &number];
    let back = json(cloud.http, &back).ok().json();
    assert_eq!(back["topic"], STREAM);
    assert_eq!(back["partition"], record.partition);
    assert_eq!(back["kafka_offset"], record.offset, "{back}");
}

/// The newest of a topic, and the newest at a time of the past, whose edge was not asked.
fn told_where(cloud: &Cloud, records: &[Record]) {
    let of_edge = |record: &&Record| truth(record).0 == "edge-2";
    let own: Vec<_> = records.iter().filter(of_edge).collect();
    let newest = own.iter().max_by_key(|record| truth(record).1).unwrap();
    let found = json(cloud.http, &["where", "edge-2", "--topic", "plant/+"]).ok();
    let found = found.json()["cloud"]["found"].clone();
    assert_eq!(found["kafka_offset"], newest.offset, "{found}");
    assert_eq!(found["mqtt_topic"], "plant/edge-2");
    let middle = own[own.len() / 2].timestamp_ms;
    let last = own.iter().filter(|record| record.timestamp_ms <= middle);
    let last = last.max_by_key(|record| truth(record).1).unwrap();
    let http = format!("/api/v1/where?edge=edge-2&at_ms={middle}");
    let (status, body) = tidegate_system_tests::http::get(cloud.http, &http).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &answer["found"]["edge_offset"]),
        (200, &truth(last).1.into())
    );
    let nothing = tidegate(cloud.http, &["where", "edge-2", "--topic", "no/such"]).fails(1);
    assert!(
        nothing.out.starts_with("no such message of edge edge-2"),
        "{nothing:?}"
    );
}

/// Elsewhere the facts are true, too; what contradicts them is refused, and changes nothing.
fn exported_and_imported(cloud: &Cloud, scratch: &Scratch, records: &[Record]) {
    let file = scratch.path().join("facts.jsonl");
    let path = file.to_str().unwrap();
    tidegate(cloud.http, &["offsets", "export", "--file", path]).ok();
    let verified = tidegate(cloud.http, &["offsets", "verify", path]).ok();
    assert!(verified.out.ends_with("all true both ways"), "{verified:?}");
    let other = scratch.folder("elsewhere");
    let mut elsewhere = Cloud::new(&other, &other);
    elsewhere.start();
    elsewhere.wait_ready();
    let missing = tidegate(elsewhere.http, &["offsets", "verify", path]).fails(1);
    assert!(missing.out.contains("are not known to lie"), "{missing:?}");
    let facts = std::fs::read_to_string(&file).unwrap().lines().count();
    let first = json(elsewhere.http, &["offsets", "import", path])
        .ok()
        .json();
    assert_eq!((&first["new"], &first["known"]), (&facts.into(), &0.into()));
    let again = json(elsewhere.http, &["offsets", "import", path])
        .ok()
        .json();
    assert_eq!((&again["new"], &again["known"]), (&0.into(), &facts.into()));
    // As it was taken up, so it is after a kill.
    elsewhere.kill();
    elsewhere.start();
    elsewhere.wait_ready();
    tidegate(elsewhere.http, &["offsets", "verify", path]).ok();
    let (edge, offset) = truth(&records[0]);
    let number = offset.to_string();
    let found = ["offsets", "translate", edge, STREAM, &number];
    let found = json(elsewhere.http, &found).ok().json();
    assert_eq!(found["kafka_offset"], records[0].offset);
    contradicted(&elsewhere, scratch, &file);
}

fn contradicted(elsewhere: &Cloud, scratch: &Scratch, file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let mut fact: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    fact["kafka_offset"] = (fact["kafka_offset"].as_i64().unwrap() + 7).into();
    let wrong = scratch.path().join("wrong.jsonl");
    std::fs::write(&wrong, fact.to_string()).unwrap();
    let wrong = wrong.to_str().unwrap();
    let refused = tidegate(elsewhere.http, &["offsets", "import", wrong]).fails(1);
    assert!(refused.error.contains("nothing was taken"), "{refused:?}");
    tidegate(elsewhere.http, &["offsets", "verify", wrong]).fails(1);
    tidegate(elsewhere.http, &["offsets", "verify"]).ok();
}

fn group_in_terms_of_edges(cloud: &Cloud, scratch: &Scratch, records: &[Record]) {
    let all = records.len();
    let mut command = workspace::python("kafka_follow.py");
    let kafka = cloud.kafka.to_string();
    command.args([&kafka, STREAM, "analytics", &all.to_string(), "60"]);
    let mut follow = Process::start("follow", command, &scratch.path().join("follow.log"));
    assert!(follow.wait(wait::SOON * 2).success(), "{}", follow.log());
    let shown = json(
        cloud.http,
        &["offsets", "translate", "--group", "analytics"],
    )
    .ok();
    let rows = shown.json()["offsets"].as_array().unwrap().clone();
    for (edge, _) in EDGES {
        let row = rows.iter().find(|row| row["edge"] == edge).unwrap();
        assert_eq!(row["edge_offset"], MESSAGES, "{row}");
    }
    let set = [
        "offsets",
        "translate",
        "--group",
        "analytics",
        "--set",
        "edge-1",
        STREAM,
        "123",
    ];
    let set = json(cloud.http, &set).ok().json();
    let mut next = workspace::python("kafka_next.py");
    let partition = set["partition"].to_string();
    let next = next
        .args([&kafka, STREAM, "analytics", &partition])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&next.stdout);
    let told: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["value"], "edge-1:123", "{said}");
}
