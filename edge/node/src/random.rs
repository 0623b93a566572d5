//! Random bytes of the system's, for salts, nonces and names that nobody can guess.

use anyhow::anyhow;
use ring::rand::{SecureRandom as _, SystemRandom};

/// # Errors
/// The system gives none.
pub fn bytes<const COUNT: usize>() -> anyhow::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(bytes)
}
