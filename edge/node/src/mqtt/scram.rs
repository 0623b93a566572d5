//! The users of `mqtt.users`, read from their file, and offered to each connection that proves its name by SCRAM.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use tidegate_edge_protocol::mqtt::authentication::Users;
use tidegate_edge_protocol::mqtt::connection::Authenticator;

use super::Doors;
use crate::limits::USERS_FILE_BYTES_MAX;
use crate::random;
use crate::watched::Watched;

/// In the data folder: what salts for unknown names are made of, the same for as long as the node lives.
const SECRET_FILE: &str = "scram-secret";

/// # Errors
/// With the file, and the line that is wrong.
pub(super) fn load(path: &Path, data: &Path) -> anyhow::Result<Watched<Users>> {
    let secret = secret(&data.join(SECRET_FILE))?;
    Watched::load("mqtt.users", path, USERS_FILE_BYTES_MAX, move |text| {
        let users = Users::parse(text, secret)?;
        tracing::info!(
            users = users.len(),
            "mqtt.users: clients can prove who they are"
        );
        Ok(users)
    })
}

/// How many lines of the file name somebody. Nobody is shown a salt: the secret does not matter.
pub(super) fn count(path: &Path) -> anyhow::Result<usize> {
    let users = Watched::load("mqtt.users", path, USERS_FILE_BYTES_MAX, |text| {
        Ok(Users::parse(text, [0; 32])?)
    });
    Ok(users?.now().len())
}

impl Doors {
    /// For one connection.
    pub(super) fn authenticator(&self) -> Option<Authenticator> {
        let users = self.users.as_ref()?.now();
        match random::bytes() {
            Ok(seed) => Some(Authenticator::new(users, seed)),
            Err(error) => {
                tracing::error!(%error, "mqtt: nobody can be authenticated");
                None
            }
        }
    }
}

/// Made the first time.
fn secret(path: &Path) -> anyhow::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| anyhow!("{} has not 32 bytes: delete it", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret = random::bytes()?;
            let mut options = OpenOptions::new();
            let opened = options.write(true).create_new(true).mode(0o600).open(path);
            opened
                .and_then(|mut file| file.write_all(&secret).and_then(|()| file.sync_all()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(secret)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
