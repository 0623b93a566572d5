//! What every store does, whatever its kind.

use bytes::Bytes;
use futures_util::future::join_all;
use tidegate_cloud::store::limits::{PART_BYTES, PUT_SINGLE_BYTES_MAX};
use tidegate_cloud::store::{Created, Operation, Store, StoreError};

/// Holds a store to all of it.
pub(crate) async fn hold(store: &Store) {
    hold_but_long_objects(store).await;
    long_objects(store).await;
}

/// To all of it that no upload in parts is needed for.
pub(crate) async fn hold_but_long_objects(store: &Store) {
    hold_but_creation_and_long_objects(store).await;
    creation(store).await;
}

/// To all of it that needs neither an upload in parts nor a condition.
pub(crate) async fn hold_but_creation_and_long_objects(store: &Store) {
    objects(store).await;
    ranges(store).await;
    listing(store).await;
    senseless_keys(store).await;
}

/// Bytes that tell where they are from.
pub(crate) fn body(length: usize, seed: u32) -> Bytes {
    let seed = seed.wrapping_mul(0x9e37_79b9);
    let byte = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) ^ seed).to_be_bytes()[0];
    (0..length).map(byte).collect::<Vec<_>>().into()
}

async fn objects(store: &Store) {
    let pieces = vec![
        Bytes::from_static(b"one, "),
        Bytes::new(),
        Bytes::from_static(b"two"),
    ];
    store.put("objects/a", pieces).await.unwrap();
    assert_eq!(store.read_whole("objects/a").await.unwrap(), "one, two");
    assert_eq!(store.size("objects/a").await.unwrap(), 8);
    store
        .put("objects/a", vec![Bytes::from_static(b"three")])
        .await
        .unwrap();
    assert_eq!(store.read_whole("objects/a").await.unwrap(), "three");
    store.put("objects/empty", Vec::new()).await.unwrap();
    assert_eq!(store.read_whole("objects/empty").await.unwrap(), "");
    assert_eq!(store.size("objects/empty").await.unwrap(), 0);
    store.delete("objects/a").await.unwrap();
    store.delete("objects/a").await.unwrap();
    assert!(
        store
            .read_whole("objects/a")
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(store.size("objects/a").await.unwrap_err().is_not_found());
    let error = store.read("objects/a", 3..4).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(
        error.to_string().contains("objects/a") && !error.may_pass(),
        "{error}"
    );
}

async fn ranges(store: &Store) {
    let object = body(1_000, 1);
    store.put("ranges/a", vec![object.clone()]).await.unwrap();
    read_ranges(store, "ranges/a", &object).await;
}

/// Of an object of 1,000 bytes.
pub(crate) async fn read_ranges(store: &Store, key: &str, object: &Bytes) {
    for range in [0..1, 0..1_000, 17..500, 999..1_000] {
        let found = store.read(key, range.clone()).await.unwrap();
        assert_eq!(
            found,
            object.slice(range.start as usize..range.end as usize)
        );
    }
    assert_eq!(store.read(key, 5..5).await.unwrap(), "");
    for wanted in [0..1_001, 999..1_001, 1_000..1_001, 5_000..6_000] {
        let error = store.read(key, wanted.clone()).await.unwrap_err();
        match error {
            StoreError::OutOfRange { range, size, .. } => {
                assert_eq!((range, size), (wanted, 1_000));
            }
            _ => panic!("{wanted:?}: {error}"),
        }
    }
}

async fn creation(store: &Store) {
    let (first, second) = (body(100, 1), body(100, 2));
    let created = store.create("creation/a", first.clone()).await.unwrap();
    assert_eq!(created, Created::New);
    for bytes in [second, first.clone()] {
        let created = store.create("creation/a", bytes).await.unwrap();
        assert_eq!(created, Created::Exists);
    }
    assert_eq!(store.read_whole("creation/a").await.unwrap(), first);

    for round in 0..5 {
        let key = format!("creation/race-{round}");
        let writers = (0..8).map(|writer| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move {
                store
                    .create(&key, body(5_000, 1_000 + writer))
                    .await
                    .unwrap()
            })
        });
        let created: Vec<_> = join_all(writers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let winners: Vec<_> = (0..8)
            .filter(|writer| created[*writer] == Created::New)
            .collect();
        assert_eq!(winners.len(), 1, "{created:?}");
        let found = store.read_whole(&key).await.unwrap();
        assert_eq!(
            found,
            body(5_000, 1_000 + winners[0] as u32),
            "the winner's"
        );
    }
}

