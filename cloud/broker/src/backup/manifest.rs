//! The manifest of a backup: what it holds, byte for byte, and what it relies on beside that. It is written last,
//! so that a backup without one is none. JSON, with a version, and a CRC over its own values.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_cloud_protocol::ledger::CLUSTER_STORE;

use super::names::{BackupName, Crc, FilePath, LogStoreId};
use crate::segments;

/// Counts up when the format changes. 2: object stores of topics.
const FORMAT: u32 = 2;

/// Where all segments are in the cluster's object store, an older build can read it, too.
const FORMAT_OF_ONE_STORE: u32 = 1;

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    #[error("it is not a manifest: {0}")]
    Malformed(String),
    #[error(
        "it has format {found}, and this build reads up to {FORMAT}: take the build that made it, or a newer one"
    )]
    UnknownFormat { found: u32 },
    #[error("it is damaged: its values do not have the CRC that it tells")]
    Damaged,
}

/// Where the log ends in a backup: all that had landed before is in it, and nothing after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The frame that comes next.
    pub frame: u64,
    /// The CRC of the frame before it: no other log has this one there.
    pub previous_crc: Crc,
    /// The ledger's time, in milliseconds since the Unix epoch.
    pub ledger_ms: i64,
}

/// A topic as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicState {
    pub name: String,
    pub topic_id: String,
    /// Of each partition, the first offset and the one after the last.
    pub start: Vec<i64>,
    pub end: Vec<i64>,
}

impl TopicState {
    pub fn records(&self) -> u64 {
        let counts = self.start.iter().zip(&self.end);
        counts
            .map(|(start, end)| end.saturating_sub(*start).unsigned_abs())
            .fold(0, u64::saturating_add)
    }
}

/// Where the cloud had its segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreState {
    /// `null`: the folder `objects` in its data folder.
    pub url: Option<String>,
    /// How long it keeps segments that others have taken the place of; `null` where that was not known.
    pub restore_window_ms: Option<u64>,
}

/// An object store beside that, which topics have or had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreState {
    /// By which the ledger knows it; not 0, which is the other one.
    pub number: u32,
    pub url: String,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: FilePath,
    pub bytes: u64,
    pub crc32c: Crc,
}

/// A segment that a backup relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    pub key: String,
    pub bytes: u64,
    /// `null` where there is no copy of it: it is in the cloud's object store only.
    pub crc32c: Option<Crc>,
    /// The number of the object store in which it is; 0, the cluster's, where it is left out.
    #[serde(default, skip_serializing_if = "is_cluster_store")]
    pub store: u32,
}

fn is_cluster_store(number: &u32) -> bool {
    *number == CLUSTER_STORE
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: BackupName,
    /// By the clock of who made it, in milliseconds since the Unix epoch.
    pub made_ms: i64,
    /// The version that made it.
    pub tidegate: String,
    pub store_id: LogStoreId,
    pub cluster_incarnation: String,
    pub position: Position,
    pub object_store: ObjectStoreState,
    /// All others that the ledger knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StoreState>,
    pub topics: Vec<TopicState>,
    /// Edges and consumer groups that it knows.
    pub edges: u64,
    pub groups: u64,
    pub files: Vec<FileEntry>,
    pub objects: Vec<ObjectEntry>,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    /// Of the values below, as they are written here.
    crc32c: Crc,
    backup: Manifest,
}

/// What can be read of any version.
#[derive(Debug, Deserialize)]
struct Versioned {
    format: u32,
}

impl Manifest {
    pub fn encode(&self) -> Bytes {
        let written = Written {
            format: self.format(),
            crc32c: self.crc(),
            backup: self.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&written).expect("its keys are strings");
        text.push(b'\n');
        text.into()
    }

