//! `tidegate cloud backups` and `restore`: what there is at a place, and putting one of it back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use tidegate_cloud::backup::{
    BackupName, BackupState, Listed, Manifest, Place, Progress, RestoreError, Restored, Wish,
    restore, verify,
};
use tidegate_cloud::store::{Store, StoreMetrics, StoreOptions, StoreUrl};
use tokio::runtime::Runtime;

use super::Said;
use crate::remote::show::{cell, count, table, time};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct PlaceArguments {
    /// Where the backups are: a folder, file:///…, s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    from: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Read all of each, and hold it against its CRC; exit 1 where one is damaged. Segments that were not
    /// copied are not read
    #[arg(long)]
    verify: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Which one; the newest where it is left out
    #[arg(long, value_name = "NAME")]
    backup: Option<BackupName>,
    /// The cloud's new data folder: empty, or not there yet
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the segments are to be; where they were before where it is left out
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
}

/// Opens a place where there are backups.
fn open_to_read(url: &str) -> anyhow::Result<Place> {
    let folder: StoreUrl = url.parse()?;
    if let Some(folder) = folder.as_folder() {
        anyhow::ensure!(folder.is_dir(), "there is no folder {}", folder.display());
    }
    open_place(url)
}

/// Opens a place for backups; a folder that is missing is made.
pub(super) fn open_place(url: &str) -> anyhow::Result<Place> {
    let url: StoreUrl = url.parse()?;
    anyhow::ensure!(
        !url.is_memory(),
        "a backup in memory:// would end with this command"
    );
    let store = Store::open(&url, &StoreOptions::from_env(), &StoreMetrics::default())?;
    Ok(Place::new(store))
}

pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Runtime::new().context("the runtime cannot be started")
}

/// How far it is, in one line that is rewritten, where somebody looks.
pub(super) struct Shown {
    is_terminal: bool,
    any: AtomicBool,
}

const CLEAR_LINE: &str = "\r\x1b[K";

impl Shown {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            any: AtomicBool::new(false),
        }
    }

    pub(super) fn show(&self, progress: Progress) {
        if self.is_terminal {
            self.any.store(true, Ordering::Relaxed);
            let mut err = io::stderr().lock();
            let _ = write!(err, "{CLEAR_LINE}{progress}").and_then(|()| err.flush());
        }
    }

    pub(super) fn end(&self) {
        if self.any.load(Ordering::Relaxed) {
            let _ = write!(io::stderr(), "{CLEAR_LINE}");
        }
    }
}

/// With `--verify` the exit code is 1 where one of them is damaged.
pub(super) fn list(arguments: &ListArguments) -> anyhow::Result<(Said, ExitCode)> {
    let place = open_to_read(&arguments.place.from)?;
    let runtime = runtime()?;
    let listed = runtime.block_on(place.list())?;
    let why = match arguments.verify {
        true => runtime.block_on(damaged(&place, &listed))?,
        false => BTreeMap::new(),
    };
    let why = |one: &Listed| why.get(&one.name).map(String::as_str);
    let told: Vec<Value> = listed.iter().map(|one| told(one, why(one))).collect();
    let rows: Vec<_> = listed.iter().map(|one| row(one, why(one))).collect();
    let columns = ["BACKUP", "MADE", "STATE", "RECORDS", "BYTES", "SEGMENTS"];
    let mut text = match rows.is_empty() {
        true => format!("{} holds no backup", place.url()),
        false => table(columns, &rows),
    };
    for one in &listed {
        if let Some(why) = why(one) {
            text.push_str(&format!("\n{}: {why}", one.name));
        }
    }
    let is_damaged = told.iter().any(|one| one["state"] == "damaged");
    let code = match arguments.verify && is_damaged {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    };
    let answer = json!({ "place": place.url(), "backups": told });
    Ok(((answer, text), code))
}

