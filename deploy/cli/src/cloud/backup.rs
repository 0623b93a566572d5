//! `tidegate cloud backup`: made by this process, which reads the cloud's data folder. A cloud that runs there is
//! asked up to where all is durable, and deletes nothing until this has ended, however it ends.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use tidegate_cloud::Config;
use tidegate_cloud::backup::{self, BackupName, Made, Manifest, Place, Source};
use tidegate_cloud::store::{Store, StoreMetrics, StoreOptions, StoreUrl};
use tidegate_shared::data_lock::{DataLock, DataLockError};

use super::Said;
use super::restore::{Shown, describe_position, manifest_json, open_place, runtime};
use crate::remote::show::{cell, count, time};
use crate::remote::{Client, NoAnswer, Remote};

#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct BackupArguments {
    /// Where backups are kept: a folder, file:///…, s3://bucket/prefix. Several share copies of segments there
    #[arg(long, value_name = "URL")]
    to: String,
    /// Copy the segments also where they are not in a folder: else they stay in the object store, and the
    /// backup names them
    #[arg(long)]
    with_objects: bool,
    /// What the backup is called; the time where it is left out
    #[arg(long, value_name = "NAME")]
    name: Option<BackupName>,
    /// The cloud's data folder; the one that the running cloud tells where it is left out
    #[arg(long, value_name = "DIR", env = "TIDEGATE_CLOUD_DATA")]
    data: Option<PathBuf>,
    /// The cloud's configuration: it says where data folder and object store are
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CLOUD_CONFIG")]
    config: Option<PathBuf>,
    /// Where the cloud's segments are, as in its configuration
    #[arg(long, value_name = "URL", env = "TIDEGATE_CLOUD_OBJECT_STORE")]
    object_store: Option<String>,
}

/// A cloud's data folder, and that nobody deletes in it meanwhile.
struct Found {
    data: PathBuf,
    object_store: StoreUrl,
    restore_window_ms: Option<u64>,
    running: Option<(u128, u64)>,
    /// Of a cloud that does not run.
    _lock: Option<DataLock>,
}

pub(super) fn run(remote: &Remote, arguments: &BackupArguments) -> anyhow::Result<Said> {
    let place = open_place(&arguments.to)?;
    let found = find(remote, arguments)?;
    let options = StoreOptions::from_env();
    let store = Store::open(&found.object_store, &options, &StoreMetrics::default())?;
    let source = Source {
        data: found.data.clone(),
        store,
        options,
        restore_window_ms: found.restore_window_ms,
        running: found.running,
    };
    let now = SystemTime::now();
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(now)?,
    };
    let made_ms = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let made_ms = i64::try_from(made_ms).unwrap_or(i64::MAX);
    let shown = Shown::new();
    let report = |progress| shown.show(progress);
    let named = (name, made_ms);
    let making = backup::make(&source, &place, named, arguments.with_objects, &report);
    let made = runtime()?.block_on(making);
    shown.end();
    let made = made.context("no backup was made")?;
    Ok((told(&made, &place), text(&made, &place)))
}

/// `2026-11-29T13-41-32.123Z`: in the order of their names backups are in that of time.
fn name_of(now: SystemTime) -> anyhow::Result<BackupName> {
    let text = humantime::format_rfc3339_millis(now).to_string();
    text.replace(':', "-")
        .parse()
        .map_err(|error| anyhow!("{error}"))
}

/// Where the data is: as the command line says, else as the running cloud does.
fn find(remote: &Remote, arguments: &BackupArguments) -> anyhow::Result<Found> {
    let Some(config) = named(arguments)? else {
        let found = find_running(remote, arguments);
        return found.map_err(|error| match error.is::<NoAnswer>() {
            true => anyhow!("{error}. One that does not run is named by its folder: --data DIR"),
            false => error,
        });
    };
    let data = config.data.clone();
    // A lock is made where there is none: not in a folder that is no cloud's.
    if !data.join("log").is_dir() {
        bail!(
            "{} holds no cloud's data: there is no log (with wal: object it is in the object store: keep copies or older versions of the bucket instead)",
            data.display()
        );
    }
    match DataLock::take(&data) {
        Ok(lock) => Ok(Found {
            object_store: config.store_url()?,
            restore_window_ms: u64::try_from(config.restore_window.0.as_millis()).ok(),
            data,
            running: None,
            _lock: Some(lock),
        }),
        Err(DataLockError::InUse(_)) => {
            let found = find_running(remote, arguments);
            let mut found = found.with_context(|| format!("{} is in use", data.display()))?;
            // The cloud may know its folder by another path.
            if found.object_store.as_folder() == Some(&found.data.join("objects")) {
                let objects = std::path::absolute(data.join("objects"))?;
                found.object_store = StoreUrl::folder(&objects);
            }
            found.data = data;
            Ok(found)
        }
        Err(error) => Err(error.into()),
    }
}

