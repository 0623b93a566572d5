//! Shared subscriptions: one cursor into the journal for each group, whose messages go to one member
//! each, turn and turn about. At most QoS 1: what a member leaves behind goes to another.
//!
//! A group lives as long as a client session or an online client subscribes. Its row is its cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidegate_edge_journal::{Journal, RowEntry, RowOperation, RowTable};
use tidegate_edge_protocol::mqtt::codec::{Qos, SubscriptionIdentifier, SubscriptionOptions, Text};
use tidegate_edge_protocol::mqtt::connection::SharedFilter;
use tidegate_shared::id::Position;
use tokio::sync::{Notify, watch};

use super::feed::{Stored, Stretch, Wanted};
use super::{Clock, trim};
use crate::committer::Committer;
use crate::limits::{GROUPS_MAX, SHARED_IN_FLIGHT_MAX};
use crate::mqtt::{Letter, Mailbox};
use crate::router::{ConnectionId, LogReader, Router};

/// A row: the version and the cursor.
const VERSION: u8 = 1;

/// What a member is to be told when its delivery has come to its end.
#[derive(Clone, Debug)]
pub(crate) struct SharedDelivery {
    group: Arc<Group>,
    position: Position,
}

impl SharedDelivery {
    pub(crate) fn done(&self, id: ConnectionId) {
        self.group.done(id, self.position);
    }
}

/// One client's part in a group while it is online.
#[derive(Debug)]
struct Member {
    id: ConnectionId,
    mailbox: Arc<Mailbox>,
    options: SubscriptionOptions,
    identifier: Option<SubscriptionIdentifier>,
    /// By position.
    outstanding: BTreeMap<Position, Stored>,
}

#[derive(Debug, Default)]
struct State {
    /// Everybody who subscribes, online or not.
    subscribers: HashSet<Text>,
    /// Those that are online; the next in turn first.
    members: VecDeque<Member>,
    /// Left behind by members that are gone.
    returned: BTreeMap<Position, Stored>,
    ahead: VecDeque<Stored>,
    /// All below was read.
    next: Position,
    stored_cursor: Position,
    is_running: bool,
}

impl State {
    /// The lowest position that must still be delivered.
    fn cursor(&self) -> Position {
        let outstanding = self.members.iter();
        let outstanding = outstanding.filter_map(|member| member.outstanding.keys().next());
        let returned = self.returned.keys().next();
        let ahead = self.ahead.front().map(|stored| &stored.position);
        let waiting = outstanding.chain(returned).chain(ahead).min().copied();
        waiting.map_or(self.next, |waiting| waiting.min(self.next))
    }

    /// Gives waiting messages to members with room.
    fn distribute(&mut self, group: &Arc<Group>, clock: Clock) {
        loop {
            let has_room = |member: &Member| member.outstanding.len() < SHARED_IN_FLIGHT_MAX;
            let Some(at) = self.members.iter().position(has_room) else {
                return;
            };
            let waiting = self.returned.pop_first().map(|(_, stored)| stored);
            let Some(stored) = waiting.or_else(|| self.ahead.pop_front()) else {
                return;
            };
            let Some(mut member) = self.members.remove(at) else {
                return;
            };
            let qos_max = member.options.qos_max;
            let is_acknowledged = stored.mark.qos.min(qos_max) > Qos::AtMostOnce;
            member.mailbox.deliver(Letter {
                priority: 0,
                message: Arc::clone(&stored.message),
                qos: stored.mark.qos,
                qos_max,
                retain: stored.mark.retain && member.options.retain_as_published,
                identifiers: member.identifier.into_iter().collect(),
                expires_at: stored.expires_at(clock, Instant::now()),
                // Of QoS 0 nobody says when it has come to its end.
                shared: is_acknowledged.then(|| SharedDelivery {
                    group: Arc::clone(group),
                    position: stored.position,
                }),
            });
            if is_acknowledged {
                member.outstanding.insert(stored.position, stored);
            }
            self.members.push_back(member);
        }
    }

