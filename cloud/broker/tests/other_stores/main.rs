//! The kinds of store that only some builds have keep the same contract as the others: Google's, Azure's, a web
//! server, Hadoop's. Each against an emulator or the real thing, as `tests/stores` builds or Debian has it; then the
//! whole cloud once with each that can be written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cloud;
#[allow(dead_code, reason = "the others' test uses the rest")]
#[path = "../object_store/contract.rs"]
mod contract;
#[allow(dead_code, reason = "S3's test uses the rest")]
#[path = "../object_store/faults.rs"]
mod faults;
#[path = "servers.rs"]
mod other_servers;
#[allow(dead_code, reason = "the system tests use the rest")]
#[path = "../../../../tests/system/src/s3_relay.rs"]
mod s3_relay;
#[allow(dead_code, reason = "S3's test uses the rest")]
#[path = "../object_store/servers.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tidegate_cloud::store::{Retry, Store, StoreError, StoreMetrics, StoreOptions};

use s3_relay::Relay;
use servers::{S3, SKIPPED};
use support::DEADLINE;

type Environment = BTreeMap<String, String>;

fn open(url: &str, environment: Environment, retry: Retry) -> Store {
    let options = StoreOptions { environment, retry };
    Store::open(&url.parse().unwrap(), &options, &StoreMetrics::default()).unwrap()
}

/// What a user of another endpoint than Google's sets.
fn google(address: SocketAddr) -> Environment {
    let variables = [
        ("GOOGLE_BASE_URL", format!("http://{address}")),
        ("GOOGLE_ALLOW_HTTP", "true".into()),
        ("GOOGLE_BEARER_TOKEN", "any".into()),
    ];
    variables.map(|(name, value)| (name.into(), value)).into()
}

