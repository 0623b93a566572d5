//! A full disk, on a small file system of its own, with real clients: who says `reject` refuses those
//! that can be told and slows those that can't; who says `drop_oldest` takes everything and counts what
//! it lost. Both go on when there is space again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_system_tests::image::Image;
use tidegate_system_tests::kafka;
use tidegate_system_tests::mqtt::{self, Client};
use tidegate_system_tests::node::{STREAM, Site};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::scratch::Scratch;
use tidegate_system_tests::{http, skip, wait, workspace};

/// Log files of 8 MiB: with the index and the spares, there is room for a handful.
const DISK: &str = "72M";
const PAYLOAD_BYTES: usize = 8 << 10;
/// Of each of the four publishers: together they fill the disk, and more.
const MESSAGES: usize = 3_000;
const DEADLINE: Duration = Duration::from_secs(170);

/// How long the disk is seen to be full, from when each client stands still: longer than a keep-alive of 15 s
/// allows silence, which is half as long again.
const FULL: Duration = Duration::from_secs(24);

/// Nothing is taken for so long: every client has tried again by then.
const SETTLED: Duration = Duration::from_secs(2);

/// Of the client that goes on publishing: more than are held for one.
const FLOOD: u16 = 200;
/// The first of them, whose refusal the others come after.
const FLOOD_FIRST: u16 = 10;
/// More than is left in a log file that is too full for the others.
const MOSQUITTO_BYTES: usize = 512 << 10;
/// Two windows of 20, and at least one of the third: a PUBCOMP that is behind a withheld PUBREC is not
/// counted.
const WITHHELD_MIN: u64 = 2 * 20 + 1;
/// What is held for one client, and a message that was read before the bound was seen.
const HELD_BYTES_MAX: u64 = (256 << 10) + 2 * PAYLOAD_BYTES as u64;
const FLOOD_KEEP_ALIVE_S: u8 = 15;

fn publishers(site: &Site, folder: &Path, messages: usize) -> (Process, PathBuf) {
    let report = folder.join("report.json");
    let mut command = workspace::python("full_publish.py");
    command
        .args(["--port", &site.edge.mqtt.port().to_string()])
        .args(["--messages", &messages.to_string()])
        .args(["--bytes", &PAYLOAD_BYTES.to_string()])
        .args(["--deadline", &DEADLINE.as_secs().to_string()])
        .arg("--report")
        .arg(&report);
    let log = folder.join("publishers.log");
    (
        Process::start("full-publish", command, &log),
        folder.join("report.json"),
    )
}

/// What each publisher saw so far, by name.
fn seen(report: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    rows.into_iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row))
        .collect()
}

fn count(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap()
}

/// `None`: it is to be skipped, and the reason is printed.
fn site_on_a_small_disk(scratch: &Scratch, overflow: &str) -> Result<(Image, Site), String> {
    let image = Image::of_size(scratch, DISK)?;
    let site = Site::apart(scratch.path(), &image.mount);
    site.edge.configure(&format!(
        "journal:\n  free_disk_min: 0\nstreams:\n  {STREAM}:\n    overflow: {overflow}\n"
    ));
    Ok((image, site))
}

/// Each message's numbers by publisher, in the order of the topic.
fn numbers(records: &[kafka::Record]) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in records {
        let mut parts = record.value.split(':');
        let (name, number) = (parts.next().unwrap(), parts.next());
        let number = number.and_then(|number| number.parse().ok());
        numbers
            .entry(name.to_owned())
            .or_default()
            .push(number.unwrap_or_default());
    }
    numbers
}

fn read_all(site: &Site, scratch: &Scratch) -> Vec<kafka::Record> {
    let out = scratch.path().join("records.jsonl");
    kafka::read_all(site.cloud.kafka, STREAM, &out)
}

