//! A look over a request before the codec decodes it: the codec reserves room for as many array
//! items as the request claims, so a request of 30 bytes could ask for 300 GB. Here each claim is
//! checked against the bytes that are there, and all items together against a limit.
//!
//! Source: the request schemas of the Kafka protocol, for the APIs in `api_versions`.

mod admin;
#[cfg(test)]
mod admin_tests;
mod users;

use kafka_protocol::messages::ApiKey;
use thiserror::Error;

use crate::limits::KAFKA_REQUEST_ITEMS_MAX;

/// Why a request is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ShapeError {
    #[error("it ends within a field")]
    Short,
    #[error("a length or count in it is not possible")]
    Length,
    #[error("it has more than {KAFKA_REQUEST_ITEMS_MAX} items")]
    TooMany,
}

/// A field and the versions that have it.
struct Field(Kind, i16, i16);

#[derive(Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string: 16 bits of length, compact in flexible versions.
    Text,
    /// Bytes: 32 bits of length, compact in flexible versions.
    Blob,
    /// An array of structures.
    Array(&'static [Field]),
    /// An array of items without tags, such as integers (`Fixed`) and strings (`Text`).
    Plain(&'static Field),
}

use Kind::{Array, Blob, Fixed, Plain, Text};

const ANY: i16 = i16::MAX;

/// The first flexible version where there is none.
const NEVER: i16 = i16::MAX;

const I32: Field = Field(Fixed(4), 0, ANY);
const STRING: Field = Field(Text, 0, ANY);

/// The first flexible version, and the body's fields.
fn schema(key: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match key {
        ApiKey::ApiVersions => (3, &[Field(Text, 3, ANY), Field(Text, 3, ANY)]),
        ApiKey::Produce => (9, PRODUCE),
        ApiKey::Metadata => (9, METADATA),
        ApiKey::Fetch => (12, FETCH),
        ApiKey::ListOffsets => (6, LIST_OFFSETS),
        ApiKey::FindCoordinator => (3, FIND_COORDINATOR),
        ApiKey::JoinGroup => (6, JOIN_GROUP),
        ApiKey::SyncGroup => (4, SYNC_GROUP),
        ApiKey::Heartbeat => (4, HEARTBEAT),
        ApiKey::LeaveGroup => (4, LEAVE_GROUP),
        ApiKey::OffsetCommit => (8, OFFSET_COMMIT),
        ApiKey::OffsetFetch => (6, OFFSET_FETCH),
        ApiKey::DeleteRecords => (2, DELETE_RECORDS),
        ApiKey::InitProducerId => (2, INIT_PRODUCER_ID),
        ApiKey::CreateTopics => (5, admin::CREATE_TOPICS),
        ApiKey::DeleteTopics => (4, admin::DELETE_TOPICS),
        ApiKey::CreatePartitions => (2, admin::CREATE_PARTITIONS),
        ApiKey::DescribeConfigs => (4, admin::DESCRIBE_CONFIGS),
        ApiKey::AlterConfigs => (2, admin::ALTER_CONFIGS),
        ApiKey::IncrementalAlterConfigs => (1, admin::INCREMENTAL_ALTER_CONFIGS),
        ApiKey::ListGroups => (3, admin::LIST_GROUPS),
        ApiKey::DescribeGroups => (5, admin::DESCRIBE_GROUPS),
        ApiKey::DeleteGroups => (2, admin::DELETE_GROUPS),
        ApiKey::OffsetDelete => (NEVER, admin::OFFSET_DELETE),
        ApiKey::OffsetForLeaderEpoch => (4, admin::OFFSET_FOR_LEADER_EPOCH),
        ApiKey::DescribeCluster => (0, admin::DESCRIBE_CLUSTER),
        ApiKey::DescribeLogDirs => (2, admin::DESCRIBE_LOG_DIRS),
        ApiKey::DescribeProducers => (0, admin::DESCRIBE_PRODUCERS),
        ApiKey::SaslHandshake => (NEVER, users::SASL_HANDSHAKE),
        ApiKey::SaslAuthenticate => (2, users::SASL_AUTHENTICATE),
        ApiKey::DescribeUserScramCredentials => (0, users::DESCRIBE_USER_SCRAM_CREDENTIALS),
        ApiKey::AlterUserScramCredentials => (0, users::ALTER_USER_SCRAM_CREDENTIALS),
        ApiKey::DescribeAcls => (2, admin::ACL_FILTER),
        ApiKey::CreateAcls => (2, admin::CREATE_ACLS),
        ApiKey::DeleteAcls => (2, admin::DELETE_ACLS),
        _ => return None,
    })
}