/// What a user of Azurite sets; the account is the one that every Azurite has.
fn azurite(address: SocketAddr) -> Environment {
    let key =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    let variables = [
        (
            "AZURE_STORAGE_ENDPOINT",
            format!("http://{address}/devstoreaccount1"),
        ),
        ("AZURE_ALLOW_HTTP", "true".into()),
        ("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1".into()),
        ("AZURE_STORAGE_ACCOUNT_KEY", key.into()),
    ];
    variables.map(|(name, value)| (name.into(), value)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs_by_fake_gcs_server_keeps_the_contract_but_for_parts() {
    let Some(server) = other_servers::gcs() else {
        return;
    };
    let store = open(
        "gs://tidegate/some/prefix",
        google(server.address),
        Retry::default(),
    );
    contract::hold_but_long_objects(&store).await;
}

/// fake-gcs-server has no uploads in parts. In Google's XML API they are as in S3, which moto speaks; what moto
/// does not know is Google's condition for a creation.
#[tokio::test(flavor = "multi_thread")]
async fn gcs_by_moto_keeps_the_contract_but_for_creation() {
    let Some(server) = S3::moto() else {
        println!("{SKIPPED}");
        return;
    };
    let store = open(
        "gs://tidegate/some/prefix",
        google(server.address),
        Retry::default(),
    );
    contract::hold_but_creation_and_long_objects(&store).await;
    contract::long_objects(&store).await;
    assert_eq!(server.uploads(), 0, "no part is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs_by_fake_gcs_server_stands_the_faults() {
    let Some(server) = other_servers::gcs() else {
        return;
    };
    let relay = Relay::new(server.address);
    let relayed = |bucket: &str, retry| {
        open(
            &format!("gs://{bucket}/faults"),
            google(relay.address()),
            retry,
        )
    };
    faults::stand_but_uploads(&relay, "DELETE", relayed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_has_its_segments_and_its_log_in_gcs() {
    let Some(server) = other_servers::gcs() else {
        return;
    };
    cloud::serve("gs://tidegate/plant", google(server.address)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_by_azurite_keeps_the_contract() {
    let Some(server) = other_servers::azure() else {
        return;
    };
    let store = open(
        "az://tidegate/some/prefix",
        azurite(server.address),
        Retry::default(),
    );
    contract::hold(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_by_azurite_stands_the_faults() {
    let Some(server) = other_servers::azure() else {
        return;
    };
    let relay = Relay::new(server.address);
    let relayed = |container: &str, retry| {
        open(
            &format!("az://{container}/faults"),
            azurite(relay.address()),
            retry,
        )
    };
    // It deletes by a batch of one.
    faults::stand_but_uploads(&relay, "POST", relayed).await;
    let lines = [("PUT", "comp=block&"), ("PUT", "comp=blocklist")];
    faults::long_object(&relayed("tidegate", faults::RETRY), &relay, &lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_has_its_segments_and_its_log_in_azure() {
    let Some(server) = other_servers::azure() else {
        return;
    };
    cloud::serve("az://tidegate/plant", azurite(server.address)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hdfs_by_a_small_cluster_keeps_the_contract() {
    let Some(server) = other_servers::hdfs() else {
        return;
    };
    let url = format!("hdfs://{}/some/prefix", server.address);
    contract::hold(&open(&url, Environment::new(), Retry::default())).await;
    until_nothing_is_left(server.address).await;
}

/// Of objects that another created first, or whose writer gave up, no file is left.
async fn until_nothing_is_left(address: SocketAddr) {
    let client = hdfs_native::ClientBuilder::new().with_url(format!("hdfs://{address}"));
    let client = client.build().unwrap();
    let looking = async {
        loop {
            let files = client.list_status("/", true).await.unwrap();
            let mut left = files.into_iter().filter(|file| file.path.contains(".tmp."));
            let Some(file) = left.next() else { return };
            println!("{} is left", file.path);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let looked = tokio::time::timeout(DEADLINE, looking).await;
    assert!(looked.is_ok(), "files are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn hdfs_has_an_object_on_its_disks_and_a_write_that_is_given_up_leaves_nothing() {
    let Some(mut server) = other_servers::hdfs() else {
        return;
    };
    let url = format!("hdfs://{}/syncs", server.address);
    let store = open(&url, Environment::new(), Retry::default());
    let before: u64 = server.ask("syncs").parse().unwrap();
    for at in 0..5 {
        let object = contract::body(100_000, at);
        store
            .put(&format!("object/{at}"), vec![object])
            .await
            .unwrap();
    }
    // Each of three data nodes syncs the block of each object.
    let after: u64 = server.ask("syncs").parse().unwrap();
    assert!(after >= before + 15, "{before} {after}");

    let object = contract::body(30_000_000, 7);
    let mut given_up = 0;
    for wait_ms in [1, 5, 10, 20, 50, 100, 200] {
        let put = store.put("given/up", vec![object.clone()]);
        let ended = tokio::time::timeout(Duration::from_millis(wait_ms), put).await;
        given_up += u32::from(ended.is_err());
    }
    assert!(given_up > 0);
    store.put("given/up", vec![object.clone()]).await.unwrap();
    assert!(store.read_whole("given/up").await.unwrap() == object);
    until_nothing_is_left(server.address).await;

    // As a writer leaves it that was killed.
    store.put("given/.up.tmp.17", Vec::new()).await.unwrap();
    let page = store.list("given", None, 10).await.unwrap();
    let keys: Vec<_> = page.objects.iter().map(|object| &object.key).collect();
    assert_eq!(keys, ["given/up"]);
}

/// What is not there for a while is waited for, and told as what may pass.
#[tokio::test(flavor = "multi_thread")]
async fn hdfs_comes_back_from_safe_mode_and_without_its_nodes() {
    let Some(mut server) = other_servers::hdfs() else {
        return;
    };
    let url = format!("hdfs://{}/faults", server.address);
    let patient = open(&url, Environment::new(), Retry::default());
    let hasty = Retry {
        total_max: Duration::from_secs(1),
        request_max: Duration::from_secs(3),
        ..faults::RETRY
    };
    let hasty = open(&url, Environment::new(), hasty);
    patient
        .put("before", vec![contract::body(5_000, 1)])
        .await
        .unwrap();
    for (lost, back) in [("safe mode", "no safe mode"), ("no name node", "name node")] {
        server.change(lost);
        let error = hasty
            .put("written", vec![contract::body(5_000, 2)])
            .await
            .unwrap_err();
        assert!(error.may_pass(), "{lost}: {error}");
        let waiting = tokio::spawn({
            let patient = patient.clone();
            async move { patient.put("written", vec![contract::body(5_000, 3)]).await }
        });
        server.change(back);
        waiting.await.unwrap().unwrap();
        let found = patient.read_whole("written").await.unwrap();
        assert!(found == contract::body(5_000, 3), "{back}");
    }
    server.change("no data nodes");
    let written = hasty.put("written", vec![contract::body(5_000, 4)]).await;
    let read = hasty.read_whole("before").await.map(drop);
    for error in [written.unwrap_err(), read.unwrap_err()] {
        assert!(error.may_pass(), "{error}");
    }
    server.change("no new files");
    let error = patient.put("more", vec![contract::body(1, 1)]).await;
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("quota") && !error.may_pass(),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_has_its_segments_and_its_log_in_hdfs() {
    let Some(server) = other_servers::hdfs() else {
        return;
    };
    let url = format!("hdfs://{}/plant", server.address);
    cloud::serve(&url, Environment::new()).await;
}

/// Of the contract what a store can keep that is only read.
#[tokio::test(flavor = "multi_thread")]
async fn http_by_apache_is_read_and_listed_and_refuses_to_be_written() {
    let Some(server) = other_servers::apache() else {
        return;
    };
    let object = contract::body(1_000, 1);
    server.place("some/prefix/ranges/a", &object);
    for key in contract::listed_keys() {
        server.place(&format!("some/prefix/{key}"), key.as_bytes());
    }
    let url = format!("http://{}/some/prefix", server.address);
    let store = open(&url, Environment::new(), Retry::default());
    assert_eq!(store.read_whole("ranges/a").await.unwrap(), object);
    assert_eq!(store.size("ranges/a").await.unwrap(), 1_000);
    contract::read_ranges(&store, "ranges/a", &object).await;
    contract::list(&store, contract::listed_keys()).await;
    for error in [
        store.read_whole("ranges/b").await.unwrap_err(),
        store.size("ranges/b").await.unwrap_err(),
        store.read("ranges/b", 3..4).await.unwrap_err(),
    ] {
        assert!(error.is_not_found(), "{error}");
    }
    let written = store.put("ranges/a", Vec::new()).await.unwrap_err();
    let created = store.create("new", Bytes::new()).await.unwrap_err();
    let deleted = store.delete("ranges/a").await.unwrap_err();
    for error in [written, created, deleted] {
        let is_told = error.to_string().contains("this store can only be read");
        assert!(is_told && !error.may_pass(), "{error}");
    }
    assert_eq!(store.read_whole("ranges/a").await.unwrap(), object);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_by_a_server_without_ranges_or_listing_is_refused_by_name() {
    let server = other_servers::without_ranges();
    server.place("a", b"whole");
    let url = format!("http://{}", server.address);
    let store = open(&url, Environment::new(), Retry::default());
    assert_eq!(store.read_whole("a").await.unwrap(), "whole");
    let ranged = store.read("a", 1..3).await.unwrap_err();
    let listed = store.list("", None, 10).await.unwrap_err();
    for error in [ranged, listed] {
        assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        println!("{error}");
    }
}
