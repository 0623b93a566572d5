//! Who asks for a name that is not there is shown a salt all the same, so that names can't be told from guesses.

use std::num::NonZeroU32;

use super::{Mechanism, SCRAM_SALT_BYTES_MAX, Verifier};

/// Makes up what users have who do not exist.
#[derive(Clone)]
pub struct MadeUp {
    /// Of this server alone, and for ever: a made-up salt must not change.
    secret: [u8; 32],
}

impl MadeUp {
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The same for a name each time, and nothing that a password fits.
    pub fn verifier(
        &self,
        mechanism: Mechanism,
        name: &str,
        iterations: NonZeroU32,
        salt_bytes: usize,
    ) -> Verifier {
        let derived =
            |what: &str| mechanism.hmac(&self.secret, format!("{what}:{name}").as_bytes());
        let mut salt = [derived("salt"), derived("more salt")].concat();
        salt.truncate(salt_bytes.min(SCRAM_SALT_BYTES_MAX));
        Verifier {
            mechanism,
            iterations,
            salt,
            stored_key: derived("stored key"),
            server_key: derived("server key"),
        }
    }
}

/// Without the secret.
impl std::fmt::Debug for MadeUp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MadeUp").finish_non_exhaustive()
    }
}
