//! The cloud's CA: in the data folder, and with `wal: object` in the object store too, so that a start with an empty
//! data folder is no other cloud to its edges.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use tidegate_bridge::HubAuthority;

use crate::config::{Config, WalConfig};
use crate::log::ObjectLog;
use crate::store::{Created, Store, StoreMetrics, StoreOptions};

/// The CA's key and certificate. Whoever can read the store can make himself any edge.
const KEY: &str = "tls/ca.pem";
const FOLDER: &str = "tls";

/// Opens the cloud's CA; where there is none, it is made. For who is not the cloud, but makes certificates for it.
///
/// # Errors
/// It cannot be read or made, or the object store has another one.
pub async fn authority(config: &Config) -> anyhow::Result<HubAuthority> {
    let store = match config.wal {
        WalConfig::Local => None,
        WalConfig::Object => {
            let options = StoreOptions::from_env();
            let opened = Store::open(&config.store_url()?, &options, &StoreMetrics::default());
            Some(opened?)
        }
    };
    open(config, store.as_ref()).await
}

/// As [`authority`], with the store that is open already where it is kept in one.
pub(crate) async fn open(config: &Config, store: Option<&Store>) -> anyhow::Result<HubAuthority> {
    let folder = config.tls_folder();
    let Some(store) = store else {
        return Ok(HubAuthority::open(folder)?);
    };
    let kept = match store.read_whole(KEY).await {
        Ok(kept) => Some(String::from_utf8_lossy(&kept).into_owned()),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error).context("the CA is kept in the object store"),
    };
    let was_here = HubAuthority::is_in(&folder);
    match &kept {
        Some(kept) if !was_here => HubAuthority::put_back(&folder, kept)?,
        None if !was_here => ensure!(
            !ObjectLog::is_there(store).await?,
            "{} has a log and no {KEY}: put the cloud's CA into {}, or into the store; with another one no edge could connect",
            store.url().as_str(),
            folder.display()
        ),
        _ => {}
    }
    // Before the key is in it.
    make_private(store)?;
    let mut authority = HubAuthority::open(&folder)?;
    let mut here = authority.ca_pem()?;
    let kept = match kept {
        Some(kept) => kept,
        None => match store.create(KEY, here.clone().into()).await? {
            Created::New => here.clone(),
            Created::Exists => {
                let kept = store.read_whole(KEY).await?;
                String::from_utf8_lossy(&kept).into_owned()
            }
        },
    };
    // Another cloud was faster with its own, and nobody has seen this one.
    if kept != here && !was_here {
        std::fs::remove_dir_all(&folder)?;
        HubAuthority::put_back(&folder, &kept)?;
        authority = HubAuthority::open(&folder)?;
        here = authority.ca_pem()?;
    }
    ensure!(
        kept == here,
        "{} has another CA than {KEY} in {}: move that folder away, if the one in the store is the cloud's",
        folder.display(),
        store.url().as_str()
    );
    Ok(authority)
}

/// Where the object store is a folder, nobody but its owner looks into that of the key.
fn make_private(store: &Store) -> anyhow::Result<()> {
    let Some(folder) = store.url().as_folder() else {
        return Ok(());
    };
    let private = folder.join(FOLDER);
    std::fs::create_dir_all(&private)
        .and_then(|()| std::fs::set_permissions(&private, Permissions::from_mode(0o700)))
        .with_context(|| format!("cannot make {} private", private.display()))
}
