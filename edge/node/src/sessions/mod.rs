//! The client sessions of this node: who there is, who holds which, and how far each has read. What
//! a session is, is decided in `edge/protocol`; its rows lie in the journal.
//!
//! A connection holds its client's session alone ([`Held`]) for as long as it lives; a newer one of the
//! same client waits until the older has let go.

mod feed;
mod groups;
mod held;
mod losses;
mod trim;

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use tidegate_edge_journal::{Journal, JournalTime, Row, RowEntry, RowOperation, RowTable};
use tidegate_edge_protocol::mqtt::codec::{Text, Will};
use tidegate_edge_protocol::mqtt::destination::Destination;
use tidegate_edge_protocol::mqtt::reply_code::ReasonCode;
use tidegate_edge_protocol::mqtt::session::{Change, ClientSession, Subscription};
use tidegate_shared::id::Position;
use tidegate_shared::wire::{Reader, WireError};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::committer::Committer;
use crate::limits::WILLS_AT_ONCE_MAX;
use crate::mqtt::Mailbox;
use crate::router::{ConnectionId, LogReader, Router};
use crate::rows::in_pieces;

pub(crate) use feed::{Fed, Feed};
pub(crate) use groups::SharedDelivery;
use groups::{Groups, LoadedGroups};
pub(crate) use held::Held;
pub(crate) use losses::Losses;
use trim::Trimmed;

/// A time that neither steps nor restarts, in milliseconds: what the journal's clock will say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    at_open: JournalTime,
    opened: Instant,
}

impl Clock {
    pub(crate) fn new(at_open: JournalTime) -> Self {
        Self {
            at_open,
            opened: Instant::now(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.at_open.0 + self.opened.elapsed().as_millis() as u64
    }
}

/// One client's session, and who has it.
#[derive(Debug)]
struct Slot {
    client_id: Text,
    session: Arc<AsyncMutex<ClientSession>>,
    /// The newest connection of the client. It changes only while the table is locked.
    owner: Mutex<Option<(ConnectionId, Arc<Mailbox>)>>,
    reads: Reads,
}

impl Slot {
    fn new(session: ClientSession) -> Arc<Self> {
        Arc::new(Self {
            client_id: session.client_id().clone(),
            reads: Reads::new(&session),
            session: Arc::new(AsyncMutex::new(session)),
            owner: Mutex::default(),
        })
    }

    fn owner(&self) -> MutexGuard<'_, Option<(ConnectionId, Arc<Mailbox>)>> {
        self.owner.lock().expect("nobody panics with it")
    }

    /// The connection of a client that is served as messages come.
    fn live(&self) -> Option<(ConnectionId, Arc<Mailbox>)> {
        let is_fed = self.reads.from.load(Ordering::Relaxed) != Reads::NOTHING;
        self.owner().clone().filter(|_| !is_fed)
    }

    fn is_owned(&self) -> bool {
        self.owner().is_some()
    }

    fn is_owned_by(&self, id: ConnectionId) -> bool {
        self.owner().as_ref().is_some_and(|(owner, _)| *owner == id)
    }
}

/// What each connected client takes of the heap here, whose session ends with its connection.
#[cfg(test)]
pub(crate) const IDLE_PARTS: [(&str, usize); 2] = [
    ("its place in the table of sessions", heap_bytes::<Slot>()),
    ("its session", heap_bytes::<AsyncMutex<ClientSession>>()),
];

/// In an `Arc`.
#[cfg(test)]
pub(crate) const fn heap_bytes<T>() -> usize {
    2 * size_of::<usize>() + size_of::<T>()
}

/// In a set by its client id: a table of pointers grows by leaps that cost little.
#[derive(Debug)]
struct ByClient(Arc<Slot>);

impl PartialEq for ByClient {
    fn eq(&self, other: &Self) -> bool {
        self.0.client_id == other.0.client_id
    }
}

impl Eq for ByClient {}

impl Hash for ByClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.client_id.hash(state);
    }
}

impl Borrow<Text> for ByClient {
    fn borrow(&self) -> &Text {
        &self.0.client_id
    }
}

/// From where a session still reads the log, seen without holding it.
#[derive(Debug)]
struct Reads {
    from: AtomicU64,
}

impl Reads {
    const NOTHING: u64 = u64::MAX;

    fn new(session: &ClientSession) -> Self {
        let reads = Self {
            from: AtomicU64::new(Self::NOTHING),
        };
        reads.follow(session);
        reads
    }

