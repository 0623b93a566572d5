//! A small Kafka consumer: all partitions of one topic, no group. `up --demo` counts with it what
//! any Kafka client would see, over the same TCP port; `tidegate topic consume` will read with it.
//!
//! It asks one address for everything, since Tidegate's node leads all partitions; it does not follow
//! a partition's leader to another address. Versions are fixed: Metadata 9, ListOffsets 6, Fetch 12,
//! which Apache Kafka serves since 2.7.

mod connection;
mod consumer;
mod error;
#[cfg(test)]
mod tests;

pub(crate) use consumer::{Consumed, Consumer, StartAt};
pub(crate) use error::ClientError;
