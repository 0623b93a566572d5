//! The files that say who comes in and who may do what: read at the start, and again when they change or on SIGHUP. Who
//! is connected is then judged anew, and stays where it may.

use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use tidegate_bridge::Reloaded;
use tidegate_edge_protocol::mqtt::authorization::{Rules, RulesForm};
use tidegate_shared::fleet::{MqttSpec, parse_yaml};
use tokio::sync::watch;

use super::{Context, Scram, Tls};
use crate::limits::{ACL_FILE_BYTES_MAX, FILES_INTERVAL};
use crate::watched::Watched;

#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    pub scram: Scram,
    /// The rules of `mqtt.acl`.
    pub acl: Option<Arc<Watched<Rules>>>,
}

impl Doors {
    /// # Errors
    /// With the key, the file, and the line that is wrong.
    pub(crate) fn load(spec: &MqttSpec, data: &Path) -> anyhow::Result<Self> {
        let acl = spec.acl.as_deref().map(load_rules).transpose()?;
        Ok(Self {
            scram: Scram::load(spec.scram_users.as_deref(), data)?,
            acl: acl.map(Arc::new),
        })
    }

    /// Whether something else counts now.
    fn reload(&self, anyway: bool) -> bool {
        let acl = self.acl.as_ref();
        acl.is_some_and(|acl| acl.reload(anyway) == Reloaded::Renewed)
    }
}

fn load_rules(path: &Path) -> anyhow::Result<Watched<Rules>> {
    Watched::load("mqtt.acl", path, ACL_FILE_BYTES_MAX, |text| {
        let form: RulesForm = parse_yaml(text).map_err(|error| anyhow!("{error}"))?;
        let rules = Rules::try_from(form)?;
        match rules.len() {
            0 => tracing::warn!("mqtt.acl has no rule: everybody may do everything"),
            rules => tracing::info!(rules, "mqtt.acl: what no rule allows is denied"),
        }
        Ok(rules)
    })
}

/// All that is read again without a restart.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    context: Arc<Context>,
    certificates: Vec<Arc<Tls>>,
}

impl Files {
    pub(crate) fn new(context: Arc<Context>, certificates: Vec<Arc<Tls>>) -> Self {
        Self {
            context,
            certificates,
        }
    }

    /// Looks at the files now and then, until told to stop.
    pub(crate) async fn watch(self, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(FILES_INTERVAL) => {}
                _ = stopping.changed() => return,
            }
            self.reload(false).await;
        }
    }

    /// Reads the files again, where they changed or `anyway`.
    pub(crate) async fn reload(&self, anyway: bool) {
        let files = self.clone();
        let reloading = tokio::task::spawn_blocking(move || {
            for tls in &files.certificates {
                tls.reload(anyway);
            }
            if files.context.doors.reload(anyway) {
                files.context.open.judge_again();
            }
        });
        let _ = reloading.await;
    }
}