    /// # Errors
    /// The bytes are no manifest, or not as they were written, or of a newer build.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let malformed = |error: serde_json::Error| ManifestError::Malformed(error.to_string());
        let versioned: Versioned = serde_json::from_slice(bytes).map_err(malformed)?;
        if !(FORMAT_OF_ONE_STORE..=FORMAT).contains(&versioned.format) {
            let found = versioned.format;
            return Err(ManifestError::UnknownFormat { found });
        }
        let written: Written = serde_json::from_slice(bytes).map_err(malformed)?;
        let manifest = written.backup;
        if manifest.crc() != written.crc32c {
            return Err(ManifestError::Damaged);
        }
        let folder = segments::folder(manifest.store_id.0);
        let is_known = |store: u32| {
            let mut others = manifest.stores.iter();
            store == CLUSTER_STORE || others.any(|other| other.number == store)
        };
        let is_of_cloud = |object: &&ObjectEntry| {
            segments::id_of(&folder, object.store, &object.key).is_some() && is_known(object.store)
        };
        match manifest.objects.iter().find(|object| !is_of_cloud(object)) {
            None => Ok(manifest),
            Some(object) => Err(ManifestError::Malformed(format!(
                "{:?} in object store {} is no segment of this cloud",
                object.key, object.store
            ))),
        }
    }

    fn format(&self) -> u32 {
        match self.stores.is_empty() {
            true => FORMAT_OF_ONE_STORE,
            false => FORMAT,
        }
    }

    fn crc(&self) -> Crc {
        let values = serde_json::to_vec(self).expect("its keys are strings");
        Crc::of(&values)
    }

    pub fn records(&self) -> u64 {
        let topics = self.topics.iter().map(TopicState::records);
        topics.fold(0, u64::saturating_add)
    }

    /// Bytes of its files and of its copies of segments.
    pub fn bytes(&self) -> u64 {
        let files = self.files.iter().map(|file| file.bytes);
        let copies = self.objects.iter().filter(|one| one.crc32c.is_some());
        let all = files.chain(copies.map(|one| one.bytes));
        all.fold(0, u64::saturating_add)
    }

    /// Whether it has a copy of each segment that it relies on.
    pub fn has_copies(&self) -> bool {
        self.objects.iter().all(|one| one.crc32c.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |path: &str| FileEntry {
            path: FilePath::try_from(path.to_owned()).unwrap(),
            bytes: 52,
            crc32c: Crc(7),
        };
        let object = |number: u64, crc32c| ObjectEntry {
            key: format!("segments/{:032x}/{:016x}-{number:016x}", 77, 3),
            bytes: 100,
            crc32c,
            store: CLUSTER_STORE,
        };
        Manifest {
            name: "monday".parse().unwrap(),
            made_ms: 1_700_000_000_000,
            tidegate: "0.1.0".to_owned(),
            store_id: LogStoreId(77),
            cluster_incarnation: "1-ab".to_owned(),
            position: Position {
                frame: 9,
                previous_crc: Crc(0xabc),
                ledger_ms: -1,
            },
            object_store: ObjectStoreState {
                url: Some("s3://bucket/plant".to_owned()),
                restore_window_ms: None,
            },
            stores: Vec::new(),
            topics: vec![TopicState {
                name: "telemetry".to_owned(),
                topic_id: "5".to_owned(),
                start: vec![0, 5],
                end: vec![10, 5],
            }],
            edges: 1,
            groups: 0,
            files: vec![file("log/1.log"), file("tls/ca.key")],
            objects: vec![object(1, Some(Crc(1))), object(2, None)],
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let manifest = manifest();
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        assert_eq!((manifest.records(), manifest.bytes()), (10, 204));
        assert!(!manifest.has_copies());
        let secret = manifest.files.iter().map(|file| file.path.is_secret());
        assert_eq!(secret.collect::<Vec<_>>(), [false, true]);
    }

    /// What one build has written every later one reads.
    #[test]
    fn the_golden_manifest_of_format_1_is_read() {
        let golden = include_bytes!("golden_manifest_1.json");
        assert_eq!(Manifest::decode(golden), Ok(manifest()));
        assert_eq!(manifest().encode(), &golden[..], "format 1 is as it was");
    }

    /// The second segment is in a store of its topic's.
    fn manifest_of_two_stores() -> Manifest {
        let mut manifest = manifest();
        manifest.stores = vec![StoreState {
            number: 3,
            url: "s3://archive".to_owned(),
        }];
        manifest.objects[1].store = 3;
        manifest
    }

    #[test]
    fn the_golden_manifest_of_format_2_is_read() {
        let golden = include_bytes!("golden_manifest_2.json");
        assert_eq!(Manifest::decode(golden), Ok(manifest_of_two_stores()));
        assert_eq!(manifest_of_two_stores().encode(), &golden[..]);
        let mut unknown = manifest_of_two_stores();
        unknown.objects[1].store = 2;
        let error = Manifest::decode(&unknown.encode()).unwrap_err();
        assert!(matches!(error, ManifestError::Malformed(_)), "{error}");
    }

    #[test]
    fn a_flipped_bit_and_a_missing_end_are_found() {
        let whole = manifest().encode();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[at] ^= 1 << bit;
                // One between values changes nothing that is said.
                if let Ok(read) = Manifest::decode(&flipped) {
                    assert_eq!(read, manifest(), "bit {bit} of byte {at}");
                    assert!(whole[at].is_ascii_whitespace(), "bit {bit} of byte {at}");
                }
            }
            let text = whole[..at].trim_ascii_end();
            if text.len() < whole.trim_ascii_end().len() {
                assert!(Manifest::decode(text).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn another_format_is_told() {
        let text = String::from_utf8(manifest().encode().to_vec()).unwrap();
        let newer = text.replacen("\"format\": 1", "\"format\": 3, \"what\": 5", 1);
        let error = Manifest::decode(newer.as_bytes()).unwrap_err();
        assert_eq!(error, ManifestError::UnknownFormat { found: 3 });
        assert!(error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn no_key_is_that_of_another_cloud() {
        for key in ["segments/0/1-2", "../x", ""] {
            let mut manifest = manifest();
            manifest.objects[0].key = key.to_owned();
            let error = Manifest::decode(&manifest.encode()).unwrap_err();
            assert!(
                matches!(error, ManifestError::Malformed(_)),
                "{key}: {error}"
            );
        }
    }
}
