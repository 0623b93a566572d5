//! A client session in the hands of its connection: every change goes to the journal in the order in
//! which it is made here.

use std::sync::Arc;

use bytes::BytesMut;
use tidegate_edge_journal::{RowEntry, RowOperation, RowTable};
use tidegate_edge_protocol::mqtt::codec::{SubscriptionIdentifier, SubscriptionOptions, Text};
use tidegate_edge_protocol::mqtt::connection::SharedFilter;
use tidegate_edge_protocol::mqtt::destination::is_addressed;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession, Subscription};
use tidegate_shared::id::Position;
use tokio::sync::OwnedMutexGuard;

use super::{Sessions, Slot, deleted};
use crate::committer::Waiter;
use crate::limits::{SESSION_CHANGES_MAX, SESSION_CHANGES_UNSURE_MAX};
use crate::mqtt::Mailbox;
use crate::router::{ConnectionId, LogReader};

#[derive(Debug)]
pub(crate) struct Held {
    sessions: Arc<Sessions>,
    id: ConnectionId,
    session: OwnedMutexGuard<ClientSession>,
    slot: Arc<Slot>,
    /// In the row, behind its value.
    changes: u32,
    /// QoS 2 messages that it has as received, and that a full journal may still refuse. With one of
    /// them the row is not written anew, or it would say that the message came.
    unsure: u32,
    /// One of its subscriptions is not to get what its own client publishes.
    no_local: bool,
}

