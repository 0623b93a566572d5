//! What client sessions and shared subscriptions lost by their cap since the start: all of it in one
//! number, and by name for those that lost most, so that there is somebody to look at.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_edge_protocol::mqtt::codec::Text;

use crate::limits::{SESSION_LOSSES_SHOWN_MAX, SESSION_LOSSES_TRACKED_MAX};

#[derive(Debug, Default)]
pub(crate) struct Losses {
    total: AtomicU64,
    by_name: Mutex<HashMap<Text, u64>>,
}

impl Losses {
    /// Past as many names as are kept, the one that lost least is forgotten: the total has it still.
    pub(super) fn add(&self, name: &Text, lost: u64) {
        if lost == 0 {
            return;
        }
        self.total.fetch_add(lost, Ordering::Relaxed);
        let mut by_name = self.by_name.lock().expect("nobody panics with it");
        if !by_name.contains_key(name) && by_name.len() >= SESSION_LOSSES_TRACKED_MAX {
            let least = by_name.iter().min_by_key(|(_, lost)| **lost);
            if let Some(least) = least.map(|(name, _)| name.clone()) {
                by_name.remove(&least);
            }
        }
        *by_name.entry(name.clone()).or_default() += lost;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Client ids, or filters of shared subscriptions, that lost most; the worst first.
    pub(crate) fn worst(&self) -> Vec<(Text, u64)> {
        let by_name = self.by_name.lock().expect("nobody panics with it");
        let mut worst: Vec<_> = by_name
            .iter()
            .map(|(name, lost)| (name.clone(), *lost))
            .collect();
        worst.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        worst.truncate(SESSION_LOSSES_SHOWN_MAX);
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_are_named_and_all_are_counted() {
        let losses = Losses::default();
        let names = SESSION_LOSSES_TRACKED_MAX as u64 + 5;
        for lost in (1..=names).rev() {
            losses.add(&Text::try_from(format!("c{lost}").as_str()).unwrap(), lost);
        }
        assert_eq!(losses.total(), names * (names + 1) / 2);
        let worst = losses.worst();
        assert_eq!(worst.len(), SESSION_LOSSES_SHOWN_MAX);
        assert_eq!(worst[0].1, names);
        assert!(worst.is_sorted_by(|one, other| one.1 >= other.1));
        let tracked = losses.by_name.lock().unwrap().len();
        assert_eq!(tracked, SESSION_LOSSES_TRACKED_MAX);
    }
}
