//! The order of keys over all lanes of a keyed stream: what was journalled before with the same key
//! has landed before, or is declared lost, whichever lane it lies in. What goes again behind a fork
//! has landed before: only the first time counts, over all lives of the cloud.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_shared::id::{EdgeId, StreamName};

use super::super::node::key_of;
use super::History;
use crate::{Stop, violated};

/// See the module.
#[derive(Debug, Default)]
pub struct KeyOrder {
    /// Of lanes: what has landed, or is declared lost. Numbers of messages mean the same everywhere.
    settled: BTreeSet<u64>,
}

impl KeyOrder {
    pub fn settle(&mut self, stream: &StreamName, payloads: &[Option<u64>]) {
        if stream.lane().is_some() {
            self.settled.extend(payloads.iter().flatten());
        }
    }

    /// A batch lands; it is of a journal with that history. Within a lane its numbering says the order.
    pub fn check(
        &self,
        (edge, lane): (&EdgeId, &StreamName),
        history: &History,
        payloads: &[u64],
    ) -> Result<(), Stop> {
        if lane.lane().is_none() {
            return Ok(());
        }
        // What lies before the last of a key lies before all of them, or between them.
        let last: BTreeMap<u8, u64> = payloads.iter().map(|it| (key_of(*it), *it)).collect();
        for (key, payload) in last {
            for (other, before) in history.before(lane, payload, |it| key_of(it) == key) {
                if !self.settled.contains(&before) {
                    let (number, before) = (payload >> 8, before >> 8);
                    let what = format!(
                        "{edge}: of key {key}, number {number} lands in {lane}, and {before} in {other} has not"
                    );
                    return violated("a key's messages land in their order", what);
                }
            }
        }
        Ok(())
    }
}
