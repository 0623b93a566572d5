//! A backup of a cloud, running or not, is put back elsewhere and has all that had landed, byte for byte; what is
//! wrong with one is found before it is used; and nothing is deleted that one which is being made relies on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use support::stored::fetch_all;
use support::{AT_ONCE, Client, DEADLINE, Edge, NEVER, files, segments, start_with, until_packed};
use tidegate_cloud::backup::{
    BackupError, BackupName, BackupState, Made, Place, RestoreError, Restored, Source, Wish, make,
    restore, verify,
};
use tidegate_cloud::store::{Store, StoreMetrics, StoreOptions, StoreUrl};
use tidegate_cloud::{Cloud, Config};
use tidegate_cloud_protocol::ledger::command::{Entry, Trim};
use tidegate_shared::id::KafkaOffset;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const AND_SWEPT: &str = ", pack: {max_age: 0}, restore_window: 0";

fn store(folder: &Path) -> Store {
    let url = StoreUrl::folder(folder);
    Store::open(&url, &StoreOptions::default(), &StoreMetrics::default()).unwrap()
}

fn place(scratch: &Path) -> Place {
    Place::new(store(&scratch.join("kept")))
}

/// A cloud that does not run.
fn source(data: &Path) -> Source {
    Source {
        data: data.to_owned(),
        store: store(&data.join("objects")),
        options: StoreOptions::default(),
        restore_window_ms: None,
        running: None,
    }
}

fn named(name: &str) -> BackupName {
    name.parse().unwrap()
}

async fn made(source: &Source, place: &Place, name: &str, at: i64) -> Result<Made, BackupError> {
    make(source, place, (named(name), at), false, &|_| {}).await
}

async fn restored(
    place: &Place,
    backup: Option<&str>,
    data: &Path,
) -> Result<Restored, RestoreError> {
    let wish = Wish {
        backup: backup.map(named),
        data: data.to_owned(),
        object_store: None,
        options: StoreOptions::default(),
    };
    restore(place, &wish, &|_| {}).await
}

/// What a running cloud holds for a backup, for as long as this lives.
struct Held {
    _connection: BufReader<TcpStream>,
    told: Value,
}

async fn hold(cloud: &Cloud) -> Held {
    let mut stream = TcpStream::connect(cloud.http_address()).await.unwrap();
    let request = "POST /api/v1/cluster/hold HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with('{') {
        line.clear();
        assert!(lines.read_line(&mut line).await.unwrap() > 0);
    }
    let told = serde_json::from_str(&line).unwrap();
    Held {
        _connection: lines,
        told,
    }
}

impl Held {
    fn source(&self) -> Source {
        let text = |name: &str| self.told[name].as_str().unwrap().to_owned();
        let data = PathBuf::from(text("data"));
        let store_id = u128::from_str_radix(&text("store_id"), 16).unwrap();
        Source {
            store: store(Path::new(&text("object_store"))),
            options: StoreOptions::default(),
            data,
            restore_window_ms: self.told["restore_window_ms"].as_u64(),
            running: Some((store_id, self.told["next_frame"].as_u64().unwrap())),
        }
    }
}

#[tokio::test]
async fn a_running_cloud_is_restored_elsewhere_with_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cloud");
    let cloud = start_with(&data, AT_ONCE).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    for _ in 0..10 {
        edge.land(10).await;
    }
    until_packed(&cloud, target, 100).await;
    edge.land(10).await;
    let held = hold(&cloud).await;
    let mut client = Client::connect(&cloud).await;
    let expected = fetch_all(&mut client, target, 0).await;
    // What comes after is in no backup, whatever of it is there when that is made.
    edge.land(10).await;
    let place = place(scratch.path());
    let made = made(&held.source(), &place, "monday", 1).await.unwrap();
    assert_eq!(made.manifest.records(), 110);
    assert!(made.copied > 0 && made.manifest.has_copies());
    drop(held);
    cloud.shutdown().await;

    let data = scratch.path().join("elsewhere");
    let restored = restored(&place, None, &data).await.unwrap();
    assert_eq!((restored.copied, restored.kept), (made.copied, 0));
    assert_eq!(restored.object_store, None);
    let key = fs::metadata(data.join("tls/ca.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let cloud = start_with(&data, NEVER).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 0).await, expected);
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    assert_eq!(edge.head.next.0, 110);
    edge.land(10).await;
    assert_eq!(fetch_all(&mut client, target, 110).await.len(), 1);
    cloud.shutdown().await;
}

/// A cloud that has stopped, with segments and something that is not packed.
async fn stopped(data: &Path) -> Source {
    let cloud = start_with(data, AT_ONCE).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    until_packed(&cloud, edge.target, 10).await;
    cloud.shutdown().await;
    let cloud = start_with(data, NEVER).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    edge.land(10).await;
    cloud.shutdown().await;
    source(data)
}

#[tokio::test]
async fn a_second_backup_copies_only_segments_that_are_new() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cloud");
    let source = stopped(&data).await;
    let place = place(scratch.path());
    let first = made(&source, &place, "monday", 1).await.unwrap();
    assert_eq!((first.copied, first.kept), (1, 0));
    let key = scratch.path().join("kept/backups/monday/tls/ca.key");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    assert_eq!(mode(key.parent().unwrap()), 0o700);
    let again = made(&source, &place, "monday", 2).await.unwrap_err();
    assert!(matches!(again, BackupError::Exists { .. }), "{again}");

    let cloud = start_with(&data, AT_ONCE).await;
    let target = Edge::connect(cloud.broker(), "press-4").await.target;
    until_packed(&cloud, target, 20).await;
    cloud.shutdown().await;
    let second = made(&source, &place, "tuesday", 2).await.unwrap();
    assert_eq!((second.copied, second.kept), (1, 1));
    let newest = restored(&place, None, &scratch.path().join("b")).await;
    assert_eq!(newest.unwrap().manifest, second.manifest);
    let older = restored(&place, Some("monday"), &scratch.path().join("a")).await;
    assert_eq!(older.unwrap().manifest, first.manifest);
}

