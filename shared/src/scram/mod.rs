//! Who a client is, by SCRAM-SHA-256 or SCRAM-SHA-512 (RFC 5802, RFC 7677), the server's side as values: what the server
//! keeps of a password, and one exchange of messages. It moves no bytes: MQTT carries the messages in CONNECT, AUTH and
//! CONNACK, Kafka in SaslAuthenticate.
//!
//! Names and passwords are prepared by SASLprep (RFC 4013: mapped, NFKC, no prohibited characters), as
//! clients do before they compute anything. There is no channel binding: `n` and `y` are taken, `p` is
//! refused.

#[cfg(any(test, feature = "scram-client"))]
pub mod client;
mod exchange;
mod mechanism;
mod messages;
mod unknown;
mod verifier;

#[cfg(test)]
mod tests;

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub use exchange::{Authenticated, Exchange, ScramError, Verifiers};
pub use mechanism::Mechanism;
pub use unknown::MadeUp;
pub use verifier::{PasswordError, Verifier, VerifierError};

/// The least that RFC 7677 allows.
pub const SCRAM_ITERATIONS_MIN: u32 = 4_096;

/// What a client computes at each connection, and a device has to bear.
pub const SCRAM_ITERATIONS_MAX: u32 = 10_000_000;

/// A message of a client's.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 2_048;

/// A salt in a verifier.
pub const SCRAM_SALT_BYTES_MAX: usize = 64;

/// As long as the mechanism's hash.
type Key = Vec<u8>;

/// `None` where it can be no user's name.
pub fn prepared_name(name: &str) -> Option<String> {
    let name = stringprep::saslprep(name).ok()?;
    Some(name.into_owned()).filter(|name| !name.is_empty())
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
