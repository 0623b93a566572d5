//! Who a client is, by SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side as values: what the server
//! keeps of a password, and one exchange of messages. It moves no packets; `connection` carries the
//! messages in CONNECT, AUTH and CONNACK.
//!
//! Names and passwords are prepared by SASLprep (RFC 4013: mapped, NFKC, no prohibited characters), as
//! clients do before they compute anything. There is no channel binding: `n` and `y` are taken, `p` is
//! refused.

mod exchange;
mod messages;
mod users;
mod verifier;

#[cfg(test)]
pub(super) mod tests;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;

pub use exchange::{Authenticated, Exchange, ScramError};
pub use users::{Users, UsersError};
pub use verifier::{PasswordError, Verifier, VerifierError};

/// As clients name it in CONNECT.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The least that RFC 7677 allows.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;

/// What a client computes at each connection, and a device has to bear.
pub const SCRAM_ITERATIONS_MAX: u32 = 10_000_000;

/// A message of a client's.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 2_048;

/// A salt in a verifier.
pub const SCRAM_SALT_BYTES_MAX: usize = 64;

/// A key of SHA-256.
type Key = [u8; 32];

fn hmac(key: &[u8], data: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
