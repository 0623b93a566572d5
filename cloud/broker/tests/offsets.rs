//! The API under `/api/v1` over real HTTP, by a client of a few lines: exact answers, and for everything
//! else a status code and one line that says what is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::http::{ask, ask_text, get};
use support::stored::fetch_all;
use support::{
    AT_ONCE, Client, Edge, NEVER, START_MS, segments, start, start_with, until, until_packed,
};
use tidegate_cloud::Cloud;
use tidegate_cloud_protocol::ledger::command::{CommitOffsets, Entry, OffsetCommit};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use tidegate_shared::id::{GroupName, KafkaOffset};

/// Two edges in turn, so that their offsets and the partition's are not the same.
async fn two_edges(cloud: &Cloud) -> (Edge, Edge) {
    let mut first = Edge::connect(cloud.broker(), "first").await;
    let mut second = Edge::connect(cloud.broker(), "second").await;
    for count in [3, 1, 4] {
        first.land(count).await;
        second.land(count + 1).await;
    }
    (first, second)
}

#[tokio::test]
async fn offsets_lead_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let (first, _second) = two_edges(&cloud).await;
    let partition = first.target.partition;
    for offset in 0..8 {
        let there = get(
            &cloud,
            &format!("/offsets/translate?edge=first&stream=telemetry&offset={offset}"),
        )
        .await;
        assert_eq!(
            (&there["status"], &there["topic"]),
            (&json!("landed"), &json!("telemetry"))
        );
        let kafka = &there["kafka_offset"];
        let back = get(
            &cloud,
            &format!("/offsets/lookup?topic=telemetry&partition={partition}&offset={kafka}"),
        )
        .await;
        assert_eq!(
            (&back["edge"], &back["edge_offset"]),
            (&json!("first"), &json!(offset))
        );
    }
    let beyond = get(
        &cloud,
        "/offsets/translate?edge=first&stream=telemetry&offset=8",
    )
    .await;
    assert_eq!(
        (&beyond["status"], &beyond["known_up_to"]),
        (&json!("not_yet"), &json!(8))
    );
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_in_json_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let _edges = two_edges(&cloud).await;
    let cases = [
        (
            "GET",
            "/offsets/lookup?topic=telemetry&partition=99&offset=0",
            "",
            404,
            "no partition 99",
        ),
        (
            "GET",
            "/offsets/lookup?topic=x&partition=0&offset=0",
            "",
            404,
            "no topic x",
        ),
        (
            "GET",
            "/offsets/lookup?topic=telemetry",
            "",
            400,
            "partition",
        ),
        (
            "GET",
            "/offsets/translate?edge=first&stream=no&offset=0",
            "",
            404,
            "never sent a stream no",
        ),
        (
            "GET",
            "/offsets/translate?edge=first&stream=telemetry&offset=0&incarnation=9",
            "",
            404,
            "no incarnation 9; known: 1",
        ),
        ("GET", "/offsets/groups/nobody", "", 404, "never committed"),
        ("POST", "/offsets/groups/g", "{}", 422, "edge"),
        ("POST", "/offsets/import", "{\"edge\":1}", 400, "line 1"),
        ("POST", "/edges/first/release", "", 409, "not in quarantine"),
        ("GET", "/edges/none", "", 404, "never connected"),
        (
            "POST",
            "/topics",
            "{\"name\":\"a\",\"partitions\":0}",
            400,
            "partitions",
        ),
        ("GET", "/where?edge=none", "", 404, "never connected"),
        (
            "GET",
            "/where?edge=first&topic=a%2F%23%2Fb",
            "",
            400,
            "topic: ",
        ),
        (
            "GET",
            "/where?edge=first&offset=0",
            "",
            400,
            "needs its stream",
        ),
        ("GET", "/no/such", "", 404, "/no/such"),
    ];
    for (method, path, body, code, said) in cases {
        let (status, answer) = ask(&cloud, method, path, body).await;
        let why = answer["error"].as_str().unwrap_or_default();
        assert!(
            status == code && why.contains(said),
            "{path}: {status} {answer}"
        );
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn facts_are_exported_imported_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(&folder.path().join("a")).await;
    let _edges = two_edges(&cloud).await;
    let (_, lines) = ask_text(&cloud, "GET", "/offsets/export", "").await;
    let (_, of_one) = ask_text(&cloud, "GET", "/offsets/export?edge=first", "").await;
    assert!(of_one.lines().count() > 0 && of_one.len() < lines.len());
    assert!(
        of_one
            .lines()
            .all(|line| line.contains("\"edge\":\"first\"")),
        "{of_one}"
    );
    let sound = get(&cloud, "/offsets/verify").await;
    assert_eq!(sound["wrong_count"], 0, "{sound}");

    let other = start(&folder.path().join("b")).await;
    let (_, missing) = ask(&other, "POST", "/offsets/verify", &lines).await;
    assert_eq!(missing["wrong_count"], lines.lines().count(), "{missing}");
    // Half, then all: a union.
    let half: Vec<_> = lines.lines().step_by(2).collect();
    let (status, taken) = ask(&other, "POST", "/offsets/import", &half.join("\n")).await;
    assert_eq!(
        (status, &taken["new"]),
        (200, &json!(half.len())),
        "{taken}"
    );
    let (_, taken) = ask(&other, "POST", "/offsets/import", &lines).await;
    assert_eq!(taken["known"], half.len(), "{taken}");
    let (_, held) = ask(&other, "POST", "/offsets/verify", &lines).await;
    assert_eq!(held["wrong_count"], 0, "{held}");
    let (_, again) = ask_text(&other, "GET", "/offsets/export", "").await;
    assert_eq!(
        strip_names(&again),
        strip_names(&lines),
        "the topic's name is not known there"
    );
    contradictions(&other, &lines).await;
    cloud.shutdown().await;
    other.shutdown().await;
}