/// Why backups are damaged, by their names: all of them is read. A store that does not answer is an error.
async fn damaged(place: &Place, listed: &[Listed]) -> anyhow::Result<BTreeMap<String, String>> {
    let shown = Shown::new();
    let report = |progress| shown.show(progress);
    let (mut checked, mut why) = (BTreeSet::new(), BTreeMap::new());
    for one in listed {
        let BackupState::Whole(manifest) = &one.state else {
            continue;
        };
        match verify(place, manifest, &mut checked, &report).await {
            Ok(()) => {}
            Err(error @ RestoreError::Damaged { .. }) => {
                why.insert(one.name.clone(), error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    shown.end();
    Ok(why)
}

/// `why` it is damaged, where that was found out.
fn told(listed: &Listed, why: Option<&str>) -> Value {
    match &listed.state {
        BackupState::Whole(manifest) if why.is_some() => {
            let mut told = manifest_json(manifest);
            told["state"] = json!("damaged");
            told["why"] = json!(why);
            told
        }
        BackupState::Whole(manifest) => {
            let mut told = manifest_json(manifest);
            told["state"] = json!("whole");
            told
        }
        BackupState::Unfinished => json!({ "name": listed.name, "state": "unfinished" }),
        BackupState::Wrong(error) => {
            json!({ "name": listed.name, "state": "damaged", "why": error.to_string() })
        }
    }
}

fn row(listed: &Listed, why: Option<&str>) -> [String; 6] {
    let without = |state: &str| {
        let nothing = || "-".to_owned();
        let name = cell(&json!(listed.name));
        [
            name,
            nothing(),
            state.to_owned(),
            nothing(),
            nothing(),
            nothing(),
        ]
    };
    match &listed.state {
        BackupState::Whole(manifest) => [
            manifest.name.as_str().to_owned(),
            time(&json!(manifest.made_ms)),
            if why.is_some() { "damaged" } else { "whole" }.to_owned(),
            manifest.records().to_string(),
            manifest.bytes().to_string(),
            segments(manifest),
        ],
        BackupState::Unfinished => without("unfinished"),
        BackupState::Wrong(_) => without("damaged"),
    }
}

fn segments(manifest: &Manifest) -> String {
    let number = manifest.objects.len();
    match good_until_ms(manifest) {
        Some(until_ms) => format!("{number} elsewhere, until {}", time(&json!(until_ms))),
        None if manifest.has_copies() => format!("{number} copied"),
        None => format!("{number} elsewhere"),
    }
}

/// Until when the segments that were not copied are there for sure, by the clock of who made the backup.
pub(super) fn good_until_ms(manifest: &Manifest) -> Option<i64> {
    if manifest.has_copies() {
        return None;
    }
    let window_ms = manifest.object_store.restore_window_ms?;
    let window_ms = i64::try_from(window_ms).unwrap_or(i64::MAX);
    Some(manifest.made_ms.saturating_add(window_ms))
}

/// What a program wants to know of a backup; the whole of it is its manifest.
pub(super) fn manifest_json(manifest: &Manifest) -> Value {
    let topics = manifest.topics.iter().map(|topic| {
        json!({
            "topic": topic.name,
            "partitions": topic.end.len(),
            "records": topic.records(),
            "start": topic.start,
            "end": topic.end,
        })
    });
    json!({
        "name": manifest.name.as_str(),
        "made_ms": manifest.made_ms,
        "store_id": manifest.store_id,
        "cluster_incarnation": manifest.cluster_incarnation,
        "position": manifest.position,
        "topics": topics.collect::<Vec<_>>(),
        "records": manifest.records(),
        "edges": manifest.edges,
        "groups": manifest.groups,
        "object_store": manifest.object_store.url,
        "stores": manifest.stores,
        "files": manifest.files.len(),
        "segments": manifest.objects.len(),
        "has_copies": manifest.has_copies(),
        "good_until_ms": good_until_ms(manifest),
        "bytes": manifest.bytes(),
    })
}

/// Up to where it goes, and what is in it.
pub(super) fn describe_position(manifest: &Manifest) -> [String; 2] {
    let position = &manifest.position;
    let landed = time(&json!(position.ledger_ms));
    [
        format!(
            "position  frame {} of the log, {landed}, incarnation {}",
            position.frame, manifest.cluster_incarnation
        ),
        format!(
            "holds     {} in {}; {}, {}",
            count(manifest.records(), "record"),
            count(manifest.topics.len() as u64, "topic"),
            count(manifest.edges, "edge"),
            count(manifest.groups, "consumer group"),
        ),
    ]
}

pub(super) fn run(arguments: &RestoreArguments) -> anyhow::Result<Said> {
    let place = open_to_read(&arguments.place.from)?;
    let object_store = arguments.object_store.as_deref().map(str::parse);
    let wish = Wish {
        backup: arguments.backup.clone(),
        data: arguments.data.clone(),
        object_store: object_store.transpose()?,
        options: StoreOptions::from_env(),
    };
    let shown = Shown::new();
    let report = |progress| shown.show(progress);
    let restored = runtime()?.block_on(restore(&place, &wish, &report));
    shown.end();
    let restored = restored.context("nothing was restored")?;
    let mut answer = manifest_json(&restored.manifest);
    answer["data"] = json!(arguments.data);
    answer["object_store"] = json!(restored.object_store);
    answer["copied"] = json!(restored.copied);
    answer["kept"] = json!(restored.kept);
    let text = text(&restored, arguments);
    Ok((answer, text))
}

fn text(restored: &Restored, arguments: &RestoreArguments) -> String {
    let manifest = &restored.manifest;
    let data = arguments.data.display();
    let mut lines = vec![format!("restored  {} into {data}", manifest.name.as_str())];
    lines.extend(describe_position(manifest));
    lines.extend(manifest.topics.iter().map(|topic| {
        let records = count(topic.records(), "record");
        format!("topic     {}: {records}", topic.name)
    }));
    let mut start = format!("tidegate-cloud --data {data}");
    let place = match &restored.object_store {
        Some(url) => {
            start.push_str(&format!(" --object-store {url}"));
            url.clone()
        }
        None => format!("{data}/objects"),
    };
    lines.push(format!(
        "segments  {} in {place}: {} copied, {} there",
        manifest.objects.len(),
        restored.copied,
        restored.kept
    ));
    lines.extend(manifest.stores.iter().map(|other| {
        let objects = manifest.objects.iter();
        let here = objects.filter(|object| object.store == other.number);
        let segments = count(here.count() as u64, "segment");
        format!("          of these {segments} in {}", other.url)
    }));
    lines.push(format!(
        "next      {start}, with the rest of the old configuration; in the place of the old cloud, never beside it"
    ));
    lines.push(
        "          Edges that have seen a newer state are noticed: nothing lands then until you say so, by"
            .to_owned(),
    );
    lines.push(
        "          tidegate cloud begin-incarnation (tidegate cloud status tells)".to_owned(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use tidegate_cloud::backup::ManifestError;

    use super::*;

    fn manifest(url: Option<&str>, crc32c: Option<&str>) -> Manifest {
        let key = format!("segments/{:032x}/{:016x}-{:016x}", 7, 1, 2);
        let manifest = json!({
            "name": "monday", "made_ms": 1_700_000_000_000_i64, "tidegate": "0.1.0",
            "store_id": format!("{:032x}", 7), "cluster_incarnation": "1-ab",
            "position": {"frame": 9, "previous_crc": "0000000a", "ledger_ms": 1_700_000_000_000_i64},
            "object_store": {"url": url, "restore_window_ms": 3_600_000},
            "topics": [{"name": "telemetry", "topic_id": "5", "start": [0], "end": [10]}],
            "edges": 1, "groups": 2,
            "files": [{"path": "log/1.log", "bytes": 52, "crc32c": "0000000b"}],
            "objects": [{"key": key, "bytes": 100, "crc32c": crc32c}],
        });
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn a_listing_tells_what_each_is_good_for() {
        let listed = |state| Listed {
            name: "monday".to_owned(),
            state,
        };
        let whole = |manifest| row(&listed(BackupState::Whole(Box::new(manifest))), None);
        let copied = whole(manifest(None, Some("0000000c")));
        assert_eq!(copied[2..], ["whole", "10", "152", "1 copied"]);
        let named = whole(manifest(Some("s3://bucket"), None));
        assert_eq!(
            named[4..],
            ["52", "1 elsewhere, until 2023-11-14 23:13:20Z"]
        );
        let unfinished = row(&listed(BackupState::Unfinished), None);
        assert_eq!(unfinished[1..3], ["-", "unfinished"]);
        let damaged = listed(BackupState::Wrong(ManifestError::Damaged));
        assert_eq!(told(&damaged, None)["state"], "damaged");
        let found = listed(BackupState::Whole(Box::new(manifest(None, None))));
        assert_eq!(told(&found, Some("a"))["why"], "a");
        assert_eq!(row(&found, Some("a"))[2], "damaged");
    }

    #[test]
    fn what_comes_next_can_be_pasted() {
        let restored = Restored {
            manifest: manifest(Some("s3://bucket"), None),
            object_store: Some("s3://bucket".to_owned()),
            copied: 0,
            kept: 1,
        };
        let arguments = RestoreArguments {
            place: PlaceArguments {
                from: "/backups".to_owned(),
            },
            backup: None,
            data: PathBuf::from("/new"),
            object_store: None,
        };
        let text = text(&restored, &arguments);
        let next = "tidegate-cloud --data /new --object-store s3://bucket,";
        assert!(text.contains(next), "{text}");
        assert!(text.contains("tidegate cloud begin-incarnation"), "{text}");
        assert!(text.contains("10 records in 1 topic"), "{text}");
    }
}
