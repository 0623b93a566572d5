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

const NAMES: &str =
    "cleanup.policy, delete.retention.ms, pack.merge_below, retention.bytes and retention.ms";

/// The change that gives a setting a value; `None` gives it its default.
///
/// # Errors
/// See [`SettingError`].
pub fn parse(name: &str, value: Option<&str>) -> Result<TopicChange, SettingError> {
    let default = TopicSettings::default();
    match name {
        "retention.ms" => {
            let or_default = || to_wire(default.retention_ms);
            number("retention.ms", value, or_default).map(TopicChange::RetentionMs)
        }
        "retention.bytes" => {
            let or_default = || to_wire(default.retention_bytes);
            number("retention.bytes", value, or_default).map(TopicChange::RetentionBytes)
        }
        "cleanup.policy" => policy(value.unwrap_or("delete")).map(TopicChange::CleanupPolicy),
        "delete.retention.ms" => {
            let or_default = || to_wire(Some(default.delete_retention_ms));
            at_least_0("delete.retention.ms", value, or_default).map(TopicChange::DeleteRetentionMs)
        }
        "pack.merge_below" => {
            let or_default = || to_wire(Some(default.pack_merge_below_bytes));
            at_least_0("pack.merge_below", value, or_default).map(TopicChange::PackMergeBelow)
        }
        name => Err(SettingError::Unknown {
            name: name.to_owned(),
        }),
    }
}

const DELETES: u8 = 1;
const COMPACTS: u8 = 2;

/// Kafka's list: `delete`, `compact`, or both with a comma between.
fn policy(value: &str) -> Result<u8, SettingError> {
    let mut policy = 0;
    for word in value.split(',') {
        policy |= match word.trim() {
            "delete" => DELETES,
            "compact" => COMPACTS,
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

fn at_least_0(
    name: &'static str,
    value: Option<&str>,
    or_default: impl FnOnce() -> i64,
) -> Result<i64, SettingError> {
    let Some(value) = value else {
        return Ok(or_default());
    };
    let number = value.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| SettingError::Value {
        name,
        value: value.to_owned(),
        expected: "a whole number, 0 or more",
    })
}

fn number(
    name: &'static str,
    value: Option<&str>,
    or_default: impl FnOnce() -> i64,
) -> Result<i64, SettingError> {
    let Some(value) = value else {
        return Ok(or_default());
    };
    let number = value.parse().ok().filter(|number| *number >= -1);
    number.ok_or_else(|| SettingError::Value {
        name,
        value: value.to_owned(),
        expected: "a whole number, or -1 for no limit",
    })
}

fn to_wire(value: Option<u64>) -> i64 {
    value.map_or(-1, |value| i64::try_from(value).unwrap_or(i64::MAX))
}

/// All settings with their values, by name; and whether each is the default.
pub fn show(settings: &TopicSettings) -> [(&'static str, String, bool); 5] {
    let default = TopicSettings::default();
    let number = |value| to_wire(value).to_string();
    let policy = match (settings.deletes, settings.compacts) {
        (true, true) => "compact,delete",
        (false, true) => "compact",
        _ => "delete",
    };
    [
        (
            "cleanup.policy",
            policy.to_owned(),
            (settings.deletes, settings.compacts) == (default.deletes, default.compacts),
        ),
        (
            "delete.retention.ms",
            settings.delete_retention_ms.to_string(),
            settings.delete_retention_ms == default.delete_retention_ms,
        ),
        (
            "pack.merge_below",
            settings.pack_merge_below_bytes.to_string(),
            settings.pack_merge_below_bytes == default.pack_merge_below_bytes,
        ),
        (
            "retention.bytes",
            number(settings.retention_bytes),
            settings.retention_bytes == default.retention_bytes,
        ),
        (
            "retention.ms",
            number(settings.retention_ms),
            settings.retention_ms == default.retention_ms,
        ),
    ]
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
