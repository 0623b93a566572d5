//! Backups of a cloud, with whole processes: made while messages land, put back elsewhere, and then met by an edge
//! that has seen more; killed in the middle; damaged; and with segments in S3.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use tidegate_system_tests::cli::{self, Said, json, tidegate};
use tidegate_system_tests::kafka;
use tidegate_system_tests::lines::{Publisher, payloads, publish};
use tidegate_system_tests::node::{Cloud, EDGE_ID, STREAM, Site};
use tidegate_system_tests::process::Process;
use tidegate_system_tests::random::Random;
use tidegate_system_tests::s3::S3;
use tidegate_system_tests::scratch::{Scratch, files, objects};
use tidegate_system_tests::wait;

/// What lands is packed in the next second, into small segments; what is replaced goes after a second.
const HASTY: &str = "pack: {max_age: 0, segment_size: 64KiB}\nrestore_window: 1s\n";

/// The edge keeps what has landed: it can send again what a restored cloud does not have.
const KEEPS: &str = "streams:\n  telemetry:\n    retention: {keep_after_landed: 1h}\n";

fn site(scratch: &Scratch, cloud: &str) -> Site {
    let site = Site::new(scratch.path(), scratch.path());
    site.edge.reconnect_soon();
    site.edge.configure(KEEPS);
    site.cloud.configure(cloud);
    site
}

fn send(site: &Site, from: usize, to: usize) {
    let batch = payloads("kept", from, to);
    publish(Publisher::Paho, site.edge.mqtt, "kept/a", &batch);
}

fn told(said: &Said) -> Value {
    said.clone().ok().json()
}

/// Kept where the test can look.
fn place(scratch: &Scratch) -> PathBuf {
    scratch.path().join("kept")
}

fn words<'a>(verb: &'a str, flag: &'a str, place: &'a Path) -> Vec<&'a str> {
    vec!["cloud", verb, flag, place.to_str().unwrap()]
}

fn back_up(cloud: &Cloud, place: &Path) -> Value {
    told(&json(cloud.http, &words("backup", "--to", place)))
}

fn restore(cloud: &Cloud, place: &Path, data: &Path) -> Said {
    let mut words = words("restore", "--from", place);
    words.extend(["--data", data.to_str().unwrap()]);
    json(cloud.http, &words)
}

fn backups(cloud: &Cloud, place: &Path) -> Vec<Value> {
    let listed = told(&json(cloud.http, &words("backups", "--from", place)));
    listed["backups"].as_array().unwrap().clone()
}

/// The topic's partition that has the edge's stream, and where it ends in the backup.
fn landed_in(backup: &Value) -> (i32, i64) {
    let topics = backup["topics"].as_array().unwrap();
    let topic = topics.iter().find(|one| one["topic"] == STREAM).unwrap();
    let ends = topic["end"].as_array().unwrap().iter();
    let mut ends = ends.map(|end| end.as_i64().unwrap()).enumerate();
    let (partition, end) = ends.find(|(_, end)| *end > 0).unwrap();
    (partition as i32, end)
}

fn consumed(cloud: &Cloud, scratch: &Scratch) -> Vec<String> {
    let out = scratch.path().join("consumed.jsonl");
    let records = kafka::read_all(cloud.kafka, STREAM, &out);
    records.into_iter().map(|record| record.value).collect()
}

/// A consumer group reads on from a message.
fn commit(cloud: &Cloud, at: &str) {
    let group = ["offsets", "translate", "--group", "analytics"];
    let set = ["--set", EDGE_ID, STREAM, at];
    tidegate(cloud.http, &[&group[..], &set[..]].concat()).ok();
}

fn committed(cloud: &Cloud) -> Value {
    let group = ["offsets", "translate", "--group", "analytics"];
    told(&json(cloud.http, &group))["offsets"].clone()
}

