//! Kafka producers that nobody here wrote: all that was acknowledged is consumed once, in order and as it was sent, beside
//! what an edge lands; and an idempotent one while the cloud is killed again and again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_system_tests::cli::tidegate;
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{Cloud, STREAM, Site};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, skip, wait, workspace};

/// What each client sends in each of its ways; see `kafka_produce.py`.
const COUNT: usize = 300;
const CLIENTS: [(&str, usize); 3] = [("confluent", 7), ("kafka-python", 6), ("aiokafka", 6)];

const LANDED: usize = 500;

const KILLS: usize = 8;

/// Where none of those met a batch that was taken and not yet answered, it goes on up to so many.
const KILLS_MAX: usize = 40;
const PARTITIONS: u64 = 3;
const PER_SECOND: &str = "2000";

/// So much is acknowledged before each kill: the producer is under way again.
const REPORTS_BETWEEN_KILLS: usize = 1_000;

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let parsed = text.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().unwrap()
}

/// All of a topic, as a real client gives it.
fn consume(cloud: &Cloud, topic: &str, scratch: &Scratch) -> Vec<Value> {
    let out = scratch.path().join("consumed.jsonl");
    kafka::read_all(cloud.kafka, topic, &out);
    json_lines(&out)
}

fn place(record: &Value) -> (i64, i64) {
    let number = |name: &str| record[name].as_i64().unwrap();
    (number("partition"), number("offset"))
}

/// A client's name and way, and the record's number among those.
fn identity(record: &Value) -> Option<(String, u64)> {
    let headers = record["headers"].as_array()?;
    let of_ours = headers.iter().find(|header| header[0] == "n")?;
    let (name, number) = of_ours[1].as_str()?.split_once(':')?;
    Some((name.to_owned(), number.parse().ok()?))
}

/// Every record that was sent is among the consumed once, as it was sent, where the client was told it is; and those of
/// each key are in their order.
fn check(sent: &[Value], consumed: &[Value]) {
    let mut by_identity: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    let mut numbers_of_keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in consumed {
        let Some((name, number)) = identity(record) else {
            continue;
        };
        by_identity.entry((name, number)).or_default().push(record);
        let numbers = numbers_of_keys.entry(record["key"].to_string());
        numbers.or_default().push((place(record), number));
    }
    assert_eq!(by_identity.len(), sent.len(), "no record of a client more");
    for record in sent {
        let found = &by_identity[&identity(record).unwrap()];
        assert_eq!(found.len(), 1, "{record} is there as {found:?}");
        for name in ["key", "value", "headers", "timestamp", "partition"] {
            assert_eq!(found[0][name], record[name], "{name} of {record}");
        }
        if record["offset"] != -1 {
            assert_eq!(place(found[0]), place(record));
        }
    }
    for (key, mut numbers) in numbers_of_keys {
        numbers.sort_unstable();
        let partitions: BTreeSet<_> = numbers
            .iter()
            .map(|((partition, _), _)| partition)
            .collect();
        assert_eq!(partitions.len(), 1, "{key} is in {partitions:?}");
        let in_order = numbers.windows(2).all(|pair| pair[0].1 < pair[1].1);
        assert!(in_order, "{key}: {numbers:?}");
    }
}

#[test]
fn what_clients_produce_is_consumed_once_as_it_was_sent_beside_what_lands() {
    let scratch = Scratch::new("produce");
    let mut site = Site::new(scratch.path(), scratch.path());
    // All is packed again and again meanwhile.
    site.cloud.configure("pack: {max_age: 0}\n");
    site.start();
    let mut producers = Vec::new();
    for (client, _) in CLIENTS {
        let mut command = workspace::python("kafka_produce.py");
        let out = scratch.path().join(format!("{client}.jsonl"));
        let kafka = site.cloud.kafka.to_string();
        command.args([client, &kafka, STREAM]).arg(&out);
        let log = scratch.path().join(format!("{client}.log"));
        producers.push((Process::start(client, command, &log), out));
    }
    let messages = payloads("edge-1", 0, LANDED);
    publish(Publisher::Paho, site.edge.mqtt, "plant/line", &messages);
    let mut sent = Vec::new();
    for ((mut process, out), (client, ways)) in producers.into_iter().zip(CLIENTS) {
        let status = process.wait(wait::SOON * 4);
        assert!(status.success(), "{client}: {}", process.log());
        let of_client = json_lines(&out);
        assert_eq!(of_client.len(), ways * COUNT, "{client}");
        sent.extend(of_client);
    }
    site.edge.wait_landed(LANDED as u64);
    // With acks=0 a client does not wait for its last.
    let consumed = wait::until("all is there", wait::SOON, || {
        let consumed = consume(&site.cloud, STREAM, &scratch);
        (consumed.len() >= sent.len() + LANDED).then_some(consumed)
    });
    check(&sent, &consumed);
    let landed = consumed.iter().filter(|record| identity(record).is_none());
    let landed: Vec<_> = landed
        .map(|record| record["value"].as_str().unwrap())
        .collect();
    assert_eq!(landed, messages, "what the edge has landed");
    // Of each record it is told whose it is.
    for record in [&sent[0], &sent[sent.len() - 1]] {
        let [partition, offset] = ["partition", "offset"].map(|name| record[name].to_string());
        let asked = ["offsets", "lookup", STREAM, &partition, &offset];
        let told = tidegate(site.cloud.http, &asked).fails(1);
        assert_eq!(told.out, "from a Kafka client: no edge has sent it");
    }
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
    println!("{} produced, {} landed", sent.len(), landed.len());
}

