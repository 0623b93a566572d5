//! The house's directions (DESIGN section 2), read from `cargo metadata`, and its top level.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use tidegate_system_tests::workspace;

const SHARED: &str = "tidegate-shared";
const EDGE_PROTOCOL: &str = "tidegate-edge-protocol";
const JOURNAL: &str = "tidegate-edge-journal";
const EDGE: &str = "tidegate-edge";
const BRIDGE_PROTOCOL: &str = "tidegate-bridge-protocol";
const BRIDGE: &str = "tidegate-bridge";
const CLOUD_PROTOCOL: &str = "tidegate-cloud-protocol";
const CLOUD: &str = "tidegate-cloud";
const CLI: &str = "tidegate";
const SIMULATION: &str = "tidegate-simulation";

/// Each product crate and the simulation, where it lies, and which of ours it may import.
const MAY_IMPORT: [(&str, &str, &[&str]); 10] = [
    (SHARED, "shared", &[]),
    (EDGE_PROTOCOL, "edge/protocol", &[SHARED]),
    (JOURNAL, "edge/journal", &[SHARED]),
    (
        EDGE,
        "edge/node",
        &[SHARED, EDGE_PROTOCOL, JOURNAL, BRIDGE_PROTOCOL, BRIDGE],
    ),
    (BRIDGE_PROTOCOL, "bridge/protocol", &[SHARED]),
    (BRIDGE, "bridge/transport", &[SHARED, BRIDGE_PROTOCOL]),
    (CLOUD_PROTOCOL, "cloud/protocol", &[SHARED, BRIDGE_PROTOCOL]),
    (
        CLOUD,
        "cloud/broker",
        &[SHARED, BRIDGE_PROTOCOL, BRIDGE, CLOUD_PROTOCOL],
    ),
    (
        CLI,
        "deploy/cli",
        &[SHARED, BRIDGE_PROTOCOL, BRIDGE, EDGE, CLOUD],
    ),
    (
        SIMULATION,
        "tests/simulation",
        &[
            SHARED,
            EDGE_PROTOCOL,
            JOURNAL,
            BRIDGE_PROTOCOL,
            CLOUD_PROTOCOL,
        ],
    ),
];

/// What a protocol does not reach, at any depth: I/O, runtimes, stores.
const NO_IO: [&str; 12] = [
    "tokio",
    "redb",
    "quinn",
    "object_store",
    "mio",
    "socket2",
    "async-std",
    "smol",
    "hyper",
    "axum",
    "reqwest",
    "rumqttc",
];

/// What the top level holds beside dotfiles.
const TOP_LEVEL: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "README.md",
    "LICENSE",
    "shared",
    "edge",
    "bridge",
    "cloud",
    "deploy",
    "images",
    "tests",
    "target",
    "tidegate-data",
];

/// A crate's name, folder, and normal and build dependencies by name.
struct Metadata {
    members: BTreeMap<String, String>,
    direct: BTreeMap<String, BTreeSet<String>>,
}

fn metadata() -> Metadata {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(workspace::root());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut names = BTreeMap::new();
    let mut members = BTreeMap::new();
    let member_ids = json["workspace_members"].as_array().unwrap();
    for package in json["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap().to_owned();
        if member_ids.contains(&package["id"]) {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let folder = manifest
                .parent()
                .unwrap()
                .strip_prefix(workspace::root())
                .unwrap();
            members.insert(name.clone(), folder.display().to_string());
        }
        names.insert(package["id"].as_str().unwrap().to_owned(), name);
    }
    let mut direct: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for node in json["resolve"]["nodes"].as_array().unwrap() {
        let imports = direct
            .entry(names[node["id"].as_str().unwrap()].clone())
            .or_default();
        for dependency in node["deps"].as_array().unwrap() {
            let mut kinds = dependency["dep_kinds"].as_array().unwrap().iter();
            if kinds.any(|kind| kind["kind"] != "dev") {
                imports.insert(names[dependency["pkg"].as_str().unwrap()].clone());
            }
        }
    }
    Metadata { members, direct }
}

impl Metadata {
    /// All that a crate reaches.
    fn reached(&self, from: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut left = vec![from.to_owned()];
        while let Some(name) = left.pop() {
            for import in self.direct.get(&name).into_iter().flatten() {
                if reached.insert(import.clone()) {
                    left.push(import.clone());
                }
            }
        }
        reached
    }

    /// Our own crates that a crate imports.
    fn ours(&self, name: &str) -> BTreeSet<&str> {
        let imports = self.direct[name].iter().map(String::as_str);
        imports
            .filter(|import| self.members.contains_key(*import))
            .collect()
    }
}

#[test]
fn crates_import_only_downwards() {
    let metadata = metadata();
    for (name, folder, allowed) in MAY_IMPORT {
        assert_eq!(
            metadata.members.get(name).map(String::as_str),
            Some(folder),
            "{name}"
        );
        for import in metadata.ours(name) {
            assert!(allowed.contains(&import), "{name} must not import {import}");
        }
    }
}

#[test]
fn every_crate_has_its_place() {
    for (name, folder) in metadata().members {
        let known = MAY_IMPORT.iter().any(|(known, ..)| *known == name);
        assert!(
            known || folder.starts_with("tests/"),
            "{name} in {folder} has no place in DESIGN"
        );
    }
}

#[test]
fn protocols_reach_no_io() {
    let metadata = metadata();
    for name in [SHARED, EDGE_PROTOCOL, BRIDGE_PROTOCOL, CLOUD_PROTOCOL] {
        let reached = metadata.reached(name);
        for banned in NO_IO {
            assert!(!reached.contains(banned), "{name} reaches {banned}");
        }
    }
    assert!(
        !metadata.reached(JOURNAL).contains("tokio"),
        "simulations run the real journal"
    );
}

#[test]
fn edge_and_cloud_never_import_each_other() {
    let metadata = metadata();
    for edge in [EDGE_PROTOCOL, JOURNAL, EDGE] {
        for cloud in [CLOUD_PROTOCOL, CLOUD] {
            assert!(
                !metadata.reached(edge).contains(cloud),
                "{edge} reaches {cloud}"
            );
            assert!(
                !metadata.reached(cloud).contains(edge),
                "{cloud} reaches {edge}"
            );
        }
    }
}

#[test]
fn system_tests_see_only_what_a_user_sees() {
    let ours = metadata();
    assert_eq!(ours.ours("tidegate-system-tests"), BTreeSet::new());
}

/// "A type enters `shared/` only if an edge crate and a cloud crate both import it": of the crate
/// itself this is checked; of single types it is a matter for review.
#[test]
fn shared_is_shared() {
    let metadata = metadata();
    for user in [EDGE_PROTOCOL, CLOUD_PROTOCOL] {
        assert!(
            metadata.reached(user).contains(SHARED),
            "{user} does not use {SHARED}"
        );
    }
}

#[test]
fn the_top_level_stays() {
    for entry in std::fs::read_dir(workspace::root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name.starts_with('.') || TOP_LEVEL.contains(&name.as_str());
        assert!(
            known,
            "{name} has no place at the top level (DESIGN, section 2)"
        );
    }
}
