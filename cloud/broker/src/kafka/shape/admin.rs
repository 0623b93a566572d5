//! The request schemas of the APIs by which people look after topics, settings and groups.

use super::Kind::{Array, Fixed, Plain, Text};
use super::{ANY, Field, I32, STRING};

const SETTINGS: &[Field] = &[Field(Text, 0, ANY), Field(Text, 0, ANY)];

pub(super) const CREATE_TOPICS: &[Field] = &[
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(Fixed(4), 0, ANY),
            Field(Fixed(2), 0, ANY),
            Field(
                Array(&[Field(Fixed(4), 0, ANY), Field(Plain(&I32), 0, ANY)]),
                0,
                ANY,
            ),
            Field(Array(SETTINGS), 0, ANY),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(4), 0, ANY),
    Field(Fixed(1), 1, ANY),
];

pub(super) const DELETE_TOPICS: &[Field] = &[
    Field(
        Array(&[Field(Text, 6, ANY), Field(Fixed(16), 6, ANY)]),
        6,
        ANY,
    ),
    Field(Plain(&STRING), 0, 5),
    Field(Fixed(4), 0, ANY),
];

pub(super) const CREATE_PARTITIONS: &[Field] = &[
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(Fixed(4), 0, ANY),
            Field(Array(&[Field(Plain(&I32), 0, ANY)]), 0, ANY),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(4), 0, ANY),
    Field(Fixed(1), 0, ANY),
];

pub(super) const DESCRIBE_CONFIGS: &[Field] = &[
    Field(
        Array(&[
            Field(Fixed(1), 0, ANY),
            Field(Text, 0, ANY),
            Field(Plain(&STRING), 0, ANY),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(1), 1, ANY),
    Field(Fixed(1), 3, ANY),
];

pub(super) const ALTER_CONFIGS: &[Field] = &[
    Field(
        Array(&[
            Field(Fixed(1), 0, ANY),
            Field(Text, 0, ANY),
            Field(Array(SETTINGS), 0, ANY),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(1), 0, ANY),
];

pub(super) const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    Field(
        Array(&[
            Field(Fixed(1), 0, ANY),
            Field(Text, 0, ANY),
            Field(
                Array(&[
                    Field(Text, 0, ANY),
                    Field(Fixed(1), 0, ANY),
                    Field(Text, 0, ANY),
                ]),
                0,
                ANY,
            ),
        ]),
        0,
        ANY,
    ),
    Field(Fixed(1), 0, ANY),
];

pub(super) const LIST_GROUPS: &[Field] =
    &[Field(Plain(&STRING), 4, ANY), Field(Plain(&STRING), 5, ANY)];

pub(super) const DESCRIBE_GROUPS: &[Field] =
    &[Field(Plain(&STRING), 0, ANY), Field(Fixed(1), 3, ANY)];

pub(super) const DELETE_GROUPS: &[Field] = &[Field(Plain(&STRING), 0, ANY)];

pub(super) const OFFSET_DELETE: &[Field] = &[
    Field(Text, 0, ANY),
    Field(
        Array(&[Field(Text, 0, ANY), Field(Array(&[I32]), 0, ANY)]),
        0,
        ANY,
    ),
];

pub(super) const DESCRIBE_CLUSTER: &[Field] = &[
    Field(Fixed(1), 0, ANY),
    Field(Fixed(1), 1, ANY),
    Field(Fixed(1), 2, ANY),
];

pub(super) const DESCRIBE_LOG_DIRS: &[Field] = &[Field(
    Array(&[Field(Text, 0, ANY), Field(Plain(&I32), 0, ANY)]),
    0,
    ANY,
)];

pub(super) const DESCRIBE_PRODUCERS: &[Field] = &[Field(
    Array(&[Field(Text, 0, ANY), Field(Plain(&I32), 0, ANY)]),
    0,
    ANY,
)];

pub(super) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    Field(Fixed(4), 3, ANY),
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(
                Array(&[
                    Field(Fixed(4), 0, ANY),
                    Field(Fixed(4), 2, ANY),
                    Field(Fixed(4), 0, ANY),
                ]),
                0,
                ANY,
            ),
        ]),
        0,
        ANY,
    ),
];

/// Of DescribeAcls, and of each of DeleteAcls' filters.
pub(super) const ACL_FILTER: &[Field] = &[
    Field(Fixed(1), 0, ANY),
    Field(Text, 0, ANY),
    Field(Fixed(1), 1, ANY),
    Field(Text, 0, ANY),
    Field(Text, 0, ANY),
    Field(Fixed(1), 0, ANY),
    Field(Fixed(1), 0, ANY),
];

/// An ACL has the fields that a filter has.
pub(super) const CREATE_ACLS: &[Field] = &[Field(Array(ACL_FILTER), 0, ANY)];

pub(super) const DELETE_ACLS: &[Field] = &[Field(Array(ACL_FILTER), 0, ANY)];
