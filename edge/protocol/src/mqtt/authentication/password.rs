//! What the server keeps of a password that is checked as it comes: an Argon2id hash as a PHC string. To check one takes
//! as long and as much memory as it says, which is bounded here; who checks many at once bounds that.

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::{CustomizedPasswordHasher as _, PasswordVerifier as _, phc};
use argon2::{Algorithm, Argon2, Params, Version};
use thiserror::Error;

/// What one check may take.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 64 << 10;
/// Passes over that memory.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// Lanes; they are computed one after the other.
pub const ARGON2_LANES_MAX: u32 = 16;

/// As strong as 19 MiB and two passes, and bearable for a small board.
pub const ARGON2_MEMORY_KIB: u32 = 7 << 10;
pub const ARGON2_PASSES: u32 = 5;

/// A salt that is made here.
pub const ARGON2_SALT_BYTES: usize = 16;

/// Why a text is no hash, or a password gets none. It does not repeat the text, which is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordHashError {
    #[error("it is not $argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<hash>")]
    Form,
    #[error(
        "it takes more than m={ARGON2_MEMORY_KIB_MAX}, t={ARGON2_PASSES_MAX}, p={ARGON2_LANES_MAX}"
    )]
    Cost,
    #[error("the password is empty")]
    Empty,
    #[error("it takes less than Argon2 can do with: at least 8 KiB, and one pass")]
    TooCheap,
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(phc::PasswordHash);

impl PasswordHash {
    pub fn derive(
        password: &[u8],
        salt: &[u8; ARGON2_SALT_BYTES],
        memory_kib: u32,
        passes: u32,
    ) -> Result<Self, PasswordHashError> {
        if password.is_empty() {
            return Err(PasswordHashError::Empty);
        }
        check_cost(memory_kib, passes, 1)?;
        let params = Params::new(memory_kib, passes, 1, None);
        let params = params.map_err(|_| PasswordHashError::TooCheap)?;
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let hashed = Argon2::default().hash_password_customized(
            password,
            salt,
            Some(algorithm.as_str()),
            Some(version.into()),
            params,
        );
        hashed.map(Self).map_err(|_| PasswordHashError::TooCheap)
    }

    /// Takes as long as the hash says.
    pub fn fits(&self, password: &[u8]) -> bool {
        Argon2::default().verify_password(password, &self.0).is_ok()
    }

    /// What a check takes while it runs.
    pub fn memory_kib(&self) -> u32 {
        self.cost()[0]
    }

    /// Memory, passes, lanes.
    pub(super) fn cost(&self) -> [u32; 3] {
        cost(&self.0).unwrap_or([ARGON2_MEMORY_KIB, ARGON2_PASSES, 1])
    }
}

fn cost(hash: &phc::PasswordHash) -> Option<[u32; 3]> {
    let params = Params::try_from(hash).ok()?;
    Some([params.m_cost(), params.t_cost(), params.p_cost()])
}

fn check_cost(memory_kib: u32, passes: u32, lanes: u32) -> Result<(), PasswordHashError> {
    let fits = memory_kib <= ARGON2_MEMORY_KIB_MAX
        && passes <= ARGON2_PASSES_MAX
        && lanes <= ARGON2_LANES_MAX;
    fits.then_some(()).ok_or(PasswordHashError::Cost)
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, PasswordHashError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| PasswordHashError::Form)?;
        let is_argon2id = hash.algorithm.as_str() == Algorithm::Argon2id.as_str()
            && hash.version == Some(Version::V0x13.into())
            && hash.salt.is_some()
            && hash.hash.is_some();
        let [memory_kib, passes, lanes] = cost(&hash)
            .filter(|_| is_argon2id)
            .ok_or(PasswordHashError::Form)?;
        check_cost(memory_kib, passes, lanes)?;
        Ok(Self(hash))
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Without the hash: who has it can guess at the password.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [memory_kib, passes, lanes] = self.cost();
        write!(
            formatter,
            "PasswordHash(m={memory_kib},t={passes},p={lanes})"
        )
    }
}
