//! The request schemas of the APIs by which clients say who they are, and people look after users.

use super::Kind::{Array, Blob, Fixed, Text};
use super::{ANY, Field};

pub(super) const SASL_HANDSHAKE: &[Field] = &[Field(Text, 0, ANY)];

pub(super) const SASL_AUTHENTICATE: &[Field] = &[Field(Blob, 0, ANY)];

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: &[Field] =
    &[Field(Array(&[Field(Text, 0, ANY)]), 0, ANY)];

pub(super) const ALTER_USER_SCRAM_CREDENTIALS: &[Field] = &[
    Field(
        Array(&[Field(Text, 0, ANY), Field(Fixed(1), 0, ANY)]),
        0,
        ANY,
    ),
    Field(
        Array(&[
            Field(Text, 0, ANY),
            Field(Fixed(1), 0, ANY),
            Field(Fixed(4), 0, ANY),
            Field(Blob, 0, ANY),
            Field(Blob, 0, ANY),
        ]),
        0,
        ANY,
    ),
];
