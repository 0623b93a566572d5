//! What a store does wrong on the way, and what comes of it: nothing, an error that says whether to come again,
//! never wrong bytes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_cloud::store::limits::PUT_SINGLE_BYTES_MAX;
use tidegate_cloud::store::{Created, Operation, Retry, Store, StoreError};

use crate::contract::body;
use crate::s3_relay::{Fault, Relay};
use crate::servers::S3;

pub(crate) const RETRY: Retry = Retry {
    wait_min: Duration::from_millis(5),
    wait_max: Duration::from_millis(50),
    total_max: Duration::from_secs(20),
    request_max: Duration::from_secs(2),
};

/// All of it, by S3's uploads in parts.
pub(crate) async fn stand_all(server: &S3) {
    let proxy = Relay::new(server.address);
    let open = |bucket: &str, retry| {
        server.store_with(&format!("s3://{bucket}/faults"), &proxy.endpoint(), retry)
    };
    stand_but_uploads(&proxy, "DELETE", open).await;
    let store = open("tidegate", RETRY);
    let lines = [
        ("POST", "uploads"),
        ("PUT", "partNumber"),
        ("POST", "uploadId"),
    ];
    long_object(&store, &proxy, &lines).await;
    uploads(&store, &proxy, server).await;
}

/// All but uploads in parts, of any kind of store over HTTP: how it deletes, and what opens a bucket by the relay.
pub(crate) async fn stand_but_uploads(
    proxy: &Relay,
    deletes_by: &'static str,
    open: impl Fn(&str, Retry) -> Store,
) {
    let store = open("tidegate", RETRY);
    writes(&store, proxy).await;
    reads(&store, proxy).await;
    creations(&store, proxy).await;
    listings_and_deletions(&store, proxy, deletes_by).await;
    let hasty = Retry {
        total_max: Duration::from_secs(1),
        request_max: Duration::from_millis(300),
        ..RETRY
    };
    for_ever(&open("tidegate", hasty), proxy).await;
    refusals(&store, proxy).await;
    let elsewhere = open("no-such-bucket", Retry::default());
    let error = elsewhere.put("a", vec![body(1, 1)]).await.unwrap_err();
    assert!(
        error.to_string().contains("bucket") && !error.may_pass(),
        "{error}"
    );
}

const ALL: [Fault; 7] = [
    Fault::Answer(500),
    Fault::Answer(503),
    Fault::Answer(429),
    Fault::Cut,
    Fault::DoneButAnswered(500),
    Fault::DoneButCut,
    Fault::Silence,
];

async fn writes(store: &Store, proxy: &Relay) {
    for (at, fault) in ALL.into_iter().enumerate() {
        let key = format!("written/{at}");
        proxy.fail("PUT", "", fault, 2);
        store.put(&key, vec![body(5_000, 1)]).await.unwrap();
        assert_eq!(proxy.heal(), 2, "{fault:?}");
        assert_eq!(store.read_whole(&key).await.unwrap(), body(5_000, 1));
    }
}

async fn reads(store: &Store, proxy: &Relay) {
    let object = body(100_000, 2);
    store.put("read", vec![object.clone()]).await.unwrap();
    for fault in ALL.into_iter().chain([Fault::HalfAnswer]) {
        for range in [0..100_000, 20_000..70_000] {
            proxy.fail("GET", "", fault, 2);
            let found = store.read("read", range.clone()).await.unwrap();
            assert!(found == object.slice(range.start as usize..range.end as usize));
            assert_eq!(proxy.heal(), 2, "{fault:?}");
        }
        proxy.fail("GET", "", fault, 1);
        assert!(
            store.read_whole("read").await.unwrap() == object,
            "{fault:?}"
        );
        proxy.heal();
        proxy.fail("HEAD", "", fault, 1);
        let size = store.size("read").await;
        assert_eq!(size.unwrap(), 100_000, "{fault:?}");
        proxy.heal();
    }
}

async fn creations(store: &Store, proxy: &Relay) {
    for (at, fault) in ALL.into_iter().enumerate() {
        let key = format!("created/{at}");
        proxy.fail("PUT", "", fault, 1);
        let created = store.create(&key, body(500, 3)).await.unwrap();
        assert_eq!(created, Created::New, "{fault:?}: it is our own");
        assert_eq!(proxy.heal(), 1);
        proxy.fail("PUT", "", fault, 1);
        let created = store.create(&key, body(500, 4)).await.unwrap();
        assert_eq!(created, Created::Exists, "{fault:?}: it is another's");
        proxy.heal();
        assert_eq!(store.read_whole(&key).await.unwrap(), body(500, 3));
    }
}