/// Every file below a folder.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let (folders, mut found): (Vec<_>, Vec<_>) =
        files(folder).into_iter().partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| all_files(folder)));
    found
}

#[tokio::test]
async fn a_flipped_byte_in_any_file_is_told_with_its_name_and_nothing_is_restored() {
    let scratch = tempfile::tempdir().unwrap();
    let source = stopped(&scratch.path().join("cloud")).await;
    let place = place(scratch.path());
    let manifest = made(&source, &place, "monday", 1).await.unwrap().manifest;
    let target = scratch.path().join("elsewhere");
    let found = all_files(&scratch.path().join("kept"));
    // Manifest, snapshot, at least one file of the log, four of the CA and the hub, one segment.
    assert!(found.len() >= 8, "{found:?}");
    for path in found {
        let whole = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.strip_suffix(".json").unwrap_or(name);
        if name == "begun" {
            // It means nothing.
            continue;
        }
        let mut flipped = whole.clone();
        let middle = whole.len() / 2;
        flipped[middle] ^= 1;
        for broken in [Some(&flipped[..]), Some(&whole[..middle]), None] {
            match broken {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None if name == "manifest" => continue,
                None => fs::remove_file(&path).unwrap(),
            }
            let error = restored(&place, None, &target).await.unwrap_err();
            assert!(error.to_string().contains(name), "{name}: {error}");
            if name != "manifest" {
                let verified = verify(&place, &manifest, &mut BTreeSet::new(), &|_| {}).await;
                let error = verified.unwrap_err().to_string();
                assert!(error.contains(name), "{name}: {error}");
            }
            assert_eq!(all_files(&target), Vec::<PathBuf>::new(), "{name}");
        }
        fs::write(&path, &whole).unwrap();
    }
    let mut checked = BTreeSet::new();
    let verified = verify(&place, &manifest, &mut checked, &|_| {}).await;
    verified.unwrap();
    assert_eq!(checked.len(), 1);
    restored(&place, None, &target).await.unwrap();
}

#[tokio::test]
async fn what_was_cut_short_is_no_backup_and_what_was_copied_of_it_is_used() {
    let scratch = tempfile::tempdir().unwrap();
    let source = stopped(&scratch.path().join("cloud")).await;
    let place = place(scratch.path());
    let target = scratch.path().join("elsewhere");
    let error = restored(&place, None, &target).await.unwrap_err();
    assert!(matches!(error, RestoreError::NoBackup { .. }), "{error}");
    made(&source, &place, "monday", 1).await.unwrap();
    fs::remove_file(scratch.path().join("kept/backups/monday/manifest.json")).unwrap();
    let listed = place.list().await.unwrap();
    assert!(matches!(listed[0].state, BackupState::Unfinished));
    for name in [None, Some("monday")] {
        let error = restored(&place, name, &target).await.unwrap_err();
        let is_told = matches!(
            error,
            RestoreError::NoBackup { .. } | RestoreError::Unfinished { .. }
        );
        assert!(is_told, "{error}");
    }
    let next = made(&source, &place, "tuesday", 2).await.unwrap();
    assert_eq!((next.copied, next.kept), (0, 1));
    let newest = restored(&place, None, &target).await.unwrap();
    assert_eq!(newest.manifest.name, named("tuesday"));
    let other = stopped(&scratch.path().join("other")).await;
    made(&other, &place, "wednesday", 3).await.unwrap();
    let data = scratch.path().join("b");
    let error = restored(&place, None, &data).await.unwrap_err();
    assert!(
        matches!(error, RestoreError::SeveralClouds { .. }),
        "{error}"
    );
    restored(&place, Some("wednesday"), &data).await.unwrap();

    let error = restored(&place, Some("friday"), &scratch.path().join("a")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("monday, tuesday, wednesday"), "{error}");
}