/// The configuration that the command line names, by itself or by its folder.
fn named(arguments: &BackupArguments) -> anyhow::Result<Option<Config>> {
    let config = arguments.config.as_deref().map(Config::load).transpose()?;
    let Some(mut config) = config.or(arguments.data.is_some().then(Config::default)) else {
        return Ok(None);
    };
    if let Some(data) = &arguments.data {
        config.data.clone_from(data);
    }
    if arguments.object_store.is_some() {
        config.object_store.clone_from(&arguments.object_store);
    }
    Ok(Some(config))
}

/// Asks the running cloud, which holds what there is from now on.
fn find_running(remote: &Remote, arguments: &BackupArguments) -> anyhow::Result<Found> {
    let client = remote.client()?;
    let told = hold(&client)?;
    let data = PathBuf::from(told["data"].as_str().unwrap_or_default());
    if arguments.data.is_none() && arguments.config.is_none() && !data.is_dir() {
        bail!(
            "the cloud at {} keeps its data in {}, which is not on this machine: run this where it is, or say with --data where it is mounted",
            client.url(),
            data.display()
        );
    }
    let url = arguments.object_store.as_deref();
    let url = url.or(told["object_store"].as_str()).unwrap_or_default();
    let store_id = told["store_id"].as_str().unwrap_or_default();
    let store_id = u128::from_str_radix(store_id, 16);
    let (Ok(store_id), Some(frame)) = (store_id, told["next_frame"].as_u64()) else {
        bail!("{} does not say where its log ends: {told}", client.url());
    };
    Ok(Found {
        data,
        object_store: url.parse()?,
        restore_window_ms: told["restore_window_ms"].as_u64(),
        running: Some((store_id, frame)),
        _lock: None,
    })
}

/// What the cloud tells of itself. It holds it until the connection ends, with this process.
fn hold(client: &Client) -> anyhow::Result<Value> {
    let mut lines = BufReader::new(client.post_and_read("/api/v1/cluster/hold")?).lines();
    let first = lines
        .next()
        .context("the cloud tells nothing of itself")??;
    let told = serde_json::from_str(&first).context("the cloud's answer is not JSON")?;
    // What is deleted after a broken connection is missed when it is read, and told then.
    thread::Builder::new()
        .name("hold".to_owned())
        .spawn(move || lines.for_each(drop))?;
    Ok(told)
}

fn told(made: &Made, place: &Place) -> Value {
    let mut told = manifest_json(&made.manifest);
    told["place"] = json!(place.url());
    told["copied"] = json!(made.copied);
    told["copied_bytes"] = json!(made.copied_bytes);
    told["kept"] = json!(made.kept);
    told
}

/// The object stores of the cloud that have segments of which there is no copy.
fn places(manifest: &Manifest) -> String {
    let named = manifest.objects.iter();
    let named = named.filter(|object| object.crc32c.is_none());
    let numbers: BTreeSet<u32> = named.map(|object| object.store).collect();
    let url = |number: u32| {
        let mut others = manifest.stores.iter();
        let other = others.find(|other| other.number == number);
        let url = other.map(|other| &other.url);
        url.or(manifest.object_store.url.as_ref()).cloned()
    };
    let urls: Vec<String> = numbers.into_iter().filter_map(url).collect();
    urls.join(" and ")
}

fn text(made: &Made, place: &Place) -> String {
    let manifest = &made.manifest;
    let mut lines = vec![format!(
        "backup    {} in {}",
        manifest.name.as_str(),
        place.url()
    )];
    lines.extend(describe_position(manifest));
    let segments = count(manifest.objects.len() as u64, "segment");
    lines.push(match manifest.has_copies() {
        true => format!(
            "segments  {segments}: {} copied, {} there",
            made.copied, made.kept
        ),
        false => format!(
            "segments  {segments}, not copied where they are in no folder: they stay in {}",
            places(manifest)
        ),
    });
    if let Some(until_ms) = super::restore::good_until_ms(manifest) {
        lines.push(format!(
            "restores  until {} at least: what is replaced in the object store stays so long. --with-objects has no such bound",
            time(&json!(until_ms))
        ));
    }
    let keys = "the CA's private key is in it: who can read it can sign edges' certificates";
    lines.push(format!("secret    {keys}"));
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    lines.push(format!(
        "written   {} of files, {} of segments",
        count(bytes, "byte"),
        count(made.copied_bytes, "byte")
    ));
    lines.push(format!(
        "next      tidegate cloud restore --from {} --data DIR",
        cell(&json!(place.url()))
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_tells_the_time_and_is_a_name() {
        let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(name_of(now).unwrap().as_str(), "2023-11-14T22-13-20.123Z");
    }
}
