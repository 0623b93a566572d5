//! Every kind of store keeps one contract: memory, a folder, and S3 as real servers speak it (moto in quick
//! runs; Ceph's radosgw with TIDEGATE_TEST_FULL=1). Then the faults: what a store may do wrong on the way, by a
//! relay before the same servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod faults;
#[allow(dead_code, reason = "the system tests use the rest")]
#[path = "../../../../tests/system/src/s3_relay.rs"]
mod s3_relay;
mod servers;
mod synced;

use std::path::Path;

use tidegate_cloud::store::{Store, StoreMetrics, StoreOptions, StoreUrl};

use servers::{S3, SKIPPED};

fn local(url: &StoreUrl) -> Store {
    Store::open(url, &StoreOptions::default(), &StoreMetrics::default()).unwrap()
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::hold(&local(&"memory://".parse().unwrap())).await;
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("not/there/yet");
    contract::hold(&local(&StoreUrl::folder(&folder))).await;
    let left = unfinished(&folder);
    assert!(left.is_empty(), "{left:?}");
}

/// Files that were begun and not finished.
fn unfinished(folder: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            left.extend(unfinished(&path));
        } else if path.to_string_lossy().contains('#') {
            left.push(path.display().to_string());
        }
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_by_moto_keeps_the_contract() {
    let Some(server) = S3::moto() else {
        println!("{SKIPPED}");
        return;
    };
    contract::hold(&server.store("s3://tidegate/some/prefix", &server.endpoint())).await;
    assert_eq!(server.uploads(), 0, "no part is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_by_radosgw_keeps_the_contract_and_stands_the_faults() {
    let Some(server) = S3::radosgw() else {
        return;
    };
    contract::hold(&server.store("s3://tidegate/some/prefix", &server.endpoint())).await;
    assert_eq!(server.uploads(), 0, "no part is left behind");
    faults::stand_all(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_by_moto_stands_the_faults() {
    let Some(server) = S3::moto() else {
        println!("{SKIPPED}");
        return;
    };
    faults::stand_all(&server).await;
}
