//! The files that say who comes in and who may do what: read at the start, and again when they change or on SIGHUP. Who
//! is connected is then judged anew, and stays where it may.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{anyhow, ensure};
use tidegate_bridge::Reloaded;
use tidegate_edge_protocol::mqtt::authentication::{Attempts, BlockList, BlockListForm, Users};
use tidegate_edge_protocol::mqtt::authorization::{Rules, RulesForm};
use tidegate_shared::fleet::{MqttSpec, parse_yaml};
use tokio::sync::watch;

use super::checking::Checking;
use super::tokens::TokenFiles;
use super::{Context, Tls, scram};
use crate::limits::{ACL_FILE_BYTES_MAX, BLOCKED_FILE_BYTES_MAX, FILES_INTERVAL};
use crate::watched::Watched;

#[derive(Clone, Debug, Default)]
pub(crate) struct Doors {
    /// Who is in the file of `mqtt.users`.
    pub users: Option<Arc<Watched<Users>>>,
    pub tokens: Option<Arc<TokenFiles>>,
    /// The rules of `mqtt.acl`.
    pub acl: Option<Arc<Watched<Rules>>>,
    /// Who is in the file of `mqtt.blocked`.
    pub blocked: Option<Arc<Watched<BlockList>>>,
    /// A client's id must be its user's.
    pub client_id_of_user: bool,
    pub checking: Checking,
    attempts: Arc<Mutex<Attempts>>,
}

impl Doors {
    /// # Errors
    /// With the key, the file, and the line that is wrong.
    pub(crate) fn load(spec: &MqttSpec, data: &Path) -> anyhow::Result<Self> {
        let users = spec.users.as_deref();
        let users = users.map(|path| scram::load(path, data)).transpose()?;
        let tokens = spec.jwt.as_ref().map(TokenFiles::load).transpose()?;
        let acl = spec.acl.as_deref().map(load_rules).transpose()?;
        let blocked = spec.blocked.as_deref().map(load_blocked).transpose()?;
        Ok(Self {
            users: users.map(Arc::new),
            tokens: tokens.map(Arc::new),
            acl: acl.map(Arc::new),
            blocked: blocked.map(Arc::new),
            client_id_of_user: spec.client_id_of_user,
            checking: Checking::default(),
            attempts: Arc::new(Mutex::new(Attempts::new(spec.failures_free))),
        })
    }

    /// Whether something else counts now.
    fn reload(&self, anyway: bool) -> bool {
        let acl = self.acl.as_ref().map(|acl| acl.reload(anyway));
        let users = self.users.as_ref().map(|users| users.reload(anyway));
        let tokens = self.tokens.as_ref().map(|tokens| tokens.reload(anyway));
        let blocked = self.blocked.as_ref().map(|list| list.reload(anyway));
        [acl, users, blocked].contains(&Some(Reloaded::Renewed)) || tokens == Some(true)
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().expect("nobody panics with it")
    }
}

/// Reads the files as a start does, and counts what is in each; writes nothing.
pub(crate) fn examine_doors(spec: &MqttSpec) -> Vec<(&'static str, anyhow::Result<usize>)> {
    let users = spec.users.as_deref().map(scram::count);
    let tokens = spec.jwt.as_ref().map(TokenFiles::load);
    let tokens = tokens.map(|tokens| tokens.map(|tokens| tokens.count()));
    let rules = spec.acl.as_deref().map(load_rules);
    let rules = rules.map(|rules| rules.map(|rules| rules.now().len()));
    let blocked = spec.blocked.as_deref().map(load_blocked);
    let blocked = blocked.map(|blocked| blocked.map(|blocked| blocked.now().len()));
    let files = [
        ("mqtt.users", users),
        ("mqtt.jwt", tokens),
        ("mqtt.acl", rules),
        ("mqtt.blocked", blocked),
    ];
    let read = files.into_iter();
    read.filter_map(|(key, read)| Some((key, read?))).collect()
}

fn load_rules(path: &Path) -> anyhow::Result<Watched<Rules>> {
    Watched::load("mqtt.acl", path, ACL_FILE_BYTES_MAX, |text| {
        let form: RulesForm = parse_yaml(text).map_err(|error| anyhow!("{error}"))?;
        let rules = Rules::try_from(form)?;
        // An emptied file opens nothing.
        ensure!(
            !rules.is_empty(),
            "it has no rule: for everybody to do everything, take mqtt.acl out of the configuration"
        );
        tracing::info!(
            rules = rules.len(),
            "mqtt.acl: what no rule allows is denied"
        );
        Ok(rules)
    })
}

fn load_blocked(path: &Path) -> anyhow::Result<Watched<BlockList>> {
    Watched::load("mqtt.blocked", path, BLOCKED_FILE_BYTES_MAX, |text| {
        let form: BlockListForm = parse_yaml(text).map_err(|error| anyhow!("{error}"))?;
        let list = BlockList::try_from(form)?;
        tracing::info!(
            entries = list.len(),
            "mqtt.blocked: who is in it is kept out"
        );
        Ok(list)
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