    fn follow(&self, session: &ClientSession) {
        let progress = session.progress();
        let reads = session.is_present()
            && (session.subscriptions().len() > 0
                || progress.outstanding_from(Position(0)).next().is_some());
        let from = if reads {
            progress.stored_cursor().0
        } else {
            Self::NOTHING
        };
        self.from.store(from, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) committer: Committer,
    pub(crate) router: Arc<Router>,
    pub(crate) clock: Clock,
    groups: Groups,
    slots: Mutex<HashSet<ByClient>>,
    /// What a session may have waiting for it, as it lies in the log.
    backlog_bytes_max: u64,
    /// Messages that sessions lost by that bound, since the start.
    pub(crate) losses: Losses,
    /// Clients that are connected, and the most that were at once.
    online: AtomicU64,
    online_max: AtomicU64,
    /// What the journal was told last.
    needed_from: Mutex<Position>,
}

/// A session as its rows have it, and how many changes those hold.
type LoadedSession = (ClientSession, usize);

/// What a journal that was just opened has of sessions.
#[derive(Debug)]
pub(crate) struct Loaded {
    sessions: Vec<LoadedSession>,
    groups: LoadedGroups,
}

impl Loaded {
    pub(crate) fn read(journal: &Journal) -> anyhow::Result<Self> {
        Ok(Self {
            sessions: load_sessions(journal)?,
            groups: groups::load(journal)?,
        })
    }
}

fn load_sessions(journal: &Journal) -> anyhow::Result<Vec<LoadedSession>> {
    let rows = journal.rows(RowTable::ClientSessions)?;
    let mut sessions = Vec::with_capacity(rows.len());
    for (client_id, row) in rows {
        let changes = row.changes.len();
        let shown = String::from_utf8_lossy(&client_id).into_owned();
        match unfold(client_id, row) {
            Ok(session) => sessions.push((session, changes)),
            // The others are not to suffer for it.
            Err(error) => {
                tracing::error!(client = shown, %error, "a client session cannot be read: it is lost");
            }
        }
    }
    Ok(sessions)
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

impl Sessions {
    /// Takes up what was loaded: whoever was connected is not any more.
    pub(crate) fn new(
        committer: Committer,
        router: Arc<Router>,
        clock: Clock,
        backlog_bytes_max: u64,
        loaded: Loaded,
    ) -> Arc<Self> {
        let groups = Groups::new(committer.clone(), Arc::clone(&router), clock);
        let mut cursors = loaded.groups;
        let next = committer.reader().next_position();
        #[expect(
            clippy::mutable_key_type,
            reason = "a slot is found by its client id, which does not change"
        )]
        let mut slots = HashSet::new();
        let mut rows = Vec::new();
        let at_ms = clock.now_ms();
        for (mut session, changes) in loaded.sessions {
            let client_id = session.client_id().clone();
            if session.is_connected() {
                session.apply(&Change::Disconnected { at_ms });
                rows.push(held::folded(&session));
            } else if !session.is_present() {
                rows.push(deleted(&client_id));
                continue;
            } else if changes > 0 {
                rows.push(held::folded(&session));
            }
            for Subscription { filter, .. } in session.subscriptions() {
                if filter.group.is_none() {
                    router.want(LogReader::Client(client_id.clone()), &filter.filter);
                    continue;
                }
                let cursor = cursors.remove(filter.name.as_bytes());
                rows.extend(groups.subscribe(&client_id, filter, cursor.unwrap_or(next)));
            }
            slots.insert(ByClient(Slot::new(session)));
        }
        // Groups of clients that are gone.
        rows.extend(cursors.into_keys().map(groups::deleted));
        in_pieces(rows).for_each(|rows| committer.store(rows, None));
        let sessions = Self {
            committer,
            router,
            clock,
            groups,
            slots: Mutex::new(slots),
            backlog_bytes_max,
            losses: Losses::default(),
            online: AtomicU64::new(0),
            online_max: AtomicU64::new(0),
            needed_from: Mutex::new(Position(0)),
        };
        sessions.tell_needed_from();
        Arc::new(sessions)
    }

