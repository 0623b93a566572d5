//! MQTT topics and topic filters, with the matching rules of MQTT 5 section 4.7 (the same in 3.1.1).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// The longest topic or filter: MQTT strings carry their length in two bytes.
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Levels that one topic or filter may have. MQTT sets no limit; matching costs per level.
pub const TOPIC_LEVELS_MAX: usize = 128;

/// Why a string is no topic or no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {TOPIC_BYTES_MAX} bytes")]
    TooLong,
    #[error("it has more than {TOPIC_LEVELS_MAX} levels")]
    TooManyLevels,
    #[error("it holds U+0000")]
    Null,
    #[error("a topic that is published to has no + or #")]
    Wildcard,
    #[error("+ must fill a whole level, and # the whole last level")]
    MisplacedWildcard,
    #[error("$share needs a group and a filter: $share/group/filter")]
    Share,
}

fn check_common(value: &str) -> Result<(), TopicError> {
    if value.is_empty() {
        return Err(TopicError::Empty);
    }
    if value.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    if value.contains('\0') {
        return Err(TopicError::Null);
    }
    if value.bytes().filter(|byte| *byte == b'/').count() >= TOPIC_LEVELS_MAX {
        return Err(TopicError::TooManyLevels);
    }
    Ok(())
}

/// Checks a topic as PUBLISH and a will carry it: no wildcards `[MQTT-3.3.2-2]`.
pub fn check_topic(value: &str) -> Result<(), TopicError> {
    check_common(value)?;
    if value.contains(['+', '#']) {
        return Err(TopicError::Wildcard);
    }
    Ok(())
}

/// A filter as SUBSCRIBE and a route carry it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TopicFilter(String);

impl TopicFilter {
    /// Checks where the wildcards stand `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`. `$share/…` is not a
    /// filter but a group and a filter: take it apart with [`split_share`] first.
    pub fn new(value: impl Into<String>) -> Result<Self, TopicError> {
        let value = value.into();
        check_common(&value)?;
        let mut levels = value.split('/').peekable();
        while let Some(level) = levels.next() {
            let plus = level.contains('+') && level != "+";
            let hash = level.contains('#') && (level != "#" || levels.peek().is_some());
            if plus || hash {
                return Err(TopicError::MisplacedWildcard);
            }
        }
        Ok(Self(value))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `topic` matches. A filter that begins with a wildcard does not match a topic that
    /// begins with `$` `[MQTT-4.7.2-1]`; `a/#` matches `a` too.
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for pattern in self.0.split('/') {
            match (pattern, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (pattern, Some(level)) if pattern == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TopicFilter({:?})", self.0)
    }
}

impl<'de> Deserialize<'de> for TopicFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = String::deserialize(deserializer)?;
        Self::new(value.clone()).map_err(|error| {
            serde::de::Error::custom(format!("{value:?} is not a topic filter: {error}"))
        })
    }
}

/// Takes `$share/group/filter` apart; `None` where the string is an ordinary filter
/// `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
pub fn split_share(value: &str) -> Result<Option<(&str, &str)>, TopicError> {
    let Some(rest) = value.strip_prefix("$share/") else {
        return if value == "$share" {
            Err(TopicError::Share)
        } else {
            Ok(None)
        };
    };
    match rest.split_once('/') {
        Some((group, filter))
            if !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty() =>
        {
            Ok(Some((group, filter)))
        }
        _ => Err(TopicError::Share),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::new(filter).unwrap().matches(topic)
    }

    #[test]
    fn the_examples_of_the_specification() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/#", "sport", true),
            ("#", "sport/tennis", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/monitor", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/monitor/Clients", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn misplaced_wildcards_are_refused() {
        for filter in [
            "sport/tennis#",
            "sport/tennis/#/ranking",
            "sport+",
            "a/+b",
            "##",
        ] {
            assert_eq!(
                TopicFilter::new(filter),
                Err(TopicError::MisplacedWildcard),
                "{filter}"
            );
        }
        assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
        assert_eq!(check_topic("a/+/b"), Err(TopicError::Wildcard));
    }

    #[test]
    fn shares_are_taken_apart() {
        assert_eq!(split_share("$share/g/a/#"), Ok(Some(("g", "a/#"))));
        assert_eq!(split_share("a/#"), Ok(None));
        for bad in ["$share", "$share/", "$share/g", "$share/g/", "$share/+/a"] {
            assert_eq!(split_share(bad), Err(TopicError::Share), "{bad}");
        }
    }

    /// The rules again, written as recursion over levels: the reference for the property below.
    fn reference(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => reference(filter, topic),
            ([pattern, filter @ ..], [level, topic @ ..]) => {
                pattern == level && reference(filter, topic)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_reference(
            filter in "(\\+|a|b|)(/(\\+|a|b|)){0,3}(/#)?",
            topic in "(a|b|\\$x|)(/(a|b|)){0,4}",
        ) {
            prop_assume!(!filter.is_empty() && !topic.is_empty());
            let filter_levels: Vec<_> = filter.split('/').collect();
            let topic_levels: Vec<_> = topic.split('/').collect();
            let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
            prop_assert_eq!(
                matches(&filter, &topic),
                !hidden && reference(&filter_levels, &topic_levels)
            );
        }

        #[test]
        fn parsing_never_panics(value in "\\PC*") {
            let _ = TopicFilter::new(value.clone());
            let _ = check_topic(&value);
            let _ = split_share(&value);
        }
    }
}