/// Lines without the topic's name, which is another cloud's.
fn strip_names(lines: &str) -> Vec<Value> {
    let parsed = lines.lines().map(|line| {
        let mut fact: Value = serde_json::from_str(line).unwrap();
        fact["topic"] = Value::Null;
        fact
    });
    parsed.collect()
}

/// One that moves an offset: from either side it is refused, with what came beside it.
async fn contradictions(other: &Cloud, lines: &str) {
    let before = ask_text(other, "GET", "/offsets/export", "").await.1;
    for field in ["kafka_offset", "edge_offset"] {
        let mut fact = strip_names(lines)[0].clone();
        fact[field] = json!(fact[field].as_u64().unwrap() + 1);
        let mut fresh = strip_names(lines)[0].clone();
        fresh["edge"] = json!("third");
        fresh["partition"] = json!(77);
        let body = format!("{fresh}\n{fact}\n");
        let (status, refused) = ask(other, "POST", "/offsets/import", &body).await;
        assert_eq!(status, 409, "{field}: {refused}");
        let (_, wrong) = ask(other, "POST", "/offsets/verify", &body).await;
        assert_eq!(wrong["wrong_count"], 2, "{wrong}");
    }
    assert_eq!(
        ask_text(other, "GET", "/offsets/export", "").await.1,
        before
    );
}

#[tokio::test]
async fn a_group_is_told_and_set_in_terms_of_edges() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let (first, _second) = two_edges(&cloud).await;
    let commit = CommitOffsets {
        group: GroupName::new("g").unwrap(),
        offsets: vec![OffsetCommit {
            topic_id: first.target.topic_id,
            partition: first.target.partition,
            offset: KafkaOffset(3),
            leader_epoch: -1,
            metadata: String::new(),
        }],
    };
    let wish = (Entry::CommitOffsets(commit), None);
    cloud.broker().submit(vec![wish]).await.unwrap();
    let told = get(&cloud, "/offsets/groups/g").await;
    let of_first = told["offsets"].as_array().unwrap();
    let of_first = of_first.iter().find(|row| row["edge"] == "first").unwrap();
    assert_eq!(
        (&of_first["edge_offset"], &of_first["kafka_offset"]),
        (&json!(3), &json!(3))
    );

    let body = json!({"edge": "first", "stream": "telemetry", "offset": 5}).to_string();
    let (status, set) = ask(&cloud, "POST", "/offsets/groups/g", &body).await;
    assert_eq!(status, 200, "{set}");
    let kafka = &set["kafka_offset"];
    let path = "/offsets/translate?edge=first&stream=telemetry&offset=5";
    assert_eq!(&get(&cloud, path).await["kafka_offset"], kafka);
    let committed = get(&cloud, "/offsets/groups/g").await["offsets"][0]["kafka_offset"].clone();
    assert_eq!(&committed, kafka);
    cloud.shutdown().await;
}

