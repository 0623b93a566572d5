//! The token of whoever administers this machine: made at each start, and written into the data folder, where only the
//! cloud's own system user can read it. With it the first users are made.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use tidegate_cloud_protocol::ledger::TokenHash;

use crate::credentials::NewToken;

/// In the data folder.
pub const TOKEN_FILE: &str = "admin-token";

/// Makes the token; the one of the start before is none any more.
pub(crate) fn write_token(data: &Path) -> anyhow::Result<TokenHash> {
    let token = NewToken::random();
    let path = data.join(TOKEN_FILE);
    let new = data.join(format!("{TOKEN_FILE}.new"));
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(format!("{}\n", token.text).as_bytes())?;
        fs::rename(&new, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token.hash)
}
