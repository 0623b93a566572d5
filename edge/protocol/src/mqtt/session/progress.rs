//! How far a session has come in the log: a cursor, what is in flight beyond it, and what is done
//! beyond it. Only the cursor and QoS 2 are durable; the rest lives as long as the process, so that
//! a connection that breaks is taken up exactly where it was.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_shared::id::Position;

use crate::mqtt::{codec::PacketId, limits::SESSION_AHEAD_MAX};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// As it was made durable last.
    pub(super) stored_cursor: Position,
    /// All below was looked at: it is done, outstanding, or not for this session. Not durable.
    next: Position,
    /// What must still be delivered. Below `next`, and (QoS 2, after a crash) beyond it.
    outstanding: BTreeMap<Position, Outstanding>,
    pub(super) assigned: BTreeMap<PacketId, Position>,
    /// QoS 2 that the client has, at or beyond the stored cursor: never to be sent again.
    pub(super) done_beyond: BTreeSet<Position>,
    /// QoS 2 that the client has, and has not completed, in the order of its PUBRECs.
    pub(super) releases: Vec<(PacketId, Position)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outstanding {
    /// Handed to a connection.
    Taken,
    /// QoS 1, sent by a connection that has ended.
    Sent(PacketId),
    /// QoS 2.
    Assigned(PacketId),
}

/// What a position is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not begun.
    Open,
    /// QoS 1, sent under this identifier by an earlier connection.
    Sent(PacketId),
    /// QoS 2, with this identifier, which may have been sent.
    Assigned(PacketId),
    Done,
}

/// What a new connection of the session is given, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// For `handle_release_again`, in the order of the PUBRECs.
    pub releases: Vec<(PacketId, Position)>,
    /// Messages that were taken and are not done, by position.
    pub again: Vec<Again>,
    /// From here on the log is read. After a crash there may be positions with an identifier in
    /// it: see [`Progress::place`].
    pub from: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    pub position: Position,
    /// `None`: an earlier connection had it in its queue and has not sent it.
    pub packet_id: Option<PacketId>,
}

impl Progress {
    pub(super) const fn new() -> Self {
        Self {
            stored_cursor: Position(0),
            next: Position(0),
            outstanding: BTreeMap::new(),
            assigned: BTreeMap::new(),
            done_beyond: BTreeSet::new(),
            releases: Vec::new(),
        }
    }

    /// Of a session that begins where the log stands.
    pub(super) fn begin(position: Position) -> Self {
        Self {
            stored_cursor: position,
            next: position,
            ..Self::new()
        }
    }

    /// The lowest position that must still be delivered, or looked at.
    pub fn cursor(&self) -> Position {
        let lowest = self.outstanding.keys().next();
        lowest.map_or(self.next, |lowest| self.next.min(*lowest))
    }

    /// Where a session that lost its process begins.
    pub fn stored_cursor(&self) -> Position {
        self.stored_cursor
    }

    /// All below was looked at.
    pub fn next(&self) -> Position {
        self.next
    }

    /// Positions at or beyond the stored cursor that are done for good, QoS 2 only.
    pub fn done_beyond(&self) -> &BTreeSet<Position> {
        &self.done_beyond
    }

    /// All identifiers that a new connection must not give to anything else, for
    /// `Accepted::unacknowledged`.
    pub fn packet_ids(&self) -> impl Iterator<Item = PacketId> {
        let outstanding = self.outstanding.values();
        let outstanding = outstanding.filter_map(|outstanding| outstanding.packet_id());
        outstanding.chain(self.releases.iter().map(|(packet_id, _)| *packet_id))
    }

    /// Positions from `from` on that wait for their end: an earlier connection took them, or (QoS 2,
    /// after a crash) they have their identifier. A reader of the log that passes over stretches
    /// without a match must stop at them, whatever the filters say by now: nothing else ends them.
    pub fn outstanding_from(&self, from: Position) -> impl Iterator<Item = Position> {
        self.outstanding
            .range(from..)
            .map(|(position, _)| *position)
    }

    /// Positions of QoS 2 that have their identifier and wait for PUBREC.
    pub fn assigned_positions(&self) -> impl Iterator<Item = Position> {
        self.assigned.values().copied()
    }

    /// Whether another message may be taken. False where one delivery has been unacknowledged for
    /// so long that what is done beyond it would grow without bound; a stored cursor that lags
    /// behind `cursor` counts, too.
    pub fn has_room(&self) -> bool {
        let ahead = self.outstanding.len() + self.done_beyond.len() + self.releases.len();
        ahead < SESSION_AHEAD_MAX
    }