    /// Lets go of what is below a position; how much that was.
    fn give_up_below(&mut self, position: Position) -> u64 {
        let cut = |held: &mut BTreeMap<Position, Stored>| {
            let kept = held.split_off(&position);
            std::mem::replace(held, kept).len()
        };
        let mut lost = cut(&mut self.returned);
        lost += self
            .members
            .iter_mut()
            .map(|member| cut(&mut member.outstanding))
            .sum::<usize>();
        let before = self.ahead.len();
        self.ahead.retain(|stored| stored.position >= position);
        (lost + before - self.ahead.len()) as u64
    }

    fn wants_more(&self) -> bool {
        self.ahead.is_empty() && !self.members.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    filter: SharedFilter,
    state: Mutex<State>,
    changed: Notify,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn done(&self, id: ConnectionId, position: Position) {
        let mut state = self.state();
        let mut members = state.members.iter_mut();
        if let Some(member) = members.find(|member| member.id == id) {
            member.outstanding.remove(&position);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn leave(&self, id: ConnectionId) {
        let mut state = self.state();
        let Some(at) = state.members.iter().position(|member| member.id == id) else {
            return;
        };
        if let Some(member) = state.members.remove(at) {
            state.returned.extend(member.outstanding);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Reads and distributes as long as somebody is there.
    async fn run(self: Arc<Self>, committer: Committer, clock: Clock) {
        let mut durable: watch::Receiver<Position> = committer.durable();
        loop {
            let wanted = {
                let mut state = self.state();
                state.distribute(&self, clock);
                if state.members.is_empty() {
                    state.is_running = false;
                    return;
                }
                let until = *durable.borrow_and_update();
                (state.wants_more() && state.next < until).then(|| Wanted {
                    from: state.next,
                    until,
                    filters: vec![self.filter.filter.clone()],
                    begun: BTreeSet::new(),
                })
            };
            let Some(wanted) = wanted else {
                tokio::select! {
                    () = self.changed.notified() => {}
                    changed = durable.changed() => if changed.is_err() { return },
                }
                continue;
            };
            let reader = committer.reader().clone();
            let read = tokio::task::spawn_blocking(move || wanted.read(&reader)).await;
            let why = match read {
                Ok(Ok(Stretch { messages, next, .. })) => {
                    let mut state = self.state();
                    state.ahead = messages;
                    state.next = state.next.max(next);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(group = %self.filter.name, why, "a group cannot read the journal");
            tokio::time::sleep(super::feed::READ_AGAIN).await;
        }
    }
}

/// All groups, by the filter as clients write it.
#[derive(Debug)]
pub(crate) struct Groups {
    committer: Committer,
    router: Arc<Router>,
    clock: Clock,
    groups: Mutex<HashMap<Text, Arc<Group>>>,
}

/// Cursors as the journal has them.
pub(crate) type LoadedGroups = HashMap<Bytes, Position>;

pub(crate) fn load(journal: &Journal) -> anyhow::Result<LoadedGroups> {
    let rows = journal.rows(RowTable::SharedGroups)?.into_iter();
    let cursors = rows.filter_map(|(name, row)| {
        let mut value = row.value?;
        let good = value.len() == 9 && value.get_u8() == VERSION;
        good.then(|| (name, Position(value.get_u64_le())))
    });
    Ok(cursors.collect())
}

impl Groups {
    pub(super) fn new(committer: Committer, router: Arc<Router>, clock: Clock) -> Self {
        Self {
            committer,
            router,
            clock,
            groups: Mutex::default(),
        }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Text, Arc<Group>>> {
        self.groups.lock().expect("nobody panics with it")
    }

    /// Whether there is such a group, or may be another.
    pub(super) fn has_room(&self, name: &Text) -> bool {
        let groups = self.groups();
        groups.len() < GROUPS_MAX || groups.contains_key(name)
    }

    /// A client subscribes: the group begins where the log stands, or at the cursor that it has.
    /// Gives the row of a new group.
    pub(super) fn subscribe(
        &self,
        client_id: &Text,
        filter: &SharedFilter,
        cursor: Position,
    ) -> Option<RowEntry> {
        let mut groups = self.groups();
        let is_new = !groups.contains_key(&filter.name);
        let group = groups.entry(filter.name.clone()).or_insert_with(|| {
            let state = State {
                next: cursor,
                stored_cursor: cursor,
                ..State::default()
            };
            Arc::new(Group {
                filter: filter.clone(),
                state: Mutex::new(state),
                changed: Notify::new(),
            })
        });
        group.state().subscribers.insert(client_id.clone());
        is_new.then(|| {
            self.router
                .want(LogReader::Group(filter.name.clone()), &filter.filter);
            row(&filter.name, cursor)
        })
    }

    /// A subscriber is online.
    pub(super) fn join(
        &self,
        filter: &SharedFilter,
        id: ConnectionId,
        mailbox: &Arc<Mailbox>,
        options: SubscriptionOptions,
        identifier: Option<SubscriptionIdentifier>,
    ) {
        let Some(group) = self.groups().get(&filter.name).cloned() else {
            return;
        };
        // A subscription replaces the one before.
        group.leave(id);
        let mut state = group.state();
        state.members.push_back(Member {
            id,
            mailbox: Arc::clone(mailbox),
            options: SubscriptionOptions {
                qos_max: options.qos_max.min(Qos::AtLeastOnce),
                ..options
            },
            identifier,
            outstanding: BTreeMap::new(),
        });
        if !std::mem::replace(&mut state.is_running, true) {
            let (committer, clock) = (self.committer.clone(), self.clock);
            tokio::spawn(Arc::clone(&group).run(committer, clock));
        }
        drop(state);
        group.changed.notify_one();
    }

    /// A connection has ended: what it had outstanding goes to others.
    pub(super) fn leave(&self, id: ConnectionId) {
        for group in self.groups().values() {
            group.leave(id);
        }
    }

    /// A client no longer subscribes; gives the row of a group that ends with it.
    pub(super) fn unsubscribe(
        &self,
        client_id: &Text,
        name: &Text,
        id: Option<ConnectionId>,
    ) -> Option<RowEntry> {
        let mut groups = self.groups();
        let group = groups.get(name)?;
        if let Some(id) = id {
            group.leave(id);
        }
        let mut state = group.state();
        state.subscribers.remove(client_id);
        let ends = state.subscribers.is_empty();
        drop(state);
        if !ends {
            return None;
        }
        groups.remove(name);
        self.router.unwant_all(&LogReader::Group(name.clone()));
        Some(deleted(name.as_bytes().clone()))
    }

    /// From where on groups read the journal.
    pub(super) fn needed_from(&self) -> Option<Position> {
        let groups = self.groups();
        groups
            .values()
            .map(|group| group.state().stored_cursor)
            .min()
    }

    /// Stores cursors that have moved, and cuts what is more than `backlog_bytes_max`. Returns what
    /// was lost by that. It may read the journal.
    pub(super) fn sweep(&self, backlog_bytes_max: u64) -> Vec<(Text, u64)> {
        let groups: Vec<_> = self.groups().values().cloned().collect();
        let reader = self.committer.reader();
        let kept_from = reader.position_within(backlog_bytes_max);
        let (mut rows, mut losses) = (Vec::new(), Vec::new());
        for group in groups {
            let (from, mut lost) = (group.state().next, 0);
            if from < kept_from {
                let filters = [&group.filter.filter];
                let count = trim::count(reader, &filters, from, kept_from, |_, _, _| true);
                lost = count.unwrap_or_default();
            }
            let mut state = group.state();
            state.next = state.next.max(kept_from);
            lost += state.give_up_below(kept_from);
            losses.extend((lost > 0).then(|| (group.filter.name.clone(), lost)));
            let cursor = state.cursor();
            if cursor > state.stored_cursor {
                state.stored_cursor = cursor;
                rows.push(row(&group.filter.name, cursor));
            }
        }
        self.committer.store(rows, None);
        losses
    }
}

pub(super) fn deleted(name: Bytes) -> RowEntry {
    RowEntry {
        table: RowTable::SharedGroups,
        key: name,
        operation: RowOperation::Delete,
    }
}

fn row(name: &Text, cursor: Position) -> RowEntry {
    let mut value = BytesMut::with_capacity(9);
    value.put_u8(VERSION);
    value.put_u64_le(cursor.0);
    RowEntry {
        table: RowTable::SharedGroups,
        key: name.as_bytes().clone(),
        operation: RowOperation::Put(value.freeze()),
    }
}