/// One that fails says so, and leaves nothing that looks like one.
#[tokio::test]
async fn a_backup_that_fails_leaves_none() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cloud");
    let source = stopped(&data).await;
    let place = place(scratch.path());
    let segment = segments(&data).remove(0);
    let whole = fs::read(&segment).unwrap();
    for broken in [Some(&whole[1..]), None] {
        match broken {
            Some(bytes) => fs::write(&segment, bytes).unwrap(),
            None => fs::remove_file(&segment).unwrap(),
        }
        let error = made(&source, &place, "monday", 1).await.unwrap_err();
        let name = segment.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
        assert!(place.list().await.unwrap().is_empty());
        assert_eq!(
            all_files(&scratch.path().join("kept")),
            Vec::<PathBuf>::new()
        );
    }
    let other = Source {
        running: Some((77, 0)),
        ..source.clone()
    };
    let error = made(&other, &place, "monday", 1).await.unwrap_err();
    assert!(matches!(error, BackupError::OtherCloud { .. }), "{error}");
    let nothing = Source {
        data: scratch.path().join("nothing"),
        ..source
    };
    let error = made(&nothing, &place, "monday", 1).await.unwrap_err();
    assert!(matches!(error, BackupError::NoData(_)), "{error}");
}

#[tokio::test]
async fn a_folder_with_anything_in_it_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let source = stopped(&scratch.path().join("cloud")).await;
    let place = place(scratch.path());
    made(&source, &place, "monday", 1).await.unwrap();
    let target = scratch.path().join("elsewhere");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("notes"), b"mine").unwrap();
    let error = restored(&place, None, &target).await.unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty(_)), "{error}");
    assert_eq!(all_files(&target), [target.join("notes")]);

    // Nor does a cloud start where a restore was cut short.
    fs::remove_file(target.join("notes")).unwrap();
    restored(&place, None, &target).await.unwrap();
    fs::write(target.join("restoring"), b"").unwrap();
    let yaml = format!(
        "{{data: {}, kafka: {{address: 127.0.0.1:0}}, http: {{address: 127.0.0.1:0}}, bridge: {{address: 127.0.0.1:0}}}}",
        target.display()
    );
    let config = Config::parse(&yaml).unwrap();
    let error = Box::pin(Cloud::start(config.clone())).await.unwrap_err();
    assert!(error.to_string().contains("restore again"), "{error}");
    fs::remove_file(target.join("restoring")).unwrap();
    let cloud = Box::pin(Cloud::start(config)).await.unwrap();
    cloud.shutdown().await;
}

/// While a backup is made nothing goes of what the state needs that it copies, however long it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_a_backup_relies_on_stays_until_it_has_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cloud");
    let cloud = start_with(&data, AND_SWEPT).await;
    let mut edge = Edge::connect(cloud.broker(), "press-4").await;
    let target = edge.target;
    edge.land(10).await;
    until_packed(&cloud, target, 10).await;
    let segment = segments(&data).remove(0);
    let held = hold(&cloud).await;
    let source = held.source();
    let place = place(scratch.path());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (end, ends) = std::sync::mpsc::channel();
    let making = tokio::spawn(async move {
        let waits = Mutex::new(Some((begun, ends)));
        // The state was read, the segment was not.
        let wait = |_| {
            if let Some((begun, ends)) = waits.lock().unwrap().take() {
                begun.send(()).unwrap();
                ends.recv_timeout(DEADLINE).unwrap();
            }
        };
        let made = make(&source, &place, (named("monday"), 1), false, &wait).await;
        (made, place)
    });
    begins.await.unwrap();
    let start = KafkaOffset(10);
    let trim = Entry::Trim(Trim { target, start });
    cloud.broker().submit(vec![(trim, None)]).await.unwrap();
    // Without the hold it would go once the second snapshot from now on is there.
    for round in 2..=5 {
        edge.land(10).await;
        until_packed(&cloud, target, 10 * round).await;
    }
    assert!(segment.exists());
    end.send(()).unwrap();
    let (made, place) = making.await.unwrap();
    let made = made.unwrap();
    assert_eq!((made.manifest.records(), made.copied), (10, 1));
    drop(held);
    let swept = async {
        while segment.exists() {
            edge.land(1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, swept).await.is_ok());
    cloud.shutdown().await;
    let data = scratch.path().join("elsewhere");
    restored(&place, None, &data).await.unwrap();
    let cloud = start_with(&data, NEVER).await;
    let mut client = Client::connect(&cloud).await;
    assert_eq!(fetch_all(&mut client, target, 0).await.len(), 1);
    cloud.shutdown().await;
}
