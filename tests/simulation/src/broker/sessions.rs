//! The client sessions, as the node keeps them: every change goes to the journal in the order in
//! which it is made, and what sessions still read is told to the journal before the row that says so.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidegate_edge_journal::{Row, RowEntry, RowOperation, RowTable, TopicProbe};
use tidegate_edge_protocol::mqtt::codec::Text;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession};
use tidegate_shared::id::Position;
use tidegate_shared::wire::{Reader, WireError};

use super::LinkId;
use super::store::{Store, Waiter};
use crate::rule::Rule;
use crate::{Stop, violated};

/// Changes behind a row before it is written anew; few, so that both are seen.
const CHANGES_MAX: usize = 7;

const NOTHING: Position = Position(u64::MAX);

#[derive(Debug)]
pub(super) struct Slot {
    pub session: ClientSession,
    /// The connection that has it.
    pub owner: Option<LinkId>,
    /// QoS 2 messages that it has as received, and that a full journal may still refuse: with one of
    /// them the session is not written anew, since its row would say that the message came.
    pub unsure: usize,
    /// In the row, behind its value.
    changes: usize,
    reads_from: Position,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: BTreeMap<Text, Slot>,
    needed_from: Option<Position>,
    folds_unsure: bool,
}

impl Slot {
    /// Whether all that it has as received is there for good.
    fn is_sure_after(&self, change: &Change) -> bool {
        self.unsure == 0 && !matches!(change, Change::InboundReceived(_))
    }
}

impl Sessions {
    /// Takes up what the rows have: whoever was connected is not any more.
    pub(super) fn load(store: &mut Store, broken: Option<Rule>) -> Result<Self, Stop> {
        let mut sessions = Self {
            folds_unsure: broken == Some(Rule::FoldUnsure),
            ..Self::default()
        };
        let rows = match store.journal().rows(RowTable::ClientSessions) {
            Ok(rows) => rows,
            Err(error) => return violated("rows can be read", error.to_string()),
        };
        for (client_id, row) in rows {
            let changes = row.changes.len();
            let mut session = match unfold(client_id, row) {
                Ok(session) => session,
                Err(error) => return violated("a session can be read", error.to_string()),
            };
            if session.is_connected() {
                session.apply(&Change::Disconnected { at_ms: 0 });
                store.store(vec![folded(&session)], None);
            } else if changes > 0 {
                store.store(vec![folded(&session)], None);
            }
            let slot = Slot {
                owner: None,
                unsure: 0,
                changes: 0,
                reads_from: reads_from(&session),
                session,
            };
            sessions
                .slots
                .insert(slot.session.client_id().clone(), slot);
        }
        sessions.tell_needed_from(store);
        Ok(sessions)
    }

    /// The client's slot, made where there is none.
    pub(super) fn slot(&mut self, client_id: &Text) -> &mut Slot {
        let new = || Slot {
            session: ClientSession::new(client_id.clone()),
            owner: None,
            unsure: 0,
            changes: CHANGES_MAX,
            reads_from: NOTHING,
        };
        self.slots.entry(client_id.clone()).or_insert_with(new)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ClientSession> {
        self.slots.values().map(|slot| &slot.session)
    }

    /// Whether a session reads the topic, so that it is kept where no route does.
    pub(super) fn want(&self, topic: &str) -> bool {
        let mut subscriptions = self.all().flat_map(ClientSession::subscriptions);
        subscriptions.any(|subscription| subscription.filter.filter.matches(topic))
    }

    /// Makes a change, and gives the row's operation that stores it.
    pub(super) fn change(
        &mut self,
        store: &mut Store,
        client_id: &Text,
        change: &Change,
    ) -> Option<RowEntry> {
        let folds_unsure = self.folds_unsure;
        let slot = self.slot(client_id);
        let before = slot.session.is_present();
        slot.session.apply(change);
        let now = slot.session.is_present();
        slot.reads_from = reads_from(&slot.session);
        let row = match (before, now) {
            (false, false) => None,
            (true, false) => Some(entry(client_id, RowOperation::Delete)),
            _ if slot.changes >= CHANGES_MAX && (folds_unsure || slot.is_sure_after(change)) => {
                slot.changes = 0;
                Some(folded(&slot.session))
            }
            _ => {
                slot.changes += 1;
                let mut out = BytesMut::new();
                change.encode(&mut out);
                Some(entry(client_id, RowOperation::Change(out.freeze())))
            }
        };
        if matches!(change, Change::Begun { .. } | Change::Subscribed(_)) {
            // Before the row: whoever has the row must have its messages.
            self.tell_needed_from(store);
        }
        row
    }

    /// Makes changes and stores them; with a waiter, they ask for a commit.
    pub(super) fn store(
        &mut self,
        store: &mut Store,
        client_id: &Text,
        changes: &[Change],
        waiter: Option<Waiter>,
    ) {
        let rows: Vec<_> = changes
            .iter()
            .filter_map(|change| self.change(store, client_id, change))
            .collect();
        store.store(rows, waiter);
    }

    /// A session that nobody has, and that has nothing under way, does not need what its filters
    /// cannot match.
    pub(super) fn pass_over(&mut self, store: &mut Store) -> Result<(), Stop> {
        let reader = store.reader();
        let idle = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| slot.owner.is_none());
        let mut moved = Vec::new();
        for (client_id, slot) in idle {
            let session = &mut slot.session;
            let progress = session.progress();
            let from = progress.cursor();
            if from != progress.next() || progress.assigned_positions().next().is_some() {
                continue;
            }
            let filters = session.subscriptions().map(|own| &own.filter.filter);
            let next = match reader.pass_over(from, &TopicProbe::new(filters)) {
                Ok(next) => next,
                Err(error) => return violated("a session can read the log", error.to_string()),
            };
            session.progress_mut().skipped_to(next);
            moved.extend(
                session
                    .cursor_change()
                    .map(|change| (client_id.clone(), change)),
            );
        }
        for (client_id, change) in moved {
            self.store(store, &client_id, &[change], None);
        }
        Ok(())
    }

    pub(super) fn tell_needed_from(&mut self, store: &mut Store) {
        let from = self.slots.values().map(|slot| slot.reads_from).min();
        let from = from.unwrap_or(NOTHING);
        if self.needed_from != Some(from) {
            self.needed_from = Some(from);
            store.set_needed_from(from);
        }
    }
}

fn reads_from(session: &ClientSession) -> Position {
    let progress = session.progress();
    let reads = session.subscriptions().len() > 0
        || progress.outstanding_from(Position(0)).next().is_some();
    match session.is_present() && reads {
        true => progress.stored_cursor(),
        false => NOTHING,
    }
}

fn folded(session: &ClientSession) -> RowEntry {
    let mut out = BytesMut::new();
    session.encode(&mut out);
    entry(session.client_id(), RowOperation::Put(out.freeze()))
}

fn entry(client_id: &Text, operation: RowOperation) -> RowEntry {
    RowEntry {
        table: RowTable::ClientSessions,
        key: client_id.as_bytes().clone(),
        operation,
    }
}

fn unfold(client_id: Bytes, row: Row) -> Result<ClientSession, WireError> {
    let client_id = Text::new(client_id).map_err(|_| WireError::Invalid { field: "client id" })?;
    let mut session = match row.value {
        Some(value) => ClientSession::decode(value)?,
        None => ClientSession::new(client_id),
    };
    for change in row.changes {
        session.apply(&Change::decode(&mut Reader::new(change))?);
    }
    Ok(session)
}