#[test]
fn a_full_disk_refuses_who_can_be_told_and_slows_who_cannot() {
    let scratch = Scratch::new("disk-full");
    let (_image, mut site) = match site_on_a_small_disk(&scratch, "reject") {
        Ok(made) => made,
        Err(reason) => skip!("{reason}"),
    };
    site.edge.start();
    site.edge.wait_ready();
    let (mut publishing, report) = publishers(&site, scratch.path(), MESSAGES);
    wait_full(&site, &report);
    let refused = refused_by_name(&site);
    let flood = flood(&site);
    let silent_since = Instant::now();
    bystanders_are_served(&site);
    // A span of time that is looked at, not a wait.
    std::thread::sleep(FULL.saturating_sub(silent_since.elapsed()));
    let (before, bytes) = held(&site);
    println!("full for {FULL:?}: {before} publishes are withheld, {bytes} bytes");
    assert!(
        before >= WITHHELD_MIN + u64::from(FLOOD_FIRST / 2),
        "{before}"
    );
    assert!(
        bytes < 3 * 20 * (PAYLOAD_BYTES as u64 + 512) + HELD_BYTES_MAX + 2 * MOSQUITTO_BYTES as u64,
        "of who goes on publishing, no more than the bound"
    );
    let still = seen(&report);
    assert!(
        still.values().all(|row| count(row, "disconnects") == 0),
        "{still:?}"
    );
    assert_eq!(
        http::metric_sum(site.edge.http, "tidegate_mqtt_closed_total"),
        Some(0.0)
    );

    site.cloud.start();
    site.cloud.wait_ready();
    assert!(publishing.wait(DEADLINE).success(), "{}", publishing.log());
    flood_is_acknowledged(flood);
    if let Some(mut waiting) = refused {
        assert!(waiting.wait(wait::SOON * 2).success(), "{}", waiting.log());
    }
    let seen = seen(&report);
    for row in seen.values() {
        println!("{row}");
        assert_eq!(row["acknowledged"], row["messages"], "{row}");
        assert_eq!(
            (count(row, "disconnects"), count(row, "out_of_order")),
            (0, 0),
            "{row}"
        );
    }
    assert_eq!(seen["v5-qos1"]["codes"], serde_json::json!([0x97]));
    let all_landed = seen.values().map(|row| count(row, "messages")).sum::<u64>();
    site.edge.wait_landed(all_landed);
    let (withheld, bytes) = held(&site);
    assert_eq!((withheld, bytes), (0, 0), "nothing waits any more");
    let numbers = numbers(&read_all(&site, &scratch));
    for row in seen.values().filter(|row| row["name"] != "v5-qos1") {
        let expected: Vec<u64> = (0..count(row, "messages")).collect();
        let name = row["name"].as_str().unwrap();
        assert!(numbers[name] == expected, "{name}: each once, in order");
    }
    let v5: BTreeSet<u64> = numbers["v5-qos1"].iter().copied().collect();
    assert_eq!(v5.len() as u64, count(&seen["v5-qos1"], "messages"));
    assert_eq!(
        v5.len(),
        numbers["v5-qos1"].len(),
        "what was refused is not there"
    );
    let flooded: Vec<u64> = (1..=u64::from(FLOOD)).collect();
    assert_eq!(numbers["flood"], flooded);
}

/// Waits until the disk is full: somebody is refused, the windows of the others are withheld, and for a
/// while nothing has fitted in any more.
fn wait_full(site: &Site, report: &Path) {
    let mut last = (0, Instant::now());
    wait::until("the disk is full", DEADLINE, || {
        let rows = seen(report);
        let refused = rows.get("v5-qos1").map(|row| count(row, "refused"));
        let taken: u64 = rows.values().map(|row| count(row, "acknowledged")).sum();
        if taken != last.0 {
            last = (taken, Instant::now());
        }
        let is_settled = last.1.elapsed() > SETTLED;
        (is_settled && held(site).0 >= WITHHELD_MIN && refused > Some(0)).then_some(())
    })
}

/// Publishes that wait for space, and their bytes.
fn held(site: &Site) -> (u64, u64) {
    let metric = |name| site.edge.metric(name).unwrap_or_default() as u64;
    (
        metric("tidegate_mqtt_publishes_withheld"),
        metric("tidegate_mqtt_withheld_bytes"),
    )
}

/// A client that sends on and on, and no ping: what is held for it is bounded, and its silence is not
/// held against it while it is not read from.
fn flood(site: &Site) -> (Client, JoinHandle<()>) {
    let connect = mqtt::connect_alive("flood", FLOOD_KEEP_ALIVE_S);
    let client = Client::connect_with(site.edge.mqtt, &connect).unwrap();
    let mut stream = client.stream.try_clone().unwrap();
    let before = held(site).0;
    let mut publish = move |id: u16| {
        let payload = [
            format!("flood:{id}:").into_bytes(),
            noise(id.into(), PAYLOAD_BYTES),
        ]
        .concat();
        let packet = mqtt::publish(id, "full/flood", &payload);
        stream.write_all(&packet).unwrap();
    };
    (1..=FLOOD_FIRST).for_each(&mut publish);
    wait::until("they are withheld", wait::SOON, || {
        (held(site).0 >= before + u64::from(FLOOD_FIRST / 2)).then_some(())
    });
    // It stands still while the edge does not read.
    let rest = std::thread::spawn(move || (FLOOD_FIRST + 1..=FLOOD).for_each(publish));
    (client, rest)
}

/// All, in order.
fn flood_is_acknowledged((mut client, rest): (Client, JoinHandle<()>)) {
    for id in 1..=FLOOD {
        assert_eq!(client.read_puback().unwrap(), id);
    }
    rest.join().unwrap();
}

/// What does not compress, and is text.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = Random::seeded(seed);
    let letter = |_| b'0' + random.below(64) as u8;
    (0..bytes).map(letter).collect()
}

