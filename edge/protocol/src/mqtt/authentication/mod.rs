//! The users of a node, who say who they are by SCRAM-SHA-256 or by a password: names, verifiers and hashes from a file,
//! tokens that somebody else has signed, and which addresses fail at it. The messages of SCRAM are [`tidegate_shared::scram`]'s; `connection` carries them in
//! CONNECT, AUTH and CONNACK.

mod attempts;
mod block_list;
mod password;
mod token;
mod users;

#[cfg(test)]
mod tests;

pub use attempts::{Attempts, Turn};
pub use block_list::{BlockList, BlockListError, BlockListForm, BlockedForm};
pub use password::{
    ARGON2_MEMORY_KIB, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES, ARGON2_SALT_BYTES, PasswordHash,
    PasswordHashError,
};
pub use tidegate_shared::scram::{
    Authenticated, Exchange, PasswordError, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN,
    SCRAM_MESSAGE_BYTES_MAX, SCRAM_SALT_BYTES_MAX, ScramError, Verifier, VerifierError,
};
pub use token::{
    Jwks, KeyError, Proved, TokenError, TokenKey, TokenRules, Tokens, looks_like_token,
};
pub use users::{Users, UsersError};

use tidegate_shared::scram::Mechanism;

/// What is offered.
pub const SCRAM: Mechanism = Mechanism::Sha256;

/// As clients name it in CONNECT.
pub const SCRAM_SHA_256: &str = SCRAM.name();
