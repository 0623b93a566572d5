//! Which edges are connected, since when, and what each said last. Only in memory: it tells an operator
//! what to look at, and decides nothing. After a start an edge is unknown here until it connects.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_shared::id::{EdgeId, EdgeOffset, StreamName};

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

    pub(crate) fn connect(&self, edge: &EdgeId, peer: SocketAddr, now_ms: i64) -> Connected {
        let mut edges = self.lock();
        let before = edges.remove(edge);
        let number = before.as_ref().map_or(0, |seen| seen.connection + 1);
        let last_seen_ms = Arc::new(AtomicI64::new(now_ms));
        let seen = Seen {
            connected_since_ms: Some(now_ms),
            peer,
            ended: before.as_ref().and_then(|seen| seen.ended.clone()),
            announced: before.map(|seen| seen.announced).unwrap_or_default(),
            last_seen_ms: Arc::clone(&last_seen_ms),
            connection: number,
        };
        edges.insert(edge.clone(), seen);
        Connected {
            presence: self.clone(),
            edge: edge.clone(),
            number,
            last_seen_ms,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EdgeId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
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
        let older = presence.connect(&edge, peer, 1);
        let stream = StreamName::new("telemetry").unwrap();
        older.announced(&stream, EdgeOffset(5));
        let newer = presence.connect(&edge, peer, 2);
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
}
