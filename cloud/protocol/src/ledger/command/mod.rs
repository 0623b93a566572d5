//! Commands: all that changes the ledger, one file per command with its encoding.
//!
//! A command on disk is its number, its version, and its fields. Numbers are never reused. A number
//! or version that this build does not know is an error that stops the reader: to skip it would
//! make two ledgers out of one log.

mod add_rules;
mod add_store;
mod allot_producer;
mod alter_topic;
mod alter_user;
mod begin;
mod commit_offsets;
mod create_topic;
mod delete_topic;
mod forget_offsets;
mod fork_stream;
mod grow_topic;
mod import_facts;
mod keep_generation;
mod land;
mod land_gap;
mod open_broker;
mod open_session;
mod open_stream;
mod pack;
mod produce;
mod release_edge;
mod remove_rules;
#[cfg(test)]
pub(super) mod strategies;
mod swept;
mod tick;
mod trim;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tidegate_shared::id::{EdgeId, NameError, PartitionId, TopicId};
use tidegate_shared::wire::{Reader, WireError};

use super::Target;

pub use add_rules::AddRules;
pub use add_store::{AddStore, STORE_URL_BYTES_MAX};
pub use allot_producer::AllotProducer;
pub use alter_topic::{AlterTopic, TopicChange};
pub use alter_user::{AlterUser, UserChange};
pub use begin::Begin;
pub use commit_offsets::{CommitOffsets, OffsetCommit};
pub use create_topic::CreateTopic;
pub use delete_topic::DeleteTopic;
pub use forget_offsets::ForgetOffsets;
pub use fork_stream::ForkStream;
pub use grow_topic::GrowTopic;
pub use import_facts::{FACTS_MAX, ImportFacts};
pub use keep_generation::KeepGeneration;
pub use land::{Land, Part};
pub use land_gap::LandGap;
pub use open_broker::OpenBroker;
pub use open_session::OpenSession;
pub use open_stream::OpenStream;
pub use pack::Pack;
pub use produce::Produce;
pub use release_edge::ReleaseEdge;
pub use remove_rules::RemoveRules;
pub use swept::Swept;
pub use tick::{Entry, Tick};
pub use trim::Trim;

pub(super) use add_rules::{put_rules, take_rules};
pub(super) use add_store::take_store_url;
pub(super) use alter_topic::{put_changes, take_changes};
pub(super) use alter_user::{
    put_verifier, take_32, take_token_name, take_user_name, take_verifier,
};
pub(super) use keep_generation::{put_generation, take_generation};
pub(super) use pack::{put_segment, put_segment_id, take_segment, take_segment_id};

/// Why bytes are not a command (or a snapshot) that this build understands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(
        "{what} number {number} is not known to this build: it was written by a newer one; run that one or newer"
    )]
    UnknownNumber { what: &'static str, number: u8 },
    #[error(
        "{what} number {number} has version {version}, this build knows up to {version_max}: run the build that wrote it or newer"
    )]
    UnknownVersion {
        what: &'static str,
        number: u8,
        version: u8,
        version_max: u8,
    },
    #[error("{0} bytes are left over after the command")]
    LeftOver(usize),
}

/// One command's fields on disk.
pub(super) trait Row: Sized {
    const WHAT: &'static str;
    /// Never reused.
    const NUMBER: u8;
    /// Counts up when fields change; older versions stay readable.
    const VERSION: u8;

    fn put(&self, out: &mut BytesMut);
    fn take(reader: &mut Reader, version: u8) -> Result<Self, DecodeError>;

    fn put_row(&self, out: &mut BytesMut) {
        out.put_u8(Self::NUMBER);
        out.put_u8(Self::VERSION);
        self.put(out);
    }

    /// Reads what follows the number: the version, then the fields.
    fn take_row(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.u8("version")?;
        if version == 0 || version > Self::VERSION {
            return Err(DecodeError::UnknownVersion {
                what: Self::WHAT,
                number: Self::NUMBER,
                version,
                version_max: Self::VERSION,
            });
        }
        Self::take(reader, version)
    }
}

/// A change to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Number 1: begins a life of the cloud's state.
    Begin(Begin),
    /// Number 2: creates a topic.
    CreateTopic(CreateTopic),
    /// Number 3: all that has gathered since the last one.
    Tick(Tick),
    /// Number 4: deletes a topic.
    DeleteTopic(DeleteTopic),
    /// Number 5: gives a topic more partitions.
    GrowTopic(GrowTopic),
}

