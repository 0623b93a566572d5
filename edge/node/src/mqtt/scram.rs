//! The users of `mqtt.scram_users`: read once, at the start, and offered to each connection.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use ring::rand::{SecureRandom as _, SystemRandom};
use tidegate_edge_protocol::mqtt::authentication::Users;
use tidegate_edge_protocol::mqtt::connection::Authenticator;

/// In the data folder: what salts for unknown names are made of, the same for as long as the node lives.
const SECRET_FILE: &str = "scram-secret";

/// Who can be authenticated. Without users, nobody can.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scram(Option<Arc<Users>>);

impl Scram {
    /// # Errors
    /// With the file, and the line that is wrong.
    pub(crate) fn load(path: Option<&Path>, data: &Path) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let shown = path.display();
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read mqtt.scram_users {shown}"))?;
        let secret = secret(&data.join(SECRET_FILE))?;
        let users = Users::parse(&text, secret)
            .map_err(|error| anyhow!("mqtt.scram_users {shown}, {error}"))?;
        tracing::info!(users = users.len(), file = %shown, "mqtt: SCRAM-SHA-256 is offered");
        Ok(Self(Some(Arc::new(users))))
    }

    /// For one connection.
    pub(super) fn authenticator(&self) -> Option<Authenticator> {
        let users = Arc::clone(self.0.as_ref()?);
        match random() {
            Ok(seed) => Some(Authenticator::new(users, seed)),
            Err(error) => {
                tracing::error!(%error, "mqtt: nobody can be authenticated");
                None
            }
        }
    }
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow!("the system gives no random bytes"))?;
    Ok(bytes)
}

/// Made the first time.
fn secret(path: &Path) -> anyhow::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| anyhow!("{} has not 32 bytes: delete it", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let secret = random()?;
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