#[tokio::test]
async fn the_newest_at_a_time_is_found_and_who_has_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let _edges = two_edges(&cloud).await;
    // A record's time is the start and its edge offset.
    for (at, expected) in [
        (0, Some(0)),
        (4, Some(4)),
        (5, Some(5)),
        (99, Some(7)),
        (-1, None),
    ] {
        let path = format!("/where?edge=first&stream=telemetry&at_ms={}", START_MS + at);
        let answer = get(&cloud, &path).await;
        let found = answer["found"]["edge_offset"].as_i64();
        assert_eq!(found, expected, "{at}: {answer}");
        assert_eq!(answer["searched_all"], true);
    }
    let answer = get(&cloud, "/where?edge=first&stream=telemetry&offset=4").await;
    assert_eq!(answer["found"]["time_ms"], START_MS + 4, "{answer}");
    assert_eq!(answer["found"]["groups"], json!([]));
    assert!(answer["found"]["landed_ms"].as_i64().unwrap() > START_MS);
    assert_eq!(answer["link"]["connected"], false);
    // They have no MQTT topic.
    let answer = get(&cloud, "/where?edge=first&topic=%23").await;
    assert_eq!(
        (&answer["found"], &answer["searched_all"]),
        (&Value::Null, &json!(true))
    );
    cloud.shutdown().await;
}

/// An offset without its incarnation means the newest that has it, also before anything has landed in the
/// newest of all.
#[tokio::test]
async fn what_landed_before_a_fork_is_found_without_its_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let mut edge = Edge::connect(cloud.broker(), "first").await;
    edge.land(8).await;
    let older = edge.head.incarnation;
    edge.fork(6).await;
    let newer = edge.head.incarnation;
    let cloud = &cloud;
    let at = async |question: &str, offset: u64| {
        let path = format!("/{question}?edge=first&stream=telemetry&offset={offset}");
        let answer = get(cloud, &path).await;
        match question {
            "where" => answer["found"].clone(),
            _ => answer,
        }
    };
    for is_landed in [false, true] {
        if is_landed {
            edge.land(1).await;
        }
        for question in ["offsets/translate", "where"] {
            let found = at(question, 2).await;
            assert_eq!(
                (&found["status"], &found["incarnation"]),
                (&json!("landed"), &json!(older)),
                "{found}"
            );
            let twice = at(question, 6).await;
            let expected = if is_landed { newer } else { older };
            assert_eq!(twice["incarnation"], json!(expected), "{twice}");
            let next = at(question, 9).await;
            assert_eq!(
                (&next["status"], &next["incarnation"]),
                (&json!("not_yet"), &json!(newer)),
                "{next}"
            );
        }
    }
    // A group that is set to it reads it, not what the newest incarnation began with.
    let body = json!({"edge": "first", "stream": "telemetry", "offset": 2}).to_string();
    let (_, set) = ask(cloud, "POST", "/offsets/groups/g", &body).await;
    assert_eq!(set["kafka_offset"], 2, "{set}");
    // Nor does what is gone become what has not come yet.
    let (status, answer) = ask(cloud, "DELETE", "/topics/telemetry", "").await;
    assert_eq!(status, 200, "{answer}");
    let gone = at("offsets/translate", 2).await;
    assert_eq!(
        (&gone["status"], &gone["incarnation"]),
        (&json!("expired"), &json!(older)),
        "{gone}"
    );
}

/// Only the ledger says what lands in its own life: an import cannot be ahead of it.
#[tokio::test]
async fn facts_of_the_clouds_own_life_are_not_made_by_an_import() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let (mut first, _second) = two_edges(&cloud).await;
    let (_, lines) = ask_text(&cloud, "GET", "/offsets/export", "").await;
    let mut forged = strip_names(&lines)[0].clone();
    forged["edge"] = json!("forged");
    forged["kafka_offset"] = json!(1000);
    let body = format!("{lines}{forged}\n");
    let (status, refused) = ask(&cloud, "POST", "/offsets/import", &body).await;
    let why = refused["error"].as_str().unwrap_or_default();
    assert!(
        status == 409 && why.contains("own life") && why.contains("forged"),
        "{refused}"
    );
    // Those that it has made itself are known, and another cloud's are taken.
    forged["cluster_incarnation"] = json!("1-ff");
    let body = format!("{lines}{forged}\n");
    let (status, taken) = ask(&cloud, "POST", "/offsets/import", &body).await;
    assert_eq!((status, &taken["new"]), (200, &json!(1)), "{taken}");
    first.land(5).await;
    let sound = get(&cloud, "/offsets/verify").await;
    assert_eq!(sound["wrong_count"], 0, "{sound}");
    cloud.shutdown().await;
}

