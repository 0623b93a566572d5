//! Records and groups over HTTP: what is produced there is what a Kafka client fetches, and the other way round.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::http::{ask, get};
use support::{Edge, NEVER, start_with};
use tidegate_cloud::Cloud;
use tidegate_shared::record::Record;

async fn post(cloud: &Cloud, path: &str, body: Value) -> (u16, Value) {
    ask(cloud, "POST", path, &body.to_string()).await
}

async fn produce(cloud: &Cloud, records: Value) -> Value {
    let body = json!({ "records": records });
    let (status, answer) = post(cloud, "/topics/telemetry/records", body).await;
    assert_eq!(status, 200, "{answer}");
    answer["records"].clone()
}

#[tokio::test]
async fn what_is_produced_is_consumed_as_it_was() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let sent = json!([
        {"partition": 0, "key": "press-1", "value": "21.5", "timestamp": 1000,
         "headers": [{"name": "unit", "value": "°C"}, {"name": "none", "value": null}]},
        {"partition": 0, "key": {"base64": "/wA="}, "value": null, "timestamp": 2000},
        {"partition": 1, "value": ""},
    ]);
    let told = produce(&cloud, sent).await;
    let places = json!([
        {"partition": 0, "offset": 0}, {"partition": 0, "offset": 1}, {"partition": 1, "offset": 0},
    ]);
    assert_eq!(told, places);
    let path = "/topics/telemetry/records";
    let three = get(&cloud, &format!("{path}?partition=0")).await;
    let expected = json!([
        {"partition": 0, "offset": 0, "timestamp": 1000, "key": "press-1", "value": "21.5",
         "headers": [{"name": "unit", "value": "°C"}, {"name": "none", "value": null}]},
        {"partition": 0, "offset": 1, "timestamp": 2000, "key": {"base64": "/wA="}, "value": null, "headers": []},
    ]);
    assert_eq!(three["records"], expected);
    assert_eq!(three["next"], "0:2");
    // One by one, over all partitions, each once.
    let (mut next, mut seen) = (String::new(), Vec::new());
    loop {
        let from = match next.is_empty() {
            true => "from=beginning".to_owned(),
            false => format!("next={next}"),
        };
        let answer = get(&cloud, &format!("{path}?count=1&{from}")).await;
        let records = answer["records"].as_array().unwrap();
        let Some(record) = records.first() else { break };
        assert_eq!(records.len(), 1);
        seen.push((
            record["partition"].as_i64().unwrap(),
            record["offset"].as_i64().unwrap(),
        ));
        next = answer["next"].as_str().unwrap().to_owned();
    }
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0), (0, 1), (1, 0)]);
    for (query, expected) in [
        ("from=end", 0),
        ("from=1500&partition=0", 1),
        ("partition=0&offset=1", 1),
    ] {
        let answer = get(&cloud, &format!("{path}?{query}")).await;
        assert_eq!(
            answer["records"].as_array().unwrap().len(),
            expected,
            "{query}"
        );
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn records_are_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let path = "/topics/telemetry/records";
    let end = get(&cloud, &format!("{path}?from=end")).await;
    let path = format!(
        "{path}?wait_ms=20000&next={}",
        end["next"].as_str().unwrap()
    );
    let (answer, _) = tokio::join!(get(&cloud, &path), async {
        produce(&cloud, json!([{"key": "press-1", "value": "1"}])).await
    });
    assert_eq!(answer["records"][0]["value"], "1");
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let records = "/topics/telemetry/records";
    for (path, body, status, why) in [
        (
            "/topics/nosuch/records",
            json!({"records": [{"value": "1"}]}),
            404,
            "no topic nosuch",
        ),
        (records, json!({"records": []}), 400, "1 to 10000 records"),
        (
            records,
            json!({"records": [{"partition": 99}]}),
            404,
            "partition 99",
        ),
        (
            records,
            json!({"records": [{"value": 21.5}]}),
            422,
            "base64",
        ),
        (records, json!({"records": [{"valeu": "1"}]}), 422, "valeu"),
    ] {
        let (told, answer) = post(&cloud, path, body).await;
        assert_eq!(told, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    for (query, status, why) in [
        ("offset=1", 400, "give partition"),
        ("partition=0&offset=1", 400, "offset 1"),
        ("partition=99&offset=0", 404, "partition 99"),
        ("next=1", 400, "no answer gave"),
        ("from=yesterday", 400, "beginning, end"),
        ("from=end&next=0:0", 400, "one of"),
    ] {
        let (told, answer) = ask(&cloud, "GET", &format!("{records}?{query}"), "").await;
        assert_eq!(told, status, "{query}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_group_is_looked_at_put_elsewhere_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let partition = edge.target.partition.0;
    edge.land(10).await;
    let reset = |to: Value, more: Value| {
        let mut body = json!({"topic": "telemetry", "partition": partition, "to": to});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let path = "/groups/readers/offsets";
    let (status, _) = ask(&cloud, "GET", "/groups/readers", "").await;
    assert_eq!(status, 404, "nobody knows it");
    let (_, answer) = post(
        &cloud,
        path,
        reset(json!({"offset": 4}), json!({"dry_run": true})),
    )
    .await;
    assert_eq!(answer["offsets"][0]["offset"], 4);
    let (status, _) = ask(&cloud, "GET", "/groups/readers", "").await;
    assert_eq!(status, 404, "it was only tried");
    for (to, offset) in [
        (json!({"offset": 4}), 4),
        (json!({"shift": -3}), 1),
        (json!("end"), 10),
        (json!({"shift": 5}), 10),
        (json!("beginning"), 0),
        (json!({"time": 0}), 0),
        (json!({"offset": 7}), 7),
    ] {
        let (status, answer) = post(&cloud, path, reset(to.clone(), json!({}))).await;
        assert_eq!(
            (status, &answer["offsets"][0]["offset"]),
            (200, &json!(offset)),
            "{to}"
        );
    }
    let group = get(&cloud, "/groups/readers").await;
    assert_eq!(group["state"], "Empty");
    assert_eq!(
        (&group["lag"], &group["offsets"][0]["lag"]),
        (&json!(3), &json!(3))
    );
    let listed = get(&cloud, "/groups").await;
    assert_eq!(listed["groups"][0]["group"], "readers");
    let (status, _) = ask(&cloud, "DELETE", "/groups/readers", "").await;
    assert_eq!(status, 200);
    let (status, answer) = ask(&cloud, "DELETE", "/groups/readers", "").await;
    assert_eq!(status, 404, "{answer}");
    cloud.shutdown().await;
}

#[tokio::test]
async fn the_api_describes_itself() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let description = get(&cloud, "/openapi.json").await;
    assert_eq!(description["openapi"], "3.1.0");
    cloud.shutdown().await;
}

#[tokio::test]
async fn an_answer_takes_no_more_than_its_bytes_however_well_records_are_packed() {
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), NEVER).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let record = Record {
        value: Some(vec![b'x'; 3 << 20].into()),
        ..Record::default()
    };
    for _ in 0..10 {
        edge.land_records(std::slice::from_ref(&record)).await;
    }
    let path = format!(
        "/topics/telemetry/records?partition={}",
        edge.target.partition.0
    );
    let (mut from, mut sizes) = ("&from=beginning".to_owned(), Vec::new());
    loop {
        let answer = get(&cloud, &format!("{path}{from}&count=1000")).await;
        let count = answer["records"].as_array().unwrap().len();
        if count == 0 {
            break;
        }
        sizes.push(count);
        from = format!("&next={}", answer["next"].as_str().unwrap());
    }
    assert_eq!(sizes, [3, 3, 3, 1], "8 MiB, and what began before");
    cloud.shutdown().await;
}