const PRODUCE: &[Field] = &[
    Field(Text, 3, ANY),
    Field(Fixed(2), 0, ANY),
    Field(Fixed(4), 0, ANY),
    Field(
        Array(&[
            Field(Text, 0, 12),
            Field(Fixed(16), 13, ANY),
            Field(Array(&[I32, Field(Blob, 0, ANY)]), 0, ANY),
        ]),
        0,
        ANY,
    ),
];

const INIT_PRODUCER_ID: &[Field] = &[
    Field(Text, 0, ANY),
    Field(Fixed(4), 0, ANY),
    Field(Fixed(8), 3, ANY),
    Field(Fixed(2), 3, ANY),
];

const METADATA: &[Field] = &[
    Field(
        Array(&[Field(Fixed(16), 10, ANY), Field(Text, 0, ANY)]),
        0,
        ANY,
    ),
    Field(Fixed(1), 4, ANY),
    Field(Fixed(1), 8, 10),
    Field(Fixed(1), 8, ANY),
];

const FETCH: &[Field] = &[
    Field(Fixed(4), 0, 14),
    Field(Fixed(4), 0, ANY),
    Field(Fixed(4), 0, ANY),
    Field(Fixed(4), 3, ANY),
    Field(Fixed(1), 4, ANY),
    Field(Fixed(4), 7, ANY),
    Field(Fixed(4), 7, ANY),
    Field(
        Array(&[
            Field(Text, 0, 12),
            Field(Fixed(16), 13, ANY),
            Field(
                Array(&[
                    Field(Fixed(4), 0, ANY),
                    Field(Fixed(4), 9, ANY),
                    Field(Fixed(8), 0, ANY),
                    Field(Fixed(4), 12, ANY),
                    Field(Fixed(8), 5, ANY),
                    Field(Fixed(4), 0, ANY),
                ]),
                0,
                ANY,
            ),
        ]),
        0,
        ANY,
    ),
    Field(
        Array(&[
            Field(Text, 7, 12),
            Field(Fixed(16), 13, ANY),
            Field(Plain(&I32), 7, ANY),
        ]),
        7,
        ANY,
    ),
    Field(Text, 11, ANY),
];

const LIST_OFFSETS: &[Field] = &[
    Field(Fixed(4), 0, ANY),
    Field(Fixed(1), 2, ANY),
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(
                Array(&[
                    Field(Fixed(4), 0, ANY),
                    Field(Fixed(4), 4, ANY),
                    Field(Fixed(8), 0, ANY),
                ]),
                0,
                ANY,
            ),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(4), 10, ANY),
];

const FIND_COORDINATOR: &[Field] = &[
    Field(Text, 0, 3),
    Field(Fixed(1), 1, ANY),
    Field(Plain(&STRING), 4, ANY),
];

const JOIN_GROUP: &[Field] = &[
    Field(Text, 0, ANY),
    Field(Fixed(4), 0, ANY),
    Field(Fixed(4), 1, ANY),
    Field(Text, 0, ANY),
    Field(Text, 5, ANY),
    Field(Text, 0, ANY),
    Field(Array(&[Field(Text, 0, ANY), Field(Blob, 0, ANY)]), 0, ANY),
    Field(Text, 8, ANY),
];

const SYNC_GROUP: &[Field] = &[
    Field(Text, 0, ANY),
    Field(Fixed(4), 0, ANY),
    Field(Text, 0, ANY),
    Field(Text, 3, ANY),
    Field(Text, 5, ANY),
    Field(Text, 5, ANY),
    Field(Array(&[Field(Text, 0, ANY), Field(Blob, 0, ANY)]), 0, ANY),
];

const HEARTBEAT: &[Field] = &[
    Field(Text, 0, ANY),
    Field(Fixed(4), 0, ANY),
    Field(Text, 0, ANY),
    Field(Text, 3, ANY),
];

const LEAVE_GROUP: &[Field] = &[
    Field(Text, 0, ANY),
    Field(Text, 0, 2),
    Field(
        Array(&[
            Field(Text, 3, ANY),
            Field(Text, 3, ANY),
            Field(Text, 5, ANY),
        ]),
        3,
        ANY,
    ),
];

const OFFSET_COMMIT: &[Field] = &[
    Field(Text, 0, ANY),
    Field(Fixed(4), 1, ANY),
    Field(Text, 1, ANY),
    Field(Text, 7, ANY),
    Field(Fixed(8), 2, 4),
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(
                Array(&[
                    Field(Fixed(4), 0, ANY),
                    Field(Fixed(8), 0, ANY),
                    Field(Fixed(4), 6, ANY),
                    Field(Text, 0, ANY),
                ]),
                0,
                ANY,
            ),
        ]),
        0,
        ANY,
    ),
];