/// Lines of an export need not say a topic's id; its name here may be another topic's there.
#[tokio::test]
async fn a_look_up_means_this_clouds_own_records_whatever_was_imported() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start(folder.path()).await;
    let _edges = two_edges(&cloud).await;
    let (_, lines) = ask_text(&cloud, "GET", "/offsets/export", "").await;
    let own = strip_names(&lines)[0].clone();
    let mut foreign = own.clone();
    foreign["edge"] = json!("elsewhere");
    foreign["topic"] = json!("telemetry");
    foreign["cluster_incarnation"] = json!("9-ff");
    foreign.as_object_mut().unwrap().remove("topic_id");
    let body = foreign.to_string();
    let (status, taken) = ask(&cloud, "POST", "/offsets/import", &body).await;
    assert_eq!((status, &taken["new"]), (200, &json!(1)), "{taken}");
    let (partition, offset) = (&own["partition"], &own["kafka_offset"]);
    let path = format!("/offsets/lookup?topic=telemetry&partition={partition}&offset={offset}");
    let found = get(&cloud, &path).await;
    assert_eq!(found["edge"], own["edge"], "{found}");
    cloud.shutdown().await;
}

/// What is found, without who has read it.
async fn where_is(cloud: &Cloud, path: &str) -> Value {
    let mut found = get(cloud, path).await["found"].clone();
    found["groups"] = Value::Null;
    found
}

/// All that is said of two edges' offsets.
async fn answers(cloud: &Cloud, targets: [Target; 2]) -> Vec<Value> {
    let mut told = Vec::new();
    for target in targets {
        let partition = target.partition;
        for offset in 0..12 {
            let path =
                format!("/offsets/lookup?topic=telemetry&partition={partition}&offset={offset}");
            told.push(get(cloud, &path).await);
        }
    }
    for edge in ["first", "second"] {
        for offset in 0..12 {
            let path = format!("/offsets/translate?edge={edge}&stream=telemetry&offset={offset}");
            told.push(get(cloud, &path).await);
            let path = format!("/where?edge={edge}&stream=telemetry&offset={offset}");
            told.push(where_is(cloud, &path).await);
        }
        let path = format!("/where?edge={edge}&at_ms={}", START_MS + 1_000_000);
        told.push(where_is(cloud, &path).await);
        for offset in [0, 5, 7] {
            let body = json!({"edge": edge, "stream": "telemetry", "offset": offset}).to_string();
            let (status, set) = ask(cloud, "POST", "/offsets/groups/g", &body).await;
            assert_eq!(status, 200, "{set}");
            told.push(set);
            let mut rows = get(cloud, "/offsets/groups/g").await["offsets"]
                .as_array()
                .unwrap()
                .clone();
            rows.sort_by_key(Value::to_string);
            told.push(Value::Array(rows));
        }
    }
    told
}

/// Facts that lie in segments are told as they were told from memory, also after a restart; and where their
/// segment cannot be read, that is said.
#[tokio::test]
async fn what_is_packed_is_told_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("cloud");
    let cloud = start_with(&data, NEVER).await;
    let (first, second) = two_edges(&cloud).await;
    let targets = [first.target, second.target];
    let before = answers(&cloud, targets).await;
    let (_, lines) = ask_text(&cloud, "GET", "/offsets/export", "").await;
    let facts = get(&cloud, "/offsets/verify").await["facts"].clone();
    cloud.shutdown().await;

    let cloud = start_with(&data, AT_ONCE).await;
    for target in targets {
        let end = cloud
            .broker()
            .ledger(|ledger| ledger.partition(target).unwrap().next.0);
        until_packed(&cloud, target, end).await;
    }
    let (in_map, entries) = cloud
        .broker()
        .look(|_, map| (map.facts().count(), map.size().0));
    assert_eq!((in_map, entries > 0), (0, true), "all of it is packed");
    all_are(&answers(&cloud, targets).await, &before);
    let (_, packed) = ask_text(&cloud, "GET", "/offsets/export", "").await;
    let (_, held) = ask(&cloud, "POST", "/offsets/verify", &lines).await;
    assert_eq!(held["wrong_count"], 0, "{held}");
    let (_, known) = ask(&cloud, "POST", "/offsets/import", &lines).await;
    assert_eq!(
        (&known["new"], &known["known"]),
        (&json!(0), &json!(lines.lines().count()))
    );
    let (status, refused) = ask(&cloud, "POST", "/offsets/import", &moved(&lines)).await;
    assert_eq!(status, 409, "{refused}");
    let sound = get(&cloud, "/offsets/verify").await;
    assert_eq!(
        (&sound["wrong_count"], &sound["facts"]),
        (&json!(0), &facts),
        "{sound}"
    );
    cloud.shutdown().await;

    // Elsewhere they say the same as those that were not packed.
    let other = start(&folder.path().join("other")).await;
    let (status, taken) = ask(&other, "POST", "/offsets/import", &packed).await;
    assert_eq!(status, 200, "{taken}");
    let (_, held) = ask(&other, "POST", "/offsets/verify", &lines).await;
    assert_eq!(held["wrong_count"], 0, "{held}");
    other.shutdown().await;

    let cloud = start_with(&data, AT_ONCE).await;
    all_are(&answers(&cloud, targets).await, &before);
    cloud.shutdown().await;
}

