//! Which edges are connected, since when, and what each said last. Only in memory: it tells an operator
//! what to look at, wakes an edge's connections when the ledger has decided about its sessions, and
//! decides nothing itself. After a start an edge is unknown here until it connects.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_shared::id::{EdgeId, EdgeOffset, StreamName};
use tokio::sync::watch;

use crate::limits::HUB_EDGE_CONNECTIONS_MAX;

/// What is known of the edges that have connected since the start.
#[derive(Clone, Debug, Default)]
pub struct Presence(Arc<Mutex<BTreeMap<EdgeId, Seen>>>);

/// How an edge was last seen. Times are the cloud's, in milliseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `None`: it is not connected now.
    pub connected_since_ms: Option<i64>,
    pub peer: SocketAddr,
    /// Why its last connection ended.
    pub ended: Option<String>,
    /// Per stream the next offset that its newest Announce said.
    pub announced: BTreeMap<StreamName, EdgeOffset>,
    last_seen_ms: Arc<AtomicI64>,
    /// Its newest connection: an older one's end is no news.
    connection: u64,
    /// Connections that are open, older ones too.
    open: usize,
    /// Wakes them.
    sessions: watch::Sender<()>,
}

impl Seen {
    pub fn last_seen_ms(&self) -> i64 {
        self.last_seen_ms.load(Ordering::Relaxed)
    }
}

/// One connection of an edge; the edge is away when its newest one is dropped.
#[derive(Debug)]
pub(crate) struct Connected {
    presence: Presence,
    edge: EdgeId,
    number: u64,
    last_seen_ms: Arc<AtomicI64>,
    sessions: watch::Receiver<()>,
}

impl Presence {
    pub fn of(&self, edge: &EdgeId) -> Option<Seen> {
        self.lock().get(edge).cloned()
    }

    /// Edges that are connected now.
    pub fn connected(&self) -> usize {
        let edges = self.lock();
        let now = |seen: &&Seen| seen.connected_since_ms.is_some();
        edges.values().filter(now).count()
    }

    /// `None`: as many connections of the edge are open as may be, and this one is to be closed.
    pub(crate) fn connect(
        &self,
        edge: &EdgeId,
        peer: SocketAddr,
        now_ms: i64,
    ) -> Option<Connected> {
        let mut edges = self.lock();
        let open = edges.get(edge).map_or(0, |seen| seen.open);
        if open >= HUB_EDGE_CONNECTIONS_MAX {
            return None;
        }
        let before = edges.remove(edge);
        let number = before.as_ref().map_or(0, |seen| seen.connection + 1);
        let last_seen_ms = Arc::new(AtomicI64::new(now_ms));
        let sessions = before.as_ref().map(|seen| seen.sessions.clone());
        let sessions = sessions.unwrap_or_default();
        let watching = sessions.subscribe();
        let seen = Seen {
            connected_since_ms: Some(now_ms),
            peer,
            ended: before.as_ref().and_then(|seen| seen.ended.clone()),
            announced: before.map(|seen| seen.announced).unwrap_or_default(),
            last_seen_ms: Arc::clone(&last_seen_ms),
            connection: number,
            open: open + 1,
            sessions,
        };
        edges.insert(edge.clone(), seen);
        Some(Connected {
            presence: self.clone(),
            edge: edge.clone(),
            number,
            last_seen_ms,
            sessions: watching,
        })
    }

    /// The ledger has decided about an edge's sessions: its connections are to look whether theirs is
    /// over.
    pub(crate) fn sessions_changed(&self, edge: &EdgeId) {
        if let Some(seen) = self.lock().get(edge) {
            seen.sessions.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EdgeId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    /// Returns once the ledger has decided about the edge's sessions since the last time. Safe to cancel.
    pub(crate) async fn sessions_changed(&mut self) {
        if self.sessions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Something has come.
    pub(crate) fn heard(&self, now_ms: i64) {
        self.last_seen_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn announced(&self, stream: &StreamName, next: EdgeOffset) {
        self.change(|seen| {
            seen.announced.insert(stream.clone(), next);
        });
    }

    pub(crate) fn ended(&self, why: &str) {
        self.change(|seen| seen.ended = Some(why.to_owned()));
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        let mut edges = self.presence.lock();
        let newest = edges.get_mut(&self.edge);
        if let Some(seen) = newest.filter(|seen| seen.connection == self.number) {
            change(seen);
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.change(|seen| seen.connected_since_ms = None);
        if let Some(seen) = self.presence.lock().get_mut(&self.edge) {
            seen.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_connections_end_does_not_make_an_edge_absent() {
        let presence = Presence::default();
        let edge = EdgeId::new("plant-7").unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let older = presence.connect(&edge, peer, 1).unwrap();
        let stream = StreamName::new("telemetry").unwrap();
        older.announced(&stream, EdgeOffset(5));
        let newer = presence.connect(&edge, peer, 2).unwrap();
        older.ended("fenced");
        drop(older);
        let seen = presence.of(&edge).unwrap();
        assert_eq!((seen.connected_since_ms, seen.ended), (Some(2), None));
        assert_eq!(seen.announced[&stream], EdgeOffset(5));
        newer.heard(7);
        newer.ended("the network is gone");
        drop(newer);
        let seen = presence.of(&edge).unwrap();
        assert_eq!((seen.connected_since_ms, seen.last_seen_ms()), (None, 7));
        assert_eq!(seen.ended.as_deref(), Some("the network is gone"));
        assert_eq!(presence.connected(), 0);
    }

    #[tokio::test]
    async fn all_connections_of_an_edge_are_woken_and_no_others() {
        let presence = Presence::default();
        let edge = EdgeId::new("plant-7").unwrap();
        let other = EdgeId::new("plant-8").unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut older = presence.connect(&edge, peer, 1).unwrap();
        let mut newer = presence.connect(&edge, peer, 2).unwrap();
        let bystander = presence.connect(&other, peer, 3).unwrap();
        presence.sessions_changed(&edge);
        older.sessions_changed().await;
        newer.sessions_changed().await;
        let is_woken = [&older, &newer, &bystander].map(|it| it.sessions.has_changed().unwrap());
        assert_eq!(
            is_woken, [false; 3],
            "each once, and only those of the edge"
        );
    }

    #[test]
    fn an_edge_has_so_many_connections_and_another_one_once_any_of_them_has_ended() {
        let presence = Presence::default();
        let edge = EdgeId::new("plant-7").unwrap();
        let other = EdgeId::new("plant-8").unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let connect = |edge| presence.connect(edge, peer, 1);
        let mut open: Vec<_> = (0..HUB_EDGE_CONNECTIONS_MAX)
            .map(|_| connect(&edge).unwrap())
            .collect();
        assert!(connect(&edge).is_none());
        assert!(connect(&other).is_some());
        open.remove(0);
        open.push(connect(&edge).unwrap());
        assert!(connect(&edge).is_none());
    }
}
