//! Ids, offsets and epochs as types of their own, so that an edge offset can never be handed over
//! where a Kafka offset is meant.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

counter! {
    /// A message's number in its stream at its edge: dense from 0 within an [`Incarnation`].
    EdgeOffset(u64)
}
counter! {
    /// A record's offset in a partition, as Kafka clients see it; never negative.
    KafkaOffset(i64)
}
counter! {
    /// A message's number in the one order of its edge. Never reused.
    Position(u64)
}
counter! {
    /// A stream's number within one journal. Never reused.
    StreamId(u32)
}
counter! {
    /// One life of a stream's numbering, granted by the cloud. 0 means "not granted yet".
    Incarnation(u64)
}
counter! {
    /// The fencing number that the cloud grants to an edge's connection. 0 means "none yet".
    SessionEpoch(u64)
}
counter! {
    /// A partition of a topic, from 0.
    PartitionId(i32)
}

impl EdgeOffset {
    /// The offset `count` messages further on.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Position {
    /// The position `count` messages further on.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl KafkaOffset {
    /// The offset `count` records further on.
    pub fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

/// The hash of a stream's chunks up to a boundary. It proves that two nodes mean the same messages
/// by the same offsets; it is no protection against a forger (mutual TLS is).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundaryHash(pub u128);

impl BoundaryHash {
    /// The hash before the first message of every incarnation.
    pub const START: Self = Self(0);
}

impl fmt::Display for BoundaryHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for BoundaryHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BoundaryHash({self})")
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

random_id! {
    /// One life of an edge's journal; random, made with the store.
    StoreId
}
random_id! {
    /// A topic's identity; a topic created again under the same name has another.
    TopicId
}

/// One life of the cloud's own state. A greater counter is newer; the random id tells apart two
/// clouds that were restored to the same counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterIncarnation {
    pub counter: u32,
    pub id: u128,
}

impl fmt::Display for ClusterIncarnation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:032x}", self.counter, self.id)
    }
}

/// A name was empty, too long, or had a character that names do not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{what} {value:?} is not a name: use 1 to {length_max} of the characters a-z A-Z 0-9 . _ - (and # for a lane)"
)]
pub struct NameError {
    pub what: &'static str,
    pub value: String,
    pub length_max: usize,
}

fn check_name(
    what: &'static str,
    value: &str,
    length_max: usize,
    lane: bool,
) -> Result<(), NameError> {
    let letters = value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') || (lane && c == '#'));
    if letters && !value.is_empty() && value.len() <= length_max && value != "." && value != ".." {
        return Ok(());
    }
    let value = value.chars().take(length_max + 1).collect();
    Err(NameError {
        what,
        value,
        length_max,
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $length_max:expr, $lane:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The longest name, in bytes.
            pub const LENGTH_MAX: usize = $length_max;

            /// Checks the name's characters and length.
            pub fn new(value: impl Into<String>) -> Result<Self, NameError> {
                let value = value.into();
                check_name($what, &value, $length_max, $lane)?;
                Ok(Self(value))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = String::deserialize(deserializer)?;
                Self::new(value).map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// An edge's identity, as its certificate says.
    EdgeId, "edge id", 64, false
}
name! {
    /// A stream's name; a lane of a keyed stream is `name#3`.
    StreamName, "stream name", 255, true
}
name! {
    /// A Kafka topic's name.
    TopicName, "topic name", 249, false
}
name! {
    /// A consumer group's id. Kafka allows more; what is refused here gets INVALID_GROUP_ID.
    GroupName, "group id", 249, false
}

impl StreamName {
    /// The lane's number, where the stream is a lane of a keyed stream.
    pub fn lane(&self) -> Option<u32> {
        self.0.rsplit_once('#')?.1.parse().ok()
    }

    /// The name of a lane of this stream.
    ///
    /// # Errors
    /// The name is too long for a number behind it.
    pub fn with_lane(&self, lane: u32) -> Result<Self, NameError> {
        Self::new(format!("{self}#{lane}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_a_number_behind_the_name() {
        let lane = StreamName::new("telemetry").unwrap().with_lane(3).unwrap();
        assert_eq!((lane.as_str(), lane.lane()), ("telemetry#3", Some(3)));
        assert_eq!(StreamName::new("telemetry").unwrap().lane(), None);
        assert_eq!(StreamName::new("telemetry#").unwrap().lane(), None);
    }

    #[test]
    fn names_hold_their_rules() {
        assert!(EdgeId::new("plant-7.line_2").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(EdgeId::new(bad).is_err(), "{bad:?}");
        }
        assert!(StreamName::new("telemetry#3").is_ok());
        assert!(TopicName::new("telemetry#3").is_err());
    }
}
