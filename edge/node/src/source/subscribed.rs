//! What a source's session at its broker subscribes to: decides, when a connection begins, what is to be subscribed to and
//! what no longer; and keeps in a file, over restarts, what was granted, so that a session that the broker has lost is
//! noticed. No network here.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_shared::fleet::MqttSourceSpec;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// Of another server or another client id it tells nothing.
    server: String,
    client_id: String,
    /// Filters, and the QoS that they were subscribed with.
    filters: BTreeMap<String, u8>,
}

/// What a connection begins with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) subscribe: Vec<(String, u8)>,
    pub(super) unsubscribe: Vec<String>,
    /// The broker had a session and has it no more. The file is to be written before anything is subscribed to: it
    /// says what the session has not.
    pub(super) has_lost_session: bool,
}

/// A filter that the broker has not granted as it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotGranted {
    pub(super) filter: String,
    /// Not at all, or with a lower QoS.
    pub(super) granted: Option<u8>,
}

#[derive(Debug)]
pub(super) struct Subscribed {
    path: PathBuf,
    wanted: Remembered,
    granted: Option<Remembered>,
    /// Answers that the present connection waits for.
    awaited: usize,
    asked: Vec<(String, u8)>,
    leaving: VecDeque<String>,
}

impl Subscribed {
    /// A file that cannot be read is as none.
    pub(super) fn new(path: PathBuf, spec: &MqttSourceSpec, client_id: &str) -> Self {
        let filters = spec.subscribe.iter();
        let wanted = Remembered {
            server: spec.server.to_string(),
            client_id: client_id.to_owned(),
            filters: filters
                .map(|subscription| (subscription.filter.as_str().to_owned(), subscription.qos))
                .collect(),
        };
        let read = fs::read(&path).ok();
        let read: Option<Remembered> = read.and_then(|text| serde_json::from_slice(&text).ok());
        let granted = read
            .filter(|read| (&read.server, &read.client_id) == (&wanted.server, &wanted.client_id));
        Self {
            path,
            wanted,
            granted,
            awaited: 0,
            asked: Vec::new(),
            leaving: VecDeque::new(),
        }
    }

    pub(super) fn handle_connected(&mut self, session_present: bool) -> Plan {
        let before = self.granted.take();
        let has_lost_session = before.is_some() && !session_present;
        let before = before
            .filter(|_| session_present)
            .unwrap_or_default()
            .filters;
        let wanted = &self.wanted.filters;
        let is_new = |(filter, qos): &(&String, &u8)| before.get(*filter) != Some(qos);
        let subscribe = wanted.iter().filter(is_new);
        let subscribe: Vec<_> = subscribe
            .map(|(filter, qos)| (filter.clone(), *qos))
            .collect();
        let gone = before.keys().filter(|filter| !wanted.contains_key(*filter));
        let unsubscribe: Vec<_> = gone.cloned().collect();
        self.awaited = usize::from(!subscribe.is_empty()) + unsubscribe.len();
        self.asked.clone_from(&subscribe);
        self.leaving = unsubscribe.iter().cloned().collect();
        self.granted = Some(Remembered {
            filters: before,
            ..self.wanted.clone()
        });
        Plan {
            subscribe,
            unsubscribe,
            has_lost_session,
        }
    }

    /// The answer to what was subscribed to, in order: the QoS that was granted, if any; gives the filters that were
    /// not granted as they were asked for, and whether the file is to be written. What is granted with less is asked for
    /// again at the next connection.
    pub(super) fn handle_suback(&mut self, granted: &[Option<u8>]) -> (Vec<NotGranted>, bool) {
        let mut less = Vec::new();
        let answers = granted.iter().copied().chain(std::iter::repeat(None));
        for ((filter, asked), granted) in std::mem::take(&mut self.asked).into_iter().zip(answers) {
            if granted.is_none_or(|granted| granted < asked) {
                less.push(NotGranted {
                    filter: filter.clone(),
                    granted,
                });
            }
            if let (Some(qos), Some(all)) = (granted, &mut self.granted) {
                all.filters.insert(filter, qos);
            }
        }
        (less, self.answered())
    }

    /// The answers come in the order of what was given up. Whether the file is to be written.
    pub(super) fn handle_unsuback(&mut self) -> bool {
        if let (Some(filter), Some(granted)) = (self.leaving.pop_front(), &mut self.granted) {
            granted.filters.remove(&filter);
        }
        self.answered()
    }

    fn answered(&mut self) -> bool {
        let last = self.awaited == 1;
        self.awaited = self.awaited.saturating_sub(1);
        last
    }

    /// Writes the file, when it is called.
    pub(super) fn saving(&self) -> impl FnOnce() -> io::Result<()> + use<> {
        let (path, granted) = (self.path.clone(), self.granted.clone());
        move || match granted {
            Some(granted) => save(&path, &granted),
            None => Ok(()),
        }
    }
}

fn save(path: &Path, granted: &Remembered) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(granted)?)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tidegate_shared::fleet::{EdgeSpec, parse_yaml};

    use super::*;

    fn spec(filters: &str) -> MqttSourceSpec {
        let yaml =
            format!("sources: [{{name: a, mqtt: {{server: 'mqtt://b', subscribe: [{filters}]}}}}]");
        let spec: EdgeSpec = parse_yaml(&yaml).unwrap();
        spec.sources[0].mqtt.clone()
    }

    fn not_granted(filter: &str, granted: Option<u8>) -> NotGranted {
        let filter = filter.to_owned();
        NotGranted { filter, granted }
    }

    #[test]
    fn a_session_is_asked_only_for_what_it_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sources/a.json");
        let both = spec("{filter: x}, {filter: 'y/#', qos: 0}");
        let mut first = Subscribed::new(path.clone(), &both, "id");
        let plan = first.handle_connected(false);
        assert_eq!(plan.subscribe, [("x".to_owned(), 1), ("y/#".to_owned(), 0)]);
        assert!(plan.unsubscribe.is_empty() && !plan.has_lost_session);
        assert_eq!(
            first.handle_suback(&[Some(1), None]),
            (vec![not_granted("y/#", None)], true)
        );
        first.saving()().unwrap();
        // The next life: what was refused is asked for again, what is no longer wanted given up.
        let mut next = Subscribed::new(path.clone(), &both, "id");
        let plan = next.handle_connected(true);
        assert_eq!(plan.subscribe, [("y/#".to_owned(), 0)]);
        let mut other = Subscribed::new(path.clone(), &spec("{filter: z}"), "id");
        let plan = other.handle_connected(true);
        assert_eq!(plan.unsubscribe, ["x"]);
        assert_eq!(plan.subscribe, [("z".to_owned(), 1)]);
        assert!(!other.handle_unsuback());
        assert_eq!(
            other.handle_suback(&[Some(0)]),
            (vec![not_granted("z", Some(0))], true)
        );
        let plan = other.handle_connected(true);
        assert_eq!(
            plan.subscribe,
            [("z".to_owned(), 1)],
            "it is asked for again"
        );
        // The broker has forgotten: said once, and all is asked for.
        let mut forgotten = Subscribed::new(path.clone(), &both, "id");
        let plan = forgotten.handle_connected(false);
        assert!(plan.has_lost_session);
        assert_eq!(plan.subscribe.len(), 2);
        // Another client id had no session.
        let mut stranger = Subscribed::new(path, &both, "other");
        assert!(!stranger.handle_connected(false).has_lost_session);
    }
}