impl Held {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        id: ConnectionId,
        session: OwnedMutexGuard<ClientSession>,
        slot: Arc<Slot>,
    ) -> Self {
        Self {
            sessions,
            id,
            no_local: wants_no_local(&session),
            session,
            slot,
            // Not known: the first change folds it.
            changes: SESSION_CHANGES_MAX,
            unsure: 0,
        }
    }

    pub(crate) fn session(&self) -> &ClientSession {
        &self.session
    }

    pub(crate) fn session_mut(&mut self) -> &mut ClientSession {
        &mut self.session
    }

    /// Whether there is a session to be taken up. One whose time is over may be there still.
    pub(crate) fn is_present(&self) -> bool {
        let expires_at_ms = self.session.expires_at_ms();
        let is_over = expires_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms());
        self.session.is_present() && !is_over
    }

    /// The row that says that the will was published. The session has it until that is durable.
    pub(crate) fn will_row(&mut self) -> Option<RowEntry> {
        if !self.session.is_present() {
            return None;
        }
        self.changes += 1;
        Some(will_cleared(&self.session))
    }

    pub(crate) fn will_settled(&mut self) {
        self.session.apply(&Change::WillCleared);
    }

    /// Makes a change that concerns no filters (`change_into`), and gives the row's operation that stores
    /// it; `None` where there is no session to be kept.
    pub(crate) fn change(&mut self, change: &Change) -> Option<RowEntry> {
        let before = self.session.is_present();
        self.session.apply(change);
        self.unsure += u32::from(matches!(change, Change::InboundReceived(_)));
        if let Change::Begun { .. } | Change::Subscribed(_) | Change::Unsubscribed(_) = change {
            self.no_local = wants_no_local(&self.session);
        }
        let now = self.session.is_present();
        self.slot.reads.follow(&self.session);
        if matches!(change, Change::Begun { .. } | Change::Subscribed(_)) {
            // Before the row: whoever has the row must have its messages.
            self.sessions.tell_needed_from();
        }
        match (before, now) {
            (false, false) => None,
            (true, false) => Some(deleted(self.session.client_id())),
            _ if self.changes >= SESSION_CHANGES_MAX && !self.is_unsure() => {
                self.changes = 0;
                Some(folded(&self.session))
            }
            _ => {
                self.changes += 1;
                Some(changed(&self.session, change))
            }
        }
    }

    /// Whether a message that it took may still be refused: until that is known the session must not
    /// be let go of.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure > 0
    }

    /// Whether its client may send more: its row must be written anew before it grows without bound.
    pub(crate) fn takes_more(&self) -> bool {
        !self.is_unsure() || self.changes < SESSION_CHANGES_UNSURE_MAX
    }

    /// A QoS 2 message that it took is durable, or was refused.
    pub(crate) fn fate_is_known(&mut self) {
        self.unsure = self.unsure.saturating_sub(1);
    }

    /// The router knows what offline sessions want, so that it is kept where no route does; groups know
    /// who is in them. Gives the rows of groups that begin or end with a change: they are stored with it.
    fn follow_filters(&self, change: &Change) -> Vec<RowEntry> {
        let sessions = &self.sessions;
        let (router, client_id) = (&sessions.router, self.session.client_id());
        match change {
            Change::Begun { .. } | Change::Ended => {
                router.unwant_all(&LogReader::Client(client_id.clone()));
                return sessions.leave_groups(client_id, &self.session, Some(self.id));
            }
            Change::Subscribed(Subscription { filter, since, .. }) if filter.group.is_some() => {
                let row = sessions.groups.subscribe(client_id, filter, *since);
                return row.into_iter().collect();
            }
            Change::Subscribed(subscription) => {
                let reader = LogReader::Client(client_id.clone());
                router.want(reader, &subscription.filter.filter);
            }
            Change::Unsubscribed(name) => match self.session.subscription(name) {
                Some(Subscription { filter, .. }) if filter.group.is_some() => {
                    let row = sessions.groups.unsubscribe(client_id, name, Some(self.id));
                    return row.into_iter().collect();
                }
                Some(Subscription { filter, .. }) => {
                    router.unwant(&LogReader::Client(client_id.clone()), &filter.filter);
                }
                None => {}
            },
            _ => {}
        }
        Vec::new()
    }

    /// A client whose session ends with its connection takes part in a group.
    pub(crate) fn subscribe_group(&mut self, filter: &SharedFilter, cursor: Position) {
        let client_id = self.session.client_id();
        let row = self.sessions.groups.subscribe(client_id, filter, cursor);
        self.sessions.tell_needed_from();
        self.submit(row.into_iter().collect(), None);
    }

    pub(crate) fn unsubscribe_group(&mut self, name: &Text) {
        let client_id = self.session.client_id();
        let row = self
            .sessions
            .groups
            .unsubscribe(client_id, name, Some(self.id));
        self.submit(row.into_iter().collect(), None);
    }

    pub(crate) fn join_group(
        &self,
        filter: &SharedFilter,
        mailbox: &Arc<Mailbox>,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let groups = &self.sessions.groups;
        groups.join(filter, self.id, mailbox, options, identifier);
    }

    /// The connection has ended: what it had of groups' messages goes to other members.
    pub(crate) fn leave_groups(&self) {
        self.sessions.groups.leave(self.id);
    }

    pub(crate) fn has_no_local(&self) -> bool {
        self.no_local
    }

    /// Makes changes and stores them; with a waiter, they ask for a commit, and it is told.
    pub(crate) fn store(&mut self, changes: &[Change], waiter: Option<Waiter>) {
        let rows = self.change_all(changes);
        self.submit(rows, waiter);
    }

    pub(crate) fn change_all(&mut self, changes: &[Change]) -> Vec<RowEntry> {
        let mut rows = Vec::new();
        for change in changes {
            self.change_into(change, &mut rows);
        }
        rows
    }

    /// Makes a change, and adds what stores it to rows that are stored together: one that writes the
    /// session anew stands for all before it.
    pub(crate) fn change_into(&mut self, change: &Change, rows: &mut Vec<RowEntry>) {
        let mut group_rows = self.follow_filters(change);
        if let Some(row) = self.change(change) {
            if !matches!(row.operation, RowOperation::Change(_)) {
                rows.retain(|before| before.table != row.table);
            }
            rows.push(row);
        }
        rows.append(&mut group_rows);
    }

    pub(crate) fn submit(&self, rows: Vec<RowEntry>, waiter: Option<Waiter>) {
        if !rows.is_empty() || waiter.is_some() {
            self.sessions.committer.store(rows, waiter);
        }
    }

    /// Takes from the session what it may not have waiting. Reads the journal only where that is much.
    pub(crate) fn trim(&mut self) {
        let client_id = self.session.client_id().clone();
        let changes = self.sessions.trim(&client_id, &mut self.session);
        self.store(&changes, None);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.sessions.clock.now_ms()
    }
}

