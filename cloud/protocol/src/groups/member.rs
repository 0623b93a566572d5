//! One member of a group.

use bytes::Bytes;

use super::{Joined, Token};

/// A way to assign partitions that a member can do, and its metadata for it.
pub type Protocol = (String, Bytes);

/// Which client a member is, as it says itself, and where it connects from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    pub id: String,
    /// As Kafka shows it: `/192.0.2.7`.
    pub host: String,
}

/// What a member says of itself.
pub(super) fn bytes_of(
    instance: Option<&String>,
    client: &Client,
    protocols: &[Protocol],
) -> usize {
    let protocols = protocols.iter();
    let protocols: usize = protocols
        .map(|(name, metadata)| name.len() + metadata.len())
        .sum();
    instance.map_or(0, String::len) + client.id.len() + client.host.len() + protocols
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    /// `group.instance.id` of a static member.
    pub(super) instance: Option<String>,
    pub(super) client: Client,
    pub(super) session_timeout_ms: u64,
    pub(super) rebalance_timeout_ms: u64,
    /// In the member's order of preference.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// When the session ends, unless the member waits for an answer of ours.
    pub(super) session_deadline_ms: u64,
    pub(super) waits_join: Option<Token>,
    pub(super) waits_sync: Option<Token>,
    /// It has asked for its assignment in this generation.
    pub(super) synced: bool,
    /// What it is answered that has started again, once the keep of this number is done.
    pub(super) replaces: Option<(u64, Joined)>,
}

impl Member {
    pub(super) fn touch(&mut self, now_ms: u64) {
        self.session_deadline_ms = now_ms + self.session_timeout_ms;
    }

    /// A member that waits for us is alive by definition.
    pub(super) fn expires_ms(&self) -> Option<u64> {
        let waits = self.waits_join.is_some() || self.waits_sync.is_some();
        (!waits).then_some(self.session_deadline_ms)
    }

    pub(super) fn bytes(&self) -> usize {
        bytes_of(self.instance.as_ref(), &self.client, &self.protocols)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}