    fn slots(&self) -> MutexGuard<'_, HashSet<ByClient>> {
        self.slots.lock().expect("nobody panics with it")
    }

    /// Sessions that outlive their connections, and those of clients that are connected.
    pub(crate) fn len(&self) -> usize {
        self.slots().len()
    }

    /// Whom a message is meant for by its topic, of clients that are served as messages come.
    pub(crate) fn addressed(
        &self,
        destination: Destination<'_>,
    ) -> Vec<(ConnectionId, Arc<Mailbox>)> {
        let slots = self.slots();
        match destination {
            Destination::Broadcast => slots.iter().filter_map(|slot| slot.0.live()).collect(),
            Destination::Direct { client_id } => {
                let client_id = Text::try_from(client_id).ok();
                let slot = client_id.and_then(|client_id| slots.get(&client_id));
                slot.and_then(|slot| slot.0.live()).into_iter().collect()
            }
            Destination::Subscribers | Destination::Delayed { .. } => Vec::new(),
        }
    }

    /// Clients that are connected.
    pub(crate) fn online(&self) -> u64 {
        self.online.load(Ordering::Relaxed)
    }

    /// The most that were connected at once, since the start.
    pub(crate) fn online_max(&self) -> u64 {
        self.online_max.load(Ordering::Relaxed)
    }

    fn goes_online(&self) {
        let online = self.online.fetch_add(1, Ordering::Relaxed) + 1;
        self.online_max.fetch_max(online, Ordering::Relaxed);
    }

    fn goes_offline(&self) {
        self.online.fetch_sub(1, Ordering::Relaxed);
    }

    /// A client id belongs to its newest connection `[MQTT-3.1.4-3]`: the one before is told to go,
    /// and this returns once it has let go of the session.
    pub(crate) async fn take_over(
        self: &Arc<Self>,
        client_id: &Text,
        id: ConnectionId,
        mailbox: &Arc<Mailbox>,
    ) -> Held {
        let slot = {
            let mut slots = self.slots();
            let slot = match slots.get(client_id) {
                Some(ByClient(slot)) => Arc::clone(slot),
                None => {
                    let slot = Slot::new(ClientSession::new(client_id.clone()));
                    slots.insert(ByClient(Arc::clone(&slot)));
                    slot
                }
            };
            let before = slot.owner().replace((id, Arc::clone(mailbox)));
            match before {
                Some((_, before)) => before.shut_down(ReasonCode::SessionTakenOver),
                None => self.goes_online(),
            }
            slot
        };
        let session = Arc::clone(&slot.session).lock_owned().await;
        Held::new(Arc::clone(self), id, session, slot)
    }

    /// A connection that waited for the session has given up.
    pub(crate) fn abandon(&self, client_id: &Text, id: ConnectionId) {
        let slots = self.slots();
        if let Some(ByClient(slot)) = slots.get(client_id)
            && slot.is_owned_by(id)
        {
            *slot.owner() = None;
            self.goes_offline();
        }
    }

    /// A connection has let go of its session.
    fn leave(&self, client_id: &Text, id: ConnectionId, present: bool) {
        let mut slots = self.slots();
        let Some(ByClient(slot)) = slots.get(client_id) else {
            return;
        };
        if slot.is_owned_by(id) {
            *slot.owner() = None;
            self.goes_offline();
        } else if slot.is_owned() {
            // A newer connection waits for it, or has it.
            return;
        }
        // Or one that waited has given up, and is not counted any more.
        if !present {
            slots.remove(client_id);
        }
    }

    /// Ends sessions whose time is over, lets the journal go of what nobody reads any more, and gives
    /// the wills that are due. To be called about once a second; it may read the journal.
    pub(crate) fn sweep(&self) -> Vec<DueWill> {
        let now_ms = self.clock.now_ms();
        let mut wills = Vec::new();
        let idle: Vec<_> = {
            let slots = self.slots();
            let idle = slots.iter().filter(|slot| !slot.0.is_owned());
            idle.map(|slot| Arc::clone(&slot.0)).collect()
        };
        for slot in idle {
            // A connection may have taken it up by now.
            let Ok(mut session) = Arc::clone(&slot.session).try_lock_owned() else {
                continue;
            };
            self.sweep_idle(&slot.client_id, &mut session, now_ms);
            if wills.len() < WILLS_AT_ONCE_MAX {
                let client_id = slot.client_id.clone();
                wills.extend(DueWill::of(client_id, session, now_ms));
            }
        }
        for (name, lost) in self.groups.sweep(self.backlog_bytes_max) {
            self.losses.add(&name, lost);
        }
        self.tell_needed_from();
        wills
    }

    pub(crate) fn has_room_for_group(&self, name: &Text) -> bool {
        self.groups.has_room(name)
    }

    /// A session ends: it is in no group any more. Gives the rows of groups that end with it.
    fn leave_groups(
        &self,
        client_id: &Text,
        session: &ClientSession,
        id: Option<ConnectionId>,
    ) -> Vec<RowEntry> {
        let shared = session.subscriptions().map(|own| &own.filter);
        let shared = shared.filter(|filter| filter.group.is_some());
        shared
            .filter_map(|filter| self.groups.unsubscribe(client_id, &filter.name, id))
            .collect()
    }

    fn sweep_idle(&self, client_id: &Text, session: &mut ClientSession, now_ms: u64) {
        if !session.is_present() {
            return;
        }
        if is_over(session, now_ms) {
            self.end(client_id, session);
        } else {
            self.trim_idle(client_id, session);
        }
    }

    /// A session's time is over. It is kept for its will, if it has one, and for nothing else: what it had
    /// waiting may be what the will has no space for.
    fn end(&self, client_id: &Text, session: &mut ClientSession) {
        let mut rows = self.leave_groups(client_id, session, None);
        self.router
            .unwant_all(&LogReader::Client(client_id.clone()));
        match (session.will().cloned(), session.disconnected_at_ms()) {
            (Some(will), Some(at_ms)) => {
                if session.expiry_interval_s() == 0 && session.subscriptions().len() == 0 {
                    return;
                }
                let begun = Change::Begun {
                    expiry_interval_s: 0,
                    position: session.progress().cursor(),
                };
                let will = Change::WillSet(Box::new(will));
                for change in [begun, will, Change::Disconnected { at_ms }] {
                    session.apply(&change);
                }
                rows.push(held::folded(session));
                if let Some(ByClient(slot)) = self.slots().get(client_id) {
                    slot.reads.follow(session);
                }
            }
            _ => {
                session.apply(&Change::Ended);
                self.forget(client_id);
                rows.push(deleted(client_id));
            }
        }
        self.committer.store(rows, None);
    }

    /// A will that was due is published, and that is durable.
    pub(crate) fn will_settled(&self, due: DueWill) {
        let DueWill {
            client_id,
            ends,
            mut session,
            ..
        } = due;
        if ends {
            session.apply(&Change::Ended);
            self.forget(&client_id);
        } else {
            session.apply(&Change::WillCleared);
        }
    }

    /// A session that has ended, and that nobody waits for.
    fn forget(&self, client_id: &Text) {
        let mut slots = self.slots();
        if slots.get(client_id).is_some_and(|slot| !slot.0.is_owned()) {
            slots.remove(client_id);
        }
    }

    fn trim_idle(&self, client_id: &Text, session: &mut ClientSession) {
        if session.subscriptions().len() == 0 {
            return;
        }
        let changes = self.trim(client_id, session);
        if changes.is_empty() {
            return;
        }
        changes.iter().for_each(|change| session.apply(change));
        self.committer.store(vec![held::folded(session)], None);
        if let Some(ByClient(slot)) = self.slots().get(client_id) {
            slot.reads.follow(session);
        }
    }

    /// Takes from a session what it may not have waiting; the changes are the caller's to store.
    fn trim(&self, client_id: &Text, session: &mut ClientSession) -> Vec<Change> {
        let reader = self.committer.reader();
        match trim::trim(reader, session, self.backlog_bytes_max) {
            Ok(Trimmed { changes, lost }) => {
                if lost > 0 {
                    self.losses.add(client_id, lost);
                    tracing::warn!(client = ?client_id, lost, "a session has more waiting than it may: its oldest is lost to it");
                }
                changes
            }
            Err(error) => {
                tracing::error!(client = ?client_id, %error, "a session's backlog cannot be read");
                Vec::new()
            }
        }
    }

    /// Tells the journal what must be kept. A session that begins to read says so before its row is
    /// stored; what is no longer read is let go of at the next sweep.
    fn tell_needed_from(&self) {
        let slots = self.slots();
        let from = slots.iter().map(|slot| &slot.0.reads.from);
        let from = from.map(|from| from.load(Ordering::Relaxed)).min();
        let from = Position(from.unwrap_or(Reads::NOTHING));
        let from = self
            .groups
            .needed_from()
            .map_or(from, |groups| groups.min(from));
        let mut told = self.needed_from.lock().expect("nobody panics with it");
        if *told != from {
            *told = from;
            self.committer.needed_from(from);
        }
    }
}