impl Command {
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Begin(row) => row.put_row(out),
            Self::CreateTopic(row) => row.put_row(out),
            Self::Tick(row) => row.put_row(out),
            Self::DeleteTopic(row) => row.put_row(out),
            Self::GrowTopic(row) => row.put_row(out),
        }
    }

    /// Edges whose sessions it decides about: see [`Ledger::session_end`](super::Ledger::session_end).
    pub fn speakers(&self) -> Vec<EdgeId> {
        let Self::Tick(tick) = self else {
            return Vec::new();
        };
        let edges = tick.entries.iter().filter_map(|entry| match entry {
            Entry::OpenSession(open) => Some(open.edge.clone()),
            _ => None,
        });
        edges.collect()
    }

    /// Reads exactly one command.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let command = match reader.u8("command number")? {
            Begin::NUMBER => Self::Begin(Begin::take_row(&mut reader)?),
            CreateTopic::NUMBER => Self::CreateTopic(CreateTopic::take_row(&mut reader)?),
            Tick::NUMBER => Self::Tick(Tick::take_row(&mut reader)?),
            DeleteTopic::NUMBER => Self::DeleteTopic(DeleteTopic::take_row(&mut reader)?),
            GrowTopic::NUMBER => Self::GrowTopic(GrowTopic::take_row(&mut reader)?),
            number => {
                let what = "command";
                return Err(DecodeError::UnknownNumber { what, number });
            }
        };
        if !reader.is_empty() {
            return Err(DecodeError::LeftOver(reader.rest().len()));
        }
        Ok(command)
    }
}

/// Partitions of one topic. Whoever proposes refuses more; a command that has more is damaged, and would
/// make the ledger take memory for what cannot be.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;

fn take_partitions(reader: &mut Reader) -> Result<u32, DecodeError> {
    let field = "partitions";
    match reader.u32(field)? {
        partitions if partitions > TOPIC_PARTITIONS_MAX => Err(WireError::Invalid { field }.into()),
        partitions => Ok(partitions),
    }
}

pub(super) fn put_target(out: &mut BytesMut, target: &Target) {
    out.put_u128_le(target.topic_id.0);
    out.put_i32_le(target.partition.0);
}

pub(super) fn take_target(reader: &mut Reader) -> Result<Target, DecodeError> {
    Ok(Target {
        topic_id: TopicId(reader.u128("topic id")?),
        partition: PartitionId(reader.i32("partition")?),
    })
}

/// Takes a string that must be a name.
pub(super) fn take_name<N>(
    reader: &mut Reader,
    field: &'static str,
    length_max: usize,
    parse: impl Fn(String) -> Result<N, NameError>,
) -> Result<N, DecodeError> {
    Ok(parse(reader.string(field, length_max)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn commands_round_trip(command in strategies::command()) {
            let mut out = BytesMut::new();
            command.encode(&mut out);
            prop_assert_eq!(Command::decode(out.freeze()), Ok(command));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::decode(Bytes::from(bytes));
        }

        #[test]
        fn a_cut_command_is_an_error(command in strategies::command(), cut in any::<prop::sample::Index>()) {
            let mut out = BytesMut::new();
            command.encode(&mut out);
            let cut = cut.index(out.len());
            prop_assert!(Command::decode(out.freeze().slice(..cut)).is_err());
        }
    }

    #[test]
    fn a_topic_of_too_many_partitions_is_an_error() {
        let grow = |partitions| {
            let topic_id = tidegate_shared::id::TopicId(1);
            let mut out = BytesMut::new();
            Command::GrowTopic(GrowTopic {
                topic_id,
                partitions,
            })
            .encode(&mut out);
            Command::decode(out.freeze())
        };
        assert!(grow(TOPIC_PARTITIONS_MAX).is_ok());
        assert!(grow(TOPIC_PARTITIONS_MAX + 1).is_err());
        assert!(grow(u32::MAX).is_err());
    }

    #[test]
    fn an_unknown_number_or_version_stops() {
        let unknown = Command::decode(Bytes::from_static(&[99, 1]));
        assert!(matches!(
            unknown,
            Err(DecodeError::UnknownNumber { number: 99, .. })
        ));
        let newer = Command::decode(Bytes::from_static(&[1, 200, 0, 0]));
        assert!(matches!(
            newer,
            Err(DecodeError::UnknownVersion { version: 200, .. })
        ));
    }
}