fn wants_no_local(session: &ClientSession) -> bool {
    // What is for every client or for one says who sent it in any case.
    let is_asked = |own: &&Subscription| !is_addressed(own.filter.filter.as_str());
    let mut subscriptions = session.subscriptions().filter(is_asked);
    subscriptions.any(|subscription| subscription.options.no_local)
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody has left before: what it has of groups waits for others, and its will and its expiry for this.
            self.leave_groups();
            if self.session.is_connected() {
                let at_ms = self.now_ms();
                self.store(&[Change::Disconnected { at_ms }], None);
            }
        }
        let present = self.session.is_present();
        self.sessions
            .leave(self.session.client_id(), self.id, present);
    }
}

/// The row's operation that adds a change.
fn changed(session: &ClientSession, change: &Change) -> RowEntry {
    let mut out = BytesMut::new();
    change.encode(&mut out);
    RowEntry {
        table: RowTable::ClientSessions,
        key: session.client_id().as_bytes().clone(),
        operation: RowOperation::Change(out.freeze()),
    }
}

pub(super) fn will_cleared(session: &ClientSession) -> RowEntry {
    changed(session, &Change::WillCleared)
}

/// The whole session as its row's value.
pub(super) fn folded(session: &ClientSession) -> RowEntry {
    let mut out = BytesMut::new();
    session.encode(&mut out);
    RowEntry {
        table: RowTable::ClientSessions,
        key: session.client_id().as_bytes().clone(),
        operation: RowOperation::Put(out.freeze()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidegate_edge_journal::Journal;
    use tidegate_edge_journal::limits::Limits;
    use tidegate_edge_journal::media::Directory;
    use tidegate_edge_protocol::mqtt::codec::PacketId;
    use tidegate_shared::id::{StoreId, StreamId};

    use super::*;
    use crate::committer::Committer;
    use crate::lanes::KeyedStreams;
    use crate::router::Router;
    use crate::sessions::{Clock, Loaded};

    fn sessions(folder: &std::path::Path) -> Arc<Sessions> {
        let medium = Directory::open(folder).unwrap();
        let limits = Limits {
            free_disk_min_bytes: 0,
            ..Limits::default()
        };
        let (journal, _) = Journal::open(Arc::new(medium), limits, StoreId(7)).unwrap();
        let clock = Clock::new(journal.reader().time());
        let loaded = Loaded::read(&journal).unwrap();
        let committer = Committer::start(
            journal,
            KeyedStreams::default(),
            Duration::ZERO,
            StreamId(0),
        )
        .unwrap();
        let router = Arc::new(Router::new(Vec::new(), StreamId(0)));
        Sessions::new(committer, router, clock, u64::MAX, loaded)
    }

    fn is_whole(row: Option<RowEntry>) -> bool {
        matches!(row.unwrap().operation, RowOperation::Put(_))
    }

    /// A row that is written anew says all that the session has: not while a message in it may still be
    /// refused, or it would be there after a crash, and its sender told so.
    #[tokio::test]
    async fn a_row_is_not_written_anew_while_a_message_may_still_be_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = sessions(folder.path());
        let client_id = Text::try_from("dev").unwrap();
        let mailbox = Arc::new(Mailbox::default());
        let mut held = sessions.take_over(&client_id, 1, &mailbox).await;
        let begun = Change::Begun {
            expiry_interval_s: 3_600,
            position: Position(0),
        };
        assert!(is_whole(held.change(&begun)));
        let packet_id = |id: u32| PacketId::new(id as u16).unwrap();
        for id in 1..=3 * SESSION_CHANGES_MAX {
            let received = Change::InboundReceived(packet_id(id));
            assert!(!is_whole(held.change(&received)), "{id} is not known yet");
            assert!(!is_whole(held.change(&Change::Connected)));
        }
        for _ in 1..3 * SESSION_CHANGES_MAX {
            held.fate_is_known();
            assert!(!is_whole(held.change(&Change::Connected)));
        }
        held.fate_is_known();
        assert!(is_whole(held.change(&Change::Connected)));
    }
}