#[test]
fn made_under_load_and_restored_it_has_all_up_to_its_position_and_edges_know_the_rest() {
    let scratch = Scratch::new("backup");
    let mut site = site(&scratch, HASTY);
    site.start();
    send(&site, 0, 300);
    site.edge.wait_landed(300);
    commit(&site.cloud, "123");
    let group = committed(&site.cloud);

    let place = place(&scratch);
    let (backup, sent) = under_load(&site, 300, || back_up(&site.cloud, &place));
    let (partition, end) = landed_in(&backup);
    println!("{end} of {sent} messages had landed when the backup was made");
    assert!(end >= 300, "what had landed before is in it: {backup}");
    site.edge.wait_landed(sent as u64);
    let whole = kafka::fetch_all(site.cloud.kafka, STREAM, partition);
    assert!(whole.last().unwrap().0 > end, "nothing landed meanwhile");
    let expected: Vec<_> = whole.into_iter().filter(|(to, _)| *to <= end).collect();
    assert_eq!(expected.last().unwrap().0, end);
    site.cloud.kill();

    let data = scratch.path().join("elsewhere");
    let restored = told(&restore(&site.cloud, &place, &data));
    assert_eq!(restored["position"], backup["position"]);
    site.cloud.move_to(data);
    site.cloud.start();
    site.cloud.wait_ready();
    let found = kafka::fetch_all(site.cloud.kafka, STREAM, partition);
    assert!(found == expected, "not the same batches");
    assert_eq!(committed(&site.cloud), group);
    let first = payloads("kept", 0, end as usize);
    assert_eq!(consumed(&site.cloud, &scratch), first);
    edges_know_the_rest(&site, &scratch, sent);
}

/// Messages are published, from a number on, for as long as something is done; how many there are at last.
fn under_load<T>(site: &Site, from: usize, work: impl FnOnce() -> T) -> (T, usize) {
    const AT_ONCE: usize = 50;
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(from));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let from = sent.load(Ordering::Acquire);
                send(site, from, from + AT_ONCE);
                sent.store(from + AT_ONCE, Ordering::Release);
            }
        });
        wait::until("something lands", wait::SOON, || {
            (site.edge.landed_offset()? > from as u64).then_some(())
        });
        let done = work();
        // What was under way then may have landed in time: what is looked for was sent after it.
        let after = (sent.load(Ordering::Acquire) + 2 * AT_ONCE) as u64;
        wait::until("more lands", wait::SOON, || {
            (site.edge.landed_offset()? >= after).then_some(())
        });
        stop.store(true, Ordering::Release);
        done
    });
    (done, sent.into_inner())
}

/// Nothing lands until a new incarnation; then all does.
fn edges_know_the_rest(site: &Site, scratch: &Scratch, sent: usize) {
    wait::until("the cloud knows that it is behind", wait::SOON, || {
        (site.cloud.metric("tidegate_cloud_behind") == Some(1.0)).then_some(())
    });
    wait::until("the edge is told", wait::SOON, || {
        // Which one depends on whether its session or a stream told.
        let raised = ["cloud_behind", "parked"].map(|name| site.edge.alarms(name));
        (raised.iter().sum::<u64>() >= 1).then_some(())
    });
    tidegate(site.cloud.http, &["cloud", "begin-incarnation", "--yes"]).ok();
    send(site, sent, sent + 100);
    site.edge.wait_landed(sent as u64 + 100);
    let all: BTreeSet<String> = consumed(&site.cloud, scratch).into_iter().collect();
    let expected = payloads("kept", 0, sent + 100).into_iter().collect();
    assert!(all == expected, "{} of {}", all.len(), sent + 100);
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    tidegate(site.cloud.http, &["offsets", "verify"]).ok();
}

/// Messages that cannot be compressed, of 16 KiB each: a few of them fill a segment.
fn send_padded(site: &Site, from: usize, to: usize) {
    const PADDING_BYTES: usize = 16 << 10;
    let mut random = Random::seeded(from as u64 + 1);
    let mut letter = || char::from(b'A' + random.below(26) as u8);
    let pad = |payload| {
        let padding: String = (0..PADDING_BYTES).map(|_| letter()).collect();
        format!("{payload}:{padding}")
    };
    let batch: Vec<String> = payloads("kept", from, to).into_iter().map(pad).collect();
    publish(Publisher::Paho, site.edge.mqtt, "kept/a", &batch);
}