/// A will to be published, and the row that says that it was.
#[derive(Debug)]
pub(crate) struct DueWill {
    pub client_id: Text,
    pub will: Will,
    pub row: RowEntry,
    /// The session was only there for it.
    ends: bool,
    /// Nobody takes the session up before it is known what became of the will.
    session: OwnedMutexGuard<ClientSession>,
}

impl DueWill {
    /// A will waits for its delay, and for no longer than the session lives `[MQTT-3.1.3-9]`.
    fn of(client_id: Text, session: OwnedMutexGuard<ClientSession>, now_ms: u64) -> Option<Self> {
        let will = session.will()?.clone();
        let delay_ms = u64::from(will.properties.will_delay_interval_s.unwrap_or(0)) * 1_000;
        let at_ms = session.disconnected_at_ms()?.saturating_add(delay_ms);
        let ends = is_over(&session, now_ms);
        let row = match ends {
            true => deleted(&client_id),
            false => held::will_cleared(&session),
        };
        (ends || at_ms <= now_ms).then_some(Self {
            client_id,
            will,
            row,
            ends,
            session,
        })
    }
}

fn is_over(session: &ClientSession, now_ms: u64) -> bool {
    let expires_at_ms = session.expires_at_ms();
    expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
}

fn deleted(client_id: &Text) -> RowEntry {
    RowEntry {
        table: RowTable::ClientSessions,
        key: client_id.as_bytes().clone(),
        operation: RowOperation::Delete,
    }
}
