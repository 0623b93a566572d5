//! A topic's settings as people write them: under Kafka's names, with Kafka's values. What the cloud does not
//! do is refused, never taken and left undone.

use thiserror::Error;
use tidegate_cloud_protocol::ledger::TopicSettings;
use tidegate_cloud_protocol::ledger::command::TopicChange;

/// Why a setting is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    #[error("there is no setting {name}; there are {NAMES}")]
    Unknown { name: String },
    #[error("{name} is {value:?}; it can be {expected}")]
    Value {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
}

const NAMES: &str = "cleanup.policy, delete.retention.ms, pack.merge_below, retention.bytes, retention.ms and storage.url";

/// The object store of a topic's segments, by its URL. What the ledger keeps of it is a number, and whoever sets it
/// has to see first that there is such a store.
pub const STORAGE_URL: &str = "storage.url";

/// The change that gives a setting a value; `None` gives it its default. [`STORAGE_URL`] is not among them.
///
/// # Errors
/// See [`SettingError`].
pub fn parse(name: &str, value: Option<&str>) -> Result<TopicChange, SettingError> {
    let mut defaults = values(&TopicSettings::default()).into_iter();
    let Some((name, default)) = defaults.find(|(known, _)| *known == name) else {
        return Err(SettingError::Unknown {
            name: name.to_owned(),
        });
    };
    let value = value.unwrap_or(&default);
    Ok(match name {
        "cleanup.policy" => TopicChange::CleanupPolicy(policy(value)?),
        "delete.retention.ms" => TopicChange::DeleteRetentionMs(at_least(0, name, value)?),
        "pack.merge_below" => TopicChange::PackMergeBelow(at_least(0, name, value)?),
        "retention.bytes" => TopicChange::RetentionBytes(at_least(-1, name, value)?),
        _ => TopicChange::RetentionMs(at_least(-1, name, value)?),
    })
}

/// Kafka's list: `delete`, `compact`, or both with a comma between.
fn policy(value: &str) -> Result<u8, SettingError> {
    let mut policy = 0;
    for word in value.split(',') {
        policy |= match word.trim() {
            "delete" => TopicChange::DELETES,
            "compact" => TopicChange::COMPACTS,
            _ => {
                return Err(SettingError::Value {
                    name: "cleanup.policy",
                    value: value.to_owned(),
                    expected: "delete, compact, or both with a comma between",
                });
            }
        };
    }
    Ok(policy)
}

/// A whole number; where it may be -1, that is no limit.
fn at_least(least: i64, name: &'static str, value: &str) -> Result<i64, SettingError> {
    let number = value.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| SettingError::Value {
        name,
        value: value.to_owned(),
        expected: match least {
            -1 => "a whole number, or -1 for no limit",
            _ => "a whole number, 0 or more",
        },
    })
}

/// All settings but [`STORAGE_URL`] with their values, by name.
fn values(settings: &TopicSettings) -> [(&'static str, String); 5] {
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
        (
            "pack.merge_below",
            settings.pack_merge_below_bytes.to_string(),
        ),
        ("retention.bytes", or_no_limit(settings.retention_bytes)),
        ("retention.ms", or_no_limit(settings.retention_ms)),
    ]
}

/// The same, and whether each is the default.
pub fn show(settings: &TopicSettings) -> impl Iterator<Item = (&'static str, String, bool)> {
    let defaults = values(&TopicSettings::default());
    let pairs = values(settings).into_iter().zip(defaults);
    pairs.map(|((name, value), (_, default))| {
        let is_default = value == default;
        (name, value, is_default)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kafkas_and_what_cannot_be_is_said() {
        assert_eq!(
            parse("retention.ms", Some("-1")),
            Ok(TopicChange::RetentionMs(-1))
        );
        assert_eq!(
            parse("retention.ms", None),
            Ok(TopicChange::RetentionMs(604_800_000))
        );
        assert_eq!(
            parse("retention.bytes", Some("1073741824")),
            Ok(TopicChange::RetentionBytes(1 << 30))
        );
        assert_eq!(
            parse("cleanup.policy", Some("compact, delete")),
            Ok(TopicChange::CleanupPolicy(3))
        );
        for (name, value) in [
            ("retention.ms", "7d"),
            ("retention.bytes", "-2"),
            ("cleanup.policy", "delete,never"),
            ("delete.retention.ms", "-1"),
            ("pack.merge_below", "4KiB"),
            ("cleanup.policy", "never"),
            ("retention.hours", "1"),
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
        for (name, value, is_default) in show(&TopicSettings::default()) {
            assert!(is_default);
            assert_eq!(parse(name, Some(&value)), parse(name, None), "{name}");
        }
    }
}
