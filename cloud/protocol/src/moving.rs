//! Which segments lie in another object store than the one that their topic says, and go there next: decided from
//! the ledger as it is now, without I/O. The broker's mover copies them and proposes the copies; the ledger
//! judges these then.

use std::collections::BTreeMap;

use tidegate_shared::id::{KafkaOffset, TopicId};

use crate::ledger::{Ledger, Segment, Target};

/// A segment, and the store that its topic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub target: Target,
    pub segment: Segment,
    /// The store's number.
    pub to: u32,
}

impl Move {
    /// Where the next search goes on.
    pub fn end(&self) -> Cursor {
        Cursor {
            target: self.target,
            offset: self.segment.end,
        }
    }
}

/// How far a search has come: all before it has been given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    target: Target,
    offset: KafkaOffset,
}

/// What is moved at once.
#[derive(Clone, Copy, Debug)]
pub struct MoveRule {
    /// Bytes of all of them together, but for the first.
    pub bytes_max: u64,
    pub moves_max: usize,
}

/// The next segments that are to be moved, from the cursor on, of those for which `may` holds; none where that
/// was all.
pub fn moves(
    ledger: &Ledger,
    from: Cursor,
    rule: MoveRule,
    may: impl Fn(&Move) -> bool,
) -> Vec<Move> {
    let (mut moves, mut bytes) = (Vec::new(), 0_u64);
    for next in misplaced(ledger, from).filter(|next| may(next)) {
        bytes = bytes.saturating_add(next.segment.bytes);
        let is_full = bytes > rule.bytes_max || moves.len() >= rule.moves_max;
        if !moves.is_empty() && is_full {
            break;
        }
        moves.push(next);
    }
    moves
}

/// Segments that do not lie where their topic says, in the order of partitions and offsets.
fn misplaced(ledger: &Ledger, from: Cursor) -> impl Iterator<Item = Move> {
    // Most clouds have one store, and nothing to look for.
    let any = ledger.stores().next().is_some();
    let logs = any.then(|| ledger.logs_from(from.target));
    logs.into_iter().flatten().flat_map(move |(target, log)| {
        let to = ledger
            .topic(target.topic_id)
            .map(|topic| topic.settings.store);
        let segments = log.segments();
        segments.filter_map(move |segment| {
            let is_behind = target != from.target || segment.base >= from.offset;
            let to = to.filter(|to| is_behind && *to != segment.id.store)?;
            let segment = *segment;
            Some(Move {
                target,
                segment,
                to,
            })
        })
    })
}

/// What a topic has in one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    pub segments: u64,
    pub bytes: u64,
}

/// What a topic has in each store, by the stores' numbers; the one that it says is always among them.
pub fn stored(ledger: &Ledger, topic_id: TopicId) -> BTreeMap<u32, Stored> {
    let mut stored = BTreeMap::new();
    if let Some(topic) = ledger.topic(topic_id) {
        stored.insert(topic.settings.store, Stored::default());
    }
    let first = Target {
        topic_id,
        ..Target::default()
    };
    let logs = ledger.logs_from(first);
    for (_, log) in logs.take_while(|(target, _)| target.topic_id == topic_id) {
        for segment in log.segments() {
            let of_store: &mut Stored = stored.entry(segment.id.store).or_default();
            of_store.segments += 1;
            of_store.bytes += segment.bytes;
        }
    }
    stored
}

#[cfg(test)]
mod tests;