#[track_caller]
fn wait_packed(site: &Site) {
    wait::until("all is packed", wait::SOON * 2, || {
        let described = told(&json(site.cloud.http, &["topic", "describe", STREAM]));
        let partitions = described["partitions"].as_array().unwrap().iter();
        let tails = partitions.map(|one| one["tail_batches"].as_u64().unwrap());
        (tails.sum::<u64>() == 0).then_some(())
    });
}

/// A backup can be done before its first copy is seen and the signal comes; then it is tried once more.
const KILLS_MAX: usize = 20;

/// Has a backup killed while it copies segments; how many were copied.
fn kill_in_the_middle(cloud: &Cloud, scratch: &Scratch, data: &Path) -> u64 {
    let place = place(scratch);
    let copies = || objects(&place.join("objects")).len() as u64;
    for _ in 0..KILLS_MAX {
        let command = cli::command(cloud.http, &words("backup", "--to", &place));
        let mut backup = Process::start("backup", command, &scratch.path().join("backup.log"));
        let deadline = Instant::now() + wait::SOON;
        // Without a pause: the whole takes some tens of milliseconds.
        while copies() == 0 {
            assert!(Instant::now() < deadline, "no segment is copied");
        }
        backup.kill();
        let listed = backups(cloud, &place);
        if listed[0]["state"] == "unfinished" {
            let refused = restore(cloud, &place, data).fails(1);
            assert!(refused.error.contains("holds no backup"), "{refused:?}");
            return copies();
        }
        fs::remove_dir_all(&place).unwrap();
    }
    panic!("{KILLS_MAX} backups were all done before they were killed");
}

#[test]
fn killed_in_the_middle_it_is_none_and_the_next_one_copies_only_what_is_missing() {
    let scratch = Scratch::new("backup-killed");
    let mut site = site(&scratch, HASTY);
    site.start();
    send_padded(&site, 0, 400);
    site.edge.wait_landed(400);
    wait_packed(&site);
    let place = place(&scratch);
    let data = scratch.path().join("elsewhere");
    let cut_at = kill_in_the_middle(&site.cloud, &scratch, &data);

    // Its folder is named, and a cloud runs there: it is asked.
    let data_of_cloud = site.cloud.data.display().to_string();
    let mut by_folder = words("backup", "--to", &place);
    by_folder.extend(["--data", &data_of_cloud]);
    let first = told(&json(site.cloud.http, &by_folder));
    let number = |told: &Value, name: &str| told[name].as_u64().unwrap();
    println!(
        "{cut_at} of {} segments were copied before the kill",
        first["segments"]
    );
    assert!(
        number(&first, "copied") > 0,
        "nothing was left to copy: {first}"
    );
    assert_eq!(number(&first, "kept"), cut_at);
    send_padded(&site, 400, 410);
    site.edge.wait_landed(410);
    wait_packed(&site);
    site.cloud.process().signal("TERM");
    assert!(site.cloud.process().wait(wait::SOON).success());
    let second = told(&json(site.cloud.http, &by_folder));
    assert_eq!(number(&second, "kept"), number(&first, "segments"));
    assert!(number(&second, "copied") > 0 && number(&second, "copied") <= 10);
    assert_eq!(second["records"], 410);

    damaged_it_is_refused(&site.cloud, &place, &data);
    let restored = told(&restore(&site.cloud, &place, &data));
    assert_eq!(restored["name"], second["name"]);
    site.cloud.move_to(data.clone());
    site.cloud.start();
    site.cloud.wait_ready();
    assert_eq!(consumed(&site.cloud, &scratch).len(), 410);
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
    let again = restore(&site.cloud, &place, &data).fails(1);
    assert!(again.error.contains("is not empty"), "{again:?}");
}

fn damaged_it_is_refused(cloud: &Cloud, place: &Path, data: &Path) {
    let segment = objects(&place.join("objects")).pop_first().unwrap();
    let whole = fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&segment, flipped).unwrap();
    let refused = restore(cloud, place, data).fails(1);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(refused.error.contains(name), "{refused:?}");
    assert_eq!(files(data), BTreeSet::new());
    let mut verify = words("backups", "--from", place);
    verify.push("--verify");
    let verified = tidegate(cloud.http, &verify).fails(1);
    assert!(verified.out.contains(name), "{verified:?}");
    fs::write(&segment, whole).unwrap();
    tidegate(cloud.http, &verify).ok();
}