/// `mosquitto_pub`, where it is installed: MQTT 5 is refused by name; 3.1.1 waits, and is given back.
fn refused_by_name(site: &Site) -> Option<Process> {
    if !workspace::has_tool("mosquitto_pub") {
        return None;
    }
    let file = site.edge.data.parent().unwrap().with_extension("message");
    let message = [b"mosquitto:0:".to_vec(), noise(0, MOSQUITTO_BYTES)].concat();
    std::fs::write(&file, message).unwrap();
    let command = |version: &str, topic: &str| {
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", "127.0.0.1", "-p", &site.edge.mqtt.port().to_string()])
            .args(["-V", version, "-q", "1", "-t", topic, "-f"])
            .arg(&file);
        command
    };
    let output = command("mqttv5", "full/m5").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("Quota exceeded"),
        "mosquitto_pub says {said:?}"
    );
    let log = site
        .edge
        .data
        .parent()
        .unwrap()
        .with_extension("mosquitto.log");
    let before = held(site).0;
    let mut waiting = Process::start("mosquitto_pub", command("mqttv311", "full/m3"), &log);
    wait::until("one more publish is withheld", wait::SOON, || {
        (held(site).0 > before).then_some(())
    });
    assert!(waiting.exited().is_none());
    Some(waiting)
}

/// Whoever does not publish to a stream is served as ever, while the others wait.
fn bystanders_are_served(site: &Site) {
    let mut client = Client::connect(site.edge.mqtt, "bystander").unwrap();
    client.stream.write_all(&[0xc0, 0]).unwrap();
    assert_eq!(client.read_packet().unwrap(), (0xd0, Vec::new()));
    let (withheld, _) = held(site);
    assert!(withheld >= WITHHELD_MIN, "the disk is full: {withheld}");
}

#[test]
fn a_full_disk_drops_its_oldest_and_counts_it() {
    let scratch = Scratch::new("disk-drops");
    let (_image, mut site) = match site_on_a_small_disk(&scratch, "drop_oldest") {
        Ok(made) => made,
        Err(reason) => skip!("{reason}"),
    };
    site.edge.start();
    site.edge.wait_ready();
    let (mut publishing, report) = publishers(&site, scratch.path(), MESSAGES);
    assert!(publishing.wait(DEADLINE).success(), "{}", publishing.log());
    let seen = seen(&report);
    let mut published = 0;
    for row in seen.values() {
        println!("{row}");
        assert_eq!(row["acknowledged"], row["messages"], "{row}");
        assert_eq!(
            (count(row, "refused"), count(row, "disconnects")),
            (0, 0),
            "{row}"
        );
        published += count(row, "messages");
    }
    assert_eq!(
        site.edge.metric("tidegate_journal_refused_total"),
        Some(0.0)
    );
    site.cloud.start();
    site.cloud.wait_ready();
    let journalled = site.edge.wait_landed(published);
    assert_eq!(journalled, published, "nothing was published twice");
    // Figures follow what they count.
    let mut told = (0, 0);
    let gaps = wait::until("edge and cloud count the same", wait::SOON, || {
        let now = gaps(&site);
        if now != std::mem::replace(&mut told, now) {
            println!("{now:?} in gaps");
        }
        (now.0 == now.1).then_some(now)
    });
    let records = read_all(&site, &scratch);
    println!(
        "{journalled} journalled, {} landed, {gaps:?} in gaps; of what was dropped on its way {:?} landed",
        records.len(),
        site.edge
            .metric("tidegate_journal_gap_records_landed_total")
    );
    assert!(
        gaps.0 > 0,
        "the disk was never full: the test proves nothing"
    );
    assert_eq!(records.len() as u64 + gaps.1, journalled);
    for (name, numbers) in numbers(&records) {
        // What is missing is the oldest, without a hole.
        let last = count(&seen[&name], "messages");
        let expected: Vec<u64> = (last - numbers.len() as u64..last).collect();
        assert!(
            numbers == expected,
            "{name}: {:?}…",
            &numbers[..3.min(numbers.len())]
        );
    }
    goes_on(&site, &scratch, records.len(), journalled, gaps.1);
}

/// Records in gaps, as the edge and as the cloud count them.
fn gaps(site: &Site) -> (u64, u64) {
    let metric = |name| site.edge.metric(name).unwrap() as u64;
    let dropped = metric("tidegate_journal_gap_records_total");
    let landed = metric("tidegate_journal_gap_records_landed_total");
    let cloud = http::metric_sum(site.cloud.http, "tidegate_hub_gap_records_total");
    (dropped - landed, cloud.unwrap() as u64)
}

fn goes_on(site: &Site, scratch: &Scratch, landed: usize, journalled: u64, lost: u64) {
    let mut client = Client::connect(site.edge.mqtt, "after").unwrap();
    for id in 1..=100 {
        client.publish(id, "full/after", b"after:0").unwrap();
    }
    site.edge.wait_landed(journalled + 100);
    assert_eq!(gaps(site), (lost, lost), "nothing more is lost");
    assert_eq!(read_all(site, scratch).len(), landed + 100);
}
