//! What the server keeps of a password: enough to check a proof, not enough to make one.

use std::{fmt, num::NonZeroU32, str::FromStr};

use ring::{digest, pbkdf2};
use thiserror::Error;

use super::{
    Key, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES_MAX, SCRAM_SHA_256, decode,
    encode, hmac,
};

/// Written and read as PostgreSQL's `pg_authid.rolpassword`:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    #[error("the password is empty")]
    Empty,
    #[error("the password has a character that SASLprep (RFC 4013) forbids")]
    Prohibited,
    #[error("{0} iterations are not between {SCRAM_ITERATIONS_MIN} and {SCRAM_ITERATIONS_MAX}")]
    Iterations(u32),
    #[error("the salt has not between 1 and {SCRAM_SALT_BYTES_MAX} bytes")]
    Salt,
}

/// Why a text is no verifier. It does not repeat the text, which is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VerifierError {
    #[error("it is not SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")]
    Form,
    #[error("its iterations are not between {SCRAM_ITERATIONS_MIN} and {SCRAM_ITERATIONS_MAX}")]
    Iterations,
    #[error("its salt is not base64 of 1 to {SCRAM_SALT_BYTES_MAX} bytes")]
    Salt,
    #[error("its keys are not base64 of 32 bytes each")]
    Keys,
}

impl Verifier {
    /// Of a password. The salt is random, and another one for each.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Self, PasswordError> {
        let password = stringprep::saslprep(password).map_err(|_| PasswordError::Prohibited)?;
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        let iterations = iterations_of(iterations).ok_or(PasswordError::Iterations(iterations))?;
        if !(1..=SCRAM_SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(PasswordError::Salt);
        }
        let mut salted = [0; 32];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        Ok(Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: hash(&hmac(&salted, b"Client Key")),
            server_key: hmac(&salted, b"Server Key"),
        })
    }
}

pub(super) fn hash(bytes: &[u8]) -> Key {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn iterations_of(value: u32) -> Option<NonZeroU32> {
    let range = SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX;
    NonZeroU32::new(value).filter(|value| range.contains(&value.get()))
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let mut parts = text.split('$');
        let (Some(SCRAM_SHA_256), Some(salting), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VerifierError::Form);
        };
        let (iterations, salt) = salting.split_once(':').ok_or(VerifierError::Form)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let key = |text| decode(text).and_then(|bytes| Key::try_from(bytes).ok());
        let iterations = iterations.parse().ok().and_then(iterations_of);
        let salt = decode(salt).filter(|salt| (1..=SCRAM_SALT_BYTES_MAX).contains(&salt.len()));
        Ok(Self {
            iterations: iterations.ok_or(VerifierError::Iterations)?,
            salt: salt.ok_or(VerifierError::Salt)?,
            stored_key: key(stored).ok_or(VerifierError::Keys)?,
            server_key: key(server).ok_or(VerifierError::Keys)?,
        })
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (iterations, salt) = (self.iterations, encode(&self.salt));
        let (stored, server) = (encode(&self.stored_key), encode(&self.server_key));
        write!(
            formatter,
            "{SCRAM_SHA_256}${iterations}:{salt}${stored}:{server}"
        )
    }
}

/// Without the keys: who has them can play the server, or guess at the password.
impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Verifier");
        shown
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