#[test]
fn nobody_to_ask_and_nowhere_to_look_says_what_to_do() {
    let scratch = Scratch::new("backup-nobody");
    let site = Site::new(scratch.path(), scratch.path());
    let place = place(&scratch);
    let refused = tidegate(site.cloud.http, &words("backup", "--to", &place)).fails(1);
    assert!(refused.error.contains("--data DIR"), "{refused:?}");
    let mut nothing = words("backup", "--to", &place);
    nothing.extend(["--data", "/nowhere"]);
    let refused = tidegate(site.cloud.http, &nothing).fails(1);
    assert!(refused.error.contains("no cloud's data"), "{refused:?}");
    tidegate(site.cloud.http, &["cloud", "backup"]).fails(2);
    let missing = tidegate(
        site.cloud.http,
        &words("backups", "--from", Path::new("/nowhere")),
    );
    assert!(missing.fails(1).error.contains("no folder /nowhere"));
    let memory = ["cloud", "backup", "--to", "memory://"];
    tidegate(site.cloud.http, &memory).fails(1);
}

#[test]
fn with_segments_in_s3_they_stay_there_or_are_copied_where_that_is_asked_for() {
    let scratch = Scratch::new("backup-s3");
    let mut site = site(&scratch, "pack: {max_age: 0}\n");
    let server = S3::start(&scratch);
    server.serve(&mut site.cloud, "plant");
    site.start();
    send(&site, 0, 200);
    site.edge.wait_landed(200);
    wait_packed(&site);
    let http = site.cloud.http;
    let run = |words: &[&str]| {
        let mut all = words.to_vec();
        all.extend(["--output", "json"]);
        cli::run(server.known_to(cli::command(http, &all)))
    };
    let here = place(&scratch);
    let named = told(&run(&words("backup", "--to", &here)));
    assert_eq!(named["has_copies"], false, "{named}");
    assert_eq!(named["object_store"], server.url("plant"));
    assert!(named["good_until_ms"].as_i64() > named["made_ms"].as_i64());
    assert_eq!(files(&here.join("objects")), BTreeSet::new());
    let there = server.url("backups");
    let copied = told(&run(&["cloud", "backup", "--with-objects", "--to", &there]));
    assert_eq!(copied["has_copies"], true, "{copied}");
    assert_eq!(copied["copied"], named["segments"]);
    site.cloud.kill();

    from_here_while_they_are_there(&server, &scratch, &run, &named);
    let three = scratch.path().join("three").display().to_string();
    let other = server.url("other");
    let from_there = ["cloud", "restore", "--from", &there, "--data", &three];
    let elsewhere = [&from_there[..], &["--object-store", &other]].concat();
    let restored = told(&run(&elsewhere));
    assert_eq!(restored["copied"], named["segments"]);
    assert_eq!(restored["object_store"], other);
    site.cloud
        .set_variable("TIDEGATE_CLOUD_OBJECT_STORE", other);
    site.cloud.move_to(PathBuf::from(three));
    site.cloud.start();
    site.cloud.wait_ready();
    assert_eq!(consumed(&site.cloud, &scratch), payloads("kept", 0, 200));
    tidegate(site.cloud.http, &["topic", "verify", STREAM]).ok();
}

/// A backup without copies is restored as long as what it names is there.
fn from_here_while_they_are_there(
    server: &S3,
    scratch: &Scratch,
    run: &dyn Fn(&[&str]) -> Said,
    named: &Value,
) {
    let here = place(scratch);
    let data = |name: &str| scratch.path().join(name).display().to_string();
    let (one, two) = (data("one"), data("two"));
    let mut from_here = words("restore", "--from", &here);
    from_here.extend(["--data", &one]);
    let restored = told(&run(&from_here));
    assert_eq!(
        (&restored["copied"], &restored["kept"]),
        (&0.into(), &named["segments"])
    );

    let gone = server.delete_first("plant/segments/");
    from_here[5] = &two;
    let refused = run(&from_here).fails(1);
    let name = gone.rsplit('/').next().unwrap();
    assert!(refused.error.contains(name), "{refused:?}");
    assert!(refused.error.contains("--with-objects"), "{refused:?}");
}