const OFFSET_FETCH: &[Field] = &[
    Field(Text, 0, 7),
    Field(
        Array(&[Field(Text, 0, ANY), Field(Plain(&I32), 0, ANY)]),
        0,
        7,
    ),
    Field(
        Array(&[
            Field(Text, 8, ANY),
            Field(Text, 9, ANY),
            Field(Fixed(4), 9, ANY),
            Field(
                Array(&[Field(Text, 8, ANY), Field(Plain(&I32), 8, ANY)]),
                8,
                ANY,
            ),
        ]),
        8,
        ANY,
    ),
    Field(Fixed(1), 7, ANY),
];

const DELETE_RECORDS: &[Field] = &[
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(
                Array(&[Field(Fixed(4), 0, ANY), Field(Fixed(8), 0, ANY)]),
                0,
                ANY,
            ),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(4), 0, ANY),
];

/// Checks a whole request (header and body).
pub(super) fn check(key: ApiKey, version: i16, request: &[u8]) -> Result<(), ShapeError> {
    walk(key, version, request).map(drop)
}

/// The bytes behind what the schema knows.
fn walk(key: ApiKey, version: i16, request: &[u8]) -> Result<&[u8], ShapeError> {
    let (flexible_from, fields) = schema(key).ok_or(ShapeError::Length)?;
    let mut walk = Walk {
        rest: request,
        version,
        flexible: false,
        items_left: KAFKA_REQUEST_ITEMS_MAX,
    };
    // The header: key, version, correlation id, client id (never compact), and tags.
    walk.skip(8)?;
    walk.field(Text)?;
    walk.flexible = version >= flexible_from;
    walk.tags()?;
    walk.structure(fields)?;
    Ok(walk.rest)
}

/// A string of any version; Kafka reads no longer ones in flexible versions either.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    items_left: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Result<(), ShapeError> {
        for Field(kind, since, until) in fields {
            if (*since..=*until).contains(&self.version) {
                self.field(*kind)?;
            }
        }
        self.tags()
    }

    fn field(&mut self, kind: Kind) -> Result<(), ShapeError> {
        match kind {
            Fixed(length) => self.skip(length),
            Text => {
                let length = self.length(2)?;
                if length > TEXT_BYTES_MAX {
                    return Err(ShapeError::Length);
                }
                self.skip(length)
            }
            Blob => {
                let length = self.length(4)?;
                self.skip(length)
            }
            Array(fields) => {
                for _ in 0..self.count()? {
                    self.structure(fields)?;
                }
                Ok(())
            }
            Plain(field) => {
                for _ in 0..self.count()? {
                    self.field(field.0)?;
                }
                Ok(())
            }
        }
    }

    /// An array's count. Each item takes at least a byte, so more than the rest cannot be.
    fn count(&mut self) -> Result<usize, ShapeError> {
        let count = self.length(4)?;
        if count > self.rest.len() {
            return Err(ShapeError::Length);
        }
        let left = self.items_left.checked_sub(count);
        self.items_left = left.ok_or(ShapeError::TooMany)?;
        Ok(count)
    }

    /// A length; null is 0. `width` is that of versions that are not flexible.
    fn length(&mut self, width: usize) -> Result<usize, ShapeError> {
        if self.flexible {
            return Ok((self.varint()? as usize).saturating_sub(1));
        }
        let bytes = self.take(width)?;
        let length = match *bytes {
            [a, b] => i32::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i32::from_be_bytes([a, b, c, d]),
            _ => return Err(ShapeError::Length),
        };
        match length {
            -1 => Ok(0),
            _ => usize::try_from(length).map_err(|_| ShapeError::Length),
        }
    }

    fn tags(&mut self) -> Result<(), ShapeError> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()? as usize;
        self.items_left = self
            .items_left
            .checked_sub(count)
            .ok_or(ShapeError::TooMany)?;
        for _ in 0..count {
            self.varint()?;
            let length = self.varint()? as usize;
            self.skip(length)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, ShapeError> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f).wrapping_shl(shift);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ShapeError::Length)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], ShapeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ShapeError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), ShapeError> {
        self.take(length).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_count_is_refused() {
        // Metadata version 1 with 2^31 - 1 topics.
        let mut request = vec![0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff];
        request.extend([0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(
            check(ApiKey::Metadata, 1, &request),
            Err(ShapeError::Length)
        );
        // Metadata version 9, compact: 2^32 - 2 topics.
        let mut request = vec![0, 3, 0, 9, 0, 0, 0, 9, 0xff, 0xff, 0];
        request.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(
            check(ApiKey::Metadata, 9, &request),
            Err(ShapeError::Length)
        );
    }

    #[test]
    fn a_count_that_fits_but_is_not_there_is_refused() {
        let mut request = vec![0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 4];
        request.extend([0, 1, b'a', 0]);
        assert_eq!(check(ApiKey::Metadata, 1, &request), Err(ShapeError::Short));
    }
}