/// Into a topic that nobody has made.
#[test]
fn kcat_produces_into_a_topic_that_is_made_for_it() {
    if !workspace::has_tool("kcat") {
        skip!("kcat is missing (apt-get install kcat)");
    }
    let scratch = Scratch::new("produce-kcat");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.start();
    cloud.wait_ready();
    let mut expected = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let lines: Vec<String> = (0..200)
            .map(|number| format!("{codec}-{}:{codec} {number}", number % 5))
            .collect();
        kcat(cloud.kafka, "orders", codec, &lines);
        expected.extend(lines);
    }
    let consumed = consume(&cloud, "orders", &scratch);
    let line_of = |record: &Value| {
        assert_eq!(record["headers"], serde_json::json!([["from", "kcat"]]));
        let text = |name: &str| record[name].as_str().unwrap().to_owned();
        format!("{}:{}", text("key"), text("value"))
    };
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut in_order: Vec<_> = consumed.iter().collect();
    in_order.sort_by_key(|record| place(record));
    for record in in_order {
        let key = record["key"].to_string();
        by_key.entry(key).or_default().push(line_of(record));
    }
    let mut expected_by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in expected {
        let key = format!("{:?}", line.split_once(':').unwrap().0);
        expected_by_key.entry(key).or_default().push(line);
    }
    assert_eq!(by_key, expected_by_key);
    let described = tidegate(cloud.http, &["topic", "describe", "orders"]).ok();
    assert!(described.out.contains("12"), "{}", described.out);
}

/// Each line is a key and a value.
fn kcat(kafka: SocketAddr, topic: &str, codec: &str, lines: &[String]) {
    let mut command = Command::new("kcat");
    let bootstrap = kafka.to_string();
    command.args(["-P", "-b", &bootstrap, "-t", topic, "-K:", "-z", codec]);
    command.args(["-H", "from=kcat", "-X", "enable.idempotence=true"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all((lines.join("\n") + "\n").as_bytes())
        .unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat -z {codec}: {said}");
}

/// What the producer was told.
#[derive(Debug, Default)]
struct Reports {
    /// Partition and offset of each number that was delivered.
    delivered: BTreeMap<u64, (i64, i64)>,
    failed: Vec<Value>,
}

impl Reports {
    fn read(path: &Path) -> Self {
        let mut reports = Self::default();
        for report in json_lines(path) {
            let number = report["value"].as_str().unwrap().parse().unwrap();
            match report["error"].is_null() {
                true => {
                    let before = reports.delivered.insert(number, place(&report));
                    assert_eq!(before, None, "{report} is a second report");
                }
                false => reports.failed.push(report),
            }
        }
        reports
    }
}

#[test]
fn an_idempotent_producers_records_are_there_once_and_in_order_while_the_cloud_is_killed() {
    let scratch = Scratch::new("produce-killed");
    let mut cloud = Cloud::new(scratch.path(), scratch.path());
    cloud.configure(&format!(
        "topics: [{{name: load, partitions: {PARTITIONS}}}]\npack: {{max_age: 1s}}\n"
    ));
    cloud.start();
    cloud.wait_ready();
    let out = scratch.path().join("reports.jsonl");
    let mut command = workspace::python("kafka_produce_load.py");
    command.args([&cloud.kafka.to_string(), "load", &PARTITIONS.to_string()]);
    command.arg(PER_SECOND).arg(&out);
    let mut load = Process::start("load", command, &scratch.path().join("load.log"));
    let mut random = Random::from_environment();
    let reports = || fs::read_to_string(&out).map_or(0, |text| text.lines().count());
    let (mut kills, mut duplicates) = (0, 0.0);
    while kills < KILLS || duplicates == 0.0 && kills < KILLS_MAX {
        let goal = reports() + REPORTS_BETWEEN_KILLS + random.below(400) as usize;
        wait::until("what is produced is acknowledged", wait::SOON * 2, || {
            assert!(
                load.exited().is_none(),
                "after {kills} kills: {}",
                load.log()
            );
            (reports() >= goal).then_some(())
        });
        duplicates += http::metric(cloud.http, "tidegate_duplicate_batches_total").unwrap();
        cloud.kill();
        cloud.start();
        cloud.wait_ready();
        kills += 1;
    }
    load.signal("TERM");
    let status = load.wait(wait::SOON * 4);
    assert!(status.success(), "{}", load.log());
    duplicates += http::metric(cloud.http, "tidegate_duplicate_batches_total").unwrap();

    let reports = Reports::read(&out);
    assert_eq!(reports.failed, [] as [Value; 0]);
    let consumed = consume(&cloud, "load", &scratch);
    check_load(&reports, &consumed);
    assert!(duplicates > 0.0, "nothing came again in {kills} kills");
    println!(
        "{} records, {kills} kills, {duplicates} batches came again",
        consumed.len()
    );
}

/// Each number is there once and where its report said, no offset is missing, and each partition is in the producer's
/// order.
fn check_load(reports: &Reports, consumed: &[Value]) {
    let mut there = BTreeMap::new();
    let mut by_partition: BTreeMap<i64, Vec<(i64, u64)>> = BTreeMap::new();
    for record in consumed {
        let number: u64 = record["value"].as_str().unwrap().parse().unwrap();
        let at = place(record);
        let before = there.insert(number, at);
        assert_eq!(before, None, "{number} is there twice, also at {at:?}");
        by_partition.entry(at.0).or_default().push((at.1, number));
    }
    assert_eq!(there, reports.delivered);
    assert_eq!(by_partition.len() as u64, PARTITIONS);
    for (partition, mut records) in by_partition {
        records.sort_unstable();
        for (at, (offset, number)) in records.iter().enumerate() {
            let expected = at as u64 * PARTITIONS + partition as u64;
            assert_eq!((*offset, *number), (at as i64, expected), "{partition}");
        }
    }
}
