//! A topic's settings as people write them: under Kafka's names, with Kafka's values. What the cloud does not
//! do is refused, never taken and left undone.

use std::collections::BTreeMap;

use thiserror::Error;
use tidegate_cloud_protocol::ledger::TopicSettings;
use tidegate_cloud_protocol::ledger::command::TopicChange;

use crate::limits::{KAFKA_REQUEST_BYTES_MAX, SEGMENT_BYTES_MIN};

/// Why a setting is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    #[error("there is no setting {name}; there are {NAMES}")]
    Unknown { name: String },
    #[error("{name} is {value:?}; it can be {expected}")]
    Value {
        name: &'static str,
        value: String,
        expected: String,
    },
}

const NAMES: &str = "cleanup.policy, compression.type, delete.retention.ms, flush.messages, max.message.bytes, \
                     message.timestamp.type, min.insync.replicas, pack.merge_below, preallocate, retention.bytes, retention.ms, \
                     segment.bytes, storage.url and unclean.leader.election.enable";

/// The object store of a topic's segments, by its URL. What the ledger keeps of it is a number, and whoever sets it
/// has to see first that there is such a store.
pub const STORAGE_URL: &str = "storage.url";

/// Kafka's settings that have one value here, and why: tools that set them to it are right.
const FIXED: [(&str, &str, &str); 5] = [
    (
        "compression.type",
        "producer",
        "producer: batches stay as they were packed",
    ),
    (
        "flush.messages",
        "1",
        "1: nothing is acknowledged before it is durable",
    ),
    (
        "min.insync.replicas",
        "1",
        "1: there is one node, and what is acknowledged is durable on it",
    ),
    ("preallocate", "false", "false"),
    (
        "unclean.leader.election.enable",
        "false",
        "false: no other replica can become the leader",
    ),
];

/// What settings by name come to, without [`STORAGE_URL`].
///
/// # Errors
/// See [`SettingError`].
pub fn parse_all(
    asked: &BTreeMap<String, Option<String>>,
) -> Result<Vec<TopicChange>, SettingError> {
    let others = asked.iter().filter(|(name, _)| *name != STORAGE_URL);
    let changes = others.filter_map(|(name, value)| parse(name, value.as_deref()).transpose());
    changes.collect()
}

/// The change that gives a setting a value; without a value, its default. [`STORAGE_URL`] is not among them. `None` where
/// nothing is to be changed: the setting has one value only.
///
/// # Errors
/// See [`SettingError`].
pub fn parse(name: &str, value: Option<&str>) -> Result<Option<TopicChange>, SettingError> {
    if let Some((name, only, expected)) = FIXED.into_iter().find(|(known, ..)| *known == name) {
        return match value.is_none_or(|value| value == only) {
            true => Ok(None),
            false => Err(refused(name, value.unwrap_or_default(), expected)),
        };
    }
    // By default as the cluster's are: which size that is, the topic does not say.
    let mut defaults = values(&TopicSettings::default(), 0).into_iter();
    let Some((name, default)) = defaults.find(|(known, _)| *known == name) else {
        return Err(SettingError::Unknown {
            name: name.to_owned(),
        });
    };
    let is_default = value.is_none();
    let value = value.unwrap_or(&default);
    Ok(Some(match name {
        "cleanup.policy" => TopicChange::CleanupPolicy(policy(value)?),
        "delete.retention.ms" => TopicChange::DeleteRetentionMs(at_least(0, name, value)?),
        "max.message.bytes" => {
            TopicChange::MaxMessageBytes(between(0, KAFKA_REQUEST_BYTES_MAX as u32, name, value)?)
        }
        "message.timestamp.type" => TopicChange::LogAppendTime(match value {
            "CreateTime" => false,
            "LogAppendTime" => true,
            _ => return Err(refused(name, value, "CreateTime or LogAppendTime")),
        }),
        "pack.merge_below" => TopicChange::PackMergeBelow(at_least(0, name, value)?),
        "retention.bytes" => TopicChange::RetentionBytes(at_least(-1, name, value)?),
        "segment.bytes" if is_default => TopicChange::SegmentBytes(0),
        "segment.bytes" => TopicChange::SegmentBytes(between(
            SEGMENT_BYTES_MIN as u32,
            i32::MAX as u32,
            name,
            value,
        )?),
        _ => TopicChange::RetentionMs(at_least(-1, name, value)?),
    }))
}

fn refused(name: &'static str, value: &str, expected: impl Into<String>) -> SettingError {
    SettingError::Value {
        name,
        value: value.to_owned(),
        expected: expected.into(),
    }
}

/// Kafka's list: `delete`, `compact`, or both with a comma between.
fn policy(value: &str) -> Result<u8, SettingError> {
    let mut policy = 0;
    for word in value.split(',') {
        policy |= match word.trim() {
            "delete" => TopicChange::DELETES,
            "compact" => TopicChange::COMPACTS,
            _ => {
                let expected = "delete, compact, or both with a comma between";
                return Err(refused("cleanup.policy", value, expected));
            }
        };
    }
    Ok(policy)
}