/// An object in parts, while its requests of these lines fail.
pub(crate) async fn long_object(
    store: &Store,
    proxy: &Relay,
    lines: &[(&'static str, &'static str)],
) {
    let object = body(PUT_SINGLE_BYTES_MAX as usize + 1, 5);
    for (method, text) in lines.iter().copied() {
        for fault in [Fault::Answer(503), Fault::DoneButCut] {
            proxy.fail(method, text, fault, 1);
            store.put("long", vec![object.clone()]).await.unwrap();
            assert_eq!(proxy.heal(), 1, "{method} {text} {fault:?}");
            assert!(store.read_whole("long").await.unwrap() == object);
            store.delete("long").await.unwrap();
        }
    }
}

async fn uploads(store: &Store, proxy: &Relay, server: &S3) {
    let object = body(PUT_SINGLE_BYTES_MAX as usize + 1, 5);
    // An upload whose beginning was answered by nothing is known to nobody: a rule of the bucket ends it.
    let unknown = server.uploads();
    assert_eq!(unknown, 1);

    let retry = Retry {
        total_max: Duration::from_millis(300),
        ..RETRY
    };
    let hasty = server.store_with("s3://tidegate/faults", &proxy.endpoint(), retry);
    proxy.fail("PUT", "partNumber=2", Fault::Answer(500), u32::MAX);
    let error = hasty.put("half", vec![object.clone()]).await.unwrap_err();
    proxy.heal();
    assert!(error.may_pass(), "{error}");
    assert!(hasty.read_whole("half").await.unwrap_err().is_not_found());
    assert_eq!(server.uploads(), unknown, "half a multipart is aborted");

    // Nobody waits any more, and it is aborted all the same.
    proxy.fail("PUT", "partNumber=2", Fault::Silence, u32::MAX);
    let dropped = tokio::time::timeout(Duration::from_secs(1), store.put("left", vec![object]));
    assert!(dropped.await.is_err());
    proxy.heal();
    let begun = Instant::now();
    while server.uploads() != unknown {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "an upload that was left is not aborted"
        );
        tokio::task::yield_now().await;
    }
}

async fn listings_and_deletions(store: &Store, proxy: &Relay, deletes_by: &'static str) {
    for at in 0..5 {
        store
            .put(&format!("listed/{at}"), vec![body(10, at)])
            .await
            .unwrap();
    }
    for fault in ALL.into_iter().chain([Fault::HalfAnswer]) {
        proxy.fail("GET", "prefix=", fault, 1);
        let page = store.list("listed", None, 100).await;
        assert_eq!(page.unwrap().objects.len(), 5, "{fault:?}");
        assert_eq!(proxy.heal(), 1, "{fault:?}");
    }
    for (at, fault) in ALL.into_iter().enumerate() {
        let key = format!("deleted/{at}");
        store.put(&key, vec![body(10, 1)]).await.unwrap();
        proxy.fail(deletes_by, "", fault, 1);
        store.delete(&key).await.unwrap();
        assert_eq!(proxy.heal(), 1, "{fault:?}");
        assert!(store.size(&key).await.unwrap_err().is_not_found());
    }
}

/// A store that stays broken: an error in time, that says so.
async fn for_ever(store: &Store, proxy: &Relay) {
    for fault in [Fault::Answer(503), Fault::Cut, Fault::Silence] {
        for method in ["PUT", "GET"] {
            proxy.fail(method, "", fault, u32::MAX);
        }
        let begun = Instant::now();
        let put = store
            .put("broken", vec![Bytes::from_static(b"a")])
            .await
            .unwrap_err();
        let read = store.read("broken", 0..1).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10), "{fault:?}");
        let hits = proxy.heal();
        for error in [put, read] {
            let StoreError::Unavailable { attempts, key, .. } = &error else {
                panic!("{fault:?}: {error}");
            };
            assert!(
                *attempts > 1 && key == "broken" && error.may_pass(),
                "{error}"
            );
            assert!(error.to_string().contains(store.url().as_str()), "{error}");
        }
        let usage = store.usage();
        assert!(usage.requests(Operation::Put) + usage.requests(Operation::Get) >= hits.into());
    }
}

/// What trying again does not help: told at once.
async fn refusals(store: &Store, proxy: &Relay) {
    for status in [400, 403, 501] {
        proxy.fail("PUT", "", Fault::Answer(status), u32::MAX);
        let error = store.put("refused", vec![body(1, 1)]).await.unwrap_err();
        assert_eq!(proxy.heal(), 1, "{status} is not tried again");
        assert!(
            matches!(error, StoreError::Refused { .. }),
            "{status}: {error}"
        );
    }
}
