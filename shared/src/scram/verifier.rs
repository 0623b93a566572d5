//! What the server keeps of a password: enough to check a proof, not enough to make one.

use std::{fmt, num::NonZeroU32, str::FromStr};

use subtle::ConstantTimeEq;
use thiserror::Error;

use super::{
    Key, Mechanism, SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN, SCRAM_SALT_BYTES_MAX, decode,
    encode,
};

/// Written and read as PostgreSQL's `pg_authid.rolpassword`:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64. (SCRAM-SHA-512 likewise.)
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) mechanism: Mechanism,
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
    #[error("the salted password is not as long as the mechanism's hash")]
    Salted,
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
    #[error("its keys are not base64 of as many bytes as the hash has")]
    Keys,
}

impl Verifier {
    /// Of a password. The salt is random, and another one for each.
    pub fn derive(
        mechanism: Mechanism,
        password: &str,
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, PasswordError> {
        let password = stringprep::saslprep(password).map_err(|_| PasswordError::Prohibited)?;
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        let iterations = iterations_of(iterations).ok_or(PasswordError::Iterations(iterations))?;
        let salted = mechanism.salted(password.as_bytes(), salt, iterations);
        Self::of_salted(mechanism, &salted, salt, iterations.get())
    }

    /// Of a password that its owner has salted: what [`Mechanism`]'s PBKDF2 makes of it.
    pub fn of_salted(
        mechanism: Mechanism,
        salted: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Result<Self, PasswordError> {
        let iterations = iterations_of(iterations).ok_or(PasswordError::Iterations(iterations))?;
        if !(1..=SCRAM_SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(PasswordError::Salt);
        }
        if salted.len() != mechanism.key_bytes() {
            return Err(PasswordError::Salted);
        }
        Ok(Self {
            mechanism,
            iterations,
            salt: salt.to_vec(),
            stored_key: mechanism.hash(&mechanism.hmac(salted, b"Client Key")),
            server_key: mechanism.hmac(salted, b"Server Key"),
        })
    }

    /// Of its parts, as they were stored.
    ///
    /// # Errors
    /// A part is not what a verifier has.
    pub fn of_parts(
        mechanism: Mechanism,
        iterations: u32,
        salt: &[u8],
        [stored_key, server_key]: [&[u8]; 2],
    ) -> Result<Self, VerifierError> {
        let is_key = |key: &[u8]| key.len() == mechanism.key_bytes();
        if !(is_key(stored_key) && is_key(server_key)) {
            return Err(VerifierError::Keys);
        }
        if !(1..=SCRAM_SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(VerifierError::Salt);
        }
        Ok(Self {
            mechanism,
            iterations: iterations_of(iterations).ok_or(VerifierError::Iterations)?,
            salt: salt.to_vec(),
            stored_key: stored_key.to_vec(),
            server_key: server_key.to_vec(),
        })
    }

    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The stored key and the server key: secrets.
    pub fn keys(&self) -> [&[u8]; 2] {
        [&self.stored_key, &self.server_key]
    }

    /// Whether it is the password, which takes as long as a client takes.
    pub fn fits(&self, password: &str) -> bool {
        let derived = Self::derive(self.mechanism, password, &self.salt, self.iterations.get());
        derived.is_ok_and(|derived| bool::from(derived.stored_key.ct_eq(&self.stored_key)))
    }
}

fn iterations_of(value: u32) -> Option<NonZeroU32> {
    let range = SCRAM_ITERATIONS_MIN..=SCRAM_ITERATIONS_MAX;
    NonZeroU32::new(value).filter(|value| range.contains(&value.get()))
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let mut parts = text.split('$');
        let (Some(mechanism), Some(salting), Some(keys), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(VerifierError::Form);
        };
        let mechanism = Mechanism::from_name(mechanism).ok_or(VerifierError::Form)?;
        let (iterations, salt) = salting.split_once(':').ok_or(VerifierError::Form)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError::Form)?;
        let salt = decode(salt).ok_or(VerifierError::Salt)?;
        let key = |text| decode(text).ok_or(VerifierError::Keys);
        let iterations = iterations.parse().map_err(|_| VerifierError::Iterations)?;
        let (stored, server) = (key(stored)?, key(server)?);
        Self::of_parts(mechanism, iterations, &salt, [&stored, &server])
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (iterations, salt) = (self.iterations, encode(&self.salt));
        let (stored, server) = (encode(&self.stored_key), encode(&self.server_key));
        let mechanism = self.mechanism.name();
        write!(
            formatter,
            "{mechanism}${iterations}:{salt}${stored}:{server}"
        )
    }
}

/// Without the keys: who has them can play the server, or guess at the password.
impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Verifier");
        shown
            .field("mechanism", &self.mechanism)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
