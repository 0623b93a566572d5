//! Topics with an object store of their own (`storage.url`): what is packed goes there, what lay elsewhere follows,
//! and consumers notice nothing; a store that is not there holds up nobody else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use support::stored::{fetch, fetch_all};
use support::{AT_ONCE, Client, DEADLINE, Edge, NEVER, files, start_with, until, until_packed};
use tempfile::TempDir;
use tidegate_cloud::backup::{
    BackupError, BackupName, Made, Place, RestoreError, Source, Wish, make, restore,
};
use tidegate_cloud::store::{Store, StoreMetrics, StoreOptions};
use tidegate_cloud::{Cloud, Config};
use tidegate_cloud_protocol::ledger::{Ledger, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Everything is packed at once, and what is replaced goes as soon as a snapshot allows.
const AND_SWEPT: &str = ", pack: {max_age: 0}, restore_window: 0";

/// The same, and what is replaced stays.
const AND_KEPT: &str = ", pack: {max_age: 0}, restore_window: 1h";

const KAFKA_STORAGE_ERROR: i16 = 56;

struct World {
    scratch: TempDir,
    cloud: Cloud,
    target: Target,
    landed: u64,
}

impl World {
    async fn start(more: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let cloud = start_with(&scratch.path().join("cloud"), more).await;
        let target = Edge::connect(cloud.broker(), "press-4").await.target;
        Self {
            scratch,
            cloud,
            target,
            landed: 0,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.folder("cloud")
    }

    fn objects(&self) -> PathBuf {
        self.data().join("objects")
    }

    /// Each batch becomes a segment.
    async fn land_and_pack(&mut self, batches: u64) {
        let mut edge = Edge::connect(self.cloud.broker(), "press-4").await;
        for _ in 0..batches {
            edge.land(10).await;
            self.landed += 10;
            until_packed(&self.cloud, self.target, self.landed as i64).await;
        }
    }

    async fn alter(&self, url: Option<&str>) -> (u16, Value) {
        let changes = json!({ "changes": { "storage.url": url } });
        ask(&self.cloud, "POST", "/topics/telemetry/config", &changes).await
    }

    async fn alter_to(&self, name: &str) {
        let folder = self.folder(name);
        let (status, said) = self.alter(folder.to_str()).await;
        assert_eq!(status, 200, "{said}");
    }

    async fn described(&self) -> Value {
        let answer = ask(&self.cloud, "GET", "/topics/telemetry", &Value::Null).await;
        assert_eq!(answer.0, 200, "{answer:?}");
        answer.1
    }

    async fn fetch_all(&self) -> Vec<Bytes> {
        let mut client = Client::connect(&self.cloud).await;
        fetch_all(&mut client, self.target, 0).await
    }

    async fn restart(self, more: &str) -> Self {
        let Self {
            scratch,
            cloud,
            target,
            landed,
        } = self;
        cloud.shutdown().await;
        let cloud = start_with(&scratch.path().join("cloud"), more).await;
        Self {
            scratch,
            cloud,
            target,
            landed,
        }
    }

    async fn until_in(&self, store: u32) {
        let target = self.target;
        until(&self.cloud, "all is in its store", move |ledger| {
            let mut segments = ledger.log(target).segments();
            segments.all(|segment| segment.id.store == store)
        })
        .await;
    }
}

/// Asks the API; the status and the answer.
async fn ask(cloud: &Cloud, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(cloud.http_address()).await.unwrap();
    let body = body.to_string();
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// The files of all segments below a store's folder.
fn segments(store: &Path) -> Vec<PathBuf> {
    let of_clouds = files(&store.join("segments")).into_iter();
    of_clouds.flat_map(|folder| files(&folder)).collect()
}

async fn until_gone(paths: &[&Path]) {
    let gone = async {
        while paths.iter().any(|path| path.exists()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, gone).await;
    assert!(
        waited.is_ok(),
        "not within {DEADLINE:?}: {paths:?} are gone"
    );
}

/// Their contents, in the order of what they are.
fn contents(store: &Path) -> Vec<Vec<u8>> {
    let read = segments(store).into_iter();
    let mut contents: Vec<_> = read.map(|path| fs::read(path).unwrap()).collect();
    contents.sort();
    contents
}

#[tokio::test]
async fn what_a_topic_has_follows_it_byte_for_byte_and_nobody_notices() {
    let mut world = World::start(AND_KEPT).await;
    world.land_and_pack(6).await;
    let before = contents(&world.objects());
    let fetched = world.fetch_all().await;
    assert_eq!((before.len(), fetched.len()), (6, 6));
    world.alter_to("archive").await;
    world.until_in(1).await;
    assert_eq!(world.fetch_all().await, fetched);
    assert_eq!(contents(&world.folder("archive")), before);
    assert_eq!(
        contents(&world.objects()),
        before,
        "it stays for restore_window"
    );
    world.land_and_pack(1).await;
    assert_eq!(segments(&world.folder("archive")).len(), 7);
    let described = world.described().await;
    let archive = world.folder("archive").display().to_string();
    let stores = described["stores"].as_array().unwrap();
    assert_eq!(stores.len(), 1, "{described}");
    assert_eq!(stores[0]["url"], archive);
    assert_eq!(stores[0]["segments"], 7);
    let settings = described["config"].as_array().unwrap();
    let setting = settings
        .iter()
        .find(|setting| setting["name"] == "storage.url");
    assert_eq!(setting.unwrap()["value"], archive);
    assert_eq!(setting.unwrap()["is_default"], false);
    assert!(
        world
            .cloud
            .broker()
            .metrics()
            .encode()
            .contains("tidegate_moved_segments_total 6")
    );

    // Without any of it in a cache, and where the old copies are gone.
    let world = world.restart(AND_SWEPT).await;
    let gone = |ledger: &Ledger| ledger.free_segments(i64::MAX).count() == 0;
    until(&world.cloud, "the old copies are deleted", gone).await;
    assert_eq!(segments(&world.objects()), Vec::<PathBuf>::new());
    fs::remove_dir_all(world.data().join("cache")).unwrap();
    let world = world.restart(NEVER).await;
    assert_eq!(world.fetch_all().await[..6], fetched);

    // And back, by the default.
    let (status, said) = world.alter(None).await;
    assert_eq!(status, 200, "{said}");
    world.until_in(0).await;
    assert_eq!(world.fetch_all().await[..6], fetched);
    assert_eq!(contents(&world.objects()).len(), 7);
    world.cloud.shutdown().await;
}

#[tokio::test]
async fn a_topic_has_its_store_from_its_first_segment_on() {
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("archive");
    let data = scratch.path().join("cloud");
    let yaml = format!(
        "{{data: {}, kafka: {{address: 127.0.0.1:0}}, http: {{address: 127.0.0.1:0}}, bridge: {{address: 127.0.0.1:0}}, \
         topics: [{{name: telemetry, partitions: 3, object_store: {}}}]{AT_ONCE}}}",
        data.display(),
        archive.display()
    );
    let cloud = Box::pin(Cloud::start(Config::parse(&yaml).unwrap()))
        .await
        .unwrap();
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    until_packed(&cloud, edge.target, 10).await;
    assert_eq!(segments(&data.join("objects")), Vec::<PathBuf>::new());
    assert_eq!(segments(&archive).len(), 1);
    // The same by the API, also for a topic that is made there; the same URL is the same store.
    let config = json!({ "storage.url": archive.to_str(), "retention.ms": "-1" });
    let create = json!({ "name": "other", "partitions": 1, "config": config });
    assert_eq!(ask(&cloud, "POST", "/topics", &create).await.0, 200);
    let stores = cloud.broker().ledger(|ledger| {
        let stores = ledger.topics().map(|(_, topic)| topic.settings.store);
        (stores.collect::<Vec<_>>(), ledger.stores().count())
    });
    assert_eq!(stores, (vec![1, 1], 1));
    let cost = ask(&cloud, "GET", "/storage/cost", &Value::Null).await.1;
    assert_eq!(cost["stores"].as_array().unwrap().len(), 2, "{cost}");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_refused_with_the_reason() {
    let world = World::start(AT_ONCE).await;
    let file = world.folder("a-file");
    fs::write(&file, "no folder").unwrap();
    let below_a_file = file.join("below").display().to_string();
    let of_https = match cfg!(feature = "http") {
        true => "can only be read",
        false => "--features http",
    };
    for (url, why) in [
        ("memory://", "gone with this process"),
        ("https://127.0.0.1/a", of_https),
        ("ftp://127.0.0.1/a", "s3://bucket/prefix"),
        ("s3://me:secret@bucket/a", "credentials"),
        (&*below_a_file, "Nothing was changed"),
    ] {
        let (status, said) = world.alter(Some(url)).await;
        let said = said["error"].as_str().unwrap().to_owned();
        assert!(
            status == 400 && said.contains(why),
            "{url}: {status} {said}"
        );
        assert!(!said.contains("secret"), "{said}");
        let config = json!({ "storage.url": url });
        let create = json!({ "name": "other", "partitions": 1, "config": config });
        let (status, _) = ask(&world.cloud, "POST", "/topics", &create).await;
        assert_eq!(status, 400, "{url}");
    }
    let known = world.cloud.broker().ledger(|ledger| {
        let stores = ledger.topics().map(|(_, topic)| topic.settings.store);
        (stores.collect::<Vec<_>>(), ledger.stores().count())
    });
    assert_eq!(known, (vec![0], 0), "nothing has changed");
    // Nor does a cloud start with a new topic that could not have its store.
    let yaml = |url: &str| {
        let data = world.folder("another").display().to_string();
        format!(
            "{{data: {data}, kafka: {{address: 127.0.0.1:0}}, http: {{address: 127.0.0.1:0}}, bridge: {{address: 127.0.0.1:0}}, \
             topics: [{{name: other, object_store: '{url}'}}]}}"
        )
    };
    assert!(Config::parse(&yaml("memory://")).is_err());
    let config = Config::parse(&yaml(&below_a_file)).unwrap();
    let refused = Box::pin(Cloud::start(config)).await.unwrap_err();
    let said = format!("{refused:#}");
    assert!(
        said.contains("topic other") && said.contains("Nothing was changed"),
        "{said}"
    );
    // The cluster's own is no other store.
    let own = world.objects().display().to_string();
    let (status, said) = world.alter(Some(&own)).await;
    assert_eq!(
        (status, &said["config"][5]["is_default"]),
        (200, &json!(true))
    );
    world.cloud.shutdown().await;
}

#[tokio::test]
async fn a_store_that_is_away_holds_up_its_topic_only_and_comes_back() {
    let mut world = World::start(AND_SWEPT).await;
    let config = json!({ "storage.url": world.folder("archive").to_str() });
    let create = json!({ "name": "other", "partitions": 1, "config": config });
    assert_eq!(ask(&world.cloud, "POST", "/topics", &create).await.0, 200);
    world.land_and_pack(2).await;
    world.alter_to("archive").await;
    world.until_in(1).await;
    let fetched = world.fetch_all().await;
    let World {
        scratch,
        cloud,
        target,
        landed,
    } = world;
    cloud.shutdown().await;
    // As where a disk is not mounted, and then another one is.
    let (archive, aside) = (scratch.path().join("archive"), scratch.path().join("aside"));
    fs::rename(&archive, &aside).unwrap();
    let _ = fs::remove_dir_all(scratch.path().join("cloud/cache"));
    let cloud = start_with(&scratch.path().join("cloud"), AND_SWEPT).await;
    assert!(!archive.exists(), "nothing is made in its place");
    let mut client = Client::connect(&cloud).await;
    let read = fetch(&mut client, target, 0).await;
    assert_eq!(read.error_code, KAFKA_STORAGE_ERROR);
    let mut world = World {
        scratch,
        cloud,
        target,
        landed,
    };
    let trouble = world.described().await["stores"][0]["trouble"].clone();
    assert!(trouble.as_str().unwrap().contains("mounted"), "{trouble}");
    // It takes what lands, in the log; another topic of the cluster's store is packed.
    let mut edge = Edge::connect(world.cloud.broker(), "press-4").await;
    edge.land(10).await;
    world.landed += 10;
    assert_eq!(fetch(&mut client, target, 20).await.error_code, 0);
    fs::create_dir(&archive).unwrap();
    let world = world.restart(AND_SWEPT).await;
    let trouble = world.described().await["stores"][0]["trouble"].clone();
    assert!(
        trouble.as_str().unwrap().contains("used before"),
        "{trouble}"
    );
    let (status, said) = world.alter(archive.to_str()).await;
    assert!(
        status == 400 && said["error"].as_str().unwrap().contains("used before"),
        "{said}"
    );
    assert_eq!(files(&archive), Vec::<PathBuf>::new(), "nothing goes there");
    fs::remove_dir(&archive).unwrap();
    fs::rename(&aside, &archive).unwrap();
    until_packed(&world.cloud, target, world.landed as i64).await;
    let again = world.fetch_all().await;
    assert_eq!(again[..fetched.len()], fetched);
    assert_eq!(again.len(), 3);
    world.cloud.shutdown().await;
}

#[tokio::test]
async fn a_damaged_segment_is_not_moved_and_the_others_are() {
    let mut world = World::start(AND_KEPT).await;
    world.land_and_pack(3).await;
    let damaged = &segments(&world.objects())[1];
    let mut bytes = fs::read(damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(damaged, bytes).unwrap();
    world.alter_to("archive").await;
    let target = world.target;
    until(&world.cloud, "two are moved", move |ledger| {
        let segments = ledger.log(target).segments();
        segments.filter(|segment| segment.id.store == 1).count() == 2
    })
    .await;
    let failed = async {
        while world.cloud.broker().metrics().move_failures.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, failed).await.unwrap();
    let stores: Vec<u32> = world.cloud.broker().ledger(|ledger| {
        let segments = ledger.log(target).segments();
        segments.map(|segment| segment.id.store).collect()
    });
    assert_eq!(stores, [1, 0, 1]);
    world.cloud.shutdown().await;
}

#[tokio::test]
async fn what_a_kill_left_of_a_move_is_deleted_in_both_stores() {
    let mut world = World::start(AND_SWEPT).await;
    world.land_and_pack(2).await;
    world.alter_to("archive").await;
    world.until_in(1).await;
    // Copies that were written and never proposed, by an earlier life, here and there.
    let known = segments(&world.folder("archive"));
    let name = format!("{:016x}-{:016x}", 0, 77);
    let orphan = known[0].with_file_name(&name);
    fs::write(&orphan, "half").unwrap();
    let in_cluster = world.objects().join("segments");
    let in_cluster = files(&in_cluster)[0].join(&name);
    fs::write(&in_cluster, "half").unwrap();
    let world = world.restart(AND_SWEPT).await;
    until_gone(&[&orphan, &in_cluster]).await;
    assert_eq!(segments(&world.folder("archive")), known);
    assert_eq!(world.fetch_all().await.len(), 2);
    world.cloud.shutdown().await;
}

/// Two URLs may lead to one store: what the one knows is nobody's orphan in the other.
#[tokio::test]
async fn two_names_of_one_store_take_nothing_from_each_other() {
    let mut world = World::start(AND_SWEPT).await;
    world.land_and_pack(2).await;
    let fetched = world.fetch_all().await;
    std::os::unix::fs::symlink(world.objects(), world.folder("alias")).unwrap();
    world.alter_to("alias").await;
    world.until_in(1).await;
    let gone = |ledger: &Ledger| ledger.free_segments(i64::MAX).count() == 0;
    until(&world.cloud, "the old copies are deleted", gone).await;
    // The last in its order: where it is gone, all have been looked at.
    let orphan = format!("{:016x}-{:016x}", 1, u64::MAX);
    let orphan = segments(&world.objects())[0].with_file_name(orphan);
    fs::write(&orphan, "half").unwrap();
    let mut world = world.restart(AND_SWEPT).await;
    // Nothing is deleted before there are two new snapshots.
    world.land_and_pack(2).await;
    until_gone(&[&orphan]).await;
    assert_eq!(segments(&world.objects()).len(), 4);
    assert_eq!(world.fetch_all().await[..2], fetched);
    world.cloud.shutdown().await;
}

fn store(folder: &Path) -> Store {
    let url = folder.to_str().unwrap().parse().unwrap();
    Store::open(&url, &StoreOptions::default(), &StoreMetrics::default()).unwrap()
}

async fn made(source: &Source, place: &Place, name: &str) -> Result<Made, BackupError> {
    let name: BackupName = name.parse().unwrap();
    make(source, place, (name, 1), false, &|_| {}).await
}

#[tokio::test]
async fn a_backup_has_the_segments_of_all_stores_or_there_is_none() {
    let mut world = World::start(AND_SWEPT).await;
    world.land_and_pack(3).await;
    world.alter_to("archive").await;
    world.until_in(1).await;
    let fetched = world.fetch_all().await;
    let World {
        scratch,
        cloud,
        target,
        ..
    } = world;
    cloud.shutdown().await;
    let at = |name: &str| scratch.path().join(name);
    let source = Source {
        data: at("cloud"),
        store: store(&at("cloud/objects")),
        options: StoreOptions::default(),
        restore_window_ms: None,
        running: None,
    };
    let place = Place::new(store(&at("backups")));
    fs::rename(at("archive"), at("aside")).unwrap();
    let error = made(&source, &place, "sunday").await.unwrap_err();
    assert!(matches!(error, BackupError::StoreMissing(_)), "{error}");
    fs::rename(at("aside"), at("archive")).unwrap();
    let made = made(&source, &place, "monday").await.unwrap();
    let of_stores = made.manifest.objects.iter().map(|object| object.store);
    let mut of_stores: Vec<u32> = of_stores.collect();
    of_stores.dedup();
    assert_eq!((made.copied, of_stores), (3, vec![1]));
    assert!(made.manifest.has_copies());

    let wish = Wish {
        backup: None,
        data: at("elsewhere"),
        object_store: Some(at("other-objects").to_str().unwrap().parse().unwrap()),
        options: StoreOptions::default(),
    };
    let refused = restore(&place, &wish, &|_| {}).await.unwrap_err();
    assert!(
        matches!(refused, RestoreError::OtherStores { .. }),
        "{refused}"
    );
    fs::remove_dir_all(at("archive")).unwrap();
    let wish = Wish {
        object_store: None,
        ..wish
    };
    let restored = restore(&place, &wish, &|_| {}).await.unwrap();
    assert_eq!((restored.copied, restored.kept), (3, 0));
    let cloud = start_with(&at("elsewhere"), NEVER).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 0).await, fetched);
    let sizes = |store: &Path| -> BTreeMap<PathBuf, u64> {
        let all = segments(store).into_iter();
        all.map(|path| (path.clone(), fs::metadata(path).unwrap().len()))
            .collect()
    };
    assert_eq!(sizes(&at("archive")).len(), 3);
    assert_eq!(sizes(&at("elsewhere/objects")).len(), 0);
    cloud.shutdown().await;
}