async fn listing(store: &Store) {
    let keys = listed_keys();
    for key in &keys {
        store
            .put(key, vec![Bytes::from(key.clone())])
            .await
            .unwrap();
    }
    list(store, keys).await;
}

/// Each of them an object of its key's bytes.
pub(crate) fn listed_keys() -> Vec<String> {
    let mut keys: Vec<_> = (0..25).map(|at| format!("listing/a/{at:02}")).collect();
    keys.extend(["listing/a/05/deeper", "listing/a.b", "listing/ab/c"].map(str::to_owned));
    // A folder cannot hold a file and a folder of one name.
    keys.retain(|key| key != "listing/a/05");
    keys.sort();
    keys
}

pub(crate) async fn list(store: &Store, keys: Vec<String>) {
    let all = store.list("listing", None, 1_000).await.unwrap();
    let found: Vec<_> = all
        .objects
        .iter()
        .map(|object| object.key.clone())
        .collect();
    assert_eq!((found, all.more), (keys.clone(), false));
    for object in &all.objects {
        assert_eq!(object.bytes, object.key.len() as u64);
    }

    let wanted: Vec<_> = keys
        .iter()
        .filter(|key| key.starts_with("listing/a/"))
        .cloned()
        .collect();
    let mut found = Vec::new();
    loop {
        let after = found.last().map(String::as_str);
        let page = store.list("listing/a", after, 7).await.unwrap();
        assert_eq!(page.objects.len(), 7.min(wanted.len() - found.len()));
        found.extend(page.objects.into_iter().map(|object| object.key));
        if !page.more {
            break;
        }
    }
    assert_eq!(found, wanted);
    let nothing = store.list("listing/nothing", None, 10).await.unwrap();
    assert!(nothing.objects.is_empty() && !nothing.more);
}

pub(crate) async fn long_objects(store: &Store) {
    let length = (PUT_SINGLE_BYTES_MAX + PART_BYTES + 12_345) as usize;
    let object = body(length, 7);
    let pieces = object
        .chunks(3_333_333)
        .map(|piece| object.slice_ref(piece))
        .collect();
    let before = store.usage();
    store.put("long/a", pieces).await.unwrap();
    let usage = store.usage().since(&before);
    assert_eq!(usage.written_bytes, length as u64);
    let requests = [Operation::Put, Operation::Part, Operation::Multipart];
    let requests = requests.map(|kind| usage.requests(kind));
    // A file system's files are written on and on.
    let of_files = store.url().as_folder().is_some() || store.url().as_str().starts_with("hdfs:");
    assert_eq!(requests, if of_files { [1, 0, 0] } else { [0, 3, 2] });
    assert_eq!(store.size("long/a").await.unwrap(), length as u64);
    let across = PART_BYTES - 100..PART_BYTES + 100;
    let found = store.read("long/a", across.clone()).await.unwrap();
    assert_eq!(
        found,
        object.slice(across.start as usize..across.end as usize)
    );
    assert!(store.read_whole("long/a").await.unwrap() == object);
    store.delete("long/a").await.unwrap();
}

async fn senseless_keys(store: &Store) {
    for key in ["", "a//b", "a/../b", "."] {
        let error = store.put(key, Vec::new()).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Refused { .. }),
            "{key:?}: {error}"
        );
    }
}
