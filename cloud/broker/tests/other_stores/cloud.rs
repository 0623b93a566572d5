//! The whole cloud with its segments in one of these stores: what lands is packed, and is the same bytes after a
//! restart without a cache. It reads its endpoint from the environment, so it runs as another process.

use std::fs;
use std::process::Command;

use tidegate_cloud::Cloud;
use tidegate_cloud::store::Retry;
use tidegate_cloud_protocol::ledger::Target;
use tidegate_cloud_protocol::ledger::command::{Entry, Trim};
use tidegate_shared::id::KafkaOffset;

use crate::support::stored::fetch_all;
use crate::support::{AT_ONCE, Client, Edge, NEVER, start_with, until, until_packed};
use crate::{Environment, open};

const URL: &str = "TIDEGATE_TEST_CLOUD_URL";

/// How many segments the cloud knows at its end.
const SEGMENTS: &str = "segments: ";

/// A cloud without a disk had all that it should have.
const WHOLE: &str = "all is there";

/// Runs a cloud with its segments in a store; afterwards the store has these, and nothing else. Then one that has
/// all that it needs there.
pub(crate) async fn serve(url: &str, environment: Environment) {
    let store = open(url, environment.clone(), Retry::default());
    let text = run("lands_packs_and_restarts", url, &environment).await;
    let known = text.lines().find_map(|line| line.split_once(SEGMENTS));
    let known: usize = known.expect("it tells").1.parse().unwrap();
    let page = store.list("", None, 1_000).await.unwrap();
    let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
    assert_eq!(keys.len(), known, "{keys:?}");
    assert!(
        keys.iter().all(|key| key.starts_with("segments/")),
        "{keys:?}"
    );
    let text = run(
        "restarts_without_its_disk",
        &format!("{url}/whole"),
        &environment,
    )
    .await;
    assert!(text.contains(WHOLE), "{text}");
}

/// A test of this program as another process: what it says.
async fn run(test: &str, url: &str, environment: &Environment) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("cloud::{test}"), "--nocapture"])
        .env(URL, url)
        .envs(environment);
    // Each wait in it has a deadline.
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// What one other process does; without its variable, nothing.
#[tokio::test(flavor = "multi_thread")]
async fn lands_packs_and_restarts() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let data = tempfile::tempdir().unwrap();
    let settings = |more: &str| format!(", object_store: {url:?}{more}");
    let cloud = start_with(data.path(), &settings(NEVER)).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    for _ in 0..20 {
        edge.land(10).await;
    }
    let mut client = Client::connect(&cloud).await;
    let from_memory = fetch_all(&mut client, target, 0).await;
    assert_eq!(from_memory.len(), 20);
    cloud.shutdown().await;

    let cloud = start_with(data.path(), &settings(AT_ONCE)).await;
    until_packed(&cloud, target, 200).await;
    cloud.shutdown().await;
    // Nobody has read yet, or what was read is here no more.
    let _ = fs::remove_dir_all(data.path().join("cache"));

    let cloud = start_with(data.path(), &settings(NEVER)).await;
    let tail = cloud
        .broker()
        .ledger(|ledger| ledger.log(target).tail().len());
    assert_eq!(tail, 0, "nothing of it is in the log");
    let mut client = Client::connect(&cloud).await;
    let from_store = fetch_all(&mut client, target, 0).await;
    assert_eq!(from_store, from_memory);
    cloud.shutdown().await;

    let and_swept = ", pack: {max_age: 0}, restore_window: 0";
    let cloud = start_with(data.path(), &settings(and_swept)).await;
    let segments = give_up(&cloud, target).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 200).await.len(), 1);
    cloud.shutdown().await;
    println!("{SEGMENTS}{segments}");
}

/// One more segment is packed, and what is before it is given up and deleted. How many there are then.
async fn give_up(cloud: &Cloud, target: Target) -> usize {
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    until_packed(cloud, target, 210).await;
    let before = cloud
        .broker()
        .ledger(|ledger| ledger.log(target).segments().count());
    let start = KafkaOffset(200);
    let trim = Entry::Trim(Trim { target, start });
    cloud.broker().submit(vec![(trim, None)]).await.unwrap();
    until(cloud, "what is given up is deleted", |ledger| {
        ledger.free_segments(i64::MAX).count() == 0
    })
    .await;
    let left = cloud
        .broker()
        .ledger(|ledger| ledger.log(target).segments().count());
    assert!(left < before, "{left} of {before} are left");
    left
}

/// What another one does: also the log, the snapshots and the CA are in the store.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_without_its_disk() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let settings = format!(", object_store: {url:?}, wal: object");
    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), &settings).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    for _ in 0..10 {
        edge.land(10).await;
    }
    let mut client = Client::connect(&cloud).await;
    let before = fetch_all(&mut client, target, 0).await;
    cloud.shutdown().await;
    drop(data);

    let data = tempfile::tempdir().unwrap();
    let cloud = start_with(data.path(), &format!("{settings}{AT_ONCE}")).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 0).await, before);
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    until_packed(&cloud, target, 110).await;
    let after = fetch_all(&mut client, target, 0).await;
    assert_eq!((after.len(), &after[..10]), (11, &before[..]));
    cloud.shutdown().await;
    println!("{WHOLE}");
}
