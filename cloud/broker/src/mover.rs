//! Moves a topic's segments to the object store that its `storage.url` says: copies each as it is, byte for byte,
//! under a new name, and proposes the copy in the place of what it is a copy of. That goes as any segment that was
//! replaced; until then it is read where it was. It decides nothing: what is to be moved is
//! [`tidegate_cloud_protocol::moving`]'s, and whether a copy counts is the ledger's. Where it ends in the middle, the
//! next start finds what is left to be moved in the ledger, and a copy that nobody knows is an orphan.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::future::join_all;
use tidegate_cloud_protocol::moving::{Cursor, Move, MoveRule, moves};

use crate::broker::Broker;
use crate::limits::{MOVE_AGAIN_AFTER, MOVE_BYTES_AT_ONCE_MAX, MOVE_ROUND_MAX, MOVES_AT_ONCE_MAX};
use crate::packer::{PackError, Packer};
use crate::reading::StorageError;
use crate::scrub::check_whole;

/// How far it has come in one pass over all segments.
#[derive(Debug, Default)]
pub(crate) struct Mover {
    cursor: Cursor,
    has_failed: bool,
    /// Before that, what failed is not tried again.
    again: Option<Instant>,
}

const RULE: MoveRule = MoveRule {
    bytes_max: MOVE_BYTES_AT_ONCE_MAX,
    moves_max: MOVES_AT_ONCE_MAX,
};

impl Mover {
    /// Moves what is to be moved, for [`MOVE_ROUND_MAX`] at most: the rest waits for the next round.
    pub(crate) async fn round(&mut self, broker: &Broker, packer: &Packer) {
        let begun = Instant::now();
        if self.again.is_some_and(|again| begun < again) {
            return;
        }
        while begun.elapsed() < MOVE_ROUND_MAX {
            let next = self.next(broker);
            let Some(last) = next.last() else {
                self.cursor = Cursor::default();
                let has_failed = std::mem::take(&mut self.has_failed);
                self.again = has_failed.then(|| Instant::now() + MOVE_AGAIN_AFTER);
                return;
            };
            self.cursor = last.end();
            let all = next.iter().map(|one| carry_out(broker, packer, one));
            for (one, result) in next.iter().zip(join_all(all).await) {
                if let Err(error) = result {
                    self.failed(broker, one, &error);
                }
            }
        }
    }

    fn next(&self, broker: &Broker) -> Vec<Move> {
        let shared = broker.shared();
        let ready: BTreeSet<u32> = shared.segments.stores().ready();
        let ledger = &shared.state().ledger;
        moves(ledger, self.cursor, RULE, |one| {
            ready.contains(&one.to) && ready.contains(&one.segment.id.store)
        })
    }

    fn failed(&mut self, broker: &Broker, one: &Move, error: &PackError) {
        self.has_failed = true;
        broker.metrics().move_failures.inc();
        if let Some(error) = error.of_store() {
            broker.shared().segments.stores().note(error);
        }
        tracing::error!(
            %error,
            segment = broker.shared().segments.key(one.segment.id),
            from = one.segment.id.store,
            to = one.to,
            "cannot move a segment to its topic's object store: it stays where it is, and it is tried again"
        );
    }
}

async fn carry_out(broker: &Broker, packer: &Packer, one: &Move) -> Result<(), PackError> {
    let segments = &broker.shared().segments;
    let key = segments.key(one.segment.id);
    let store = segments.stores().get(one.segment.id.store);
    let store = store.map_err(StorageError::NotOpen)?;
    let bytes = match store.read_whole(&key).await {
        // It was replaced or given up since.
        Err(error) if error.is_not_found() && !is_there(broker, one) => return Ok(()),
        read => read.map_err(StorageError::Store)?,
    };
    let (copied, target, segment) = (bytes.clone(), one.target, one.segment);
    let check = move || check_whole(&copied, target, &segment);
    let checked = tokio::task::spawn_blocking(check).await;
    let index = checked.map_err(|_| StorageError::Gone)?;
    let index = index.map_err(|reason| StorageError::DamagedSegment { key, reason })?;
    packer.store_copy(one, bytes, index.facts().mark()).await
}

fn is_there(broker: &Broker, one: &Move) -> bool {
    broker.ledger(|ledger| {
        let mut segments = ledger.log(one.target).segments();
        segments.any(|segment| segment.id == one.segment.id)
    })
}