    pub fn place(&self, position: Position) -> Place {
        match self.outstanding.get(&position) {
            Some(Outstanding::Taken) => Place::Open,
            Some(Outstanding::Sent(packet_id)) => Place::Sent(*packet_id),
            Some(Outstanding::Assigned(packet_id)) => Place::Assigned(*packet_id),
            None if position < self.next || self.done_beyond.contains(&position) => Place::Done,
            None => Place::Open,
        }
    }

    /// A message was read, is due, and was handed to the connection. It stays outstanding until
    /// `ClientSession::done`, which for QoS 0 is at once. That is not durable by itself: after a crash
    /// a message of QoS 0 may be read from the log again.
    pub fn taken(&mut self, position: Position) {
        if self.place(position) != Place::Done {
            self.outstanding
                .entry(position)
                .or_insert(Outstanding::Taken);
        }
        self.next = self.next.max(position.plus(1));
    }

    /// A message was read and is not due; if it was taken once, the subscription is gone.
    pub fn passed(&mut self, position: Position) {
        if self.outstanding.get(&position) == Some(&Outstanding::Taken) {
            self.outstanding.remove(&position);
        }
        self.next = self.next.max(position.plus(1));
    }

    /// All below `position` was looked at, and nothing of it is due.
    pub fn skipped_to(&mut self, position: Position) {
        self.next = self.next.max(position);
    }

    /// A connection that has ended sent it as QoS 1 under this identifier.
    pub fn sent(&mut self, packet_id: PacketId, position: Position) {
        if let Some(outstanding @ Outstanding::Taken) = self.outstanding.get_mut(&position) {
            *outstanding = Outstanding::Sent(packet_id);
        }
    }

    pub fn resume(&self) -> Resume {
        let again = self.outstanding.range(..self.next);
        Resume {
            releases: self.releases.clone(),
            again: again
                .map(|(position, outstanding)| Again {
                    position: *position,
                    packet_id: outstanding.packet_id(),
                })
                .collect(),
            from: self.next,
        }
    }

    /// Of QoS 0 and 1 that is all; of QoS 2 the identifier must be completed.
    pub(super) fn done(&mut self, position: Position) -> Option<PacketId> {
        if let Some(Outstanding::Assigned(packet_id)) = self.outstanding.get(&position) {
            return Some(*packet_id);
        }
        self.outstanding.remove(&position);
        let mut releases = self.releases.iter();
        releases
            .find(|(_, released)| *released == position)
            .map(|(packet_id, _)| *packet_id)
    }

    pub(super) fn store_cursor(&mut self, position: Position) {
        self.stored_cursor = self.stored_cursor.max(position);
        self.next = self.next.max(position);
        self.done_beyond = self.done_beyond.split_off(&self.stored_cursor);
    }

    /// What is below `position` will not be delivered. Gives the identifiers of QoS 2 among it.
    pub(super) fn give_up_below(&mut self, position: Position) -> Vec<PacketId> {
        let kept = self.outstanding.split_off(&position);
        self.outstanding = kept;
        self.next = self.next.max(position);
        let assigned = self.assigned.iter();
        assigned
            .filter(|(_, assigned)| **assigned < position)
            .map(|(packet_id, _)| *packet_id)
            .collect()
    }

    /// An identifier or a position that had another partner is free of it: there is no order of
    /// changes that leaves either with two.
    pub(super) fn assigned(&mut self, packet_id: PacketId, position: Position) {
        self.completed(packet_id);
        let before = self
            .outstanding
            .insert(position, Outstanding::Assigned(packet_id));
        if let Some(Outstanding::Assigned(before)) = before {
            self.assigned.remove(&before);
        }
        self.assigned.insert(packet_id, position);
        self.done_beyond.remove(&position);
    }

    pub(super) fn received(&mut self, packet_id: PacketId) {
        if let Some(position) = self.end_assigned(packet_id) {
            self.releases.push((packet_id, position));
        }
    }

    /// By PUBCOMP, or because the message will not be delivered.
    pub(super) fn completed(&mut self, packet_id: PacketId) {
        self.end_assigned(packet_id);
        self.releases.retain(|(released, _)| *released != packet_id);
    }

    fn end_assigned(&mut self, packet_id: PacketId) -> Option<Position> {
        let position = self.assigned.remove(&packet_id)?;
        self.outstanding.remove(&position);
        if position >= self.stored_cursor {
            self.done_beyond.insert(position);
        }
        Some(position)
    }
}

impl Outstanding {
    fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::Taken => None,
            Self::Sent(packet_id) | Self::Assigned(packet_id) => Some(packet_id),
        }
    }
}