/// Small segments become one: the same batches are fetched of it, and the same is told of where they came from.
#[tokio::test]
async fn what_is_joined_is_fetched_and_told_as_before() {
    const SMALL: usize = 12;
    const RECORDS: u64 = 8_000;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    // Of which no two fit into one segment.
    let small = ", pack: {max_age: 0, segment_size: 64KiB}, restore_window: 0";
    let cloud = start_with(data, small).await;
    let (mut edge, second) = two_edges(&cloud).await;
    let target = edge.target;
    assert_eq!(target, second.target, "they share a partition");
    let (targets, begins) = ([target, second.target], 19);
    for _ in 0..SMALL {
        edge.land(RECORDS).await;
    }
    until_packed(&cloud, target, begins + SMALL as i64 * RECORDS as i64).await;
    let are_many = |ledger: &Ledger| ledger.log(target).segments().len() >= SMALL;
    assert!(cloud.broker().ledger(are_many));
    let before = fetch_all(&mut Client::connect(&cloud).await, target, 0).await;
    let (_, lines) = ask_text(&cloud, "GET", "/offsets/export", "").await;
    let told = answers(&cloud, targets).await;
    cloud.shutdown().await;

    let cloud = start_with(data, ", pack: {max_age: 0}, restore_window: 0").await;
    let are_joined = |ledger: &Ledger| ledger.log(target).segments().len() == 2;
    until(&cloud, "all but the newest are joined", are_joined).await;
    // Of the first edge in both segments, of the second in one.
    let entries = cloud.broker().look(|_, map| map.size().0);
    assert_eq!(entries, 3, "the map is smaller too");
    for _ in 0..2 {
        let after = fetch_all(&mut Client::connect(&cloud).await, target, 0).await;
        assert!(after == before, "other bytes");
        let (_, held) = ask(&cloud, "POST", "/offsets/verify", &lines).await;
        assert_eq!(held["wrong_count"], 0, "{held}");
        all_are(&answers(&cloud, targets).await, &told);
        assert_eq!(get(&cloud, "/offsets/verify").await["wrong_count"], 0);
        until(&cloud, "the small ones are deleted", |ledger| {
            ledger.free_segments(i64::MAX).count() == 0
        })
        .await;
    }
    assert_eq!(segments(data).len(), 2);
    cloud.shutdown().await;
}

fn all_are(told: &[Value], expected: &[Value]) {
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!(told, expected);
    }
}

/// The first line, with its fact one further in the partition.
fn moved(lines: &str) -> String {
    let mut fact = strip_names(lines)[0].clone();
    fact["kafka_offset"] = json!(fact["kafka_offset"].as_i64().unwrap() + 1);
    fact.to_string()
}

#[tokio::test]
async fn facts_in_a_segment_that_is_gone_are_not_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = start_with(folder.path(), AT_ONCE).await;
    let mut edge = Edge::connect(cloud.broker(), "first").await;
    edge.land(5).await;
    until_packed(&cloud, edge.target, 5).await;
    cloud.shutdown().await;
    let segments = segments(folder.path());
    assert!(!segments.is_empty());
    segments
        .iter()
        .for_each(|file| std::fs::write(file, b"").unwrap());
    let _ = std::fs::remove_dir_all(folder.path().join("cache"));
    let cloud = start_with(folder.path(), AT_ONCE).await;
    for path in [
        "/offsets/translate?edge=first&stream=telemetry&offset=2".to_owned(),
        format!(
            "/offsets/lookup?topic=telemetry&partition={}&offset=2",
            edge.target.partition
        ),
        "/where?edge=first".to_owned(),
    ] {
        let (status, told) = ask(&cloud, "GET", &path, "").await;
        assert_eq!(status, 500, "{path}: {told}");
        assert!(
            told["error"].as_str().unwrap().contains("segments/"),
            "{told}"
        );
    }
    let sound = get(&cloud, "/offsets/verify").await;
    assert_eq!(sound["wrong_count"], 1, "{sound}");
    cloud.shutdown().await;
}