/// A whole number; where it may be -1, that is no limit.
fn at_least(least: i64, name: &'static str, value: &str) -> Result<i64, SettingError> {
    let number = value.parse().ok().filter(|number| *number >= least);
    let expected = match least {
        -1 => "a whole number, or -1 for no limit",
        _ => "a whole number, 0 or more",
    };
    number.ok_or_else(|| refused(name, value, expected))
}

/// A whole number of bytes.
fn between(least: u32, most: u32, name: &'static str, value: &str) -> Result<u32, SettingError> {
    let number = value.parse().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        refused(
            name,
            value,
            format!("a whole number of bytes from {least} to {most}"),
        )
    })
}

/// All settings that can be changed, but [`STORAGE_URL`], with their values, by name.
fn values(settings: &TopicSettings, segment_bytes: u64) -> [(&'static str, String); 8] {
    let or_no_limit = |value: Option<u64>| value.map_or("-1".to_owned(), |value| value.to_string());
    let policy = match (settings.deletes, settings.compacts) {
        (true, true) => "compact,delete",
        (false, true) => "compact",
        _ => "delete",
    };
    [
        ("cleanup.policy", policy.to_owned()),
        (
            "delete.retention.ms",
            settings.delete_retention_ms.to_string(),
        ),
        ("max.message.bytes", settings.message_bytes_max.to_string()),
        (
            "message.timestamp.type",
            match settings.log_append_time {
                true => "LogAppendTime".to_owned(),
                false => "CreateTime".to_owned(),
            },
        ),
        (
            "pack.merge_below",
            settings.pack_merge_below_bytes.to_string(),
        ),
        ("retention.bytes", or_no_limit(settings.retention_bytes)),
        ("retention.ms", or_no_limit(settings.retention_ms)),
        (
            "segment.bytes",
            settings
                .segment_bytes
                .map_or(segment_bytes, u64::from)
                .to_string(),
        ),
    ]
}

/// All settings but [`STORAGE_URL`], and whether each is the default. `segment_bytes` is the cluster's.
pub fn show(
    settings: &TopicSettings,
    segment_bytes: u64,
) -> impl Iterator<Item = (&'static str, String, bool)> {
    let defaults = values(&TopicSettings::default(), segment_bytes);
    let pairs = values(settings, segment_bytes).into_iter().zip(defaults);
    let pairs = pairs.map(|((name, value), (_, default))| {
        let is_default = value == default;
        (name, value, is_default)
    });
    let fixed = FIXED.map(|(name, value, _)| (name, value.to_owned(), true));
    pairs.chain(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kafkas_and_what_cannot_be_is_said() {
        assert_eq!(
            parse("retention.ms", Some("-1")),
            Ok(Some(TopicChange::RetentionMs(-1)))
        );
        assert_eq!(
            parse("retention.ms", None),
            Ok(Some(TopicChange::RetentionMs(604_800_000)))
        );
        assert_eq!(
            parse("retention.bytes", Some("1073741824")),
            Ok(Some(TopicChange::RetentionBytes(1 << 30)))
        );
        assert_eq!(
            parse("cleanup.policy", Some("compact, delete")),
            Ok(Some(TopicChange::CleanupPolicy(3)))
        );
        assert_eq!(
            parse("segment.bytes", Some("52428800")),
            Ok(Some(TopicChange::SegmentBytes(50 << 20)))
        );
        assert_eq!(
            parse("segment.bytes", None),
            Ok(Some(TopicChange::SegmentBytes(0)))
        );
        assert_eq!(parse("compression.type", Some("producer")), Ok(None));
        for (name, value) in [
            ("retention.ms", "7d"),
            ("retention.bytes", "-2"),
            ("cleanup.policy", "delete,never"),
            ("delete.retention.ms", "-1"),
            ("pack.merge_below", "4KiB"),
            ("cleanup.policy", "never"),
            ("retention.hours", "1"),
            ("compression.type", "gzip"),
            ("max.message.bytes", "16777217"),
            ("message.timestamp.type", "createtime"),
            ("min.insync.replicas", "2"),
            ("segment.bytes", "14"),
        ] {
            let error = parse(name, Some(value)).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("can be") || error.contains("there are"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_shown_can_be_set() {
        for (name, value, is_default) in show(&TopicSettings::default(), 64 << 20) {
            assert!(is_default);
            let settings = [Some(&*value), None].map(|value| {
                let changes: Vec<_> = parse(name, value).unwrap().into_iter().collect();
                let settings = TopicSettings::default().changed(&changes);
                show(&settings, 64 << 20).collect::<Vec<_>>()
            });
            assert_eq!(settings[0], settings[1], "{name}");
        }
    }
}
